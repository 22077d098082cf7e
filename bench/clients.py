"""Who is compared with the official SDK: the exporter, and a bare client as the floor."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cloud import PROJECT, BenchCloud

from dcs_task_exporter.config import parse_config
from dcs_task_exporter.exporter import Clocks, Exporter, Options

PAGE = "limit=100&offset=0"
Sweep = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one sweep over all instances took, in seconds of the clock and of the processor."""

    wall: float
    cpu: float
    connections: int


def measured(cloud: BenchCloud, sweep: Sweep) -> Cost:
    """Run a sweep once."""
    connections = cloud.connections
    wall, cpu = time.perf_counter(), time.process_time()
    sweep()
    return Cost(
        time.perf_counter() - wall, time.process_time() - cpu, cloud.connections - connections
    )


def configuration(url: str, ca_file: Path, instances: int, **collector: object) -> str:
    """Return the configuration of an exporter that reads so many instances."""
    rows = "\n".join(f"      - {{id: i{number}, name: c{number}}}" for number in range(instances))
    settings = {
        "requests_per_second": 10_000,
        "min_refresh_interval": "0s",
        "first_value_hold": "0s",
        **collector,
    }
    return (
        f"projects:\n  - name: bench\n    region: cn-north-4\n    project_id: {PROJECT}\n"
        f"    endpoint: {url}\n    tls: {{ca_file: {ca_file}}}\n"
        "    credentials: {type: access_key, access_key: BENCHAK, secret_key: BENCHSK}\n"
        f"    instances:\n{rows}\n"
        "collector:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items())
    )


@contextmanager
def exporter(
    cloud: BenchCloud,
    instances: int,
    threads: int,
    *,
    project: str = "",
    clocks: Clocks | None = None,
    **collector: object,
) -> Iterator[Exporter]:
    """Run our exporter; `project` adds lines to its one project."""
    text = configuration(
        cloud.url, cloud.ca_file, instances, concurrency=threads, **collector
    ).replace("    instances:\n", f"{project}    instances:\n")
    made = Exporter(
        parse_config(text, "bench", {}),
        Options(process_metrics=False, clocks=clocks or Clocks()),
    )
    try:
        yield made
    finally:
        made.stop()


def sweep_of(made: Exporter) -> Sweep:
    """Return a sweep of the exporter, from the requests up to what is counted and shown."""
    return lambda: made.refresh_and_wait(600)


class BareClient:
    """Sockets, and the least that has to be done with them: no signing, no parsing."""

    def __init__(self, cloud: BenchCloud, threads: int) -> None:
        self._address = urlsplit(cloud.url)
        self._context = ssl.create_default_context(cafile=str(cloud.ca_file))
        self._sockets: list[ssl.SSLSocket | None] = [None] * threads

    def close(self) -> None:
        """Close the connections."""
        for one in self._sockets:
            if one is not None:
                one.close()
        self._sockets = [None] * len(self._sockets)

    def sweep(self, instances: int) -> None:
        """Ask for each instance once."""
        numbers = itertools.count()
        threads = [
            threading.Thread(target=self._work, args=(at, numbers, instances))
            for at in range(len(self._sockets))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, at: int, numbers: Iterator[int], instances: int) -> None:
        while (number := next(numbers)) < instances:
            connection = self._sockets[at]
            if connection is None:
                connection = self._sockets[at] = self._connected()
            path = f"/v2/{PROJECT}/instances/i{number}/tasks?{PAGE}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            data = connection.recv(1 << 16)
            head, _, body = data.partition(b"\r\n\r\n")
            left = int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]) - len(body)
            while left > 0:
                left -= len(connection.recv(1 << 16))

    def _connected(self) -> ssl.SSLSocket:
        host, port = str(self._address.hostname), int(self._address.port or 443)
        made = socket.create_connection((host, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(made, server_hostname=host)
