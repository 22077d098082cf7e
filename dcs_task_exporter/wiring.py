"""The parts that a configuration makes of each project: its client and its task center.

A reload makes only those anew whose settings have changed.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.client import (
    LIST_CENTER_TASKS,
    LIST_INSTANCES,
    LIST_TASKS,
    TASK_PROGRESS,
    DcsClient,
)
from dcs_task_exporter.cloud.observer import ApiObserver
from dcs_task_exporter.cloud.project import LIST_PROJECTS
from dcs_task_exporter.cloud.proxies import proxies_for
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import ApiCaller, Retries
from dcs_task_exporter.cloud.tls import UncheckedWarning
from dcs_task_exporter.cloud.transport import Transport, origin_of
from dcs_task_exporter.config.model import CollectorConfig, Config, ProjectConfig
from dcs_task_exporter.credentials.context import USER_AGENT, CredentialContext, Services
from dcs_task_exporter.credentials.sources import identity_operations, service_urls, source_of
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.progress import PROGRESS_THREADS
from dcs_task_exporter.refresh.task_center import TaskCenter
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.text.redaction import proxy_secrets

_NOT_OF_CLIENT: Final = {"instances", "discovery", "task_center"}
"""The keys of a project that its client does not depend on."""

_OF_CLIENT: Final = {"retries", "page_size", "max_pages", "start_parameter", "personal_labels"}
"""The keys of `collector` that a client depends on, beside those of its route."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WiredClient:
    """The client of one project, what it was made of, and the parts that the next may take over.

    `settings` and `route` are all that the client, and its transport, depend on.
    """

    settings: object = field(repr=False)
    route: object = field(repr=False)
    client: DcsClient
    caller: ApiCaller
    transport: Transport
    rate_limit: RateLimit
    services: Services

    def close(self) -> None:
        """Send no more requests, and close the connections."""
        self.client.close()
        self.services.close()


class Clients:
    """The client of each project, with its own connections, key and rate limit.

    Another configuration keeps the clients that are right, as the same objects. Of the others, the
    new ones take over what the cloud knows them by: the rate limits, the gates, and the connections
    if their route is the same. `adopt` and `prepared` are called by one thread at a time.
    """

    def __init__(
        self,
        observer: ApiObserver,
        clock: Clock,
        timekeeper: Timekeeper,
        environ: Mapping[str, str],
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._timekeeper = timekeeper
        self._environ = environ
        self._stopping = threading.Event()
        self._wired: Mapping[str, WiredClient] = {}

    @property
    def current(self) -> Mapping[str, DcsClient]:
        """The clients by project."""
        return {name: wired.client for name, wired in self._wired.items()}

    def prepared(self, config: Config) -> Mapping[str, WiredClient]:
        """Return the clients of a configuration; nothing changes before they are adopted."""
        collector = config.collector
        return {project.name: self._prepare(project, collector) for project in config.projects}

    def adopt(self, wired: Mapping[str, WiredClient], collector: CollectorConfig) -> None:
        """Use these clients from now on; the requests of the others end, and no more follow."""
        before, self._wired = self._wired, wired
        for name, old in before.items():
            new = wired.get(name)
            if new is not old:
                old.caller.make_way()
            if new is None:
                old.close()
            elif new.transport is not old.transport:
                old.transport.close()
        for new in wired.values():
            new.rate_limit.change(collector.requests_per_second)
            new.caller.gate.try_again()
            new.services.change(collector.requests_per_second)

    def close(self) -> None:
        """Send no more requests, end the pauses between them, close the connections."""
        self._stopping.set()
        for wired in self._wired.values():
            wired.close()

    def _prepare(self, project: ProjectConfig, collector: CollectorConfig) -> WiredClient:
        before = self._wired.get(project.name)
        proxies = _proxies(project, self._environ)
        certificates = project.tls.ca_file and project.tls.ca_file.read_bytes()
        route = (project.tls, certificates, collector.timeout, collector.concurrency, proxies)
        settings = (
            project.model_dump(exclude=_NOT_OF_CLIENT),
            collector.model_dump(include=_OF_CLIENT),
            route,
        )
        if before and before.settings == settings:
            return before
        if before and before.route == route:
            transport = before.transport
        else:
            transport = _transport_of(project, collector, proxies, self._clock)
        rate = collector.requests_per_second
        limit = before.rate_limit if before else RateLimit(rate, self._clock, self._stopping.wait)
        secrets = tuple(secret for url in set(proxies.values()) for secret in proxy_secrets(url))
        retries = Retries(collector.retries, self._stopping.wait, random.random)
        services = before.services if before else Services()
        context = CredentialContext(
            project,
            self._environ,
            self._clock,
            transport,
            retries,
            self._observer,
            services,
            rate,
            secrets,
        )
        caller = ApiCaller(
            project.name,
            transport,
            source_of(project.credentials, context),
            limit,
            self._observer,
            retries,
            self._clock,
            before.caller.gate if before else None,
        )
        client = DcsClient(project, collector, caller, self._clock, self._timekeeper.latest)
        return WiredClient(settings, route, client, caller, transport, limit, services)


def _transport_of(
    project: ProjectConfig, collector: CollectorConfig, proxies: Mapping[str, str], clock: Clock
) -> Transport:
    unchecked = UncheckedWarning(project.name, project.tls, clock.monotonic)
    unchecked.warn_if_due()
    return Transport(
        timeout=collector.timeout,
        # Discovery and progress have threads of their own.
        connections=collector.concurrency + PROGRESS_THREADS + 1,
        user_agent=USER_AGENT,
        tls=project.tls,
        proxies=proxies,
        before=unchecked.warn_if_due,
    )


def operations_of(config: Config) -> Mapping[str, Sequence[str]]:
    """Return the operations that a configuration uses, by project."""
    progress = [TASK_PROGRESS] if config.collector.task_progress else []
    return {
        project.name: [
            *(LIST_TASKS, LIST_INSTANCES, LIST_PROJECTS),
            *([LIST_CENTER_TASKS] if project.task_center.enabled else []),
            *progress,
            *identity_operations(project.credentials),
        ]
        for project in config.projects
    }


def task_centers_of(
    config: Config,
    clients: Mapping[str, DcsClient],
    before: Mapping[str, TaskCenter],
    clock: Clock,
    timekeeper: Timekeeper,
) -> Mapping[str, TaskCenter]:
    """Return the task center of each project that uses it; those before go on.

    The clock of a task center is the cloud's.
    """
    centers: dict[str, TaskCenter] = {}
    for project in config.projects:
        if not project.task_center.enabled:
            continue
        listing = clients[project.name].list_center_tasks
        interval = project.task_center.full_pass_interval
        cloud_clock = replace(clock, now=partial(_cloud_time, timekeeper, project.name))
        known = before.get(project.name)
        center = known or TaskCenter(project.name, listing, interval, cloud_clock)
        center.change(listing, interval)
        centers[project.name] = center
    return centers


def _cloud_time(timekeeper: Timekeeper, project: str) -> float:
    return timekeeper.moment(project).at


def counting_rules(config: Config) -> CountingRules:
    """Return the rules by which tasks are counted."""
    return CountingRules(
        lookback=config.collector.lookback,
        max_task_names=config.collector.max_task_names,
        statuses=config.status_words.table(),
    )


def _proxies(project: ProjectConfig, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the proxies of a project; log it if the environment, not the file, names them."""
    services = service_urls(project.credentials, project, environ)
    urls = (project.dcs_endpoint, project.iam_url, *services)
    if project.proxy_url is not None:
        return proxies_for(urls, project.proxy_url.get_secret_value())
    found = proxies_for(urls, None)
    for origin, proxy in found.items():
        logger.info(
            "requests go through the proxy of the environment",
            extra={"fields": {"project": project.name, "to": origin, "proxy": origin_of(proxy)}},
        )
    return found
