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
from typing import Final

from dcs_task_exporter.change_detector import EVERYTHING, ChangeDetector, Changes
from dcs_task_exporter.counting import (
    CountingRules,
    InstanceState,
    Series,
    count,
    listing_start,
    reveal,
)
from dcs_task_exporter.errors import ApiError, AuthError, StoppedError
from dcs_task_exporter.models import Instance, Listing, Outcome, Progress
from dcs_task_exporter.snapshots import Failure, Snapshot, figures
from dcs_task_exporter.state import Journal, NoJournal
from dcs_task_exporter.watched import Target, Watched
from dcs_task_exporter.workers import WorkerPool, all_of

logger = logging.getLogger(__name__)

FRESHNESS_TOLERANCE: Final = 0.5
"""Seconds by which a scrape may come early and still find its instances due."""


MAX_REPORTED_WORDS: Final = 100
"""Most unknown status words that are logged, once each."""


MAX_FORMER: Final = 1000
"""Most instances that left and are still remembered, should they return."""


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
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        journal: Journal | None = None,
        detectors: Mapping[str, ChangeDetector] | None = None,
    ) -> None:
        self._settings = settings
        self._journal = journal or NoJournal()
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries = {
            target.instance.id: Watched(target, self._journal.load(target.instance.id))
            for target in targets
        }
        self._former: dict[str, InstanceState] = {}
        self._pools: dict[str, WorkerPool[_Job]] = {}
        self._add_pools(targets)
        self._detectors = detectors or {}
        self._asking = {project: threading.Lock() for project in self._detectors}
        self._spared: dict[str, int] = {}
        self._reported_words: frozenset[str] = frozenset()
        self.coalesced = 0

    def retarget(self, targets: Sequence[Target]) -> None:
        """Watch these instances from now on; what was counted of the others is remembered."""
        wanted = {target.instance.id: target for target in targets}
        self._add_pools(targets)
        with self._lock:
            new = [target for key, target in wanted.items() if key not in self._entries]
        added = [Watched(target, self._remembered(target.instance.id)) for target in new]
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

    def refresh(self, ids: Collection[str] | None = None) -> Future[None]:
        """Start reading the instances that are due; the result comes when all due ones are in.

        With `ids`, only these are read, and before all others. Instances that are being read
        already are waited for and not read again.
        """
        with self._lock:
            now = self._monotonic()
            wanted = [entry for key, entry in self._entries.items() if ids is None or key in ids]
            joined = [entry for entry in wanted if entry.in_flight is not None]
            due = [entry for entry in wanted if self._is_due(entry, now)]
            if joined and not due:
                self.coalesced += 1
            for entry in due:
                entry.in_flight = Future()
            waited_for = [entry.in_flight for entry in (*joined, *due) if entry.in_flight]
        for project, entries in _by_project(due).items():
            if ids is not None:
                self._submit(project, [self._job(entry, float("-inf")) for entry in entries])
            elif project in self._detectors:
                self._read_what_changed(project, entries, now)
            else:
                self._submit_reads(project, entries)
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
                failure = ApiError("no thread could be started")
                self._publish_failure(entry, self._monotonic(), failure)
                self._finish(entry)

    def _read_what_changed(self, project: str, due: Sequence[Watched], now: float) -> None:
        """Read what must be read, and of the others what the task centre says has changed."""
        oldest = now - self._detectors[project].full_pass_interval + FRESHNESS_TOLERANCE
        quiet = [
            entry
            for entry in due
            if not entry.restless and (entry.refreshed_mono or float("-inf")) > oldest
        ]
        kept = set(map(id, quiet))
        self._submit_reads(project, [entry for entry in due if id(entry) not in kept])
        if quiet:
            job = _Job(tuple(quiet), float("-inf"), partial(self._ask_centre, project, quiet))
            self._submit(project, [job])

    def _ask_centre(self, project: str, quiet: Sequence[Watched]) -> None:
        """Ask once for many instances; runs in a worker thread."""
        try:
            with self._asking[project]:
                changes = self._detectors[project].changes()
        except StoppedError:
            for entry in quiet:
                self._finish(entry)
            return
        except Exception:
            logger.exception("the change detector broke", extra={"fields": {"project": project}})
            changes = EVERYTHING
        with self._lock:
            self._suspect(project, changes)
            changed = [entry for entry in quiet if entry.suspect_since is not None]
            unchanged = [entry for entry in quiet if entry.suspect_since is None]
            for entry in unchanged:
                entry.attempted_mono = self._monotonic()
            self._spared[project] = self._spared.get(project, 0) + len(unchanged)
        self._submit_reads(project, changed)
        for entry in unchanged:
            self._finish(entry)

    def _suspect(self, project: str, changes: Changes) -> None:
        """Mark the instances that changed, be they due now or not; all, when it is not known."""
        entries = [entry for entry in self._entries.values() if entry.project == project]
        tasks = changes.tasks or {}
        owners = {key: entry for entry in entries for key in entry.knows(tasks)}
        named = {
            key: entry
            for key, instance_id in tasks.items()
            if (entry := self._entries.get(instance_id)) is not None
        }
        if changes.everything or any(
            key not in owners and not instance_id for key, instance_id in tasks.items()
        ):
            suspected = entries
        else:
            suspected = [*owners.values(), *named.values()]
        for entry in suspected:
            entry.suspect_since = self._monotonic()

    @property
    def spared(self) -> Mapping[str, int]:
        """How many reads the task centre made unnecessary, by project."""
        with self._lock:
            return dict(self._spared)

    def snapshots(self, target: str | None = None) -> tuple[Snapshot, ...]:
        """Return what is known of every instance, or of the one with the id `target`.

        Data older than `max_staleness` are left out.
        """
        with self._lock:
            now = self._monotonic()
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
                for entry in job.entries:
                    self._finish(entry)
        with self._lock:
            resting = [entry for entry in self._entries.values() if entry.in_flight is None]
        for entry in resting:
            if entry.state.refreshed_at is not None:
                self._journal.save(entry.target.instance.id, entry.settled())

    def _is_due(self, entry: Watched, now: float) -> bool:
        if entry.in_flight is not None:
            return False
        if entry.attempted_mono is None:
            return True
        interval = self._settings.min_refresh_interval
        return now - entry.attempted_mono >= interval - min(FRESHNESS_TOLERANCE, interval / 2)

    def _visible(self, entry: Watched, now: float) -> Snapshot:
        read = entry.refreshed_mono
        if read is not None and now - read <= self._settings.max_staleness:
            return entry.snapshot
        if entry.snapshot.figures is not None or entry.snapshot.up:
            entry.snapshot = replace(entry.snapshot, up=False, figures=None)
        return entry.snapshot

    def _read(self, entry: Watched) -> None:
        """Read one instance and publish the result; runs in a worker thread."""
        began = self._monotonic()
        instance = entry.target.instance
        try:
            start = listing_start(entry.state, self._now(), self._settings.rules.lookback)
            deadline = began + self._settings.refresh_time_limit
            listing = entry.target.source.list_tasks(instance.id, start, deadline)
            self._publish(entry, began, listing, self._progress(entry, listing, deadline))
        except StoppedError:
            return
        except ApiError as error:
            self._publish_failure(entry, began, error)
        except Exception:
            logger.exception("a refresh broke", extra={"fields": _fields(instance)})
            self._publish_failure(entry, began, ApiError("internal error: see the log"))
        finally:
            self._finish(entry)

    def _progress(
        self, entry: Watched, listing: Listing, deadline: float
    ) -> Mapping[str, Progress]:
        """Ask for the progress of the active tasks that offer it; none costs the refresh."""
        found: dict[str, Progress] = {}
        statuses = self._settings.rules.statuses
        for task in listing.tasks if self._settings.task_progress else ():
            if statuses.outcome(task.status) is not Outcome.ACTIVE or not task.enable_show:
                continue
            instance, source = entry.target.instance, entry.target.source
            try:
                found[task.id] = source.task_progress(instance.id, task.id, deadline)
            except StoppedError:
                raise
            except ApiError as error:
                fields = {**_fields(instance), "task_id": task.id, **_error_fields(error)}
                logger.debug("no progress of a task", extra={"fields": fields})
        return found

    def _finish(self, entry: Watched) -> None:
        with self._lock:
            done, entry.in_flight = entry.in_flight, None
        if done is not None:
            done.set_result(None)

    def _publish(
        self, entry: Watched, began: float, listing: Listing, progress: Mapping[str, Progress]
    ) -> None:
        rules, now = self._settings.rules, self._now()
        instance = entry.target.instance
        if entry.shows(listing, now - rules.lookback):
            state, shown = replace(entry.state, refreshed_at=now), entry.snapshot.figures
        else:
            state = reveal(count(entry.state, listing, now, rules), self._witnessed(entry))
            shown = figures(state, listing, now, rules, progress)
        self._journal.save(instance.id, state)
        with self._lock:
            recovered = entry.snapshot.failure is not None
            if entry.suspect_since is not None and entry.suspect_since <= began:
                entry.suspect_since = None
            # The same object where nothing changed: what was rendered of it is still right.
            before = entry.snapshot.figures
            shown = before if before == shown else shown
            entry.state = state
            entry.listed = listing.tasks
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

    def _publish_failure(self, entry: Watched, began: float, error: ApiError) -> None:
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

    def _witnessed(self, entry: Watched) -> Collection[Series]:
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
