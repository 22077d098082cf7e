"""Which instances are read, in which order, and when a scrape need not wait any more.

A scrape asks for a refresh and waits until every due instance is read, or until its deadline. Reads
that are late go on, and their results are there for the next scrape. A scrape that comes meanwhile
joins them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiError
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.instance import Claim, WatchedInstance
from dcs_task_exporter.refresh.progress import ProgressReader
from dcs_task_exporter.refresh.reader import DurationObserver, InstanceReader
from dcs_task_exporter.refresh.settings import RefreshSettings
from dcs_task_exporter.refresh.targets import Target
from dcs_task_exporter.refresh.task_center import TaskCenter
from dcs_task_exporter.refresh.workers import Job, WorkerPool, all_of
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot

MAX_FORMER: Final = 5000
"""Most instances that left and are still remembered, should they return."""

AT_ONCE: Final = float("-inf")
"""The order of jobs that come before all others."""


class Refresher:
    """Keeps a snapshot of each instance, as fresh as the scrapes want it.

    `coalesced` is the number of refreshes that only joined another's reads.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        settings: RefreshSettings,
        clock: Clock,
        *,
        journal: Journal | None = None,
        task_centers: Mapping[str, TaskCenter] | None = None,
        timekeeper: Timekeeper | None = None,
        observe: DurationObserver | None = None,
        pool_of: Callable[[str, int], WorkerPool] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._journal = journal or Journal()
        self._task_centers = task_centers or {}
        self._pool_of = pool_of or WorkerPool
        self._lock = threading.Lock()
        self._watched = {target.instance.id: self._watch(target) for target in targets}
        self._former: dict[str, WatchedInstance] = {}
        self._pools: dict[str, WorkerPool] = {}
        self._add_pools(targets)
        self._reader = InstanceReader(settings, clock, timekeeper or Timekeeper(clock), observe)
        self._progress = ProgressReader(settings.rules.statuses, clock)
        self._stopping = False
        self.coalesced = 0

    def retarget(self, targets: Sequence[Target]) -> None:
        """Watch these instances from now on; the counts of the others are remembered.

        Called by one thread at a time.
        """
        wanted = {target.instance.id: target for target in targets}
        self._add_pools(targets)
        with self._lock:
            unknown = wanted.keys() - self._watched.keys() - self._former.keys()
        loaded = {key: self._watch(wanted[key]) for key in unknown}
        with self._lock:
            left = {key: self._watched.pop(key) for key in self._watched.keys() - wanted.keys()}
            for key, target in wanted.items():
                watched = self._watched.get(key) or self._former.pop(key, None) or loaded[key]
                watched.rename(target)
                self._watched[key] = watched
            self._former.update(left)
            resting = [key for key, one in self._former.items() if not one.reads.is_claimed]
            for key in resting[: max(0, len(self._former) - MAX_FORMER)]:
                del self._former[key]
        for watched in left.values():
            watched.leave()

    def refresh(
        self, ids: Collection[str] | None = None, *, project: str | None = None
    ) -> Future[None]:
        """Start reading the instances that are due; return a future for the end of their reads.

        With `ids`, only these are read, and before all others; with a `project`, only its own.
        Reads that are under way are joined, not repeated.
        """
        with self._lock:
            wanted = [
                watched
                for key, watched in self._watched.items()
                if (ids is None or key in ids) and project in (None, watched.instance.project)
            ]
            found = (watched.claim(urgent=ids is not None) for watched in wanted)
            claims = [claim for claim in found if claim is not None]
            new = [claim for claim in claims if claim.is_new]
            if claims and not new and ids is project is None:
                self.coalesced += 1
        for name, due in _by_project(new).items():
            if ids is not None:
                self._pools[name].submit([self._job(claim, None) for claim in due])
            else:
                self._start(name, due)
        return all_of(claim.done for claim in claims)

    @property
    def reads_skipped(self) -> Mapping[str, int]:
        """The number of reads that the task center made unnecessary, by project."""
        return {project: center.skipped for project, center in self._task_centers.items()}

    def snapshots(self, target: str | None = None) -> tuple[Snapshot, ...]:
        """Return the snapshot of every instance, or of the one with the id `target`.

        Data older than `max_staleness` are left out.
        """
        with self._lock:
            wanted = self._watched if target is None else {target} & self._watched.keys()
            watched = [self._watched[key] for key in wanted]
        now = self._clock.monotonic()
        return tuple(one.snapshot(now) for one in watched)

    def find(self, target: str) -> tuple[Instance, ...]:
        """Return the instance with this id, or else those with this name."""
        with self._lock:
            known = self._watched.get(target)
            if known is not None:
                return (known.instance,)
            instances = [watched.instance for watched in self._watched.values()]
        return tuple(instance for instance in instances if instance.name == target)

    def delivered(self, snapshots: Iterable[Snapshot], number: int | None = None) -> None:
        """Note that a scraper has these snapshots, in an answer that was written whole.

        Answers with a `number` may be noted in any order: it grows from one to the next.
        """
        now = self._clock.monotonic()
        for snapshot in snapshots:
            key = snapshot.instance.id
            with self._lock:
                watched = self._watched.get(key) or self._former.get(key)
            if watched is not None:
                watched.delivered(snapshot, number, now)

    def was_tried(self) -> bool:
        """Whether every instance was read, or could not be read, at least once."""
        return all(snapshot.attempted_at is not None for snapshot in self.snapshots())

    def stop(self) -> None:
        """Start no more reads, and save what was delivered."""
        self._stopping = True
        self._progress.stop()
        for pool in self._pools.values():
            pool.stop()
        with self._lock:
            watched = list(self._watched.values())
        for one in watched:
            one.stop()

    def _watch(self, target: Target) -> WatchedInstance:
        return WatchedInstance(target, self._settings, self._clock, self._journal)

    def _add_pools(self, targets: Sequence[Target]) -> None:
        for name in dict.fromkeys(target.instance.project for target in targets):
            if name not in self._pools:
                # A new mapping: other threads may be iterating over the old one.
                pool = self._pool_of(name, self._settings.concurrency)
                self._pools = {**self._pools, name: pool}

    def _of_project(self, project: str) -> Sequence[WatchedInstance]:
        with self._lock:
            return [one for one in self._watched.values() if one.instance.project == project]

    def _start(self, project: str, due: Sequence[Claim]) -> None:
        """Queue the reads that are due; where a task center is used, ask it first."""
        center = self._task_centers.get(project)
        if center is None:
            self._submit_reads(project, due)
            return
        quiet = [claim for claim in due if center.may_skip(claim.watched)]
        asked = set(map(id, quiet))
        self._submit_reads(project, [claim for claim in due if id(claim) not in asked])
        if quiet:
            ask = partial(self._ask, project, center, quiet)
            self._pools[project].submit([Job(ask, partial(self._drop, quiet), AT_ONCE)])

    def _ask(self, project: str, center: TaskCenter, quiet: Sequence[Claim]) -> None:
        """Read the instances that changed; runs in a worker thread."""
        self._submit_reads(project, center.changed(quiet, partial(self._of_project, project)))

    def _submit_reads(self, project: str, claims: Sequence[Claim]) -> None:
        """Queue reads, those first that were read longest ago."""
        pass_time = len(self._of_project(project)) / self._settings.requests_per_second
        self._pools[project].submit([self._job(claim, pass_time) for claim in claims])

    def _job(self, claim: Claim, pass_time: float | None) -> Job:
        """Return the job that reads an instance: at once without a `pass_time` (seconds)."""
        watched, order = claim.watched, AT_ONCE
        if pass_time is not None:
            order = watched.reads.due_before(pass_time, is_active=bool(watched.state.active))
        return Job(partial(self._read, watched), partial(self._drop, [claim]), order)

    def _drop(self, claims: Sequence[Claim]) -> None:
        """End reads that no thread will do: the exporter stops, or cannot start a thread."""
        for claim in claims:
            if not self._stopping:
                failure = ApiError("no thread could be started")
                self._reader.fail(claim.watched, failure, self._clock.monotonic())
            claim.abandon()

    def _read(self, watched: WatchedInstance) -> None:
        """Read one instance, unless another job has; runs in a worker thread."""
        if not watched.reads.begin():
            return
        finish = watched.reads.finish
        try:
            with self._lock:
                has_left = self._watched.get(watched.instance.id) is not watched
            if has_left or not self._reader.read(watched):
                finish()
            elif self._settings.task_progress:
                self._progress.read(watched, finish)
            else:
                finish()
        except BaseException:
            finish()  # else it would never be read again
            raise


def _by_project(claims: Iterable[Claim]) -> Mapping[str, Sequence[Claim]]:
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.watched.instance.project, []).append(claim)
    return found
