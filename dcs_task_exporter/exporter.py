"""The exporter: builds the parts of one configuration and runs them; it alone knows them all.

A scrape asks the refresher, the refresher asks the client for each instance's tasks, the counter
counts them, the collector shows the latest snapshots, the web app serves them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import Config
from dcs_task_exporter.logs.queue import lines_lost
from dcs_task_exporter.metrics.durations import TaskDurations
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.metrics.telemetry import (
    ApiTelemetry,
    ClockTelemetry,
    DiscoveryTelemetry,
    ExporterTelemetry,
    register_process_metrics,
)
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.fleet import Fleet
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.refresh.targets import Targets
from dcs_task_exporter.state.file import Journal, StateFile
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.web.app import Sources, create_app
from dcs_task_exporter.web.settings import WebSettings
from dcs_task_exporter.web.status_page import ExporterStatus
from dcs_task_exporter.wiring import (
    client_of,
    discovery_of,
    operations_of,
    refresh_settings,
    task_centers_of,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of an exporter that are not in its configuration."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    clock: Clock = field(default_factory=Clock)
    process_metrics: bool = True
    keep_state: bool = True
    shard: Shard = field(default_factory=Shard)
    lines_lost: Callable[[], int] = lines_lost


class Exporter:
    """All parts of one configuration, ready to be scraped."""

    def __init__(self, config: Config, options: Options) -> None:
        self._config = config
        self._clock = clock = options.clock
        self._stopping = threading.Event()
        self._api = ApiTelemetry()
        self._own = ExporterTelemetry(__version__, clock.now(), options.shard, options.lines_lost)
        self._durations = TaskDurations(
            clock.monotonic,
            hold=config.collector.first_value_hold,
            max_names=config.collector.max_task_names,
        )
        self._state = self._state_file(options)
        journal = self._state or Journal()
        self._timekeeper = Timekeeper(clock, journal.latest_refresh())
        for project in config.projects:
            self._api.prepare(project.name, operations_of(project, config.collector))
        self.clients = {
            project.name: client_of(
                project,
                config.collector,
                self._api,
                self._stopping,
                clock,
                self._timekeeper,
                options.environ,
            )
            for project in config.projects
        }
        self._targets = Targets(config.projects, self.clients, options.shard, journal.hand_over)
        self._refresher = Refresher(
            self._targets.current(),
            refresh_settings(config),
            clock,
            journal=journal,
            task_centers=task_centers_of(config, self.clients, clock, self._timekeeper),
            timekeeper=self._timekeeper,
            observe=self._durations.observe,
        )
        self.fleet = Fleet(
            self._targets,
            self._refresher,
            {
                project.name: partial(discovery_of, project, self.clients[project.name], clock)
                for project in config.projects
                if project.discovery.enabled
            },
            self._keep_only,
            requests_per_second=config.collector.requests_per_second,
            interval=config.collector.refresh_interval,
        )
        self.renderer = Renderer(
            self._scraped,
            self._own_metrics(process_metrics=options.process_metrics),
            personal=config.collector.personal_labels,
            tags=config.collector.tag_labels,
            statuses=config.status_words.table(),
        )

    @property
    def registry(self) -> CollectorRegistry:
        """All metrics."""
        return self.renderer.registry

    @property
    def sources(self) -> Sources:
        """The parts that the web app shows."""
        return Sources(self.fleet, self.renderer.exposition, self._own.scrape, self.status)

    def app(self, telemetry_path: str = "/metrics") -> ASGIApp:
        """Return the web application."""
        return create_app(self.sources, WebSettings.of(self._config, telemetry_path))

    def snapshots(self) -> Sequence[Snapshot]:
        """Return the latest snapshot of each instance."""
        return self.fleet.snapshots()

    def refresh_and_wait(self, timeout: float) -> None:
        """Block until all due instances are read, or `timeout` seconds pass."""
        self.fleet.refresh_and_wait(timeout)

    def status(self) -> ExporterStatus:
        """Return the state of the exporter as a whole."""
        return ExporterStatus(
            self._clock.now(),
            self.fleet.was_tried(),
            self.problems(),
            self._state.status if self._state is not None else None,
        )

    def problems(self) -> Sequence[str]:
        """Return the problems of the clock and of discovery, in sentences for people."""
        statuses = [discovery.status for discovery in self.fleet.discoveries]
        doubted = [
            f"The clock of this machine is {doubt} (project {project}): set it right. "
            "Until then nothing is forgotten."
            for project, doubt in self._doubts().items()
            if doubt
        ]
        failed = [
            f"The instances of project {status.project} cannot be listed: {status.problem}. "
            + ("The last list stays." if status.last_success else "None was found before.")
            for status in statuses
            if status.problem
        ]
        odd = [f"Project {item.project}: {item.warning}." for item in statuses if item.warning]
        return [*doubted, *failed, *odd]

    def start(self) -> None:
        """Begin to refresh without scrapes, if the configuration says so."""
        self.fleet.start()

    def stop(self) -> None:
        """Start no more requests, end the pauses between them, close the connections."""
        self._stopping.set()
        self.fleet.stop()
        for client in self.clients.values():
            client.close()
        if self._state is not None:
            self._state.close()

    def _doubts(self) -> Mapping[str, str]:
        """Return the mistake of the clock by project; empty where there is none."""
        return {project: self._timekeeper.moment(project).doubt for project in self.clients}

    def _state_file(self, options: Options) -> StateFile | None:
        path = self._config.state.path
        if path is None or not options.keep_state:
            return None
        state = StateFile(path, options.clock)
        self._own.watch_state(lambda: state.status)
        return state

    def _own_metrics(self, *, process_metrics: bool) -> CollectorRegistry:
        """Return the metrics of the exporter itself."""
        registry = CollectorRegistry(support_collectors_without_names=True)
        registry.register(self._api)
        registry.register(self._own)
        registry.register(self._durations)
        registry.register(ClockTelemetry(self._doubts))
        registry.register(
            DiscoveryTelemetry(
                lambda: [discovery.status for discovery in self.fleet.discoveries],
                lambda: self._refresher.reads_skipped,
                lambda: self._targets.numbers,
            )
        )
        if process_metrics:
            register_process_metrics(registry)
        return registry

    def _scraped(self, target: str | None) -> Sequence[Snapshot]:
        if not self._config.collector.refresh_interval:  # else no scrape joins another's refresh
            self._own.coalesced(self._refresher.coalesced)
        return self._refresher.snapshots(target)

    def _keep_only(self, project: str, instance_ids: Collection[str]) -> None:
        """Forget the instances of a project that are no longer watched."""
        self.clients[project].forget_all_but(instance_ids)
