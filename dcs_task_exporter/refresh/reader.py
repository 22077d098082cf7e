"""Reading one instance: its tasks are listed, and the result or the failure is published."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import CollectorConfig
from dcs_task_exporter.errors import ApiError, AuthError, InternalError, StoppedError
from dcs_task_exporter.logs.formats import log_unforeseen
from dcs_task_exporter.refresh.clocks import Moment, Timekeeper
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.refresh.targets import TaskSource
from dcs_task_exporter.tasks.counting import SKEW_MARGIN, CountingRules, listing_start
from dcs_task_exporter.tasks.models import Instance, Listing
from dcs_task_exporter.tasks.naming import Series
from dcs_task_exporter.tasks.snapshots import Failure
from dcs_task_exporter.tasks.statuses import Outcome

logger = logging.getLogger(__name__)

DurationObserver = Callable[[str, Series, float], None]
"""Receives the project, the series and the duration (seconds) of each task that is counted."""

MAX_REPORTED_WORDS: Final = 100
"""Most unknown status words that are logged, once each."""


class InstanceReader:
    """Reads instances, each in one thread at a time, several at once; `sources` is by project."""

    def __init__(
        self,
        sources: Mapping[str, TaskSource],
        collector: CollectorConfig,
        rules: CountingRules,
        clock: Clock,
        timekeeper: Timekeeper,
        observe: DurationObserver | None = None,
    ) -> None:
        self.change(sources, collector, rules)
        self._clock = clock
        self._timekeeper = timekeeper
        self._observe = observe
        self._lock = threading.Lock()
        self._reported_words: frozenset[str] = frozenset()

    def change(
        self, sources: Mapping[str, TaskSource], collector: CollectorConfig, rules: CountingRules
    ) -> None:
        """Read from other clients, or by other settings, from now on."""
        self._sources, self._rules = sources, rules
        # Long enough for each try to time out, and for a listing of many pages.
        self._time_limit = max(60.0, 2 * collector.timeout * (collector.retries + 1))

    def read(self, watched: WatchedInstance) -> bool:
        """Read one instance and publish the result; return whether its tasks were listed.

        If its client is replaced meanwhile, it is read from the new one.
        """
        while True:
            source = self._sources.get(watched.instance.project)
            if source is None:  # the project has left
                return False
            try:
                return self._read(watched, source)
            except StoppedError:
                if self._sources.get(watched.instance.project) is source:
                    return False

    def _read(self, watched: WatchedInstance, source: TaskSource) -> bool:
        began = self._clock.monotonic()
        try:
            listing, moment = self._listing(watched, source, began + self._time_limit)
            self._publish(watched, listing, moment, began)
        except StoppedError:
            raise
        except ApiError as error:
            self.fail(watched, error, began)
        except Exception as error:  # noqa: BLE001 - any error is logged, and fails only this read
            fields = log_fields(watched.instance)
            log_unforeseen(logger, "the refresh of an instance broke", error, fields)
            message = f"internal error ({type(error).__name__}): see the log"
            self.fail(watched, InternalError(message), began)
        else:
            return True
        return False

    def fail(self, watched: WatchedInstance, error: ApiError, began: float) -> None:
        """Publish that a read failed which began at `began` (monotonic)."""
        self._timekeeper.hear(watched.instance.project, None)
        before = watched.failure
        failure = Failure(
            self._clock.now(), error.reason, error.message, error.error_code, error.request_id
        )
        watched.fail(failure, began)
        if before is None or before.reason != failure.reason:
            # The client logs a refused key once for the whole project.
            level = logging.DEBUG if isinstance(error, AuthError) else logging.WARNING
            fields = {**log_fields(watched.instance), **error.fields}
            logger.log(level, "the instance cannot be read", extra={"fields": fields})

    def _listing(
        self, watched: WatchedInstance, source: TaskSource, deadline: float
    ) -> tuple[Listing, Moment]:
        """Return a listing and its time; list again if the answer shows that our clock is wrong.

        A window that begins too late misses tasks. One that begins too early has tasks that were
        forgotten, which would be counted twice.
        """
        instance = watched.instance

        def listed(at: float) -> tuple[Listing, Moment]:
            start = listing_start(watched.state, at, self._rules.lookback)
            listing = source.list_tasks(instance.id, start, deadline)
            return listing, self._timekeeper.hear(instance.project, listing.answered_at)

        asked = self._timekeeper.moment(instance.project).at
        listing, moment = listed(asked)
        return listed(moment.at) if abs(moment.at - asked) > SKEW_MARGIN else (listing, moment)

    def _publish(
        self, watched: WatchedInstance, listing: Listing, moment: Moment, began: float
    ) -> None:
        had_failed = watched.failure is not None
        for series, duration in watched.publish(listing, moment, began):
            if self._observe is not None and duration is not None:
                self._observe(watched.instance.project, series, duration)
        if had_failed:
            fields = log_fields(watched.instance)
            logger.info("the instance can be read again", extra={"fields": fields})
        self._report_unknown_words(watched.instance, listing)

    def _report_unknown_words(self, instance: Instance, listing: Listing) -> None:
        outcome_of = self._rules.statuses.outcome
        statuses = {task.status for task in listing.tasks}
        unknown = {status for status in statuses if outcome_of(status) is Outcome.UNKNOWN}
        with self._lock:
            room = MAX_REPORTED_WORDS - len(self._reported_words)
            new = sorted(unknown - self._reported_words)[:room]
            self._reported_words |= set(new)
        for status in new:
            logger.warning(
                "an unknown status: its tasks are shown and treated as not finished; "
                "say what it means under status_words in the configuration",
                extra={"fields": {**log_fields(instance), "status": status}},
            )


def log_fields(instance: Instance) -> Mapping[str, str]:
    """Return the fields that name an instance in a log line."""
    return {
        "project": instance.project,
        "dcs_instance_id": instance.id,
        "dcs_instance_name": instance.name,
    }
