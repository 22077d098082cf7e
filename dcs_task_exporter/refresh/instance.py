"""What is kept of one watched instance between two refreshes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, Protocol

from dcs_task_exporter.tasks.counting import InstanceState, Series, is_settled
from dcs_task_exporter.tasks.models import Instance, Listing, Progress, Task
from dcs_task_exporter.tasks.snapshots import Snapshot

HEAD_START: Final = 0.75
"""The share of a pass by which an instance is read earlier where something is under way."""

NEVER: Final = -1e12
"""The moment at which an instance was read that was never read: long before all others."""


class TaskSource(Protocol):
    """What the refresher needs of a client."""

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return an instance's tasks since `start`; raise `ApiError`."""
        ...

    def task_progress(self, instance_id: str, task_id: str, deadline: float) -> Progress:
        """Return how far an active task is; raise `ApiError`."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One instance, and the client that reads it."""

    instance: Instance
    source: TaskSource


class Watched:
    """One instance: its state, its snapshot, and when it was read, in monotonic seconds.

    Changed only under the refresher's lock. `in_flight` is there from the moment at which the
    instance is due until it is read, `reading` while a thread reads it. `era` grows when the series
    that a scrape saw end: what was counted before that must not be published after it.
    `suspect_since` is when something was seen to change that a later read must show. `listed` is
    what was counted last, `window` where its look-back window began, and `doubted` whether the
    clock was in doubt.
    """

    def __init__(self, target: Target, state: InstanceState) -> None:
        self.target = target
        self.state = state
        self.snapshot = Snapshot(target.instance)
        self.listed: tuple[Task, ...] | None = None
        self.window = -math.inf
        self.doubted = False
        self.progress: Mapping[str, Progress] = {}
        self.witnessed: Mapping[Series, int] = {}
        self.witnessed_since: Mapping[Series, float] = {}
        self.witnessed_number = -1
        self.era = 0
        self.attempted_mono: float | None = None
        self.refreshed_mono: float | None = None
        self.suspect_since: float | None = None
        self.in_flight: Future[None] | None = None
        self.reading = False
        self.hurried = False

    @property
    def id(self) -> str:
        """The id of the instance."""
        return self.target.instance.id

    @property
    def project(self) -> str:
        """The project that the instance belongs to."""
        return self.target.instance.project

    @property
    def restless(self) -> bool:
        """Whether it must be read although nothing is known to have changed.

        That is, when the latest refresh failed, when tasks are followed, or when counts wait to be
        shown.
        """
        shows_data = self.snapshot.up and self.snapshot.metrics is not None
        return not shows_data or self.suspect_since is not None or not is_settled(self.state)

    def shows(self, listing: Listing, window: float) -> bool:
        """Whether a listing is what the snapshot shows already: the usual case, and cheap.

        `window` is the Unix time at which the look-back window begins. What was counted while the
        clock was in doubt is counted anew: something may be left to forget.
        """
        low, high = sorted((window, self.window))
        return (
            not self.doubted
            and listing.tasks == self.listed
            and not any(low <= (task.created_at or -math.inf) < high for task in listing.tasks)
            and self.snapshot.metrics is not None
            and self.snapshot.truncated == listing.truncated is False
            and is_settled(self.state)
        )

    def counted(self, listing: Listing, window: float, *, doubt: str) -> None:
        """Note what was counted, under which window, and whether the clock was in doubt."""
        self.listed, self.window, self.doubted = listing.tasks, window, bool(doubt)

    def knows(self, task_ids: Collection[str]) -> frozenset[str]:
        """Return those of these tasks that are this instance's, as far as it was read."""
        state = self.state
        return frozenset(
            key
            for key in task_ids
            if key in state.counted or key in state.active or key in state.missing
        )

    def saw(self, shown: Mapping[Series, int], number: int | None = None) -> bool:
        """Note what a scraper has; return whether its series may be others than before.

        What an earlier answer showed may be confirmed after a later one, by `number`: that says
        which values were seen, but not which series a scraper has now.
        """
        before = self.witnessed
        if number is not None and number < self.witnessed_number:
            self.witnessed = {key: max(shown.get(key, 0), before[key]) for key in before}
            return False
        if number is not None:
            self.witnessed_number = number
        if shown is before:  # usual, and cheap
            return False
        if all(before.get(series, 0) <= value for series, value in shown.items()):
            self.witnessed = shown
        else:
            self.witnessed = {key: max(value, before.get(key, 0)) for key, value in shown.items()}
        return True

    def take_nothing_back(self, shown: Mapping[Series, int]) -> bool:
        """Show at least what a scraper has; return whether that is more than it was.

        So it is where an answer was still on its way when the instance left.
        """
        own = self.state.shown
        if shown is own or all(own.get(series, 0) >= value for series, value in shown.items()):
            return False
        raised = {series: max(value, own.get(series, 0)) for series, value in shown.items()}
        self.state = replace(self.state, shown={**own, **raised})
        self.era += 1
        return True

    def settled(self) -> InstanceState:
        """Return the state whose counters show what a scrape has seen."""
        return replace(self.state, shown={**self.state.shown, **self.witnessed})

    def rename(self, target: Target) -> None:
        """Take what is known newly of the instance; another name or project makes other series."""
        renamed = not target.instance.shares_series(self.target.instance)
        if target.instance == self.target.instance:
            # The same object: what was rendered of it is still right.
            target = replace(target, instance=self.target.instance)
        self.target = target
        if renamed:
            self._end_series()
        metrics = self.snapshot.metrics
        if renamed and metrics is not None:
            metrics = replace(metrics, finished=self.state.shown)
        self.snapshot = replace(self.snapshot, instance=target.instance, metrics=metrics)

    def expire(self) -> None:
        """Show no data, rather than data that are too old."""
        if self.snapshot.metrics is not None or self.snapshot.up:
            self.snapshot = replace(self.snapshot, up=False, metrics=None)

    def leave(self) -> None:
        """Keep what was counted, and nothing of what is shown: the instance is gone for now."""
        self._end_series()
        self.snapshot = Snapshot(self.target.instance)
        self.listed, self.progress = None, {}
        self.attempted_mono = self.refreshed_mono = None

    def _end_series(self) -> None:
        self.state = self.settled()
        self.witnessed, self.witnessed_since = {}, {}
        self.era += 1

    def due_before(self, pass_time: float) -> float:
        """Return the moment by which to order reads, when one pass takes `pass_time` seconds.

        Whoever was read longest ago comes first, and an instance where something is under way as if
        it were read three quarters of a pass earlier: it overtakes, but nobody is starved.
        """
        if self.attempted_mono is None:
            return NEVER
        under_way = self.state.active or self.suspect_since is not None
        return self.attempted_mono - (HEAD_START * pass_time if under_way else 0.0)

    def full_pass_is_due(self, now: float, interval: float) -> bool:
        """Whether it must be read because `interval` seconds have passed since it was.

        Each instance has moments of its own, so that not all are read at once, and twice an
        interval apart: as many as there are intervals.
        """
        if self.refreshed_mono is None:
            return True
        phase = interval * zlib.crc32(self.id.encode()) / 2**32
        return math.floor((now + phase) / interval) > math.floor(
            (self.refreshed_mono + phase) / interval
        )
