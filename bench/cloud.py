"""A cloud that costs as little as possible, so that the client is measured.

A process of its own answers the task listings of any instance with ready-made bodies, after a
latency. It checks no signature. With a limit it refuses requests as the gateway does.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import multiprocessing.synchronize
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

from typing_extensions import Self

from bench.load import Counters, Load
from bench.process_size import cpu_seconds

PATIENCE: Final = 10.0
"""Seconds that closing all connections may take."""


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
        arguments = (self._load, self._socket, self.ca_file, ready, self._counters)
        self._process = self._context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        ready.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        self._socket.close()
        self._folder.cleanup()

    def hang_up(self) -> None:
        """Close all connections, as a gateway does with idle ones; return when that is done."""
        os.kill(self._pid, signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE
        while self._counters.closed.value < self._counters.opened.value:
            if time.monotonic() > deadline:
                message = "the cloud did not close its connections"
                raise TimeoutError(message)
            time.sleep(0.001)

    @property
    def served(self) -> int:
        """The number of requests that were answered, refused ones included."""
        return self._counters.served.value

    @property
    def refused(self) -> int:
        """The number of requests that were answered with 429."""
        return self._counters.refused.value

    @property
    def connections(self) -> int:
        """The number of connections that were made."""
        return self._counters.opened.value

    @property
    def cpu_seconds(self) -> float:
        """The processor time of the cloud's process."""
        return cpu_seconds(self._pid)

    @property
    def _pid(self) -> int:
        pid = self._process and self._process.pid
        if not pid:
            message = "the cloud does not run"
            raise RuntimeError(message)
        return pid


def _serve(
    load: Load,
    listener: socket.socket,
    ca_file: Path,
    ready: multiprocessing.synchronize.Semaphore,
    counters: Counters,
) -> None:
    # Imported in the new process only: the memory of the client is measured, without a server's.
    from bench.server import serve  # noqa: PLC0415

    serve(load, listener, ca_file, ready, counters)
