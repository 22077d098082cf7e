"""What is kept of one watched instance between two refreshes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

from dcs_task_exporter.counting import InstanceState, Series, is_settled
from dcs_task_exporter.models import Instance, Listing, Progress, Task
from dcs_task_exporter.snapshots import Snapshot


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

    Changed only under the refresher's lock; the state only by the one thread that reads the
    instance. `suspect_since` is when something was seen to change that a later read must show.
    """

    def __init__(self, target: Target, state: InstanceState) -> None:
        self.target = target
        self.state = state
        self.snapshot = Snapshot(target.instance)
        self.listed: tuple[Task, ...] | None = None
        self.witnessed: Mapping[Series, int] = {}
        self.witnessed_since: Mapping[Series, float] = {}
        self.attempted_mono: float | None = None
        self.refreshed_mono: float | None = None
        self.suspect_since: float | None = None
        self.in_flight: Future[None] | None = None

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
        return not self.snapshot.up or self.suspect_since is not None or not is_settled(self.state)

    def shows(self, listing: Listing, window: float) -> bool:
        """Whether a listing is what the snapshot shows already: the usual case, and cheap.

        `window` is the Unix time at which the look-back window begins.
        """
        return (
            listing.tasks == self.listed
            and all((task.created_at or window) >= window for task in listing.tasks)
            and self.snapshot.figures is not None
            and self.snapshot.truncated == listing.truncated is False
            and is_settled(self.state)
        )

    def knows(self, task_ids: Collection[str]) -> frozenset[str]:
        """Return those of these tasks that are this instance's, as far as it was read."""
        state = self.state
        return frozenset(
            key
            for key in task_ids
            if key in state.counted or key in state.active or key in state.missing
        )

    def settled(self) -> InstanceState:
        """Return the state whose counters show what a scrape has seen."""
        return replace(self.state, shown={**self.state.shown, **self.witnessed})

    def rename(self, target: Target) -> None:
        """Take what is known newly of the instance; another name makes other series."""
        if target.instance.name != self.target.instance.name:
            self.state = self.settled()
            self.witnessed, self.witnessed_since = {}, {}
            figures = self.snapshot.figures
            if figures is not None:
                self.snapshot = replace(
                    self.snapshot, figures=replace(figures, finished=self.state.shown)
                )
        self.target = target
        self.snapshot = replace(self.snapshot, instance=target.instance)

    def due_before(self, pass_time: float) -> float:
        """Return the moment by which to order reads, when one pass takes `pass_time` seconds.

        Whoever was read longest ago comes first, and an instance with active tasks as if it were
        read three quarters of a pass earlier: it overtakes, but nobody is starved.
        """
        if self.attempted_mono is None:
            return float("-inf")
        return self.attempted_mono - (0.75 * pass_time if self.state.active else 0.0)
