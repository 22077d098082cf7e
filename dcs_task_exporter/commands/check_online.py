"""The part of `check` that asks the cloud: the credentials, discovery, and every instance.

Its last line is the verdict.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dcs_task_exporter.commands.one_pass import PATIENCE, warn_of_problems
from dcs_task_exporter.commands.output import say
from dcs_task_exporter.config.model import Config, DiscoveryConfig
from dcs_task_exporter.errors import ApiError
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.refresh.discovery import DiscoveryStatus
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot

CENTER_WINDOW: Final = 3600.0
"""Seconds of the task center's history to ask for."""

MOST_LISTED: Final = 20
"""Instances to list unless all are wanted."""

DISCOVERY_RULES: Final = ("include", "exclude", "tags", "statuses", "engines")
"""The keys of `discovery` that select the instances to watch."""


def check_online(config: Config, options: Options, *, verbose: bool) -> bool:
    """Say what works and what fails, instance by instance; return whether everything works."""
    exporter = Exporter(config, options)
    try:
        listed = {
            project.name: _list(project.name, exporter, options) for project in config.projects
        }
        centers = [project.name for project in config.projects if project.task_center.enabled]
        broken = [name for name in centers if not _center_works(name, exporter, options)]
        exporter.fleet.read_everything(PATIENCE)
        for discovery in exporter.fleet.discoveries:
            rules = next(p.discovery for p in config.projects if p.name == discovery.project)
            _say_admitted(rules, discovery.status, listed[discovery.project])
        _say_instances(
            exporter.refresher.snapshots(), listed.values(), None if verbose else MOST_LISTED
        )
        failures = list(_failures(exporter, broken))
        for project, seconds in () if failures else exporter.fleet.pass_times().items():
            say(
                f"project {project}: a full pass takes {max(0.1, seconds):.1f} s at "
                f"{config.collector.requests_per_second:g} requests per second, "
                "more where listings have several pages"
            )
        warn_of_problems(exporter)
    finally:
        exporter.stop()
    # The log is written by a thread; the verdict comes after its last line.
    for handler in logging.getLogger().handlers:
        handler.close()
    instances = counted(len(exporter.refresher.snapshots()), "instance")
    good = f"OK: {instances} of {counted(len(config.projects), 'project')}"
    say(f"FAILED: {'; '.join(failures)}" if failures else good)
    return not failures


def _list(project: str, exporter: Exporter, options: Options) -> Sequence[Instance] | None:
    """List the instances of a project, to try its credentials."""
    deadline = options.clock.monotonic() + PATIENCE
    try:
        found = exporter.clients[project].list_instances(deadline)
    except ApiError as error:
        # Listing instances is a permission of its own; reading tasks may work without it.
        say(f"project {project}: instances cannot be listed: {error}")
        return None
    say(f"project {project}: the credentials work; found {counted(len(found), 'instance')}")
    return found


def _center_works(project: str, exporter: Exporter, options: Options) -> bool:
    start = options.clock.now() - CENTER_WINDOW
    deadline = options.clock.monotonic() + PATIENCE
    try:
        tasks, _ = exporter.clients[project].list_center_tasks(start, deadline)
    except ApiError as error:
        say(f"project {project}: the task center does not work: {error}")
        return False
    say(f"project {project}: the task center works; {counted(len(tasks), 'task')} in the last hour")
    return True


def _say_admitted(
    rules: DiscoveryConfig, status: DiscoveryStatus, listed: Sequence[Instance] | None
) -> None:
    """Say how many of a project's instances discovery watches."""
    if not status.up and listed != ():
        return  # the verdict names the reason
    text = str(status.instances or "NONE")
    if listed is not None:
        text += f" of {counted(len(listed), 'instance')}"
    if listed and not status.instances:
        text += f": the rules of discovery ({', '.join(rule_keys(rules))}) admit none"
    say(f"project {status.project}: discovery watches {text}")


def _say_instances(
    snapshots: Sequence[Snapshot], listed: Iterable[Sequence[Instance] | None], most: int | None
) -> None:
    """Say the result of each instance, failures first, then the instances that are not watched."""
    found = {item.id: item for instances in listed for item in instances or ()}
    read = {snapshot.instance.id for snapshot in snapshots}
    lines = [
        _line(found.get(one.instance.id, one.instance), _result(one), one.instance.name)
        for one in sorted(snapshots, key=lambda one: one.up)
    ]
    lines += [_line(item, "not watched") for item in found.values() if item.id not in read]
    for line in lines[:most]:
        say(line)
    if most is not None and len(lines) > most:
        say(f"{counted(len(lines) - most, 'more instance')}: --verbose lists them all")


def _line(instance: Instance, result: str, name: str = "") -> str:
    engine = f"{instance.engine} {instance.engine_version}".strip()
    facts = "".join(f", {fact}" for fact in (engine, instance.status) if fact)
    return f"project {instance.project}: {name or instance.name} ({instance.id}){facts}: {result}"


def _result(snapshot: Snapshot) -> str:
    failure, metrics = snapshot.failure, snapshot.metrics
    if failure is not None:
        return f"{failure.reason}: {failure.message} {failure.error_code}".rstrip()
    return counted(len(metrics.tasks), "recent task") if metrics else "not read in time"


def _failures(exporter: Exporter, broken_centers: Sequence[str]) -> Iterator[str]:
    """Yield everything that does not work, for the verdict."""
    snapshots = exporter.refresher.snapshots()
    failed = [snapshot.failure for snapshot in snapshots if not snapshot.up]
    if failed:
        reasons = Counter(failure.reason if failure else "not in time" for failure in failed)
        text = ", ".join(f"{reason}: {number}" for reason, number in reasons.most_common())
        yield f"{len(failed)} of {len(snapshots)} instances cannot be read ({text})"
    statuses = [discovery.status for discovery in exporter.fleet.discoveries]
    unlisted = [status.project for status in statuses if not status.up]
    empty = [status.project for status in statuses if status.up and not status.instances]
    for failure, names in (
        ("discovery cannot list the instances of", unlisted),
        ("discovery admits no instance of", empty),
        ("the task center does not work in", broken_centers),
    ):
        if names:
            yield f"{failure} {'project' if len(names) == 1 else 'projects'} {', '.join(names)}"


def rule_keys(discovery: DiscoveryConfig) -> Iterable[str]:
    """Return the keys of the rules that are set."""
    return [key for key in DISCOVERY_RULES if getattr(discovery, key)]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 instance``, ``2 instances``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
