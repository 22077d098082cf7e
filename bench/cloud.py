"""A cloud that costs as little as it can, so that what is measured is the client.

It answers the task listings of any instance with ready-made bodies, after a latency, in a process
of its own, which `BenchCloud` starts. It checks no signature. With a limit it refuses what comes
too often, as the gateway does.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.process
import multiprocessing.synchronize
import os
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import TracebackType
from typing import Final

from typing_extensions import Self

PROJECT: Final = "a4d31cb63d724fdc8ec96e3a41e47f71"
PATIENCE: Final = 10.0
"""Seconds that closing all connections may take."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the cloud has, and how it answers; `latency` in seconds, `limit` in requests/s.

    `changing` is the share of the instances, from 0 to 1, whose listing is another one each time
    that all are asked for: the error code of the newest task changes, or with `finishing` that task
    is another one, which finished just now. With `active`, one instance in a hundred has a task
    that never ends.
    """

    latency: float = 0.0
    tasks: int = 10
    limit: int | None = None
    changing: float = 0.0
    finishing: bool = False
    active: bool = False


@dataclass(frozen=True, slots=True)
class Counters:
    """What the process of the cloud counts, shared with the one that measures."""

    served: Synchronized[int]
    refused: Synchronized[int]
    opened: Synchronized[int]
    closed: Synchronized[int]


class BenchCloud:
    """Runs the cloud while its ``with`` block lasts."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._context = multiprocessing.get_context("spawn")
        self._counters = Counters(*(self._context.Value("q", 0) for _ in range(4)))
        self._folder = tempfile.TemporaryDirectory()
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Self:
        """Start the process, and return when it listens."""
        ready = self._context.Semaphore(0)
        self._process = self._context.Process(
            target=_serve,
            args=(self._load, self._socket, self.ca_file, ready, self._counters),
            daemon=True,
        )
        self._process.start()
        ready.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        self._socket.close()
        self._folder.cleanup()

    def hang_up(self) -> None:
        """Let the cloud close all connections, as a gateway does with idle ones.

        Returns when it has.
        """
        os.kill(self._pid, signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while self._counters.closed.value < self._counters.opened.value:
            if time.monotonic() > deadline:
                message = "the cloud did not close its connections"
                raise TimeoutError(message)
            time.sleep(0.001)

    @property
    def served(self) -> int:
        """Requests that were answered, refused ones included."""
        return self._counters.served.value

    @property
    def refused(self) -> int:
        """Requests that were answered with 429."""
        return self._counters.refused.value

    @property
    def connections(self) -> int:
        """Connections that were made."""
        return self._counters.opened.value

    @property
    def cpu_seconds(self) -> float:
        """The processor time that the process used so far."""
        stat = Path(f"/proc/{self._pid}/stat").read_text(encoding="ascii")
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def _pid(self) -> int:
        pid = self._process and self._process.pid
        if not pid:
            message = "the cloud does not run"
            raise RuntimeError(message)
        return pid


def _serve(*arguments: object) -> None:
    # Imported in the new process only: what the server needs is not to weigh on the client.
    importlib.import_module("bench.server").serve(*arguments)
