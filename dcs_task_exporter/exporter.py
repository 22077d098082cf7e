"""Building and running the parts; the only module that knows them all.

A scrape asks the refresher, the refresher asks the client for each instance's tasks, the counter
counts them, the collector shows the latest snapshots, the web app serves them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry
from requests.utils import get_environ_proxies

from dcs_task_exporter import __version__
from dcs_task_exporter.budget import RequestBudget
from dcs_task_exporter.caller import ApiCaller, Surroundings
from dcs_task_exporter.client import ClientSettings, DcsClient
from dcs_task_exporter.collector import TaskCollector
from dcs_task_exporter.config import Config, ProjectConfig
from dcs_task_exporter.counting import CountingRules
from dcs_task_exporter.credentials import credential_source
from dcs_task_exporter.discovery import Discovery, DiscoveryRules, DiscoverySettings
from dcs_task_exporter.models import Instance
from dcs_task_exporter.refresher import Refresher, RefreshSettings, Target
from dcs_task_exporter.snapshots import Snapshot
from dcs_task_exporter.state import StateFile, StateStatus
from dcs_task_exporter.telemetry import (
    ApiTelemetry,
    DiscoveryTelemetry,
    ExporterTelemetry,
    register_process_metrics,
)
from dcs_task_exporter.transport import TlsSettings, Transport
from dcs_task_exporter.web.app import WebSettings
from dcs_task_exporter.workers import all_of


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


class Exporter:
    """All parts of one configuration, ready to be scraped."""

    def __init__(self, config: Config, options: Options) -> None:
        self._clocks = options.clocks
        self._stopping = threading.Event()
        self._rendering = threading.local()
        self._api = ApiTelemetry()
        self._own = ExporterTelemetry(__version__, options.clocks.now())
        self._config = config
        self.clients = {project.name: self._client(project, options) for project in config.projects}
        self._discovered: dict[str, Sequence[Instance]] = {}
        self._retargeting = threading.Lock()
        self._state = self._state_file(options)
        self._refresher = Refresher(
            self._targets(),
            _refresh_settings(config),
            now=options.clocks.now,
            monotonic=options.clocks.monotonic,
            journal=self._state,
        )
        self.discoveries = [
            self._discovery(project) for project in config.projects if project.discovery.enabled
        ]
        self.registry = self._registry(process_metrics=options.process_metrics)

    async def refresh(self, timeout: float) -> None:
        """Return when all due instances are in, or after `timeout` seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._refresh()), timeout)

    async def _refresh(self) -> None:
        # Of a project that was never searched nothing could be shown: that is waited for.
        await asyncio.wrap_future(self._search())
        await asyncio.wrap_future(self._refresher.refresh())

    def refresh_and_wait(self, timeout: float) -> None:
        """Do the same from a thread."""
        began = time.monotonic()
        wait([self._search()], timeout)
        wait([self._refresher.refresh()], max(0.0, began + timeout - time.monotonic()))

    def _search(self) -> Future[None]:
        """Search what is due; the result comes when each project was searched once."""
        found = [discovery.search() for discovery in self.discoveries]
        return all_of([future for future in found if future is not None])

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

    def _registry(self, *, process_metrics: bool) -> CollectorRegistry:
        registry = CollectorRegistry(support_collectors_without_names=True)
        personal = self._config.collector.personal_labels
        registry.register(TaskCollector(self._scraped, personal=personal))
        registry.register(self._api)
        registry.register(self._own)
        registry.register(
            DiscoveryTelemetry(lambda: [discovery.status for discovery in self.discoveries])
        )
        if process_metrics:
            register_process_metrics(registry)
        return registry

    def _scraped(self) -> Sequence[Snapshot]:
        self._own.coalesced(self._refresher.coalesced)
        self._rendering.snapshots = snapshots = self._refresher.snapshots()
        return snapshots

    def _discovery(self, project: ProjectConfig) -> Discovery:
        wanted = project.discovery
        rules = DiscoveryRules(
            wanted.include, wanted.exclude, wanted.tags, wanted.statuses, wanted.engines
        )

        def found(instances: Sequence[Instance]) -> None:
            with self._retargeting:
                self._discovered[project.name] = instances
                self._refresher.retarget(self._targets())

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
        return list(targets.values())

    def _client(self, project: ProjectConfig, options: Options) -> DcsClient:
        collector, clocks = self._config.collector, options.clocks
        self._api.prepare(project.name)
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
