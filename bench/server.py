"""The process of `BenchCloud`: ready-made answers, as fast as asyncio gives them."""

from __future__ import annotations

import asyncio
import math
import multiprocessing.synchronize
import selectors
import signal
import socket
import ssl
import time
from collections import Counter
from pathlib import Path

import trustme

from bench.listings import ERROR_CODE, NEWEST, NODE, task_body
from bench.load import Counters, Load


def serve(
    load: Load,
    listener: socket.socket,
    ca_file: Path,
    ready: multiprocessing.synchronize.Semaphore,
    counters: Counters,
) -> None:
    """Write the certificate to trust, and answer until the process ends.

    SIGUSR1 closes all connections.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.num_tickets = 0  # nobody resumes a session, and the server is not to be the bottleneck
    answers = _Answers(load, counters)
    connections: set[asyncio.Transport] = set()

    def hang_up() -> None:
        for transport in connections:
            transport.abort()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, hang_up)
        server = await loop.create_server(
            lambda: _Connection(load.latency, answers, connections, counters),
            sock=listener,
            ssl=context,
        )
        ready.release()
        await server.serve_forever()

    # epoll, which asyncio takes, rounds waits up to milliseconds: 20 would be 21.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)
    loop.run_until_complete(run())


class _Answers:
    """Ready-made answers, and their counters."""

    def __init__(self, load: Load, counters: Counters) -> None:
        self._load = load
        self._counters = counters
        self._window = (0, 0)
        self._asked: Counter[bytes] = Counter()
        self._tasks = self._listing(active=False)
        self._active = self._listing(active=True)
        self._center = _packed(b'{"task_count": "0", "tasks": []}')
        self._later_page = _packed(b'{"task_count": "%d", "tasks": []}' % load.tasks)
        refusal = b'{"error_code": "APIGW.0308", "error_msg": "limit:100,time:1 second"}'
        self._refusal = _packed(refusal, b"429 Too Many Requests")

    def _listing(self, *, active: bool) -> bytes:
        body = task_body(self._load.tasks, time.time(), active=active)
        return _packed(body if self._load.finishing else body.replace(NEWEST, bytes_of(0), 1))

    def __call__(self, head: bytes) -> bytes:
        """Return the answer to the request with this head."""
        self._counters.served.value += 1
        if self._load.limit is not None and self._is_over(self._load.limit):
            self._counters.refused.value += 1
            return self._refusal
        line = head.partition(b"\r\n")[0]
        instance = line.partition(b"/instances/")[2].partition(b"/")[0]
        if not instance:
            return self._center
        if b"offset=0" not in line:
            return self._later_page
        is_active = self._load.active and instance.endswith(b"00")
        tasks = self._active if is_active else self._tasks
        body = tasks.replace(NODE, instance.ljust(len(NODE), b"_"))
        version = bytes_of(self._version(instance))
        if self._load.finishing:
            body = body.replace(NEWEST, version, 1)
        return body.replace(ERROR_CODE, version, 1)

    def _version(self, instance: bytes) -> int:
        """Return how often the listing of this instance has changed by now.

        Among instances that were read equally often, the wanted share changes at each request.
        """
        asked = self._asked[instance]
        self._asked[instance] += 1
        return math.floor((int(instance[1:]) + asked) * self._load.changing)

    def _is_over(self, limit: int) -> bool:
        """Return whether more than `limit` requests came in this second."""
        second = int(time.monotonic())
        number = self._window[1] + 1 if self._window[0] == second else 1
        self._window = (second, number)
        return number > limit


def bytes_of(version: int) -> bytes:
    """Return a version in the form that a listing has room for."""
    return b"%012d" % version


def _packed(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


class _Connection(asyncio.Protocol):
    """One connection; requests without a body, one after the other."""

    def __init__(
        self,
        latency: float,
        answers: _Answers,
        connections: set[asyncio.Transport],
        counters: Counters,
    ) -> None:
        self._latency = latency
        self._answers = answers
        self._connections = connections
        self._counters = counters
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells mypy
        self._transport = transport
        self._connections.add(transport)
        self._counters.opened.value += 1

    def connection_lost(self, _error: Exception | None) -> None:
        """Count its end."""
        self._connections.discard(self._transport)
        self._counters.closed.value += 1

    def data_received(self, data: bytes) -> None:
        """Answer each complete request after the latency."""
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            answer = self._answers(head)
            if self._latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency, self._transport.write, answer)
            else:
                self._transport.write(answer)
