"""The exporter's own metrics: its requests to the API, its scrapes, its build.

Families are built from plain numbers on every scrape; the client library's own counters would add
a `_created` series to each.
"""

from __future__ import annotations

import platform
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dcs_task_exporter.errors import API_ERRORS
from dcs_task_exporter.refresh.discovery import DiscoveryStatus
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.state.file import StateStatus
from dcs_task_exporter.tasks.instance_state import MAX_STATUSES, OTHER, Series

TASK_BUCKETS: Final = (
    *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    *(1200.0, 1800.0, 3600.0, 7200.0, 14_400.0),
)
"""Seconds that background tasks take: from 10 seconds to 4 hours."""

BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ApiTelemetry(Collector):
    """Counts the requests to the cloud, by project and operation; safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._errors: Counter[tuple[str, str, str]] = Counter()
        self._retries: Counter[str] = Counter()
        self._waits: dict[str, float] = {}
        self._expiry: dict[str, float | None] = {}
        self._sums: dict[tuple[str, str], float] = {}
        self._buckets: dict[tuple[str, str], list[int]] = {}

    def prepare(self, project: str, operations: Iterable[str]) -> None:
        """Start every known series of `project` at 0, so that no first increment is missed."""
        with self._lock:
            for operation in operations:
                self._requests[project, operation, "200"] += 0
                for error in API_ERRORS:
                    self._errors[project, operation, error.reason] += 0
            self._retries[project] += 0
            self._waits.setdefault(project, 0.0)

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Count one HTTP request; `code` is its status, or ``error`` where there was none."""
        key = (project, operation)
        with self._lock:
            self._requests[project, operation, code] += 1
            self._sums[key] = self._sums.get(key, 0.0) + seconds
            buckets = self._buckets.setdefault(key, [0] * (len(BUCKETS) + 1))
            buckets[bisect_left(BUCKETS, seconds)] += 1

    def error(self, project: str, operation: str, reason: str) -> None:
        """Count one request that failed."""
        with self._lock:
            self._errors[project, operation, reason] += 1

    def retry(self, project: str) -> None:
        """Count one retry."""
        with self._lock:
            self._retries[project] += 1

    def throttle_wait(self, project: str, seconds: float) -> None:
        """Add the time that a request waited for the budget."""
        with self._lock:
            self._waits[project] = self._waits.get(project, 0.0) + seconds

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        """Note when the credentials in use expire (Unix seconds), or that they do not."""
        with self._lock:
            self._expiry[project] = timestamp

    def describe(self) -> Iterator[Metric]:
        """Yield every family, without samples."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        """Yield the families with the counts so far."""
        families = requests, errors, seconds, retries, waits, expiry = self._families()
        with self._lock:
            for key, value in self._requests.items():
                requests.add_metric(key, value)
            for key, value in self._errors.items():
                errors.add_metric(key, value)
            for pair, counts in self._buckets.items():
                seconds.add_metric(pair, _cumulative(BUCKETS, counts), self._sums[pair])
            for project, value in self._retries.items():
                retries.add_metric((project,), value)
            for project, waited in self._waits.items():
                waits.add_metric((project,), waited)
            for project, moment in self._expiry.items():
                if moment is not None:
                    expiry.add_metric((project,), moment)
        return iter(families)

    def _families(
        self,
    ) -> tuple[
        CounterMetricFamily,
        CounterMetricFamily,
        HistogramMetricFamily,
        CounterMetricFamily,
        CounterMetricFamily,
        GaugeMetricFamily,
    ]:
        by_operation = ("project", "operation")
        return (
            CounterMetricFamily(
                "dcs_api_requests",
                "HTTP requests to the cloud; code is the status, or error where none came.",
                labels=(*by_operation, "code"),
            ),
            CounterMetricFamily(
                "dcs_api_errors",
                "Requests to the cloud that failed, by the kind of failure.",
                labels=(*by_operation, "reason"),
            ),
            HistogramMetricFamily(
                "dcs_api_request_duration_seconds",
                "How long requests to the cloud took.",
                labels=by_operation,
            ),
            CounterMetricFamily(
                "dcs_api_retries", "Requests that were asked again.", labels=("project",)
            ),
            CounterMetricFamily(
                "dcs_api_throttle_wait_seconds",
                "Time that requests waited for the request budget.",
                labels=("project",),
            ),
            GaugeMetricFamily(
                "dcs_credentials_expiry_timestamp_seconds",
                "When (Unix time) the temporary credentials in use expire.",
                labels=("project",),
            ),
        )


class ExporterTelemetry(Collector):
    """The exporter itself: its build, its configuration, its scrapes."""

    def __init__(
        self, version: str, loaded_at: float, shard: Shard, lines_lost: Callable[[], int]
    ) -> None:
        self._version = version
        self._shard = shard
        self._lines_lost = lines_lost
        self._lock = threading.Lock()
        self._loaded_at = loaded_at
        self._scrape_seconds: float | None = None
        self._coalesced = 0
        self._state: Callable[[], StateStatus] | None = None

    def scrape(self, seconds: float) -> None:
        """Note how long the latest scrape took."""
        with self._lock:
            self._scrape_seconds = seconds

    def coalesced(self, total: int) -> None:
        """Note how many scrapes so far joined a refresh that was under way."""
        with self._lock:
            self._coalesced = total

    def watch_state(self, status: Callable[[], StateStatus]) -> None:
        """Read the status of the state file from `status` from now on."""
        self._state = status

    def describe(self) -> Iterator[Metric]:
        """Yield every family."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their values."""
        yield from self._own_families()
        yield from self._state_families()

    def _state_families(self) -> Iterator[Metric]:
        saved = GaugeMetricFamily(
            "dcs_task_exporter_state_last_save_timestamp_seconds",
            "When (Unix time) counts were last saved to the state file.",
        )
        errors = CounterMetricFamily(
            "dcs_task_exporter_state_errors",
            "Times that the state file could not be used or saved to.",
        )
        if self._state is not None:
            status = self._state()
            errors.add_metric((), status.errors)
            if status.last_save is not None:
                saved.add_metric((), status.last_save)
        yield saved
        yield errors

    def _own_families(self) -> Iterator[Metric]:
        prefix = "dcs_task_exporter"
        build = InfoMetricFamily(f"{prefix}_build", "What this exporter is built from.")
        build.add_metric((), {"version": self._version, "python": platform.python_version()})
        scrape = GaugeMetricFamily(
            f"{prefix}_scrape_duration_seconds", "How long the latest scrape took."
        )
        with self._lock:
            if self._scrape_seconds is not None:
                scrape.add_metric((), self._scrape_seconds)
            coalesced, loaded_at = self._coalesced, self._loaded_at
        return iter(
            (
                build,
                GaugeMetricFamily(
                    f"{prefix}_config_last_reload_successful",
                    "1 when the latest attempt to load the configuration succeeded.",
                    value=1,
                ),
                GaugeMetricFamily(
                    f"{prefix}_config_last_reload_success_timestamp_seconds",
                    "When (Unix time) the configuration in use was loaded.",
                    value=loaded_at,
                ),
                scrape,
                GaugeMetricFamily(
                    f"{prefix}_shard_ordinal",
                    "Which of the shards this exporter is, counted from 0.",
                    value=self._shard.index,
                ),
                GaugeMetricFamily(
                    f"{prefix}_total_shards",
                    "How many exporters share the instances.",
                    value=self._shard.total,
                ),
                CounterMetricFamily(
                    f"{prefix}_scrapes_coalesced",
                    "Scrapes that joined a refresh that was already under way.",
                    value=coalesced,
                ),
                CounterMetricFamily(
                    f"{prefix}_log_lines_lost",
                    "Lines of the log that could not be written, or found no room to wait.",
                    value=self._lines_lost(),
                ),
            )
        )


class DiscoveryTelemetry(Collector):
    """How many instances are watched, what discovery found, and what the task centre spared."""

    def __init__(
        self,
        statuses: Callable[[], Iterable[DiscoveryStatus]],
        spared: Callable[[], Mapping[str, int]],
        watched: Callable[[], Mapping[str, int]],
    ) -> None:
        self._statuses = statuses
        self._spared = spared
        self._watched = watched

    def describe(self) -> Iterator[Metric]:
        """Yield every family."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their values."""
        up = GaugeMetricFamily(
            "dcs_discovery_up",
            "1 when the latest search for the project's instances succeeded, 0 when it failed or "
            "none was made.",
            labels=("project",),
        )
        instances = GaugeMetricFamily(
            "dcs_discovery_instances",
            "Instances that discovery found and the rules admit.",
            labels=("project",),
        )
        success = GaugeMetricFamily(
            "dcs_discovery_last_success_timestamp_seconds",
            "When (Unix time) the instances of the project were last listed.",
            labels=("project",),
        )
        for status in self._statuses():
            up.add_metric((status.project,), float(status.up))
            if status.instances is not None:
                instances.add_metric((status.project,), status.instances)
            if status.last_success is not None:
                success.add_metric((status.project,), status.last_success)
        spared = CounterMetricFamily(
            "dcs_instance_reads_spared",
            "Reads of instances that the task centre made unnecessary.",
            labels=("project",),
        )
        for project, number in self._spared().items():
            spared.add_metric((project,), number)
        watched = GaugeMetricFamily(
            "dcs_project_instances_watched",
            "Instances of the project that are watched, by this exporter and its other shards: "
            "those of the configuration, and those that discovery found.",
            labels=("project",),
        )
        for project, number in self._watched().items():
            watched.add_metric((project,), number)
        return iter((watched, up, instances, success, spared))


class TaskDurations(Collector):
    """How long the tasks took that were counted since the start; safe to use from threads.

    One histogram for each kind of task of a project, not of an instance: tasks are rare. A series
    stands at 0 for the first `hold` seconds, so that Prometheus sees what it rises by. Above
    `max_names` names of a project, the rest is one.
    """

    def __init__(self, monotonic: Callable[[], float], *, hold: float, max_names: int) -> None:
        self._monotonic = monotonic
        self._hold = hold
        self._max_names = max_names
        self._lock = threading.Lock()
        self._born: dict[tuple[str, str, str], float] = {}
        self._sums: dict[tuple[str, str, str], float] = {}
        self._buckets: dict[tuple[str, str, str], list[int]] = {}

    def observe(self, project: str, series: Series, seconds: float) -> None:
        """Add how long one task took."""
        with self._lock:
            key = self._key(project, *series)
            self._born.setdefault(key, self._monotonic())
            self._sums[key] = self._sums.get(key, 0.0) + seconds
            buckets = self._buckets.setdefault(key, [0] * (len(TASK_BUCKETS) + 1))
            buckets[bisect_left(TASK_BUCKETS, seconds)] += 1

    def _key(self, project: str, name: str, status: str) -> tuple[str, str, str]:
        names = {known for other, known, _ in self._born if other == project}
        words = {known for other, _, known in self._born if other == project}
        name = name if name in names or len(names) < self._max_names else OTHER
        return project, name, status if status in words or len(words) < MAX_STATUSES else OTHER

    def describe(self) -> Iterator[Metric]:
        """Yield the family, without samples."""
        yield self._family()

    def collect(self) -> Iterator[Metric]:
        """Yield the family with what was observed so far."""
        family = self._family()
        with self._lock:
            latest = self._monotonic() - self._hold
            for key, born in self._born.items():
                counts, seconds = self._buckets[key], self._sums[key]
                if born > latest:
                    counts, seconds = [0] * len(counts), 0.0
                family.add_metric(key, _cumulative(TASK_BUCKETS, counts), seconds)
        yield family

    @staticmethod
    def _family() -> HistogramMetricFamily:
        return HistogramMetricFamily(
            "dcs_task_duration_seconds",
            "How long the background tasks took that were counted since the exporter started.",
            labels=("project", "task_name", "status"),
        )


class ClockTelemetry(Collector):
    """Whether this machine's clock is to be believed, for each project."""

    def __init__(self, doubts: Callable[[], Mapping[str, str]]) -> None:
        self._doubts = doubts

    def describe(self) -> Iterator[Metric]:
        """Yield the family."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the family with its values."""
        family = GaugeMetricFamily(
            "dcs_clock_in_doubt",
            "1 while this machine's clock is more than 15 minutes off the cloud's, or has jumped.",
            labels=("project",),
        )
        for project, doubt in self._doubts().items():
            family.add_metric((project,), float(bool(doubt)))
        yield family


def register_process_metrics(registry: CollectorRegistry) -> None:
    """Add the metrics of the process, the platform and the garbage collector."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
