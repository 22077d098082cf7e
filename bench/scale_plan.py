"""The plan of a scale run: how many instances and shards, at which rate, and who reads what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.scale_cloud import CloudSettings
from dcs_task_exporter.refresh.sharding import Shard

LATENCY: Final = 0.05
SHARE_OF_LIMIT: Final = 0.93
"""The share of a project's limit that all shards together use, the added ones included."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The run: shards before and `after` the change, the seconds of a pass, and of one restart.

    The limit of a project follows from the pass: all its instances are read once in it.
    """

    instances: int
    projects: int
    shards: int
    after: int
    pass_time: float
    roll: float

    @property
    def cloud(self) -> CloudSettings:
        """The cloud, with room for as many shards as there are at most."""
        each = self.instances // self.projects
        limit = each / self.pass_time * self._most / self.shards / SHARE_OF_LIMIT * 60
        return CloudSettings(self.projects, each, LATENCY, round(limit))

    @property
    def rate(self) -> float:
        """The requests a second of one shard for one project."""
        return round(self.cloud.limit / 60 * SHARE_OF_LIMIT / self._most, 2)

    @property
    def _most(self) -> int:
        return max(self.shards, self.after)

    def owners(self, shards: int) -> Mapping[int, set[str]]:
        """Return the instances of each shard, when there are so many."""
        found: dict[int, set[str]] = {number: set() for number in range(shards)}
        for instances in self.cloud.instance_ids().values():
            for instance in instances:
                for number, ids in found.items():
                    if Shard(number, shards).has(instance):
                        ids.add(instance)
                        break
        return found
