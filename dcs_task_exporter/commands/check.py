"""The command `check`: what is wrong with a configuration, and, online, with what it names.

It reads as the exporter would, and ends with one line, the verdict.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dcs_task_exporter.cloud.credentials import credential_source
from dcs_task_exporter.config.model import Config, DiscoveryConfig, ProjectConfig
from dcs_task_exporter.errors import ApiError, CredentialsError, Problem
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.refresh.discovery import DiscoveryStatus
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot

CENTER_WINDOW: Final = 3600.0
"""Seconds of the task centre's history that `check --online` asks for."""

MOST_LISTED: Final = 20
"""Instances that are listed unless all are asked for."""

MOST_NAMED: Final = 3
"""Projects that the verdict names of each failure."""

RULES: Final = ("include", "exclude", "tags", "statuses", "engines")
"""The keys of discovery that say which instances are watched."""

Say = Callable[[str], None]
"""Prints a line."""


def state_problems(path: Path | None) -> Iterator[Problem]:
    """Find out whether counts can be kept in this file; nothing of it is changed."""
    if path is None:
        return
    try:
        if path.exists():
            if not path.is_file():
                yield Problem("state.path", f"cannot be used: {path} is no regular file")
                return
            with path.open("r+b"):
                pass
    except OSError as error:
        yield Problem("state.path", f"cannot be used: {path}: {error.strerror}")
        return
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        message = f"cannot be used: no file can be made in {path.parent}: {error.strerror}"
        yield Problem("state.path", message)


def key_problems(config: Config, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Find out which projects have no key or token that could be sent."""
    for at, project in enumerate(config.projects):
        try:
            credential_source(project.credentials, environ).current()
        except CredentialsError as error:
            yield Problem(f"projects[{at}].credentials", str(error))


def say_what_is_watched(config: Config, shard: Shard, say: Say) -> None:
    """Say of each project which instances are watched."""
    for project in config.projects:
        named = _number(len(project.instances), "instance")
        told = f"{named} of the configuration" if project.instances else ""
        if project.discovery.enabled:
            told += f"{', and ' if told else ''}{_discovered(project.discovery)}"
        say(f"project {project.name}: watches {told}")
    if shard.total > 1:
        say(f"shard {shard.index} of {shard.total}: reads its share of them")


def check_online(
    config: Config, exporter: Exporter, patience: float, say: Say, *, verbose: bool
) -> Verdict:
    """Try each project's credentials and each instance; say what was found."""
    there = {project.name: _listed(project, exporter, patience, say) for project in config.projects}
    centers = [
        project.name
        for project in config.projects
        if project.task_center.enabled and not _center_works(project, exporter, patience, say)
    ]
    exporter.fleet.read_everything(patience)
    statuses = [discovery.status for discovery in exporter.fleet.discoveries]
    rules = {project.name: project.discovery for project in config.projects}
    for status in statuses:
        _say_what_discovery_admits(rules[status.project], status, there[status.project], say)
    snapshots = exporter.snapshots()
    _say_each(snapshots, there, say, None if verbose else MOST_LISTED)
    verdict = Verdict(snapshots, len(config.projects), statuses, centers)
    if verdict.ok:
        for name, seconds in exporter.fleet.pass_times().items():
            say(
                f"project {name}: a full pass takes {max(0.1, seconds):.1f} s at "
                f"{config.collector.requests_per_second:g} requests per second, more where "
                "listings have several pages"
            )
    return verdict


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one pass over all instances came to; `centers` are projects whose centre refuses."""

    snapshots: Sequence[Snapshot]
    projects: int
    statuses: Sequence[DiscoveryStatus] = ()
    centers: Sequence[str] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether all that is configured works."""
        return not list(self._failures())

    def __str__(self) -> str:
        """Return it as one line."""
        failures = list(self._failures())
        if failures:
            return f"FAILED: {'; '.join(failures)}"
        instances = _number(len(self.snapshots), "instance")
        return f"OK: {instances} of {_number(self.projects, 'project')}"

    def _failures(self) -> Iterator[str]:
        failed = [snapshot for snapshot in self.snapshots if not snapshot.up]
        if failed:
            reasons = Counter(
                snapshot.failure.reason if snapshot.failure else "not in time"
                for snapshot in failed
            )
            told = ", ".join(f"{reason}: {number}" for reason, number in reasons.most_common())
            yield f"{len(failed)} of {len(self.snapshots)} instances cannot be read ({told})"
        unlisted = [status.project for status in self.statuses if not status.up]
        if unlisted:
            yield f"discovery cannot list the instances of {_projects(unlisted)}"
        empty = [status.project for status in self.statuses if status.up and not status.instances]
        if empty:
            yield f"discovery admits no instance of {_projects(empty)}"
        if self.centers:
            yield f"the task centre does not work in {_projects(self.centers)}"


def _listed(
    project: ProjectConfig, exporter: Exporter, patience: float, say: Say
) -> Sequence[Instance] | None:
    """List the instances of a project; return them, or None if nobody knows them."""
    deadline = Options().clock.monotonic() + patience
    try:
        found = exporter.clients[project.name].list_instances(deadline)
    except ApiError as error:
        # Listing instances is a permission of its own; reading tasks may work without it.
        say(f"project {project.name}: instances cannot be listed: {error}")
        return None
    say(f"project {project.name}: the credentials work; {_number(len(found), 'instance')} there")
    return found


def _center_works(project: ProjectConfig, exporter: Exporter, patience: float, say: Say) -> bool:
    """Ask the task centre once; return whether it answers."""
    clock = Options().clock
    start, deadline = clock.now() - CENTER_WINDOW, clock.monotonic() + patience
    try:
        tasks, _ = exporter.clients[project.name].list_center_tasks(start, deadline)
    except ApiError as error:
        say(f"project {project.name}: the task centre does not work: {error}")
        return False
    told = _number(len(tasks), "task")
    say(f"project {project.name}: the task centre works; {told} of the last hour")
    return True


def _say_what_discovery_admits(
    rules: DiscoveryConfig, status: DiscoveryStatus, there: Sequence[Instance] | None, say: Say
) -> None:
    """Say how many of a project's instances discovery watches."""
    if not status.up and there != ():
        return  # the end of the check says why
    told = str(status.instances or "NONE")
    told += "" if there is None else f" of {_number(len(there), 'instance')}"
    if there and not status.instances:
        told += f": the rules of discovery ({', '.join(_rules(rules))}) admit none"
    say(f"project {status.project}: discovery watches {told}")


def _say_each(
    snapshots: Sequence[Snapshot],
    there: Mapping[str, Sequence[Instance] | None],
    say: Say,
    most: int | None,
) -> None:
    """Say what came of each instance, first of those that cannot be read."""
    found = {
        item.id: item for instances in there.values() if instances is not None for item in instances
    }
    read = {snapshot.instance.id for snapshot in snapshots}
    lines = [
        _line(found.get(one.instance.id, one.instance), _result(one), one.instance.name)
        for one in sorted(snapshots, key=lambda one: one.up)
    ]
    lines += [_line(item, "not watched") for item in found.values() if item.id not in read]
    for line in lines[:most]:
        say(line)
    if most is not None and len(lines) > most:
        say(f"{_number(len(lines) - most, 'more instance')}: --verbose lists them all")


def _line(instance: Instance, told: str, name: str = "") -> str:
    kind = f"{instance.engine} {instance.engine_version}".strip()
    facts = "".join(f", {fact}" for fact in (kind, instance.status) if fact)
    return f"project {instance.project}: {name or instance.name} ({instance.id}){facts}: {told}"


def _result(snapshot: Snapshot) -> str:
    failure, figures = snapshot.failure, snapshot.figures
    if failure is not None:
        return f"{failure.reason}: {failure.message} {failure.error_code}".rstrip()
    return _number(len(figures.tasks), "recent task") if figures else "not read in time"


def _discovered(rules: DiscoveryConfig) -> str:
    wanted = ", ".join(_rules(rules))
    return f"all instances that discovery finds{wanted and f' and its rules ({wanted}) admit'}"


def _rules(rules: DiscoveryConfig) -> Iterator[str]:
    """Yield the keys of the rules that are given."""
    return (key for key in RULES if getattr(rules, key))


def _projects(names: Sequence[str]) -> str:
    """Name the first few projects."""
    told = ", ".join(names[:MOST_NAMED])
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{'project' if len(names) == 1 else 'projects'} {told}{more}"


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
