"""The parts that a configuration makes of each project: its client and its task center."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

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
from dcs_task_exporter.cloud.source_of import identity_operations, source_of
from dcs_task_exporter.cloud.surroundings import USER_AGENT, Surroundings
from dcs_task_exporter.cloud.tls import UncheckedWarning
from dcs_task_exporter.cloud.transport import Transport, origin_of
from dcs_task_exporter.config.model import CollectorConfig, Config, ProjectConfig
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.progress import PROGRESS_THREADS
from dcs_task_exporter.refresh.task_center import TaskCenter
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.text.redaction import proxy_secrets

logger = logging.getLogger(__name__)


def client_of(
    project: ProjectConfig,
    collector: CollectorConfig,
    observer: ApiObserver,
    stopping: threading.Event,
    clock: Clock,
    timekeeper: Timekeeper,
    environ: Mapping[str, str],
) -> DcsClient:
    """Return the client of a project, with its own connections, key and rate limit."""
    unchecked = UncheckedWarning(project.name, project.tls, clock.monotonic)
    unchecked.warn_if_due()
    proxies = _proxies(project)
    secrets = tuple(secret for url in set(proxies.values()) for secret in proxy_secrets(url))
    transport = Transport(
        timeout=collector.timeout,
        # Discovery and progress have threads of their own.
        connections=collector.concurrency + PROGRESS_THREADS + 1,
        user_agent=USER_AGENT,
        tls=project.tls,
        proxies=proxies,
        before=unchecked.warn_if_due,
    )
    retries = Retries(collector.retries, stopping.wait, random.random)
    rate = collector.requests_per_second
    around = Surroundings(project, environ, clock, transport, retries, observer, rate, secrets)
    caller = ApiCaller(
        project.name,
        transport,
        source_of(project.credentials, around),
        RateLimit(rate, clock, stopping.wait),
        observer,
        retries,
        clock,
    )
    return DcsClient(project, collector, caller, clock, timekeeper.latest)


def operations_of(project: ProjectConfig, collector: CollectorConfig) -> Sequence[str]:
    """Return the operations that this configuration uses."""
    optional = {
        LIST_CENTER_TASKS: project.task_center.enabled,
        TASK_PROGRESS: collector.task_progress,
    }
    used = [operation for operation, is_used in optional.items() if is_used]
    makers = identity_operations(project.credentials)
    return [LIST_TASKS, LIST_INSTANCES, LIST_PROJECTS, *used, *makers]


def task_center_of(
    project: ProjectConfig, client: DcsClient, clock: Clock, timekeeper: Timekeeper
) -> TaskCenter:
    """Return the task center of a project; its clock is the cloud's."""
    return TaskCenter(
        project.name,
        client.list_center_tasks,
        project.task_center.full_pass_interval,
        replace(clock, now=lambda: timekeeper.moment(project.name).at),
    )


def counting_rules(config: Config) -> CountingRules:
    """Return the rules by which tasks are counted."""
    return CountingRules(
        lookback=config.collector.lookback,
        max_task_names=config.collector.max_task_names,
        statuses=config.status_words.table(),
    )


def _proxies(project: ProjectConfig) -> Mapping[str, str]:
    """Return the proxies of a project; log it if the environment, not the file, names them."""
    urls = (project.dcs_endpoint, project.iam_url)
    if project.proxy_url is not None:
        return proxies_for(urls, project.proxy_url.get_secret_value())
    found = proxies_for(urls, None)
    for origin, proxy in found.items():
        logger.info(
            "requests go through the proxy of the environment",
            extra={"fields": {"project": project.name, "to": origin, "proxy": origin_of(proxy)}},
        )
    return found
