"""Running the parts; the only module that knows them all.

A scrape asks the refresher, the refresher asks the client for each instance's tasks, the counter
counts them, the collector shows the latest snapshots, the web app serves them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.client import DcsClient
from dcs_task_exporter.config.model import Config, ProjectConfig
from dcs_task_exporter.logs.queue import lines_lost
from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest, Shown
from dcs_task_exporter.metrics.renderer import Rendering
from dcs_task_exporter.metrics.telemetry import (
    ApiTelemetry,
    ClockTelemetry,
    DiscoveryTelemetry,
    ExporterTelemetry,
    TaskDurations,
    register_process_metrics,
)
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.refresh.targets import Targets
from dcs_task_exporter.refresh.workers import all_of, and_then, wait_awake
from dcs_task_exporter.state.file import NoJournal, StateFile, StateStatus
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.web.app import WebSettings
from dcs_task_exporter.wiring import (
    client_of,
    detectors_of,
    discovery_of,
    operations_of,
    refresh_settings,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What surrounds an exporter besides its configuration."""

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
        self._clock = options.clock
        self._stopping = threading.Event()
        self._api = ApiTelemetry()
        self._own = ExporterTelemetry(
            __version__, options.clock.now(), options.shard, options.lines_lost
        )
        self._durations = TaskDurations(
            options.clock.monotonic,
            hold=config.collector.first_value_hold,
            max_names=config.collector.max_task_names,
        )
        self._state = self._state_file(options)
        journal = self._state or NoJournal()
        self._timekeeper = Timekeeper(options.clock, journal.latest_refresh())
        self.clients = {
            project.name: self._client(project, options.environ) for project in config.projects
        }
        self._retargeting = threading.Lock()
        self._targets = Targets(config.projects, self.clients, options.shard, journal.hand_over)
        self._refresher = Refresher(
            self._targets.current(),
            refresh_settings(config),
            options.clock,
            journal=journal,
            detectors=detectors_of(config, self.clients, options.clock, self._timekeeper),
            timekeeper=self._timekeeper,
            observe=self._durations.observe,
        )
        self.discoveries = [
            discovery_of(
                project,
                self.clients[project.name],
                partial(self._found, project.name),
                options.clock,
            )
            for project in config.projects
            if project.discovery.enabled
        ]
        self._rendering = Rendering(
            self._scraped,
            self._of_the_exporter(process_metrics=options.process_metrics),
            personal=config.collector.personal_labels,
            tags=config.collector.tag_labels,
            statuses=config.status_words.table(),
        )

    @property
    def registry(self) -> CollectorRegistry:
        """Everything that can be scraped."""
        return self._rendering.registry

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Return when all due instances are in, or after `timeout` seconds.

        With a `target`, the id of an instance, only that one is read if it is due. When the
        exporter refreshes by itself there is nothing to wait for.
        """
        if self._config.collector.refresh_interval and target is None:
            return
        if target is None:
            reading = self._read_due()
        else:
            self._search()
            reading = self._refresher.refresh({target})
        await asyncio.wait([asyncio.wrap_future(reading)], timeout=timeout)

    async def discover(self, timeout: float, project: str | None = None) -> bool:
        """Search what is due, of one project or of all; return whether its instances are known."""
        await asyncio.wait(
            [asyncio.wrap_future(all_of(self._search(project).values()))], timeout=timeout
        )
        return all(
            item.status.last_success is not None
            for item in self.discoveries
            if project in (None, item.project)
        )

    @property
    def projects(self) -> Sequence[str]:
        """The names of the projects."""
        return tuple(self.clients)

    def find(self, target: str) -> Sequence[Instance]:
        """Return the watched instances with this id, or else with this name."""
        return self._refresher.find(target)

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render what a scrape asks for."""
        return self._rendering.exposition(request)

    def confirm_scrape(self, shown: Shown) -> None:
        """Note that a scraper was sent these counters, whole."""
        self._refresher.witness(shown.snapshots, shown.number)

    def observe_scrape(self, seconds: float) -> None:
        """Note how long a scrape took."""
        self._own.scrape(seconds)

    def start(self) -> None:
        """Begin to refresh by itself, if the configuration says so."""
        if self._config.collector.refresh_interval:
            threading.Thread(target=self._refresh_for_ever, name="refresh", daemon=True).start()

    def _refresh_for_ever(self) -> None:
        interval = self._config.collector.refresh_interval
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.refresh_and_wait(interval)
            except Exception:
                logger.exception(
                    "the refresh of all instances broke; the next one begins as planned"
                )
            self._stopping.wait(max(0.0, began + interval - time.monotonic()))

    def refresh_and_wait(self, timeout: float) -> None:
        """Do the same from a thread."""
        wait([self._read_due()], timeout)

    def read_everything(self, patience: float) -> None:
        """Read every instance once: wait for `patience` seconds longer than the budget takes."""
        wait_awake(self._search().values(), patience)
        longest = max(self.pass_times().values(), default=0.0)
        wait_awake([self._refresher.refresh()], patience + longest)

    def pass_times(self) -> Mapping[str, float]:
        """Return the seconds that one request for each instance takes, by project."""
        numbers = Counter(snapshot.instance.project for snapshot in self.snapshots())
        rate = self._config.collector.requests_per_second
        return {name: number / rate for name, number in numbers.items()}

    def _read_due(self) -> Future[None]:
        """Start reading what is known and due, and of each first search what it finds."""
        found = [
            and_then(pending, partial(self._refresher.refresh, project=project))
            for project, pending in self._search().items()
        ]
        return all_of([self._refresher.refresh(), *found])

    def _search(self, project: str | None = None) -> Mapping[str, Future[None]]:
        """Search what is due, of one project or of all; return the first searches, by project."""
        chosen = [item for item in self.discoveries if project in (None, item.project)]
        return {item.project: first for item in chosen if (first := item.search()) is not None}

    def snapshots(self) -> Sequence[Snapshot]:
        """Return what is known of every instance."""
        return self._refresher.snapshots()

    def ready(self) -> bool:
        """Whether every instance was read, or tried, once."""
        searched = all(
            discovery.status.instances is not None or discovery.status.problem
            for discovery in self.discoveries
        )
        return searched and self._refresher.attempted()

    def now(self) -> float:
        """Return the Unix time."""
        return self._clock.now()

    def web_settings(self, telemetry_path: str) -> WebSettings:
        """Return the settings of the web app."""
        collector = self._config.collector
        return WebSettings(
            version=__version__,
            telemetry_path=telemetry_path,
            default_scrape_timeout=collector.default_scrape_timeout,
            scrape_timeout_offset=collector.scrape_timeout_offset,
            statuses=self._config.status_words.table(),
        )

    def stop(self) -> None:
        """Start no more requests, end the pauses between them, close the connections."""
        self._stopping.set()
        for discovery in self.discoveries:
            discovery.stop()
        self._refresher.stop()
        for client in self.clients.values():
            client.close()
        if self._state is not None:
            self._state.close()

    def state_status(self) -> StateStatus | None:
        """Return whether counts are saved; None when they are meant to live in memory."""
        return self._state.status if self._state is not None else None

    def problems(self) -> Sequence[str]:
        """Return what is wrong with the clock and with discovery, in sentences for people."""
        statuses = [discovery.status for discovery in self.discoveries]
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

    def _doubts(self) -> Mapping[str, str]:
        """Return what is wrong with the clock, by project; empty where nothing is."""
        return {project: self._timekeeper.moment(project).doubt for project in self.clients}

    def _client(self, project: ProjectConfig, environ: Mapping[str, str]) -> DcsClient:
        collector = self._config.collector
        self._api.prepare(project.name, operations_of(project, collector))
        return client_of(
            project,
            collector,
            self._api,
            self._stopping,
            self._clock,
            self._timekeeper,
            environ,
        )

    def _state_file(self, options: Options) -> StateFile | None:
        path = self._config.state.path
        if path is None or not options.keep_state:
            return None
        state = StateFile(path, options.clock)
        self._own.watch_state(lambda: state.status)
        return state

    def _of_the_exporter(self, *, process_metrics: bool) -> CollectorRegistry:
        """Return a registry of what is said of the exporter itself."""
        registry = CollectorRegistry(support_collectors_without_names=True)
        registry.register(self._api)
        registry.register(self._own)
        registry.register(self._durations)
        registry.register(ClockTelemetry(self._doubts))
        registry.register(
            DiscoveryTelemetry(
                lambda: [discovery.status for discovery in self.discoveries],
                lambda: self._refresher.spared,
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

    def _found(self, project: str, instances: Sequence[Instance]) -> None:
        """Watch what a search found, and keep nothing of what is not watched any more."""
        with self._retargeting:
            self._targets.found(project, instances)
            targets = self._targets.current()
            self._refresher.retarget(targets)
        ids = {target.instance.id for target in targets}
        self._rendering.forget_all_but(ids)
        self.clients[project].forget_all_but(ids)
