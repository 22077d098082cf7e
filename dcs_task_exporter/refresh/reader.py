"""Reading one instance: its listing is counted, saved, and published as a snapshot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiError, AuthError, InternalError, StoppedError
from dcs_task_exporter.logs.unforeseen import UnforeseenErrors
from dcs_task_exporter.refresh.clocks import Moment, Timekeeper
from dcs_task_exporter.refresh.instance import Watched
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.counting import (
    SKEW_MARGIN,
    CountingRules,
    InstanceState,
    Series,
    count_new,
    listing_start,
    refresh_time,
    reveal,
    series_of,
)
from dcs_task_exporter.tasks.models import Instance, Listing, Progress, Task
from dcs_task_exporter.tasks.snapshots import Failure, Snapshot, TaskFigures, figures
from dcs_task_exporter.tasks.statuses import Outcome

logger = logging.getLogger(__name__)

DurationObserver = Callable[[str, Series, float], None]
"""What is told of each task that is counted: its project, its series, and how long it took."""

MAX_REPORTED_WORDS: Final = 100
"""Most unknown status words that are logged, once each."""


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How an instance is read; in seconds."""

    rules: CountingRules
    time_limit: float = 60.0
    first_value_hold: float = 0.0


@dataclass(frozen=True, slots=True)
class _Basis:
    """What an instance was at one moment: what is counted next builds on it."""

    era: int
    state: InstanceState
    shown: TaskFigures | None
    progress: Mapping[str, Progress]
    witnessed: Collection[Series]
    is_shown: bool = False


class InstanceReader:
    """Reads instances, each in one thread at a time, and publishes under `lock`."""

    def __init__(
        self,
        settings: ReadSettings,
        journal: Journal,
        lock: threading.Lock,
        clock: Clock,
        *,
        timekeeper: Timekeeper | None = None,
        observe: DurationObserver | None = None,
    ) -> None:
        self._observe = observe
        self._timekeeper = timekeeper or Timekeeper(clock)
        self._settings = settings
        self._journal = journal
        self._lock = lock
        self._clock = clock
        self._reported_words: frozenset[str] = frozenset()
        self._unforeseen = UnforeseenErrors()

    def read(self, entry: Watched) -> bool:
        """Read one instance and publish the result; return whether there was a listing."""
        began = self._clock.monotonic()
        instance = entry.target.instance
        try:
            self._publish(entry, began, *self._listing(entry, began + self._settings.time_limit))
        except StoppedError:
            return False
        except ApiError as error:
            self.fail(entry, began, error)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and costs only this
            self._unforeseen.tell("the refresh of an instance broke", error, fields_of(instance))
            message = f"internal error ({type(error).__name__}): see the log"
            self.fail(entry, began, InternalError(message))
            return False
        return True

    def _listing(self, entry: Watched, deadline: float) -> tuple[Listing, Moment]:
        """List an instance, and say when; once more when the answer tells that our clock is wrong.

        A window that begins too late lacks tasks, one that begins too early has some that were
        forgotten, and would be counted again.
        """
        moment = self._timekeeper.moment(entry.project)
        listing, later = self._listed_by(moment, entry, deadline)
        if abs(later.at - moment.at) <= SKEW_MARGIN:
            return listing, later
        return self._listed_by(later, entry, deadline)

    def _listed_by(self, moment: Moment, entry: Watched, deadline: float) -> tuple[Listing, Moment]:
        start = listing_start(entry.state, moment.at, self._settings.rules.lookback)
        listing = entry.target.source.list_tasks(entry.id, start, deadline)
        return listing, self._timekeeper.hear(entry.project, listing.answered_at)

    def _publish(self, entry: Watched, began: float, listing: Listing, moment: Moment) -> None:
        rules = self._settings.rules
        before: Snapshot | None = None
        took: Sequence[tuple[Series, float | None]] = ()
        while before is None:
            basis = self._basis(entry, listing, moment.at)
            state, shown, new = self._counted(basis, listing, moment)
            took = [(series_of(state, task), task.duration) for task in new]
            self._journal.save(entry.id, state)
            with self._lock:
                if entry.era == basis.era:
                    before = entry.snapshot
                    entry.counted(listing, moment.at - rules.lookback, doubt=moment.doubt)
                    self._show(entry, began, listing, state, shown)
        for series, seconds in took:
            if self._observe is not None and seconds is not None:
                self._observe(entry.project, series, seconds)
        if before.failure is not None:
            logger.info("the instance is read again", extra={"fields": fields_of(entry)})
        self._report_unknown_words(entry, listing)

    def _counted(
        self, basis: _Basis, listing: Listing, moment: Moment
    ) -> tuple[InstanceState, TaskFigures | None, Sequence[Task]]:
        """Return the state after a listing, what is shown of it, and the tasks counted with it."""
        now, in_doubt = moment.at, bool(moment.doubt)
        if basis.is_shown:
            refreshed_at = refresh_time(basis.state, now, in_doubt=in_doubt)
            return replace(basis.state, refreshed_at=refreshed_at), basis.shown, ()
        rules = self._settings.rules
        state, new = count_new(basis.state, listing, now, rules, in_doubt=in_doubt)
        state = reveal(state, basis.witnessed)
        return state, figures(state, listing, now, rules, basis.progress), new

    def _basis(self, entry: Watched, listing: Listing | None = None, now: float = 0.0) -> _Basis:
        with self._lock:
            latest = self._clock.monotonic() - self._settings.first_value_hold
            return _Basis(
                entry.era,
                entry.state,
                entry.snapshot.figures,
                entry.progress,
                {series for series, at in entry.witnessed_since.items() if at <= latest},
                listing is not None and entry.shows(listing, now - self._settings.rules.lookback),
            )

    def _show(
        self,
        entry: Watched,
        began: float,
        listing: Listing,
        state: InstanceState,
        shown: TaskFigures | None,
    ) -> None:
        if entry.suspect_since is not None and entry.suspect_since <= began:
            entry.suspect_since = None
        entry.state = state
        entry.attempted_mono = entry.refreshed_mono = began
        now = self._clock.now()  # by the clock that Prometheus compares it with
        # The same object where nothing changed: what was rendered of it is still right.
        before = entry.snapshot.figures
        entry.snapshot = Snapshot(
            instance=entry.target.instance,
            up=True,
            figures=before if before == shown else shown,
            refreshed_at=now,
            attempted_at=now,
            refresh_duration=self._clock.monotonic() - began,
            truncated=listing.truncated,
        )

    def fail(self, entry: Watched, began: float, error: ApiError) -> None:
        """Publish that an instance could not be read; the last data stay."""
        self._timekeeper.hear(entry.project, None)
        now = self._clock.now()
        failure = Failure(now, error.reason, error.message, error.error_code, error.request_id)
        before: Snapshot | None = None
        while before is None:
            basis = self._basis(entry)
            state = reveal(basis.state, basis.witnessed)
            if state.refreshed_at is not None:
                self._journal.save(entry.id, state)
            with self._lock:
                if entry.era == basis.era:
                    before = entry.snapshot
                    self._show_failure(entry, began, state, failure)
        if before.failure is None or before.failure.reason != failure.reason:
            fields = {**fields_of(entry), **error.fields}
            # A refused key is told once for the project, by the client.
            level = logging.DEBUG if isinstance(error, AuthError) else logging.WARNING
            logger.log(level, "the instance cannot be read", extra={"fields": fields})

    def _show_failure(
        self, entry: Watched, began: float, state: InstanceState, failure: Failure
    ) -> None:
        before = entry.snapshot
        shown = before.figures
        if shown is not None and shown.finished != state.shown:
            shown = replace(shown, finished=state.shown)
        entry.state = state
        entry.attempted_mono = began
        entry.snapshot = replace(
            before,
            up=False,
            figures=shown,
            attempted_at=failure.at,
            refresh_duration=self._clock.monotonic() - began,
            failure=failure,
        )

    def _report_unknown_words(self, entry: Watched, listing: Listing) -> None:
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
                extra={"fields": {**fields_of(entry), "status": word}},
            )


def fields_of(item: Watched | Instance) -> Mapping[str, str]:
    """Return what names an instance in a log line."""
    instance = item.target.instance if isinstance(item, Watched) else item
    return {
        "project": instance.project,
        "dcs_instance_id": instance.id,
        "dcs_instance_name": instance.name,
    }
