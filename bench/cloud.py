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
import socket
import tempfile
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import TracebackType
from typing import Final

from typing_extensions import Self

PROJECT: Final = "a4d31cb63d724fdc8ec96e3a41e47f71"
Counters = tuple["Synchronized[int]", "Synchronized[int]", "Synchronized[int]"]


@dataclass(frozen=True, slots=True)
class Load:
    """What the cloud has, and how it answers; `latency` in seconds, `limit` in requests/s.

    With `changing`, no two listings are the same bytes; with `active`, one instance in a hundred
    has a task that never ends.
    """

    latency: float = 0.0
    tasks: int = 10
    limit: int | None = None
    changing: bool = False
    active: bool = False


def memory_peak() -> float:
    """Return the most memory that this process ever held, in MB."""
    # Not by getrusage: a process inherits the peak of the one that started it.
    return _memory("VmHWM")


def memory_now() -> float:
    """Return the memory that this process holds, in MB."""
    return _memory("VmRSS")


def _memory(key: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{key}:")[2].split()[0]) / 1024


class BenchCloud:
    """Runs the cloud while its ``with`` block lasts."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._context = multiprocessing.get_context("spawn")
        self._served: Synchronized[int] = self._context.Value("q", 0)
        self._refused: Synchronized[int] = self._context.Value("q", 0)
        self._connections: Synchronized[int] = self._context.Value("q", 0)
        self._folder = tempfile.TemporaryDirectory()
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Self:
        """Start the process, and return when it listens."""
        ready = self._context.Semaphore(0)
        counters = (self._served, self._refused, self._connections)
        self._process = self._context.Process(
            target=_serve,
            args=(self._load, self._socket, self.ca_file, ready, counters),
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

    @property
    def served(self) -> int:
        """Requests that were answered, refused ones included."""
        return self._served.value

    @property
    def refused(self) -> int:
        """Requests that were answered with 429."""
        return self._refused.value

    @property
    def connections(self) -> int:
        """Connections that were made."""
        return self._connections.value

    @property
    def cpu_seconds(self) -> float:
        """The processor time that the process used so far."""
        if self._process is None:
            return 0.0
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(*arguments: object) -> None:
    # Imported in the new process only: what the server needs is not to weigh on the client.
    importlib.import_module("server").serve(*arguments)
