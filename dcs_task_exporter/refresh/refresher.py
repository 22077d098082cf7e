"""Which instances are read, in which order, and until when a scrape waits for them.

A scrape asks for a refresh and waits until every due instance is in, or until its deadline. What
is late goes on being fetched and is there for the next scrape; a scrape that comes meanwhile
joins. One thread at a time reads an instance, and what it publishes is immutable.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiError, StoppedError
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.instance import Target, Watched
from dcs_task_exporter.refresh.progress import ProgressReader
from dcs_task_exporter.refresh.reader import DurationObserver, InstanceReader, ReadSettings
from dcs_task_exporter.refresh.sparing import Sparing
from dcs_task_exporter.refresh.task_center import EVERYTHING, ChangeDetector
from dcs_task_exporter.refresh.workers import WorkerPool, all_of
from dcs_task_exporter.state.file import Journal, NoJournal
from dcs_task_exporter.tasks.counting import CountingRules, Series
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot

logger = logging.getLogger(__name__)

FRESHNESS_TOLERANCE: Final = 0.5
"""Seconds by which a scrape may come early and still find its instances due."""

MAX_FORMER: Final = 5000
"""Most instances that left and are still remembered, should they return."""

AT_ONCE: Final = float("-inf")
"""The order of what is read before all others."""


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """How a refresh is run; all in seconds."""

    rules: CountingRules
    min_refresh_interval: float = 15.0
    max_staleness: float = 3600.0
    refresh_time_limit: float = 60.0
    concurrency: int = 8
    requests_per_second: float = 10.0
    first_value_hold: float = 0.0
    task_progress: bool = False


class Refresher:
    """Keeps one snapshot per instance, as fresh as the scrapes want them."""

    def __init__(
        self,
        targets: Sequence[Target],
        settings: RefreshSettings,
        clock: Clock,
        *,
        journal: Journal | None = None,
        detectors: Mapping[str, ChangeDetector] | None = None,
        timekeeper: Timekeeper | None = None,
        observe: DurationObserver | None = None,
        pool_of: Callable[[str, int], WorkerPool[_Job]] | None = None,
    ) -> None:
        self._settings = settings
        self._pool_of = pool_of or WorkerPool[_Job]
        self._journal = journal or NoJournal()
        self._clock = clock
        self._lock = threading.Lock()
        self._entries = {
            target.instance.id: Watched(target, self._journal.load(target.instance.id))
            for target in targets
        }
        self._former: dict[str, Watched] = {}
        self._pools: dict[str, WorkerPool[_Job]] = {}
        self._add_pools(targets)
        self._sparing = {
            project: Sparing(detector, clock) for project, detector in (detectors or {}).items()
        }
        self._reader = InstanceReader(
            ReadSettings(settings.rules, settings.refresh_time_limit, settings.first_value_hold),
            self._journal,
            self._lock,
            clock,
            timekeeper=timekeeper,
            observe=observe,
        )
        self._progress = ProgressReader(settings.rules.statuses, self._lock, clock)
        self._stopping = False
        self.coalesced = 0

    def retarget(self, targets: Sequence[Target]) -> None:
        """Watch these instances from now on; what was counted of the others is remembered.

        Called by one thread at a time.
        """
        wanted = {target.instance.id: target for target in targets}
        self._add_pools(targets)
        with self._lock:
            unknown = wanted.keys() - self._entries.keys() - self._former.keys()
        loaded = {key: Watched(wanted[key], self._journal.load(key)) for key in unknown}
        with self._lock:
            left = [self._entries.pop(key) for key in self._entries.keys() - wanted.keys()]
            for entry in left:
                entry.leave()
            for key, target in wanted.items():
                entry = self._entries.get(key) or self._former.pop(key, None) or loaded[key]
                entry.rename(target)
                self._entries[key] = entry
            self._former.update((entry.id, entry) for entry in left)
            resting = [key for key, entry in self._former.items() if entry.in_flight is None]
            for key in resting[: max(0, len(self._former) - MAX_FORMER)]:
                del self._former[key]
        self._save(left)

    def _add_pools(self, targets: Sequence[Target]) -> None:
        for name in dict.fromkeys(target.instance.project for target in targets):
            if name not in self._pools:
                # A new mapping: others may be looking at the one before.
                pool = self._pool_of(name, self._settings.concurrency)
                self._pools = {**self._pools, name: pool}

    def refresh(
        self, ids: Collection[str] | None = None, *, project: str | None = None
    ) -> Future[None]:
        """Start reading the instances that are due; the result comes when all due ones are in.

        With `ids`, only these are read, and before all others; with a `project`, only its own.
        Instances that are being read already are waited for and not read again.
        """
        with self._lock:
            now = self._clock.monotonic()
            wanted = [
                entry
                for key, entry in self._entries.items()
                if (ids is None or key in ids) and project in (None, entry.project)
            ]
            joined = [entry for entry in wanted if entry.in_flight is not None]
            due = [entry for entry in wanted if self._is_due(entry, now)]
            if joined and not due and ids is project is None:
                self.coalesced += 1
            for entry in due:
                entry.in_flight = Future()
            waiting = [one for one in joined if not (one.hurried or one.reading)]
            hurried = [] if ids is None else [*due, *waiting]
            for entry in hurried:
                entry.hurried = True
            waited_for = [entry.in_flight for entry in (*joined, *due) if entry.in_flight]
        for name, entries in _by_project(due if ids is None else hurried).items():
            if ids is not None:
                self._submit(name, [self._job(entry, AT_ONCE) for entry in entries])
            elif name in self._sparing:
                self._read_what_changed(name, entries, now)
            else:
                self._submit_reads(name, entries)
        return all_of(waited_for)

    def _submit_reads(self, project: str, entries: Sequence[Watched]) -> None:
        """Queue the reads of these instances, the most urgent first."""
        with self._lock:
            number = sum(entry.project == project for entry in self._entries.values())
        pass_time = number / self._settings.requests_per_second
        self._submit(project, [self._job(entry, entry.due_before(pass_time)) for entry in entries])

    def _job(self, entry: Watched, order: float) -> _Job:
        return _Job((entry,), order, partial(self._read, entry))

    def _submit(self, project: str, jobs: Sequence[_Job]) -> None:
        for job in self._pools[project].submit(jobs, lambda job: job.order):
            for entry in job.entries:
                if not self._stopping:
                    failure = ApiError("no thread could be started")
                    self._reader.fail(entry, self._clock.monotonic(), failure)
                self._finish(entry)

    def _read_what_changed(self, project: str, due: Sequence[Watched], now: float) -> None:
        """Read what must be read, and of the others what the task centre says has changed."""
        sparing = self._sparing[project]
        with self._lock:
            quiet = [entry for entry in due if sparing.is_quiet(entry, now)]
        kept = set(map(id, quiet))
        self._submit_reads(project, [entry for entry in due if id(entry) not in kept])
        if quiet:
            # Each with what its waiters wait for: a probe may read it meanwhile, and more.
            asked = [(entry, entry.in_flight) for entry in quiet]
            job = _Job(tuple(quiet), AT_ONCE, partial(self._ask_centre, project, asked))
            self._submit(project, [job])

    def _ask_centre(self, project: str, asked: Sequence[_Asked]) -> None:
        """Ask once for many instances; runs in a worker thread."""
        waiting = asked
        try:
            changed = self._changed(project, asked)
            self._submit_reads(project, changed)
            queued = set(map(id, changed))
            waiting = [(entry, future) for entry, future in asked if id(entry) not in queued]
        except StoppedError:
            pass
        finally:
            for entry, future in waiting:
                self._finish(entry, unless_reading=True, only=future)

    def _changed(self, project: str, asked: Sequence[_Asked]) -> Sequence[Watched]:
        """Return those that must be read; the others are spared."""
        sparing = self._sparing[project]
        try:
            changes = sparing.ask()
        except StoppedError:
            raise
        except Exception:
            logger.exception(
                "asking the task centre broke: every instance of the project is read",
                extra={"fields": {"project": project}},
            )
            changes = EVERYTHING
        with self._lock:
            own = [entry for entry in self._entries.values() if entry.project == project]
            sparing.suspect(changes, own)
            still = [
                entry for entry, future in asked if entry.in_flight is future and not entry.reading
            ]
            changed = [entry for entry in still if entry.suspect_since is not None]
            for entry in still:
                if entry.suspect_since is None:
                    entry.attempted_mono = self._clock.monotonic()
            sparing.spared += len(still) - len(changed)
        return changed

    @property
    def spared(self) -> Mapping[str, int]:
        """How many reads the task centre made unnecessary, by project."""
        with self._lock:
            return {project: sparing.spared for project, sparing in self._sparing.items()}

    def snapshots(self, target: str | None = None) -> tuple[Snapshot, ...]:
        """Return what is known of every instance, or of the one with the id `target`.

        Data older than `max_staleness` are left out.
        """
        with self._lock:
            now = self._clock.monotonic()
            if target is None:
                return tuple(self._visible(entry, now) for entry in self._entries.values())
            found = self._entries.get(target)
            return () if found is None else (self._visible(found, now),)

    def find(self, target: str) -> tuple[Instance, ...]:
        """Return the instance with this id, or else those with this name."""
        with self._lock:
            known = self._entries.get(target)
            if known is not None:
                return (known.target.instance,)
            instances = [entry.target.instance for entry in self._entries.values()]
        return tuple(instance for instance in instances if instance.name == target)

    def witness(self, snapshots: Iterable[Snapshot], number: int | None = None) -> None:
        """Remember that a scraper has these, whole.

        Answers with a `number` may be confirmed in any order: it grows from one to the next.
        """
        raised: list[Watched] = []
        with self._lock:
            now = self._clock.monotonic()
            # Most instances show the same series: they hold one mapping together.
            first: dict[tuple[Series, ...], Mapping[Series, float]] = {}
            for snapshot in snapshots:
                shown = snapshot.metrics.finished if snapshot.metrics else {}
                key = snapshot.instance.id
                entry = self._entries.get(key) or self._former.get(key)
                if entry is None or not entry.target.instance.shares_series(snapshot.instance):
                    continue
                if entry.take_nothing_back(shown):
                    raised.append(entry)
                # What is too old to be shown takes back nothing of what was seen.
                if (shown and not entry.saw(shown, number)) or key not in self._entries:
                    continue
                since = entry.witnessed_since
                if not since:
                    entry.witnessed_since = first.setdefault(
                        tuple(shown), dict.fromkeys(shown, now)
                    )
                elif since.keys() != shown.keys():
                    entry.witnessed_since = {key: since.get(key, now) for key in shown}
        self._save(raised)

    def attempted(self) -> bool:
        """Whether every instance was read, or tried, at least once."""
        with self._lock:
            return all(entry.snapshot.attempted_at is not None for entry in self._entries.values())

    def stop(self) -> None:
        """Start no more reads, and save which counts no scrape has seen.

        They are shown again from there, so that an instance that starts again under another name,
        and thus with other series, loses none.
        """
        self._stopping = True
        self._progress.stop()
        for pool in self._pools.values():
            for job in pool.stop():
                for entry in job.entries:
                    self._finish(entry, unless_reading=True)
        with self._lock:
            resting = [entry for entry in self._entries.values() if entry.in_flight is None]
            for entry in resting:
                entry.state = entry.settled()
        self._save(resting)

    def _save(self, entries: Iterable[Watched]) -> None:
        for entry in entries:
            if entry.state.refreshed_at is not None:
                self._journal.save(entry.id, entry.state)

    def _is_due(self, entry: Watched, now: float) -> bool:
        if entry.in_flight is not None:
            return False
        if entry.attempted_mono is None:
            return True
        interval = self._settings.min_refresh_interval
        return now - entry.attempted_mono >= interval - min(FRESHNESS_TOLERANCE, interval / 2)

    def _visible(self, entry: Watched, now: float) -> Snapshot:
        read = entry.refreshed_mono
        if read is None or now - read > self._settings.max_staleness:
            entry.expire()
        return entry.snapshot

    def _read(self, entry: Watched) -> None:
        """Read one instance, unless another job of it came first; runs in a worker thread."""
        with self._lock:
            if entry.in_flight is None or entry.reading:
                return
            entry.reading = True
            is_watched = self._entries.get(entry.id) is entry
        done = partial(self._finish, entry)
        try:
            if is_watched and self._reader.read(entry) and self._settings.task_progress:
                self._progress.ask(entry, done)
            else:
                done()
        except BaseException:
            done()  # else it would never be read again
            raise

    def _finish(
        self, entry: Watched, *, unless_reading: bool = False, only: Future[None] | None = None
    ) -> None:
        """Let those go on who wait for an instance; `only` if it is this that they wait for."""
        with self._lock:
            if (unless_reading and entry.reading) or only not in (None, entry.in_flight):
                return
            done, entry.in_flight = entry.in_flight, None
            entry.reading = entry.hurried = False
        if done is not None:
            done.set_result(None)


_Asked = tuple[Watched, "Future[None] | None"]


@dataclass(frozen=True, slots=True)
class _Job:
    """The reading of one instance, or one question about several; the lowest order comes first."""

    entries: tuple[Watched, ...]
    order: float
    do: Callable[[], None]

    def __call__(self) -> None:
        """Do it."""
        self.do()


def _by_project(entries: Iterable[Watched]) -> dict[str, list[Watched]]:
    found: dict[str, list[Watched]] = {}
    for entry in entries:
        found.setdefault(entry.project, []).append(entry)
    return found
