"""The tasks of a soak: they start, end, and are deleted, active ones too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from bench.ledger import Ledger
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.listing import timestamp

NAMES: Final = ("EXTEND", "masterStandbySwapJob", "UpdatePort", "DeleteAcl", "newKindOfTask")
ENDINGS: Final = ("SUCCESS", "SUCCESS", "SUCCESS", "FAILED", "CANCELLED")
MEAN_DURATION: Final = 20.0
LONG: Final = (400.0, 900.0)
"""Seconds that a long task takes: it began before the look-back window."""

LONG_SHARE: Final = 0.03
DELETED_SHARE: Final = 0.2
DELETED_ACTIVE_SHARE: Final = 0.03
SEEN_AFTER: Final = 5.0
"""Seconds between the end of a task and the refresh that surely saw it: no read takes longer."""

HISTORY: Final = 1200.0
"""Seconds before the start in which tasks ended that no exporter may count."""


@dataclass(frozen=True, slots=True)
class _Active:
    instance: str
    task: str
    name: str
    ends_at: float


class Play:
    """The tasks of one cloud; `ledger` learns of each end before the cloud shows it."""

    def __init__(self, cloud: SimulatedCloud, random: Random, ledger: Ledger) -> None:
        self._cloud = cloud
        self._random = random
        self._ledger = ledger
        self._active: list[_Active] = []
        self._doomed: list[tuple[str, str, float]] = []
        self._ended_at: dict[str, float] = {}

    def remember(self, instances: Collection[str], now: float) -> None:
        """Fill an instance with tasks that ended before anybody looked, one in ten seconds."""
        for instance in instances:
            for number in range(int(HISTORY / 10)):
                began = now - HISTORY + 10 * number
                name, status = self._random.choice(NAMES), self._random.choice(ENDINGS)
                task = self._cloud.start_task(instance, name, created_at=began)
                self._cloud.set_status(instance, task, status, updated_at=timestamp(began + 5))

    def step(self, instances: Collection[str], now: float) -> None:
        """Start a task or none in some of the instances, and end those whose time has come."""
        if instances and self._random.random() < 0.5:  # noqa: PLR2004 - a chance
            self._start(self._random.choice(sorted(instances)), now)
        for task in [task for task in self._active if task.ends_at <= now]:
            self._end(task, now)

    def end_all(self, now: float, instance: str | None = None) -> None:
        """End all active tasks, or those of one instance."""
        for task in [task for task in self._active if instance in (None, task.instance)]:
            self._end(task, now)

    def delete_seen(self, seen_at: Mapping[str, float]) -> None:
        """Delete the records that are to be, and that the refreshes at these times have read."""
        kept = []
        for instance, task, ended_at in self._doomed:
            if seen_at.get(instance, 0.0) > ended_at + SEEN_AFTER:
                self._cloud.delete_task(instance, task)
            else:
                kept.append((instance, task, ended_at))
        self._doomed = kept

    def is_seen(self, instance: str, seen_at: Mapping[str, float]) -> bool:
        """Whether an instance has no active task, and a refresh has read all that ended."""
        is_active = any(task.instance == instance for task in self._active)
        ended_at = self._ended_at.get(instance, 0.0)
        return not is_active and seen_at.get(instance, 0.0) > ended_at + SEEN_AFTER

    def forget(self, instance: str) -> None:
        """Leave the records of an instance alone: it was deleted itself."""
        self._doomed = [row for row in self._doomed if row[0] != instance]

    def _start(self, instance: str, now: float) -> None:
        name, random = self._random.choice(NAMES), self._random
        is_long = random.random() < LONG_SHARE
        took = random.uniform(*LONG) if is_long else random.expovariate(1 / MEAN_DURATION)
        details = {"old_capacity": f"{random.random():.3f}", "new_capacity": "8"}
        task = self._cloud.start_task(instance, name, details=details)
        self._active.append(_Active(instance, task, name, now + took))

    def _end(self, task: _Active, now: float) -> None:
        self._active.remove(task)
        if self._random.random() < DELETED_ACTIVE_SHARE:
            self._cloud.delete_task(task.instance, task.task)
            return
        status = self._random.choice(ENDINGS)
        self._ledger.ended(task.instance, task.name, status)
        self._cloud.finish_task(task.instance, task.task, status)
        self._ended_at[task.instance] = now
        if self._random.random() < DELETED_SHARE:
            self._doomed.append((task.instance, task.task, now))
