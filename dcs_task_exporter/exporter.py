"""The exporter: builds the parts of one configuration and runs them; it alone knows them all.

A scrape asks the refresher, the refresher asks the client for each instance's tasks, the counter
counts them, the collector shows the latest snapshots, the web app serves them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.types import ASGIApp

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.client import DcsClient
from dcs_task_exporter.config.model import Config
from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.logs.queue import lines_lost
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.durations import TaskDurations
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.metrics.telemetry import (
    ApiTelemetry,
    ExporterTelemetry,
    project_metrics,
    web_metrics,
)
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.fleet import Fleet
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.refresh.targets import Targets
from dcs_task_exporter.state.file import Journal, StateFile
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.app import Sources, create_app
from dcs_task_exporter.web.status_page import ExporterStatus
from dcs_task_exporter.wiring import (
    Clients,
    WiredClient,
    counting_rules,
    operations_of,
    task_centers_of,
)

REUSED: Final = "configuration in use"
"""The source of a mistake that a configuration is only to a running exporter."""


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of an exporter that are not in its configuration."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    clock: Clock = field(default_factory=Clock)
    process_metrics: bool = True
    keep_state: bool = True
    shard: Shard = field(default_factory=Shard)
    access_control: AccessControl | None = None


class Exporter:
    """All parts of one configuration, ready to be scraped."""

    def __init__(self, config: Config, options: Options) -> None:
        self._config = config
        self._clock = clock = options.clock
        self._access_control = options.access_control
        self._keeps_state = options.keep_state
        self._reloading = threading.Lock()
        self._not_reloaded = ""
        path = config.state.path if options.keep_state else None
        self._state = None if path is None else StateFile(path, clock)
        journal = self._state or Journal()
        self._timekeeper = Timekeeper(clock, journal.latest_refresh())
        self._api = ApiTelemetry()
        self._api.prepare(operations_of(config))
        self._clients = Clients(self._api, clock, self._timekeeper, options.environ)
        self._clients.adopt(self._clients.prepared(config), config.collector)
        self._task_centers = task_centers_of(config, self.clients, {}, clock, self._timekeeper)
        rules = counting_rules(config)
        self._durations = TaskDurations(
            clock.monotonic,
            hold=config.collector.first_value_hold,
            max_names=config.collector.max_task_names,
        )
        self._targets = Targets(config.projects, options.shard, journal.hand_over)
        self.refresher = Refresher(
            self._targets.current(),
            self.clients,
            config.collector,
            rules,
            clock,
            journal=journal,
            task_centers=self._task_centers,
            timekeeper=self._timekeeper,
            observe=self._durations.observe,
        )
        self.fleet = Fleet(config, self.clients, self._targets, self.refresher, clock)
        self._own = ExporterTelemetry(
            clock.now(),
            options.shard,
            self._state,
            lines_lost=lines_lost,
            coalesced=lambda: self.refresher.coalesced,
        )
        own_metrics = self._own_metrics(process_metrics=options.process_metrics)
        self.renderer = Renderer(self._collector_of(config), own_metrics)

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._config

    @property
    def clients(self) -> Mapping[str, DcsClient]:
        """The client of each project."""
        return self._clients.current

    def reload(self, load: Callable[[], Config]) -> None:
        """Use the configuration that `load` returns from now on; what stays goes on as it is.

        Raises what `load` raises, and `ConfigError` where a key cannot change while the exporter
        runs. Everything stays as it was then, and the metrics say that the reload failed.
        """
        with self._reloading:
            try:
                config = load()
                self._refuse_changed_path(config)
                clients = self._clients.prepared(config)
            except BaseException as error:
                self._not_reloaded = _why_not(error)
                self._own.not_loaded()
                raise
            self._use(config, clients)
            self._not_reloaded = ""
            self._own.loaded(self._clock.now())

    def _use(self, config: Config, clients: Mapping[str, WiredClient]) -> None:
        """Change to another configuration; nothing here fails."""
        projects = [project.name for project in config.projects]
        sources = {name: wired.client for name, wired in clients.items()}
        rules, collector = counting_rules(config), config.collector
        self._api.prepare(operations_of(config))
        self._durations.change(
            hold=collector.first_value_hold, max_names=collector.max_task_names, projects=projects
        )
        self._task_centers = task_centers_of(
            config, sources, self._task_centers, self._clock, self._timekeeper
        )
        self.fleet.change(config, sources, rules, self._task_centers)
        # After their successors can be found, so that a read that this ends begins anew there.
        self._clients.adopt(clients, collector)
        self._timekeeper.keep_only(projects)
        self.renderer.change(self._collector_of(config))
        self._config = config

    def _refuse_changed_path(self, config: Config) -> None:
        before = self._config.state.path
        if self._keeps_state and config.state.path != before:
            is_now = f"is {before}" if before else "is not set"
            message = f"{is_now} and cannot change while the exporter runs: restart the exporter"
            raise ConfigError(REUSED, (Problem("state.path", message),))

    def _collector_of(self, config: Config) -> TaskCollector:
        return TaskCollector(
            self.refresher.snapshots,
            personal=config.collector.personal_labels,
            tags=config.collector.tag_labels,
            statuses=config.status_words.table(),
        )

    @property
    def sources(self) -> Sources:
        """The parts that the web app shows."""
        return Sources(
            lambda: self._config,
            self.fleet,
            self.refresher,
            self.renderer.exposition,
            self._own.scrape,
            self.status,
        )

    def app(
        self, telemetry_path: str = "/metrics", reload: Callable[[], None] | None = None
    ) -> ASGIApp:
        """Return the web application; its clients may ask for a `reload` if there is one."""
        return create_app(self.sources, telemetry_path, reload=reload)

    def status(self) -> ExporterStatus:
        """Return the state of the exporter as a whole."""
        return ExporterStatus(
            self._clock.now(),
            self.fleet.was_tried(),
            self.problems(),
            self._state.status if self._state is not None else None,
        )

    def problems(self) -> Sequence[str]:
        """Return the problems of the whole exporter, in sentences for people."""
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
        refused = self._access_control.problem() if self._access_control else ""
        web = f"The web configuration file cannot be used: {refused}. What it last said stays."
        own = f"The configuration was not reloaded: {self._not_reloaded}. The one before stays."
        files = [*([own] if self._not_reloaded else []), *([web] if refused else [])]
        return [*doubted, *failed, *odd, *files]

    def stop(self) -> None:
        """Start no more requests, end the pauses between them, close the connections."""
        self._clients.close()
        self.fleet.stop()
        if self._state is not None:
            self._state.close()

    def _doubts(self) -> Mapping[str, str]:
        """Return the mistake of the clock by project; empty where there is none."""
        return {project: self._timekeeper.moment(project).doubt for project in self.clients}

    def _own_metrics(self, *, process_metrics: bool) -> CollectorRegistry:
        """Return the metrics of the exporter itself."""
        # No dashboard or alert reads the `_created` series, one for each series of a counter.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry(auto_describe=True)
        projects = project_metrics(
            lambda: [discovery.status for discovery in self.fleet.discoveries],
            lambda: {name: center.skipped for name, center in self._task_centers.items()},
            lambda: self._targets.numbers,
            self._doubts,
        )
        access_control = self._access_control
        web = web_metrics(
            lambda: access_control.failed_logins() if access_control else None,
            lambda: access_control.problem() if access_control else None,
        )
        for metrics in (self._api, self._own, *web, self._durations, *projects):
            registry.register(metrics)
        for kind in (ProcessCollector, PlatformCollector, GCCollector) if process_metrics else ():
            kind(registry=registry)
        return registry


def _why_not(error: BaseException) -> str:
    """Return the first mistake of a configuration that was refused; the log has them all."""
    if isinstance(error, ConfigError):
        return str(error.problems[0])
    return f"the reload broke ({type(error).__name__}): see the log"
