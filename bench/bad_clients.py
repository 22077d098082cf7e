"""What clients that hang cost the others: `make clients`.

Each row starts an exporter of its own as a process with 1,024 file descriptors, over a simulated
cloud, and lets in many clients of one kind. A client of another kind asks for /metrics and for
/-/healthy, without them and beside them: the longest of several waits. Then SIGTERM.
"""

from __future__ import annotations

import base64
import http.client
import math
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import bcrypt
import trustme

from bench.hanging import PATIENCE, connected, fill
from bench.process_size import memory_now
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.clouds import SettableClock, world

FILES: Final = 1024
"""File descriptors that the exporter may have."""

TRIES: Final = 5
"""Requests for each path, without the clients and with them."""

HEADERS: Final = {"X-Prometheus-Scrape-Timeout-Seconds": "2"}
"""The deadline of a scrape while the cloud is silent."""

PASSWORD: Final = "correct horse"  # noqa: S105 - of a process that lives for a minute


@dataclass(frozen=True, slots=True)
class Row:
    """Many clients of one kind, and the exporter that they meet.

    Each client sends `data`; with `reads` it reads the first byte of the answer. `instances` makes
    the answer large; `stuck` means that the log goes to a full pipe without a reader, and `silent`
    that the cloud answers no request.
    """

    name: str
    clients: int = 0
    data: bytes = b""
    reads: bool = False
    tls: bool = False
    users: bool = False
    stuck: bool = False
    silent: bool = False
    instances: int = 20


def _request(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


WRONG: Final = _request("/metrics", f"Authorization: {_basic('with', 'wrong')}\r\n")
ROWS: Final = (
    Row("idle", 600),
    Row("half-sent", 600, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "),
    Row("silent TLS", 1144, tls=True),
    Row("slow readers", 300, _request("/metrics"), reads=True, instances=530),
    Row("slow readers of more", 300, _request("/metrics"), reads=True, instances=1160),
    Row("scrapes of a silent cloud", 50, _request("/metrics"), silent=True),
    Row("wrong passwords", 600, WRONG, users=True),
    Row("stuck log pipe", stuck=True),
)

Seconds = float
"""Infinite where there was no answer."""


@dataclass(slots=True)
class Result:
    """The measurements; sizes in MB, but `log` in bytes (None where nobody reads it)."""

    before: Mapping[str, Seconds] = field(default_factory=dict)
    beside: Mapping[str, Seconds] = field(default_factory=dict)
    size: float = 0.0
    memory_before: float = 0.0
    memory: float = 0.0
    log: int | None = None
    end: Seconds = math.inf


@dataclass(frozen=True, slots=True)
class Subject:
    """An exporter that runs."""

    process: subprocess.Popen[bytes]
    cloud: SimulatedCloud
    port: int
    tls: ssl.SSLContext | None

    def ask(self, path: str, user: str) -> tuple[Seconds, int]:
        """Ask on a new connection; return the seconds that it took, and the size of the answer."""
        credentials = {"Authorization": _basic(user, PASSWORD)}
        url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"
        request = Request(url, headers={**HEADERS, **credentials})  # noqa: S310 - our own
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=self.tls))
        start = time.perf_counter()
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                size = len(answer.read())
        except (OSError, http.client.HTTPException):
            return math.inf, 0
        return time.perf_counter() - start, size

    def waits(self, user: str) -> Mapping[str, Seconds]:
        """Return the longest wait for each path, of several; one without an answer is enough."""
        longest = dict.fromkeys(("/metrics", "/-/healthy"), 0.0)
        for path in (*longest,) * TRIES:
            if longest[path] < math.inf:
                longest[path] = max(longest[path], self.ask(path, user)[0])
        return longest

    def end(self) -> Seconds:
        """End the process by SIGTERM, and return how long that took."""
        start = time.perf_counter()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return math.inf
        return time.perf_counter() - start


def measure(row: Row) -> Result:
    """Run one row."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subject = stack.enter_context(_running(row, folder))
        _wait_for_start(subject, folder)
        size = subject.ask("/metrics", "without")[1] / 1e6
        before, pid = subject.waits("without"), subject.process.pid
        result = Result(before=before, size=size, memory_before=memory_now(pid))
        if row.stuck:
            fill(subject.process.stderr)
            subject.cloud.faults.add("internal", probability=0.5)  # for the log
        if row.silent:
            subject.cloud.faults.add("silence")
        clients = stack.enter_context(connected(row.clients, subject.port, row.data))
        if row.reads:
            for client in clients:
                client.recv(1)
        result.beside = subject.waits("with")
        result.memory = memory_now(pid)
        result.end = subject.end()
        if not row.stuck:
            result.log = (folder / "log").stat().st_size
    return result


@contextmanager
def _running(row: Row, folder: Path) -> Iterator[Subject]:
    # Without a pause a scrape reads the cloud; with one it costs the same each time.
    pause = "0s" if row.stuck or row.silent else "30m"
    settings = {"min_refresh_interval": pause, "requests_per_second": 1000}
    authority, port = trustme.CA(), free_port()
    command = [sys.executable, "-m", "dcs_task_exporter", "--config.file=config.yml"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--web.config.file=web.yml"] if row.tls or row.users else []
    command += ["--log.level=debug"] if row.stuck else []
    tls = ssl.create_default_context() if row.tls else None
    if tls is not None:
        authority.configure_trust(tls)
    with (
        world(row.instances, Quirks(date=False), SettableClock(wall=time.time())) as here,
        (folder / "log").open("wb") as log,
    ):
        (folder / "config.yml").write_text(here.config_text(collector=settings))
        (folder / "web.yml").write_text(_web_configuration(row, folder, authority))
        process = subprocess.Popen(  # noqa: S603 - our own
            ["/bin/sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *command],
            stderr=subprocess.PIPE if row.stuck else log,
            cwd=folder,
        )
        try:
            yield Subject(process, here.cloud, port, tls)
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def _web_configuration(row: Row, folder: Path, authority: trustme.CA) -> str:
    if row.tls:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        return "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
    # Two users: the server has not seen the second when the clients come.
    names = ("without", "with")
    users = {name: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)) for name in names}
    return "basic_auth_users:\n" + "".join(f"  {n}: {h.decode()}\n" for n, h in users.items())


def _wait_for_start(subject: Subject, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while subject.ask("/-/healthy", "without")[0] == math.inf:
        if time.monotonic() > deadline or subject.process.poll() is not None:
            log = (folder / "log").read_text(encoding="utf-8")
            message = f"the exporter did not start: {log}"
            raise RuntimeError(message)
        time.sleep(0.05)


def _seconds(number: Seconds) -> str:
    return f"none in {PATIENCE:.0f} s" if number == math.inf else f"{number * 1000:.0f} ms"


def line(row: Row, result: Result) -> str:
    """Return a line of the table."""
    waits = [
        f"{_seconds(result.before[path])} / {_seconds(result.beside.get(path, math.inf))}"
        for path in ("/metrics", "/-/healthy")
    ]
    log = "nobody reads it" if result.log is None else f"{result.log:,}"
    cells = [
        f"{row.clients:,} {row.name}" if row.clients else row.name,
        f"{result.size:.2f} MB",
        *waits,
        log,
        f"{result.memory_before:.0f} / {result.memory:.0f} MB",
        _seconds(result.end),
    ]
    return f"| {' | '.join(cells)} |"


HEAD: Final = (
    "| clients | answer | /metrics without / with | /-/healthy without / with | bytes of log "
    "| RSS without / with | end by SIGTERM |\n|---|---|---|---|---|---|---|"
)


def main(rows: Sequence[str]) -> int:
    """Run the rows with these names, or all; print each line at once."""
    sys.stdout.write(f"{HEAD}\n")
    for row in ROWS:
        if not rows or row.name in rows:
            sys.stdout.write(f"{line(row, measure(row))}\n")
            sys.stdout.flush()
    return 0
