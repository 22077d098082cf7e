"""Building and running the parts; the only module that knows them all.

A scrape asks the refresher, the refresher asks the client for each instance's tasks, the counter
counts them, the collector shows the latest snapshots, the web app serves them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from requests.utils import get_environ_proxies

from dcs_task_exporter import __version__
from dcs_task_exporter.budget import RequestBudget
from dcs_task_exporter.caller import ApiCaller, Surroundings
from dcs_task_exporter.change_detector import ChangeDetector
from dcs_task_exporter.client import (
    LIST_CENTER_TASKS,
    LIST_INSTANCES,
    LIST_PROJECTS,
    LIST_TASKS,
    TASK_PROGRESS,
    ClientSettings,
    DcsClient,
)
from dcs_task_exporter.collector import TaskCollector
from dcs_task_exporter.config import Config, ProjectConfig
from dcs_task_exporter.counting import CountingRules
from dcs_task_exporter.credentials import credential_source
from dcs_task_exporter.discovery import Discovery, DiscoveryRules, DiscoverySettings
from dcs_task_exporter.models import Instance
from dcs_task_exporter.refresher import Refresher, RefreshSettings
from dcs_task_exporter.sharding import Shard
from dcs_task_exporter.snapshots import Snapshot
from dcs_task_exporter.state import StateFile, StateStatus
from dcs_task_exporter.telemetry import (
    ApiTelemetry,
    DiscoveryTelemetry,
    ExporterTelemetry,
    register_process_metrics,
)
from dcs_task_exporter.transport import TlsSettings, Transport
from dcs_task_exporter.watched import Target
from dcs_task_exporter.web.app import WebSettings
from dcs_task_exporter.web.blocks import InstanceBlocks
from dcs_task_exporter.web.exposition import (
    EXPORTER,
    INSTANCES,
    Exposition,
    ScrapeRequest,
    choose_format,
    packed,
    render,
    takes_gzip,
)
from dcs_task_exporter.web.gzip_parts import Part
from dcs_task_exporter.workers import all_of, and_then

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time, so that tests can set it: `now` is Unix time, `monotonic` only goes forward."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Options:
    """What surrounds an exporter besides its configuration."""

    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    clocks: Clocks = field(default_factory=Clocks)
    process_metrics: bool = True
    keep_state: bool = True
    shard: Shard = field(default_factory=Shard)


class Exporter:
    """All parts of one configuration, ready to be scraped."""

    def __init__(self, config: Config, options: Options) -> None:
        self._clocks = options.clocks
        self._stopping = threading.Event()
        self._rendering = threading.local()
        self._api = ApiTelemetry()
        self._own = ExporterTelemetry(__version__, options.clocks.now(), options.shard)
        self._config = config
        self._shard = options.shard
        self.clients = {project.name: self._client(project, options) for project in config.projects}
        self._discovered: dict[str, Sequence[Instance]] = {}
        self._others: set[str] = set()
        self._retargeting = threading.Lock()
        self._state = self._state_file(options)
        self._refresher = Refresher(
            self._targets(),
            _refresh_settings(config),
            now=options.clocks.now,
            monotonic=options.clocks.monotonic,
            journal=self._state,
            detectors=self._detectors(),
        )
        self.discoveries = [
            self._discovery(project) for project in config.projects if project.discovery.enabled
        ]
        self._collector = TaskCollector(
            self._scraped,
            personal=config.collector.personal_labels,
            tags=config.collector.tag_labels,
        )
        self._blocks = InstanceBlocks(self._collector)
        self._own_registry = self._of_the_exporter(process_metrics=options.process_metrics)
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.registry.register(self._collector)
        self.registry.register(_Included(self._own_registry))

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
        await asyncio.wait([asyncio.wrap_future(all_of(self._search(project)))], timeout=timeout)
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
        if request.names:
            return render(self._chosen(request), request)
        encoder, content_type = choose_format(request.accept)
        body = b""
        beginning: Sequence[Part] = ()
        if INSTANCES in request.parts:
            snapshots = self._scraped(request.target)
            if request.target is None and takes_gzip(request):
                beginning, body = self._blocks.render_gzip(snapshots, encoder, content_type)
            else:
                body = self._blocks.render(snapshots, encoder, content_type)
        own = self._own_registry if EXPORTER in request.parts else CollectorRegistry()
        return packed(body + encoder(own), content_type, request, beginning)

    def _chosen(self, request: ScrapeRequest) -> CollectorRegistry:
        """Return a registry of the parts that a scrape asks for."""
        if INSTANCES not in request.parts:
            return self._own_registry
        if request.target is None and EXPORTER in request.parts:
            return self.registry
        chosen = CollectorRegistry(support_collectors_without_names=True)
        chosen.register(self._collector.over(partial(self._scraped, request.target)))
        return chosen

    def _read_due(self) -> Future[None]:
        """Start reading what is known and due, and of each first search what it finds."""
        searches = {
            discovery.project: pending
            for discovery in self.discoveries
            if (pending := discovery.search()) is not None
        }
        found = [
            and_then(pending, partial(self._refresher.refresh, project=project))
            for project, pending in searches.items()
        ]
        return all_of([self._refresher.refresh(), *found])

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
                logger.exception("a refresh broke")
            self._stopping.wait(max(0.0, began + interval - time.monotonic()))

    def refresh_and_wait(self, timeout: float) -> None:
        """Do the same from a thread."""
        wait([self._read_due()], timeout)

    def read_everything(self, patience: float) -> None:
        """Read every instance once: wait for `patience` seconds longer than the budget takes."""
        wait(self._search(), patience)
        longest = max(self.pass_times().values(), default=0.0)
        wait([self._refresher.refresh()], patience + longest)

    def pass_times(self) -> Mapping[str, float]:
        """Return the seconds that one request for each instance takes, by project."""
        numbers = Counter(snapshot.instance.project for snapshot in self.snapshots())
        rate = self._config.collector.requests_per_second
        return {name: number / rate for name, number in numbers.items()}

    def _search(self, project: str | None = None) -> Sequence[Future[None]]:
        """Search what is due, of one project or of all; return the first searches."""
        found = [
            discovery.search()
            for discovery in self.discoveries
            if project in (None, discovery.project)
        ]
        return [future for future in found if future is not None]

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
        return self._clocks.now()

    def observe_scrape(self, seconds: float) -> None:
        """Note how long a scrape took."""
        self._own.scrape(seconds)

    def confirm_scrape(self) -> None:
        """Note that a scraper gets what this thread just rendered, its counters included."""
        self._refresher.witness(self._rendering.snapshots)
        # Else what was shown would be held until this thread renders again.
        self._rendering.snapshots = ()

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

    def _state_file(self, options: Options) -> StateFile | None:
        path = self._config.state.path
        if path is None or not options.keep_state:
            return None
        clocks = options.clocks
        state = StateFile(path, now=clocks.now, monotonic=clocks.monotonic)
        self._own.watch_state(lambda: state.status)
        return state

    def _of_the_exporter(self, *, process_metrics: bool) -> CollectorRegistry:
        """Return a registry of what is said of the exporter itself."""
        registry = CollectorRegistry(support_collectors_without_names=True)
        registry.register(self._api)
        registry.register(self._own)
        registry.register(
            DiscoveryTelemetry(
                lambda: [discovery.status for discovery in self.discoveries],
                lambda: self._refresher.spared,
            )
        )
        if process_metrics:
            register_process_metrics(registry)
        return registry

    def problems(self) -> Sequence[str]:
        """Return what is wrong with discovery, in sentences for people."""
        return [
            f"The instances of project {status.project} cannot be listed: {status.problem}. "
            + ("The last list stays." if status.last_success else "None of them is watched.")
            for status in (discovery.status for discovery in self.discoveries)
            if status.problem
        ]

    def _scraped(self, target: str | None = None) -> Sequence[Snapshot]:
        self._own.coalesced(self._refresher.coalesced)
        self._rendering.snapshots = snapshots = self._refresher.snapshots(target)
        return snapshots

    def _detectors(self) -> Mapping[str, ChangeDetector]:
        clocks = self._clocks
        return {
            project.name: ChangeDetector(
                project.name,
                self.clients[project.name].list_center_tasks,
                project.task_center.full_pass_interval,
                now=clocks.now,
                monotonic=clocks.monotonic,
            )
            for project in self._config.projects
            if project.task_center.enabled
        }

    def _discovery(self, project: ProjectConfig) -> Discovery:
        wanted = project.discovery
        rules = DiscoveryRules(
            wanted.include, wanted.exclude, wanted.tags, wanted.statuses, wanted.engines
        )

        def found(instances: Sequence[Instance]) -> None:
            with self._retargeting:
                self._discovered[project.name] = instances
                targets = self._targets()
                self._refresher.retarget(targets)
                ids = {target.instance.id for target in targets}
                self._blocks.forget_all_but(ids)
                self.clients[project.name].forget_all_but(ids)

        return Discovery(
            DiscoverySettings(project.name, rules, wanted.refresh_interval),
            self.clients[project.name].list_instances,
            found,
            now=self._clocks.now,
            monotonic=self._clocks.monotonic,
        )

    def _targets(self) -> list[Target]:
        """Return what is configured, with what was discovered of it, and what was discovered."""
        targets: dict[str, Target] = {}
        for project in self._config.projects:
            found = {item.id: item for item in self._discovered.get(project.name, ())}
            for item in project.instances:
                known = found.pop(item.id, None) or _instance(project, item.id, "")
                named = replace(known, name=item.name or known.name or item.id)
                targets.setdefault(item.id, Target(named, self.clients[project.name]))
            for instance in found.values():
                named = replace(instance, name=instance.name or instance.id)
                targets.setdefault(instance.id, Target(named, self.clients[project.name]))
        return self._of_this_shard(targets)

    def _of_this_shard(self, targets: Mapping[str, Target]) -> list[Target]:
        """Return what is ours; of the rest, another exporter counts what ends from now on."""
        others = {key for key in targets if not self._shard.has(key)}
        if self._state is not None:
            for key in others - self._others:
                self._state.hand_over(key)
        self._others = others
        return [target for key, target in targets.items() if key not in others]

    def _client(self, project: ProjectConfig, options: Options) -> DcsClient:
        collector, clocks = self._config.collector, options.clocks
        self._api.prepare(project.name, _operations(project, self._config))
        if project.tls.insecure_skip_verify:
            logger.warning(
                "the cloud's certificate is not checked, because tls.insecure_skip_verify is set",
                extra={"fields": {"project": project.name}},
            )
        transport = Transport(
            timeout=collector.timeout,
            connections=collector.concurrency,
            user_agent=f"dcs-task-exporter/{__version__}",
            tls=TlsSettings(project.tls.ca_file, project.tls.insecure_skip_verify),
            proxies=_proxies(project),
        )
        caller = ApiCaller(
            project.name,
            collector.retries,
            transport,
            credential_source(project.credentials, options.environ),
            RequestBudget(
                collector.requests_per_second,
                monotonic=clocks.monotonic,
                wait=self._stopping.wait,
            ),
            self._api,
            Surroundings(clocks.now, clocks.monotonic, self._stopping.wait, random.random),
        )
        return DcsClient(_client_settings(project, self._config), caller, clocks.monotonic)


def _operations(project: ProjectConfig, config: Config) -> Sequence[str]:
    """Return the operations that this configuration uses."""
    used = {
        LIST_TASKS: True,
        LIST_INSTANCES: True,
        LIST_PROJECTS: True,
        LIST_CENTER_TASKS: project.task_center.enabled,
        TASK_PROGRESS: config.collector.task_progress,
    }
    return [operation for operation, wanted in used.items() if wanted]


class _Included(Collector):
    """All of a registry, as a part of another one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def describe(self) -> Iterator[Metric]:
        """Yield every family."""
        return iter(self._registry.collect())

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their values."""
        return iter(self._registry.collect())


def _client_settings(project: ProjectConfig, config: Config) -> ClientSettings:
    collector = config.collector
    return ClientSettings(
        project=project.name,
        region=project.region,
        dcs_endpoint=project.dcs_endpoint,
        iam_endpoint=project.iam_url,
        project_id=project.project_id,
        iam_project_name=project.project_name,
        page_size=collector.page_size,
        max_pages=collector.max_pages,
        start_parameter=collector.start_parameter,
    )


def _refresh_settings(config: Config) -> RefreshSettings:
    collector = config.collector
    return RefreshSettings(
        rules=CountingRules(
            lookback=collector.lookback,
            max_task_names=collector.max_task_names,
            statuses=config.status_words.table(),
        ),
        min_refresh_interval=collector.min_refresh_interval,
        max_staleness=collector.max_staleness,
        # Long enough for each try to time out, and for a listing of many pages.
        refresh_time_limit=max(60.0, 2 * collector.timeout * (collector.retries + 1)),
        concurrency=collector.concurrency,
        requests_per_second=collector.requests_per_second,
        task_progress=collector.task_progress,
        first_value_hold=collector.first_value_hold,
    )


def _instance(project: ProjectConfig, instance_id: str, name: str) -> Instance:
    return Instance(
        id=instance_id,
        name=name or instance_id,
        project=project.name,
        project_id=project.project_id,
        region=project.region,
    )


def _proxies(project: ProjectConfig) -> Mapping[str, str]:
    if project.proxy_url is not None:
        url = project.proxy_url.get_secret_value()
        return {"http": url, "https": url}
    return get_environ_proxies(project.dcs_endpoint)
