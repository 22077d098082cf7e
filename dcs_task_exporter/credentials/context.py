"""What a source of credentials needs besides its configuration: how it reaches its services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.observer import ApiObserver
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import ApiCaller, Retries
from dcs_task_exporter.cloud.transport import Transport
from dcs_task_exporter.config.model import ProjectConfig
from dcs_task_exporter.credentials.fixed import FixedSource, no_key

LOCAL_TIMEOUT: Final = 3.0
"""Seconds for an answer of a service on this machine, as in the official SDK."""

USER_AGENT: Final = f"dcs-task-exporter/{__version__}"


@dataclass(frozen=True, slots=True)
class CredentialContext:
    """The parts of a project that its source of credentials uses too.

    `rate` is that of the project, which each service has for itself. `others` are secrets that are
    redacted with the key.
    """

    project: ProjectConfig
    environ: Mapping[str, str] = field(repr=False)
    clock: Clock
    transport: Transport
    retries: Retries
    observer: ApiObserver
    rate: float
    others: tuple[str, ...] = field(default=(), repr=False)

    def caller(self) -> ApiCaller:
        """Return the caller of a service in the cloud, over the connections of the project."""
        return self._caller(self.transport, self.retries)

    def local_caller(self) -> ApiCaller:
        """Return the caller of a service on this machine, which no proxy reaches."""
        transport = Transport(timeout=LOCAL_TIMEOUT, connections=1, user_agent=USER_AGENT)
        return self._caller(transport, replace(self.retries, number=0))

    def _caller(self, transport: Transport, retries: Retries) -> ApiCaller:
        limit = RateLimit(self.rate, self.clock, retries.wait)
        source = FixedSource(no_key)
        return ApiCaller(
            self.project.name, transport, source, limit, self.observer, retries, self.clock
        )
