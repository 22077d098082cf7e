"""Which reads the task centre makes unnecessary in one project, and which it makes necessary.

What the centre shows and no instance has shown yet is looked for in all, or in the one that the
centre names, until an instance shows it: the two services need not agree at every moment.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.refresh.instance import Watched
from dcs_task_exporter.refresh.task_center import ChangeDetector, Changes

SEARCH_TIME: Final = 60.0
"""Seconds for which a task that only the centre shows is looked for: it may be nobody's."""


class Sparing:
    """Decides for the instances of one project; all but `ask` is called under one lock."""

    def __init__(self, detector: ChangeDetector, clock: Clock) -> None:
        self.spared = 0
        self._detector = detector
        self._clock = clock
        self._asking = threading.Lock()
        self._sought: Mapping[str, tuple[str, float]] = {}

    def is_quiet(self, entry: Watched, now: float) -> bool:
        """Whether an instance need not be read unless the task centre shows a change."""
        interval = self._detector.full_pass_interval
        return not entry.restless and not entry.full_pass_is_due(now, interval)

    def ask(self) -> Changes:
        """Return what changed; raises `StoppedError`."""
        with self._asking:
            return self._detector.changes()

    def suspect(self, changes: Changes, entries: Sequence[Watched]) -> None:
        """Mark those of the project's instances that must be read, be they due now or not."""
        now = self._clock.monotonic()
        tasks = dict(changes.tasks or {})
        new = {key: (owner, now) for key, owner in tasks.items() if key not in self._sought}
        sought = {**self._sought, **new}
        suspected = list(entries) if changes.everything else []
        found: set[str] = set()
        for entry in entries:
            known = entry.knows(sought)
            found |= known
            if not known.isdisjoint(tasks):
                suspected.append(entry)
        self._sought = {
            key: (owner, since)
            for key, (owner, since) in sought.items()
            if key not in found and now - since < SEARCH_TIME
        }
        owners = {owner for owner, _ in self._sought.values()}
        suspected += [entry for entry in entries if "" in owners or entry.id in owners]
        for entry in suspected:
            entry.suspect_since = now
