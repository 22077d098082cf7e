"""What clients that hang cost everybody else: `make clients`.

Each row starts an exporter of its own as a process with 1,024 file descriptors, over a simulated
cloud, and lets in many clients of one kind. Beside them somebody asks for /metrics and for
/-/healthy: the longest wait of several, without these clients and with them. Then SIGTERM.

    python -m bench.bad_clients [NAME OF A ROW ...]
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import math
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import bcrypt
import trustme

from dcs_task_exporter.simulator import CloudServer, SimulatedCloud

PROJECT: Final = "a4d31cb63d724fdc8ec96e3a41e47f71"
KEY: Final = ("CLIENTSAK7Q2N5X8R4T6", "clients-sk-0123456789abcdefghijklmnopq")
FILES: Final = 1024
"""File descriptors that the exporter may have."""

PATIENCE: Final = 30.0
"""Seconds after which an answer or an end is taken for one that never comes."""

BATCH: Final = 50
"""How many clients connect at once: the kernel is to have room for them."""

CONNECTING: Final = 2.0
"""Seconds that they have for it."""

TRIES: Final = 5
"""How often each path is asked for, without the clients and with them."""

HEADERS: Final = {"X-Prometheus-Scrape-Timeout-Seconds": "2"}
"""Where the cloud is silent, a scrape is answered a bit earlier."""

PASSWORD: Final = "correct horse"  # noqa: S105 - of a process that lives for a minute
RECEIVE_BUFFER: Final = 4096
"""Bytes that the kernel keeps for a client that does not read."""


@dataclass(frozen=True, slots=True)
class Row:
    """Many clients of one kind, and the exporter that they meet.

    Each client sends `data`; one with `reads` waits for the first byte of an answer. `instances`
    says how large an answer is; with a `stuck` log nobody reads its pipe, which is full; a `silent`
    cloud answers no request.
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
    """What was measured; sizes are in MB, but `log` is in bytes (None where nobody reads it)."""

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
        """Ask on a new connection; return how long it took, and the size of the answer."""
        start = time.perf_counter()
        if self.tls is not None:
            made: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=PATIENCE, context=self.tls
            )
        else:
            made = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(made):
            try:
                made.request(
                    "GET", path, headers={**HEADERS, "Authorization": _basic(user, PASSWORD)}
                )
                answer = made.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                return math.inf, 0
        took = time.perf_counter() - start
        return (took if answer.status == http.HTTPStatus.OK else math.inf), len(body)

    def longest(self, path: str, user: str) -> Seconds:
        """Return the longest of several waits; one without an answer is enough."""
        longest = 0.0
        for _ in range(TRIES):
            longest = max(longest, self.ask(path, user)[0])
            if longest == math.inf:
                break
        return longest

    def waits(self, user: str) -> Mapping[str, Seconds]:
        """Return the longest wait for each path."""
        return {path: self.longest(path, user) for path in ("/metrics", "/-/healthy")}

    def memory(self) -> float:
        """Return what the process holds, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def end(self) -> Seconds:
        """Tell it to end, and return how long that took; kill it in the end."""
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
        subject = stack.enter_context(_running(row, folder, stack))
        _wait_for_start(subject, folder)
        size = subject.ask("/metrics", "without")[1] / 1e6
        result = Result(before=subject.waits("without"), size=size, memory_before=subject.memory())
        if row.stuck:
            _fill(subject.process.stderr)
            subject.cloud.faults.add("internal", probability=0.5)  # so that there is what to log
        if row.silent:
            subject.cloud.faults.add("silence")
        clients = [stack.enter_context(socket.socket()) for _ in range(row.clients)]
        for start in range(0, len(clients), BATCH):
            _connect(clients[start : start + BATCH], subject.port, row.data)
        if row.reads:
            for client in clients:
                client.recv(1)
        result.beside = subject.waits("with")
        result.memory = subject.memory()
        result.end = subject.end()
        if not row.stuck:
            result.log = (folder / "log").stat().st_size
    return result


@contextmanager
def _running(row: Row, folder: Path, stack: ExitStack) -> Iterator[Subject]:
    cloud = SimulatedCloud(time.time)
    cloud.add_project(PROJECT, "cn-north-4")
    cloud.access.add_key(*KEY)
    for number in range(row.instances):
        cloud.add_instance(PROJECT, f"i{number}", f"cache-{number}")
    server = stack.enter_context(CloudServer(cloud))
    authority = trustme.CA()
    port = _free_port()
    (folder / "config.yml").write_text(_configuration(server.url, row), encoding="utf-8")
    (folder / "web.yml").write_text(_web_configuration(row, folder, authority), encoding="utf-8")
    command = [sys.executable, "-m", "dcs_task_exporter", "--config.file=config.yml"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--web.config.file=web.yml"] if row.tls or row.users else []
    command += ["--log.level=debug"] if row.stuck else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own
            ["/bin/sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *command],
            stderr=subprocess.PIPE if row.stuck else log,
            cwd=folder,
        )
        tls = ssl.create_default_context() if row.tls else None
        if tls is not None:
            authority.configure_trust(tls)
        try:
            yield Subject(process, cloud, port, tls)
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def _configuration(url: str, row: Row) -> str:
    rows = "".join(f"      - {{id: i{n}, name: cache-{n}}}\n" for n in range(row.instances))
    # Else a scrape reads nothing, and costs the same each time.
    pause = "0s" if row.stuck or row.silent else "30m"
    return (
        f"projects:\n  - name: prod\n    region: cn-north-4\n    project_id: {PROJECT}\n"
        f"    endpoint: {url}\n    credentials: {{type: access_key, access_key: {KEY[0]}, "
        f"secret_key: {KEY[1]}}}\n    instances:\n{rows}"
        f"collector: {{min_refresh_interval: {pause}, requests_per_second: 1000}}\n"
    )


def _web_configuration(row: Row, folder: Path, authority: trustme.CA) -> str:
    if row.tls:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        return "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
    # Two users: the second is not known from before when the clients come.
    users = {name: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)) for name in _USERS}
    return "basic_auth_users:\n" + "".join(f"  {n}: {h.decode()}\n" for n, h in users.items())


_USERS: Final = ("without", "with")


def _wait_for_start(subject: Subject, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while subject.ask("/-/healthy", "without")[0] == math.inf:
        if time.monotonic() > deadline or subject.process.poll() is not None:
            log = (folder / "log").read_text(encoding="utf-8")
            message = f"the exporter did not start: {log}"
            raise RuntimeError(message)
        time.sleep(0.05)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _connect(clients: Sequence[socket.socket], port: int, data: bytes) -> None:
    """Connect and send; where nobody accepts them, some never will be connected."""
    waiting = select.poll()  # select() takes no descriptor beyond 1,023
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.setblocking(False)  # noqa: FBT003 - the only way to say it
        client.connect_ex(("127.0.0.1", port))
        waiting.register(client, select.POLLOUT)
    left = len(clients)
    deadline = time.monotonic() + CONNECTING
    while left and time.monotonic() < deadline:
        for descriptor, _ in waiting.poll(100):
            waiting.unregister(descriptor)
            left -= 1
    for client in clients if data else ():
        client.settimeout(PATIENCE)
        client.sendall(data)


def _fill(pipe: IO[bytes] | None) -> None:
    """Fill a pipe up; opened anew, so that the exporter's own writes go on to block."""
    assert pipe is not None  # noqa: S101 - tells mypy
    again = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(again, bytes(4096))
    except BlockingIOError:
        os.close(again)


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


def main(names: list[str], say: Callable[[str], None]) -> int:
    """Run the rows with these names, or all."""
    say(HEAD)
    for row in ROWS:
        if not names or row.name in names:
            say(line(row, measure(row)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], lambda text: print(text, flush=True)))  # noqa: T201 - for a person
