"""Which instances this exporter watches: the configured and the discovered ones of its shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from dcs_task_exporter.config.model import ProjectConfig
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.tasks.models import Instance, Listing, Progress


class TaskSource(Protocol):
    """The part of a client that reads instances."""

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return an instance's tasks since `start`; raise `ApiError`."""
        ...

    def task_progress(self, instance_id: str, task_id: str, deadline: float) -> Progress:
        """Return the progress of an active task; raise `ApiError`."""
        ...


class ProjectSource(TaskSource, Protocol):
    """The part of a client that also finds the instances of its project."""

    def list_instances(self, deadline: float) -> Sequence[Instance]:
        """Return all instances; raise `ApiError`."""
        ...

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Forget the answers for all other instances."""
        ...


class Targets:
    """Joins the configured and the discovered instances; used by one thread at a time.

    `hand_over` is called once with the id of each instance that another shard reads. `numbers` has
    the number of instances of each project, over all shards.
    """

    def __init__(
        self,
        projects: Sequence[ProjectConfig],
        shard: Shard,
        hand_over: Callable[[str], None],
    ) -> None:
        self._projects = projects
        self._shard = shard
        self._hand_over = hand_over
        self._discovered: dict[str, Sequence[Instance]] = {}
        self._others: Collection[str] = ()
        self.numbers: Mapping[str, int] = {}

    def change(
        self, projects: Sequence[ProjectConfig], discovered: Mapping[str, Sequence[Instance]]
    ) -> list[Instance]:
        """Return the targets now that these are the projects, and the discovered instances."""
        self._projects, self._discovered = projects, dict(discovered)
        return self.current()

    def found(self, project: str, instances: Sequence[Instance]) -> list[Instance]:
        """Return the targets now that these are the discovered instances of a project."""
        self._discovered[project] = instances
        return self.current()

    def current(self) -> list[Instance]:
        """Return the targets of this shard; hand over those that have become another's."""
        targets = self._all()
        others = {key for key in targets if not self._shard.has(key)}
        for key in others.difference(self._others):
            self._hand_over(key)
        self._others = others
        numbers = Counter(target.project for target in targets.values())
        self.numbers = {project.name: numbers[project.name] for project in self._projects}
        return [target for key, target in targets.items() if key not in others]

    def _all(self) -> Mapping[str, Instance]:
        """Return the targets of all shards; discovery adds what the configuration does not say."""
        targets: dict[str, Instance] = {}
        for project in self._projects:
            names = {item.id: item.name for item in project.instances}
            bare = Instance(
                "", "", project.name, project_id=project.project_id, region=project.region
            )
            known = {key: replace(bare, id=key) for key in names}
            known.update((item.id, item) for item in self._discovered.get(project.name, ()))
            for key, item in known.items():
                targets.setdefault(key, replace(item, name=names.get(key) or item.name or key))
        return targets
