"""What a source of credentials needs besides its configuration: how it reaches its services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.gate import Gate
from dcs_task_exporter.cloud.observer import ApiObserver
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import ApiCaller, Retries
from dcs_task_exporter.cloud.transport import Transport
from dcs_task_exporter.config.model import ProjectConfig
from dcs_task_exporter.credentials.fixed import FixedSource, no_key

LOCAL_TIMEOUT: Final = 3.0
"""Seconds for an answer of a service on this machine, as in the official SDK."""

USER_AGENT: Final = f"dcs-task-exporter/{__version__}"

MakeCaller = Callable[[Gate | None, RateLimit], ApiCaller]


class Services:
    """What the services in the cloud think of one project: a gate for each of their operations.

    That does not change with our settings, so the source of another configuration shares the gates
    of the one before, and their rate limits. Only one thread at a time asks for callers.
    """

    def __init__(self) -> None:
        self._known: Mapping[str, tuple[Gate, RateLimit]] = {}

    def caller(self, operation: str, limit: RateLimit, make: MakeCaller) -> ApiCaller:
        """Return what `make` makes of the gate and the rate limit of an operation.

        The first time there is no gate yet, and `limit` is its rate limit.
        """
        known = self._known.get(operation)
        caller = make(*known) if known else make(None, limit)
        self._known = {**self._known, operation: known or (caller.gate, limit)}
        return caller

    def change(self, rate: float) -> None:
        """Use another rate, and let one request try a refused secret at once."""
        for gate, limit in self._known.values():
            limit.change(rate)
            gate.try_again()

    def close(self) -> None:
        """Refuse waiting requests: the exporter stops, or the project leaves."""
        for gate, _ in self._known.values():
            gate.close()


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
    services: Services
    rate: float
    others: tuple[str, ...] = field(default=(), repr=False)

    def caller(self, operation: str) -> ApiCaller:
        """Return the caller of a service in the cloud, over the connections of the project."""
        make = partial(self._caller, self.transport, self.retries)
        return self.services.caller(operation, self._limit(), make)

    def local_caller(self) -> ApiCaller:
        """Return the caller of a service on this machine, which no proxy reaches."""
        transport = Transport(timeout=LOCAL_TIMEOUT, connections=1, user_agent=USER_AGENT)
        return self._caller(transport, replace(self.retries, number=0), None, self._limit())

    def _limit(self) -> RateLimit:
        return RateLimit(self.rate, self.clock, self.retries.wait)

    def _caller(
        self, transport: Transport, retries: Retries, gate: Gate | None, limit: RateLimit
    ) -> ApiCaller:
        source = FixedSource(no_key)
        return ApiCaller(
            self.project.name, transport, source, limit, self.observer, retries, self.clock, gate
        )
