"""Which instances are read, how many at once, and until when a scrape waits for them.

A scrape asks for a refresh and waits until every due instance is in, or until its deadline. What
is late goes on being fetched and is there for the next scrape; a scrape that comes meanwhile
joins. One thread at a time writes, and what it publishes is immutable.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from dcs_task_exporter.counting import (
    CountingRules,
    InstanceState,
    Series,
    count,
    listing_start,
    reveal,
)
from dcs_task_exporter.errors import ApiError, AuthError, StoppedError
from dcs_task_exporter.models import Instance, Listing, Outcome
from dcs_task_exporter.snapshots import Failure, Snapshot, figures
from dcs_task_exporter.state import Journal, NoJournal
from dcs_task_exporter.workers import WorkerPool, all_of

logger = logging.getLogger(__name__)

FRESHNESS_TOLERANCE: Final = 0.5
"""Seconds by which a scrape may come early and still find its instances due."""


MAX_REPORTED_WORDS: Final = 100
"""Most unknown status words that are logged, once each."""


MAX_FORMER: Final = 1000
"""Most instances that left and are still remembered, should they return."""


class TaskSource(Protocol):
    """What the refresher needs of a client."""

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return an instance's tasks since `start`; raise `ApiError`."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One instance, and the client that reads it."""

    instance: Instance
    source: TaskSource


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """How a refresh is run; all in seconds."""

    rules: CountingRules
    min_refresh_interval: float = 15.0
    max_staleness: float = 3600.0
    refresh_time_limit: float = 60.0
    concurrency: int = 8
    first_value_hold: float = 0.0


class Refresher:
    """Keeps one snapshot per instance, as fresh as the scrapes want them."""

    def __init__(
        self,
        targets: Sequence[Target],
        settings: RefreshSettings,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        journal: Journal | None = None,
    ) -> None:
        self._settings = settings
        self._journal = journal or NoJournal()
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries = {
            target.instance.id: _Entry(target, self._journal.load(target.instance.id))
            for target in targets
        }
        self._former: dict[str, InstanceState] = {}
        self._pools: dict[str, WorkerPool[_Job]] = {}
        self._add_pools(targets)
        self._reported_words: frozenset[str] = frozenset()
        self.coalesced = 0

    def retarget(self, targets: Sequence[Target]) -> None:
        """Watch these instances from now on; what was counted of the others is remembered."""
        wanted = {target.instance.id: target for target in targets}
        self._add_pools(targets)
        with self._lock:
            new = [target for key, target in wanted.items() if key not in self._entries]
        added = [_Entry(target, self._remembered(target.instance.id)) for target in new]
        with self._lock:
            for key in [key for key in self._entries if key not in wanted]:
                self._former[key] = self._entries.pop(key).settled()
            for key in list(self._former)[:-MAX_FORMER]:
                del self._former[key]
            for entry in self._entries.values():
                entry.rename(wanted[entry.target.instance.id])
            self._entries.update((entry.target.instance.id, entry) for entry in added)

    def _remembered(self, instance_id: str) -> InstanceState:
        """Return the state of an instance that returns, or that was saved once."""
        with self._lock:
            former = self._former.pop(instance_id, None)
        return self._journal.load(instance_id) if former is None else former

    def _add_pools(self, targets: Sequence[Target]) -> None:
        for name in dict.fromkeys(target.instance.project for target in targets):
            if name not in self._pools:
                self._pools[name] = WorkerPool(name, self._settings.concurrency)

    def refresh(self) -> Future[None]:
        """Start reading the instances that are due; the result comes when all due ones are in.

        Instances that are being read already are waited for and not read again.
        """
        with self._lock:
            now = self._monotonic()
            joined = [entry for entry in self._entries.values() if entry.in_flight is not None]
            due = [entry for entry in self._entries.values() if self._is_due(entry, now)]
            if joined and not due:
                self.coalesced += 1
            due.sort(key=lambda entry: entry.urgency)
            for entry in due:
                entry.in_flight = Future()
            waited_for = [entry.in_flight for entry in (*joined, *due) if entry.in_flight]
        for project, pool in list(self._pools.items()):
            of_project = (entry for entry in due if entry.target.instance.project == project)
            jobs = [_Job(entry, partial(self._read, entry)) for entry in of_project]
            for job in pool.submit(jobs):
                self._publish_failure(job.entry, now, ApiError("no thread could be started"))
                self._finish(job.entry)
        return all_of(waited_for)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Return what is known of every instance; data older than `max_staleness` are left out."""
        with self._lock:
            now = self._monotonic()
            return tuple(self._visible(entry, now) for entry in self._entries.values())

    def witness(self, snapshots: Iterable[Snapshot]) -> None:
        """Remember that a scraper has these, whole and rendered."""
        with self._lock:
            now = self._monotonic()
            for snapshot in snapshots:
                shown = snapshot.figures.finished if snapshot.figures else {}
                entry = self._entries.get(snapshot.instance.id)
                if entry is None or entry.target.instance.name != snapshot.instance.name:
                    continue
                since = entry.witnessed_since
                entry.witnessed_since = {series: since.get(series, now) for series in shown}
                entry.witnessed = shown

    def attempted(self) -> bool:
        """Whether every instance was read, or tried, at least once."""
        with self._lock:
            return all(entry.snapshot.attempted_at is not None for entry in self._entries.values())

    def stop(self) -> None:
        """Start no more reads, and save which counts no scrape has seen.

        They are shown again from there, so that an instance that starts again under another name,
        and thus with other series, loses none.
        """
        for pool in self._pools.values():
            for job in pool.stop():
                self._finish(job.entry)
        with self._lock:
            resting = [entry for entry in self._entries.values() if entry.in_flight is None]
        for entry in resting:
            if entry.state.refreshed_at is not None:
                self._journal.save(entry.target.instance.id, entry.settled())

    def _is_due(self, entry: _Entry, now: float) -> bool:
        if entry.in_flight is not None:
            return False
        if entry.attempted_mono is None:
            return True
        interval = self._settings.min_refresh_interval
        return now - entry.attempted_mono >= interval - min(FRESHNESS_TOLERANCE, interval / 2)

    def _visible(self, entry: _Entry, now: float) -> Snapshot:
        read = entry.refreshed_mono
        if read is not None and now - read <= self._settings.max_staleness:
            return entry.snapshot
        return replace(entry.snapshot, up=False, figures=None)

    def _read(self, entry: _Entry) -> None:
        """Read one instance and publish the result; runs in a worker thread."""
        began = self._monotonic()
        instance = entry.target.instance
        try:
            start = listing_start(entry.state, self._now(), self._settings.rules.lookback)
            deadline = began + self._settings.refresh_time_limit
            listing = entry.target.source.list_tasks(instance.id, start, deadline)
            self._publish(entry, began, listing)
        except StoppedError:
            return
        except ApiError as error:
            self._publish_failure(entry, began, error)
        except Exception:
            logger.exception("a refresh broke", extra={"fields": _fields(instance)})
            self._publish_failure(entry, began, ApiError("internal error: see the log"))
        finally:
            self._finish(entry)

    def _finish(self, entry: _Entry) -> None:
        with self._lock:
            done, entry.in_flight = entry.in_flight, None
        if done is not None:
            done.set_result(None)

    def _publish(self, entry: _Entry, began: float, listing: Listing) -> None:
        rules, now = self._settings.rules, self._now()
        instance = entry.target.instance
        state = reveal(count(entry.state, listing, now, rules), self._witnessed(entry))
        shown = figures(state, listing, now, rules)
        self._journal.save(instance.id, state)
        with self._lock:
            recovered = entry.snapshot.failure is not None
            entry.state = state
            entry.attempted_mono = entry.refreshed_mono = began
            entry.snapshot = Snapshot(
                instance=instance,
                up=True,
                figures=shown,
                refreshed_at=now,
                attempted_at=now,
                refresh_duration=self._monotonic() - began,
                truncated=listing.truncated,
            )
        if recovered:
            logger.info("the instance is read again", extra={"fields": _fields(instance)})
        self._report_unknown_words(instance, listing)

    def _publish_failure(self, entry: _Entry, began: float, error: ApiError) -> None:
        now = self._now()
        failure = Failure(now, error.reason, error.message, error.error_code, error.request_id)
        state = reveal(entry.state, self._witnessed(entry))
        if entry.state.refreshed_at is not None:
            self._journal.save(entry.target.instance.id, state)
        with self._lock:
            before = entry.snapshot
            entry.state = state
            shown = before.figures and replace(before.figures, finished=entry.state.shown)
            entry.attempted_mono = began
            entry.snapshot = replace(
                before,
                up=False,
                figures=shown,
                attempted_at=now,
                refresh_duration=self._monotonic() - began,
                failure=failure,
            )
        if before.failure is None or before.failure.reason != failure.reason:
            fields = {**_fields(entry.target.instance), **_error_fields(error)}
            # A refused key is told once for the project, by the client.
            level = logging.DEBUG if isinstance(error, AuthError) else logging.WARNING
            logger.log(level, "the instance cannot be read", extra={"fields": fields})

    def _witnessed(self, entry: _Entry) -> Collection[Series]:
        """Return the series that every scraper had the time to see."""
        with self._lock:
            latest = self._monotonic() - self._settings.first_value_hold
            return {series for series, at in entry.witnessed_since.items() if at <= latest}

    def _report_unknown_words(self, instance: Instance, listing: Listing) -> None:
        statuses = self._settings.rules.statuses
        words = {
            task.status
            for task in listing.tasks
            if statuses.outcome(task.status) is Outcome.UNKNOWN
        }
        with self._lock:
            new = (
                words - self._reported_words
                if len(self._reported_words) < MAX_REPORTED_WORDS
                else set()
            )
            self._reported_words |= new
        for word in sorted(new):
            logger.warning(
                "an unknown status: its tasks are shown and treated as not finished; "
                "say what it means under status_words in the configuration",
                extra={"fields": {**_fields(instance), "status": word}},
            )


@dataclass(frozen=True, slots=True)
class _Job:
    """The reading of one instance."""

    entry: _Entry
    read: Callable[[], None]

    def __call__(self) -> None:
        """Do it."""
        self.read()


class _Entry:
    """What the refresher keeps of one instance.

    Changed only under its lock; the state only by the one thread that reads the instance.
    """

    def __init__(self, target: Target, state: InstanceState) -> None:
        self.target = target
        self.state = state
        self.snapshot = Snapshot(target.instance)
        self.witnessed: Mapping[Series, int] = {}
        self.witnessed_since: Mapping[Series, float] = {}
        self.attempted_mono: float | None = None
        self.refreshed_mono: float | None = None
        self.in_flight: Future[None] | None = None

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

    @property
    def urgency(self) -> tuple[bool, float]:
        """Order by it: instances with active tasks first, then the one read longest ago."""
        return not self.state.active, self.attempted_mono or float("-inf")


def _fields(instance: Instance) -> Mapping[str, str]:
    return {
        "project": instance.project,
        "dcs_instance_id": instance.id,
        "dcs_instance_name": instance.name,
    }


def _error_fields(error: ApiError) -> Mapping[str, object]:
    return {
        "reason": error.reason,
        "status": error.status,
        "error_code": error.error_code,
        "request_id": error.request_id,
        "error": error.message,
    }
