"""Tasks that start and end at random in a simulated cloud, and the ends that came of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dcs_task_exporter.simulator.cloud import SimulatedCloud

NAMES = ("EXTEND", "masterStandbySwapJob", "UpdatePort", "DeleteAcl")
ENDINGS = ("SUCCESS", "SUCCESS", "FAILED", "CANCELLED")


class TaskPlay:
    """Starts and ends tasks; `ended` counts those that ended, by their name and status."""

    def __init__(self, cloud: SimulatedCloud, instances: Sequence[str], seed: int) -> None:
        self._cloud = cloud
        self._instances = instances
        self._active: list[tuple[str, str, str]] = []
        self.random = random.Random(seed)  # noqa: S311 - a fixed seed is wanted
        self.ended: Counter[tuple[str, str]] = Counter()

    @property
    def active(self) -> int:
        """The number of tasks that have not ended."""
        return len(self._active)

    def start(self, details: Mapping[str, Any] | None = None) -> None:
        """Start a task of some name in some instance."""
        instance, name = self.random.choice(self._instances), self.random.choice(NAMES)
        task = self._cloud.start_task(instance, name, details=details)
        self._active.append((instance, task, name))

    def end(self) -> None:
        """End one of the active tasks."""
        instance, task, name = self._active.pop(self.random.randrange(len(self._active)))
        status = self.random.choice(ENDINGS)
        self._cloud.finish_task(instance, task, status)
        self.ended[name, status] += 1
