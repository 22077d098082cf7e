"""The exporter's own metrics: its requests to the API, its scrapes, its build."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dcs_task_exporter import __version__
from dcs_task_exporter.errors import API_ERRORS
from dcs_task_exporter.refresh.discovery import DiscoveryStatus
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.state.file import StateFile, StateStatus

REQUEST_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds that requests to the cloud take."""

_BY_PROJECT: Final = ("project",)
_BY_OPERATION: Final = ("project", "operation")

Values = Mapping[str, float | None] | float | None
"""One value, or one by project; None where it is not known."""


@dataclass(frozen=True, eq=False)
class ReadAtScrape(Collector):
    """A metric whose values belong to another object: `read` returns them at each scrape."""

    kind: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    text: str
    read: Callable[[], Values]
    labels: Sequence[str] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield the family with its current values."""
        family, values = self.kind(self.name, self.text, labels=self.labels), self.read()
        rows = values.items() if isinstance(values, Mapping) else [(None, values)]
        for project, value in rows:
            if value is not None:
                family.add_metric(() if project is None else (project,), value)
        yield family


_gauge = partial(ReadAtScrape, GaugeMetricFamily)
_project_gauge = partial(ReadAtScrape, GaugeMetricFamily, labels=_BY_PROJECT)
_counter = partial(ReadAtScrape, CounterMetricFamily)


class ApiTelemetry(CollectorRegistry):
    """Counts the requests to the cloud, by project and operation; safe to use from threads.

    Once projects are prepared, only those are counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._preparing = threading.Lock()
        self._projects: Collection[str] | None = None
        counter = partial(Counter, registry=self)
        self._requests = counter(
            "dcs_api_requests",
            "HTTP requests to the cloud; code is the HTTP status, or error if there was no answer.",
            (*_BY_OPERATION, "code"),
        )
        self._errors = counter(
            "dcs_api_errors", "Failed requests to the cloud.", (*_BY_OPERATION, "reason")
        )
        self._durations = Histogram(
            "dcs_api_request_duration_seconds",
            "Duration of requests to the cloud.",
            _BY_OPERATION,
            buckets=REQUEST_BUCKETS,
            registry=self,
        )
        self._retries = counter("dcs_api_retries", "Retries of requests to the cloud.", _BY_PROJECT)
        self._waits = counter(
            "dcs_api_throttle_wait_seconds",
            "Time that requests waited for the rate limit of the exporter.",
            _BY_PROJECT,
        )
        self._expiry: dict[str, float | None] = {}
        expiry = _project_gauge(
            "dcs_credentials_expiry_timestamp_seconds",
            "Unix time at which the temporary credentials in use expire.",
            self._expiry.copy,
        )
        self.register(expiry)

    def prepare(self, operations: Mapping[str, Iterable[str]]) -> None:
        """Count the operations of each project from now on, and end the series of other projects.

        Every known series starts at 0, so that no first increment is missed.
        """
        with self._preparing:
            for project in set(self._projects or ()).difference(operations):
                counters = (self._requests, self._errors, self._retries, self._waits)
                for metric in (*counters, self._durations):
                    metric.remove_by_labels({"project": project})
                self._expiry.pop(project, None)
            self._projects = frozenset(operations)
            for project, names in operations.items():
                self._start(project, names)

    def _start(self, project: str, operations: Iterable[str]) -> None:
        for operation in operations:
            self._requests.labels(project, operation, "200")
            self._durations.labels(project, operation)
            for error in API_ERRORS:
                self._errors.labels(project, operation, error.reason)
        self._retries.labels(project)
        self._waits.labels(project)

    def _count(self, project: str, note: Callable[[], None]) -> None:
        """Call `note`, unless the project has left: its last requests may end later."""
        with self._preparing:
            if self._projects is None or project in self._projects:
                note()

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Count one HTTP request; `code` is its status, or ``error`` if there was no answer."""
        self._count(project, lambda: self._requests.labels(project, operation, code).inc())
        self._count(project, lambda: self._durations.labels(project, operation).observe(seconds))

    def error(self, project: str, operation: str, reason: str) -> None:
        """Count one request that failed."""
        self._count(project, lambda: self._errors.labels(project, operation, reason).inc())

    def retry(self, project: str) -> None:
        """Count one retry."""
        self._count(project, lambda: self._retries.labels(project).inc())

    def throttle_wait(self, project: str, seconds: float) -> None:
        """Add the time that a request waited for the rate limit."""
        self._count(project, lambda: self._waits.labels(project).inc(seconds))

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        """Note the Unix time at which the credentials in use expire; None if they do not."""
        self._count(project, lambda: self._expiry.update({project: timestamp}))


class ExporterTelemetry(CollectorRegistry):
    """The exporter itself: its build, its configuration, its scrapes, its state file."""

    def __init__(
        self,
        loaded_at: float,
        shard: Shard,
        state: StateFile | None,
        *,
        lines_lost: Callable[[], int],
        coalesced: Callable[[], int],
    ) -> None:
        super().__init__()
        self._scrape_seconds: float | None = None
        self._loaded_at, self._is_loaded = loaded_at, True

        def of_state(value: Callable[[StateStatus], float | None]) -> Callable[[], Values]:
            return lambda: None if state is None else value(state.status)

        build = Info("dcs_task_exporter_build", "Versions of the exporter.", registry=self)
        build.info({"version": __version__, "python": platform.python_version()})
        for metric in (
            _gauge(
                "dcs_task_exporter_config_last_reload_successful",
                "1 if the latest attempt to load the configuration succeeded.",
                lambda: self._is_loaded,
            ),
            _gauge(
                "dcs_task_exporter_config_last_reload_success_timestamp_seconds",
                "Unix time at which the configuration in use was loaded.",
                lambda: self._loaded_at,
            ),
            _gauge(
                "dcs_task_exporter_scrape_duration_seconds",
                "Duration of the latest scrape.",
                lambda: self._scrape_seconds,
            ),
            _gauge(
                "dcs_task_exporter_shard_ordinal",
                "Index of this shard, from 0.",
                lambda: shard.index,
            ),
            _gauge("dcs_task_exporter_total_shards", "Number of shards.", lambda: shard.total),
            _counter(
                "dcs_task_exporter_scrapes_coalesced",
                "Scrapes that joined a refresh that was already running.",
                coalesced,
            ),
            _counter(
                "dcs_task_exporter_log_lines_lost",
                "Log lines that could not be written, or that found the queue full.",
                lines_lost,
            ),
            _gauge(
                "dcs_task_exporter_state_last_save_timestamp_seconds",
                "Unix time at which counts were last saved to the state file.",
                of_state(lambda status: status.last_save),
            ),
            _counter(
                "dcs_task_exporter_state_errors",
                "Times that the state file could not be read or written.",
                of_state(lambda status: status.errors),
            ),
        ):
            self.register(metric)

    def loaded(self, at: float) -> None:
        """Note the Unix time at which another configuration was loaded."""
        self._loaded_at, self._is_loaded = at, True

    def not_loaded(self) -> None:
        """Note that a configuration could not be loaded: the one before stays."""
        self._is_loaded = False

    def scrape(self, seconds: float) -> None:
        """Note the duration of the latest scrape."""
        self._scrape_seconds = seconds


def web_metrics(
    failed_logins: Callable[[], int | None], file_problem: Callable[[], str | None]
) -> Sequence[ReadAtScrape]:
    """Return the metrics of the web configuration file; None stands for no such file."""

    def is_usable() -> bool | None:
        problem = file_problem()
        return None if problem is None else not problem

    return (
        _gauge(
            "dcs_task_exporter_web_config_last_reload_successful",
            "1 if the web configuration file can be used as it is now; if not, what it last said "
            "stays.",
            is_usable,
        ),
        _counter(
            "dcs_task_exporter_failed_logins",
            "Requests with a wrong password or an unknown user.",
            failed_logins,
        ),
    )


def project_metrics(
    statuses: Callable[[], Iterable[DiscoveryStatus]],
    skipped: Callable[[], Mapping[str, int]],
    watched: Callable[[], Mapping[str, int]],
    doubts: Callable[[], Mapping[str, str]],
) -> Sequence[ReadAtScrape]:
    """Return the metrics of each project: its instances, discovery, reads spared, and clock."""

    def of_each(value: Callable[[DiscoveryStatus], float | None]) -> Callable[[], Values]:
        return lambda: {status.project: value(status) for status in statuses()}

    return (
        _project_gauge(
            "dcs_project_instances_watched",
            "Watched instances of the project, configured or discovered, on all shards.",
            watched,
        ),
        _project_gauge(
            "dcs_discovery_up",
            "1 if the latest search for instances succeeded, 0 if it failed or there was none.",
            of_each(lambda status: status.up),
        ),
        _project_gauge(
            "dcs_discovery_instances",
            "Instances that discovery found and that its rules admit.",
            of_each(lambda status: status.instances),
        ),
        _project_gauge(
            "dcs_discovery_last_success_timestamp_seconds",
            "Unix time at which the instances of the project were last listed.",
            of_each(lambda status: status.last_success),
        ),
        _counter(
            "dcs_instance_reads_spared",
            "Reads of instances that the task center made unnecessary.",
            skipped,
            _BY_PROJECT,
        ),
        _project_gauge(
            "dcs_clock_in_doubt",
            "1 if the clock of this machine is more than 15 minutes off the cloud's, or jumped.",
            lambda: {project: bool(doubt) for project, doubt in doubts().items()},
        ),
    )
