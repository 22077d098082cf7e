"""Which instances this exporter watches: the configured and the discovered ones of its shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dcs_task_exporter.config.model import ProjectConfig
from dcs_task_exporter.refresh.instance import Target, TaskSource
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.tasks.models import Instance


class Targets:
    """Puts together what is configured and what each search found; used by one thread at a time.

    `hand_over` is told once of each instance that is another shard's.
    """

    def __init__(
        self,
        projects: Sequence[ProjectConfig],
        sources: Mapping[str, TaskSource],
        shard: Shard,
        hand_over: Callable[[str], None],
    ) -> None:
        self._projects = projects
        self._sources = sources
        self._shard = shard
        self._hand_over = hand_over
        self._discovered: dict[str, Sequence[Instance]] = {}
        self._others: frozenset[str] = frozenset()
        self._numbers: Mapping[str, int] = {}

    @property
    def numbers(self) -> Mapping[str, int]:
        """How many instances of each project are watched, by this shard and all others."""
        return self._numbers

    def found(self, project: str, instances: Sequence[Instance]) -> None:
        """Take what a search found, instead of what the one before did."""
        self._discovered[project] = instances

    def current(self) -> list[Target]:
        """Return what is ours; of the rest, another exporter counts what ends from now on."""
        targets = self._all()
        others = frozenset(key for key in targets if not self._shard.has(key))
        for key in others - self._others:
            self._hand_over(key)
        self._others = others
        numbers = Counter(target.instance.project for target in targets.values())
        self._numbers = {project.name: numbers[project.name] for project in self._projects}
        return [target for key, target in targets.items() if key not in others]

    def _all(self) -> Mapping[str, Target]:
        """Return what is configured, with what was discovered of it, and what was discovered."""
        targets: dict[str, Target] = {}
        for project in self._projects:
            source = self._sources[project.name]
            found = {item.id: item for item in self._discovered.get(project.name, ())}
            for item in project.instances:
                known = found.pop(item.id, None) or _unknown(project, item.id)
                named = replace(known, name=item.name or known.name or item.id)
                targets.setdefault(item.id, Target(named, source))
            for instance in found.values():
                named = replace(instance, name=instance.name or instance.id)
                targets.setdefault(instance.id, Target(named, source))
        return targets


def _unknown(project: ProjectConfig, instance_id: str) -> Instance:
    """Return an instance of which only the configuration tells."""
    return Instance(
        id=instance_id,
        name="",
        project=project.name,
        project_id=project.project_id,
        region=project.region,
    )
