"""Which instances are read, in which order, and when a scrape need not wait any more.

A scrape asks for a refresh and waits until every due instance is read, or until its deadline. Reads
that are late go on, and their results are there for the next scrape. A scrape that comes meanwhile
joins them.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import CollectorConfig
from dcs_task_exporter.errors import InternalError
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.instance import Claim, WatchedInstance
from dcs_task_exporter.refresh.progress import PROGRESS_THREADS, ProgressReader
from dcs_task_exporter.refresh.reader import DurationObserver, InstanceReader
from dcs_task_exporter.refresh.targets import TaskSource
from dcs_task_exporter.refresh.task_center import TaskCenter
from dcs_task_exporter.refresh.workers import Job, WorkerPool, all_of
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot

MAX_FORMER: Final = 5000
"""Most instances that left and are still remembered, should they return."""

AT_ONCE: Final = float("-inf")
"""The order of jobs that come before all others."""


class Refresher:
    """Keeps a snapshot of each instance, as fresh as the scrapes want it.

    `sources` reads the instances of each project. `coalesced` is the number of refreshes that only
    joined another's reads.
    """

    def __init__(
        self,
        targets: Sequence[Instance],
        sources: Mapping[str, TaskSource],
        collector: CollectorConfig,
        rules: CountingRules,
        clock: Clock,
        *,
        journal: Journal | None = None,
        task_centers: Mapping[str, TaskCenter] | None = None,
        timekeeper: Timekeeper | None = None,
        observe: DurationObserver | None = None,
        pool_of: Callable[[str, int], WorkerPool] = WorkerPool,
    ) -> None:
        self._collector = collector
        self._rules = rules
        self._clock = clock
        self._journal = journal or Journal()
        self._task_centers = task_centers or {}
        self._reader = InstanceReader(
            sources, collector, rules, clock, timekeeper or Timekeeper(clock), observe
        )
        self._pool_of = pool_of
        # Replaced as a whole, as other threads read them.
        self._pools: Mapping[str, WorkerPool] = {}
        self._progress: Mapping[str, ProgressReader] = {}
        self._prepare(sources)
        self._stopping = False
        self._claiming = threading.Lock()
        self.coalesced = 0
        # Likewise: the watched instances, and all known.
        self._watched: Mapping[str, WatchedInstance] = {}
        self._known: Mapping[str, WatchedInstance] = {}
        self.retarget(targets)

    def change(
        self,
        targets: Sequence[Instance],
        sources: Mapping[str, TaskSource],
        collector: CollectorConfig,
        rules: CountingRules,
        task_centers: Mapping[str, TaskCenter],
    ) -> None:
        """Watch and read by another configuration from now on; what stays keeps what it has.

        Called by one thread at a time, as is `retarget`.
        """
        self._collector, self._rules, self._task_centers = collector, rules, task_centers
        self._reader.change(sources, collector, rules)
        for one in self._known.values():
            one.change(collector, rules)
        self._prepare(sources)
        self.retarget(targets)

    def retarget(self, targets: Sequence[Instance]) -> None:
        """Watch these instances from now on; the counts of the others are remembered.

        Called by one thread at a time.
        """
        known = dict(self._known)
        watched: dict[str, WatchedInstance] = {}
        for target in targets:
            one = known.pop(target.id, None) or WatchedInstance(
                target, self._collector, self._rules, self._clock, self._journal
            )
            one.rename(target)
            # At the end of `known`: those that left come first, in the order in which they did.
            known[target.id] = watched[target.id] = one
        former = [key for key in known if key not in watched]
        resting = [key for key in former if not known[key].reads.is_claimed]
        for key in resting[: max(0, len(former) - MAX_FORMER)]:
            del known[key]
        left = [one for key, one in self._watched.items() if key not in watched]
        self._known, self._watched = known, watched
        for one in left:
            one.leave()

    def refresh(
        self, target: str | None = None, *, project: str | None = None, is_scrape: bool = True
    ) -> Future[None]:
        """Start reading the instances that are due; return a future for the end of their reads.

        With the id `target`, only this one is read, and before all others; with a `project`, only
        its own. Reads that are under way are joined, not repeated.
        """
        is_probe = target is not None
        with self._claiming:
            chosen = self._chosen(target, project)
            claimed = [(one, one.reads.claim(urgent=is_probe)) for one in chosen]
            claims = [Claim(one, *claim) for one, claim in claimed if claim is not None]
            new = [claim for claim in claims if claim.is_new]
            if claims and not new and is_scrape and target is project is None:
                self.coalesced += 1
        by_project = defaultdict[str, list[Claim]](list)
        for claim in new:
            by_project[claim.watched.instance.project].append(claim)
        for name, due in by_project.items():
            if is_probe:
                self._submit(name, due, [self._job(claim, None) for claim in due])
            else:
                self._start(name, due)
        return all_of(claim.done for claim in claims)

    def snapshots(self, target: str | None = None) -> tuple[Snapshot, ...]:
        """Return the snapshot of every instance, or of the one with the id `target`.

        Data older than `max_staleness` are left out.
        """
        now = self._clock.monotonic()
        return tuple(one.snapshot(now) for one in self._chosen(target))

    def find(self, target: str) -> Sequence[Instance]:
        """Return the instance with this id, or else those with this name."""
        found = self._chosen(target) or self._chosen()
        return [one.instance for one in found if target in (one.instance.id, one.instance.name)]

    def delivered(self, snapshots: Iterable[Snapshot], number: int | None = None) -> None:
        """Note that a scraper has these snapshots, in an answer that was written whole.

        Answers with a `number` may be noted in any order: it grows from one to the next.
        """
        now = self._clock.monotonic()
        for snapshot in snapshots:
            watched = self._known.get(snapshot.instance.id)
            if watched is not None:
                watched.delivered(snapshot, number, now)

    def stop(self) -> None:
        """Start no more reads, and save what was delivered."""
        self._stopping = True
        for progress in self._progress.values():
            progress.stop()
        for pool in self._pools.values():
            pool.stop()
        for one in self._chosen():
            one.stop()

    def _prepare(self, sources: Mapping[str, TaskSource]) -> None:
        """Have the threads of these projects; those of other projects end."""
        size, statuses = self._collector.threads, self._rules.statuses
        pools, progress = self._pools, self._progress
        asked = sources if self._collector.task_progress else {}
        self._pools = {name: pools.get(name) or self._pool_of(name, size) for name in sources}
        self._progress = {
            name: progress.get(name) or self._progress_reader(name, source)
            for name, source in asked.items()
        }
        for name in {*pools, *self._pools}:
            (self._pools.get(name) or pools[name]).resize(size if name in sources else 0)
        for name, reader in self._progress.items():
            reader.change(sources[name], statuses)
        for name in progress.keys() - asked:
            progress[name].end()

    def _progress_reader(self, project: str, source: TaskSource) -> ProgressReader:
        pool = self._pool_of(f"{project}-progress", PROGRESS_THREADS)
        return ProgressReader(source, self._rules.statuses, self._clock, pool)

    def _chosen(
        self, target: str | None = None, project: str | None = None
    ) -> Sequence[WatchedInstance]:
        """Return all watched instances, or the one with the id `target`, or those of a project."""
        if target is None:
            watched = self._watched.values()
            return [one for one in watched if project in (None, one.instance.project)]
        found = self._watched.get(target)
        return [] if found is None else [found]

    def _start(self, project: str, due: Sequence[Claim]) -> None:
        """Queue the reads that are due; where a task center is used, ask it first."""
        center = self._task_centers.get(project)
        quiet, loud = list[Claim](), list[Claim]()
        for claim in due:
            (quiet if center and center.may_skip(claim.watched) else loud).append(claim)
        self._submit_reads(project, loud)
        if center and quiet:
            ask = partial(self._ask, project, center, quiet)
            self._submit(project, quiet, [Job(ask, partial(self._drop, quiet), AT_ONCE)])

    def _ask(self, project: str, center: TaskCenter, quiet: Sequence[Claim]) -> None:
        """Read the instances that changed; runs in a worker thread."""
        self._submit_reads(project, center.changed(quiet, partial(self._chosen, project=project)))

    def _submit_reads(self, project: str, claims: Sequence[Claim]) -> None:
        """Queue reads, those first that were read longest ago."""
        pass_time = len(self._chosen(project=project)) / self._collector.requests_per_second
        self._submit(project, claims, [self._job(claim, pass_time) for claim in claims])

    def _submit(self, project: str, claims: Sequence[Claim], jobs: Sequence[Job]) -> None:
        """Queue the jobs of these claims, unless their project has just left."""
        pool = self._pools.get(project)
        if pool is not None:
            pool.submit(jobs)
            return
        for claim in claims:
            claim.abandon()

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
                failure = InternalError(
                    "no thread could be started: raise the limit of processes and threads"
                )
                self._reader.fail(claim.watched, failure, self._clock.monotonic())
            claim.abandon()

    def _read(self, watched: WatchedInstance) -> None:
        """Read one instance, unless another job has; runs in a worker thread."""
        if not watched.reads.begin():
            return
        finish = watched.reads.finish
        try:
            instance = watched.instance
            has_left = self._watched.get(instance.id) is not watched
            is_read = not has_left and self._reader.read(watched)
            progress = self._progress.get(instance.project) if is_read else None
            if progress is None:
                finish()
            else:
                progress.read(watched, finish)
        except BaseException:
            finish()  # else it would never be read again
            raise
