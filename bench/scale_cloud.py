"""The cloud of the scale run: many quiet instances in several projects, in a process of its own.

It is the simulated cloud of the package, which checks signatures, with a latency, and with a limit
for each project in place of one for all.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from typing_extensions import Self

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import Reply, gateway_error
from dcs_task_exporter.simulator.listing import timestamp
from dcs_task_exporter.simulator.request import Request
from dcs_task_exporter.simulator.server import CloudServer

KEY: Final = ("SCALEAK7Q2N5X8R4T6V9", "scale-sk-0123456789abcdefghijklmnopqr")
WINDOW: Final = 60
"""Seconds in which a project may be asked as often as its limit says."""

HISTORY: Final = (("EXTEND", 3.0), ("masterStandbySwapJob", 1.0))
"""The tasks that every fourth instance had, and how many days ago."""

TOOK: Final = 120.0
DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Projects with as many instances each; `latency` in seconds, `limit` in requests a minute."""

    projects: int
    instances: int
    latency: float
    limit: int
    seed: int = 1

    def project_ids(self) -> Sequence[str]:
        """Return the ids of the projects."""
        return [f"{number:032x}" for number in range(1, self.projects + 1)]

    def instance_ids(self) -> Mapping[str, Sequence[str]]:
        """Return the ids of the instances by project."""
        chance = random.Random(self.seed)  # noqa: S311 - a fixed seed is wanted
        return {
            project: [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(self.instances)]
            for project in self.project_ids()
        }


@dataclass(frozen=True, slots=True)
class Served:
    """The requests until now: by project, by operation, and those over the limit."""

    at: float
    by_project: Mapping[str, int]
    by_operation: Mapping[str, int]
    refused: int

    @property
    def total(self) -> int:
        """The number of all requests."""
        return sum(self.by_project.values())


class LimitedCloud(SimulatedCloud):
    """Answers after the latency, and refuses the requests of a project over its limit."""

    def __init__(self, settings: CloudSettings) -> None:
        super().__init__(time.time, seed=settings.seed)
        self._settings = settings
        self._counting = threading.Lock()
        self._in_window: Counter[tuple[str, int]] = Counter()
        self._by_project: Counter[str] = Counter()
        self._by_operation: Counter[str] = Counter()
        self._refused = 0
        self.access.add_key(*KEY)
        now, number = time.time(), 0
        for at, (project, instances) in enumerate(settings.instance_ids().items()):
            self.add_project(project, f"project-{at}")
            for number, instance in enumerate(instances):
                self.add_instance(project, instance, f"cache-{at:02}-{number:05}")
                for name, days in HISTORY if number % 4 == 0 else ():
                    began = now - days * DAY - number
                    ended = timestamp(began + TOOK)
                    self.start_task(instance, name, "SUCCESS", created_at=began, updated_at=ended)

    def answer(self, request: Request) -> Reply:
        """Return the answer after the latency."""
        time.sleep(self._settings.latency)
        if self._is_refused(request):
            text = (
                "The throttling threshold has been reached: policy user over ratelimit,"
                f"limit:{self._settings.limit},time:{WINDOW} second"
            )
            return gateway_error(429, "APIGW.0308", text, Retry_After=f"{WINDOW}")
        reply = super().answer(request)
        self.requests.clear()  # nobody reads them, and they would fill the memory
        return reply

    def served(self) -> Served:
        """Return what was asked until now."""
        with self._counting:
            return Served(
                time.time(), dict(self._by_project), dict(self._by_operation), self._refused
            )

    def _is_refused(self, request: Request) -> bool:
        key = request.project_id, int(self.clock() // WINDOW)
        with self._counting:
            self._by_project[request.project_id] += 1
            self._by_operation[request.operation] += 1
            self._in_window[key] += 1
            is_over = self._in_window[key] > self._settings.limit
            self._refused += is_over
            return is_over


class CloudProcess:
    """Runs the cloud while its ``with`` block lasts, and plays tasks in it.

    It is safe to use from threads. The process has this `pid`, and the cloud this `url`.
    """

    def __init__(self, settings: CloudSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._lock = threading.Lock()
        self._process: multiprocessing.process.BaseProcess = context.Process(
            target=_serve, args=(settings, other), daemon=True
        )
        self.url = ""
        self.pid = 0

    def __enter__(self) -> Self:
        """Start the process, and return when it listens."""
        self._process.start()
        self.url, self.pid = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def start_task(
        self, instance_id: str, name: str, *, details: Mapping[str, Any] | None = None
    ) -> str:
        """Start a task and return its id."""
        return str(self._ask("start_task", instance_id, name, details=details))

    def finish_task(self, instance_id: str, task_id: str, status: str) -> None:
        """Finish a task now, with `status`."""
        self._ask("finish_task", instance_id, task_id, status)

    def served(self) -> Served:
        """Return what was asked until now."""
        found: Served = self._ask("served")
        return found

    def _ask(self, method: str, *values: object, **more: object) -> Any:  # noqa: ANN401 - of any method
        with self._lock:
            self._pipe.send((method, values, more))
            return self._pipe.recv()


def _serve(settings: CloudSettings, pipe: Connection) -> None:
    cloud = LimitedCloud(settings)
    with CloudServer(cloud) as server, suppress(EOFError):
        pipe.send((server.url, os.getpid()))
        while True:
            method, values, more = pipe.recv()
            pipe.send(getattr(cloud, method)(*values, **more))
