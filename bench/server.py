"""The process behind `BenchCloud`: ready-made answers, as fast as asyncio gives them."""

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
from collections.abc import Callable
from pathlib import Path

import trustme

from bench.cloud import Counters, Load
from bench.listings import ERROR_CODE, NEWEST, NODE, task_body


def serve(
    load: Load,
    listener: socket.socket,
    ca_file: Path,
    ready: multiprocessing.synchronize.Semaphore,
    counters: Counters,
) -> None:
    """Write the certificate to be trusted, and answer until the process is ended.

    SIGUSR1 closes all connections.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.num_tickets = 0  # nobody resumes a session, and the server is not to be the bottleneck
    site = _Site(load, counters)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, site.hang_up)
        server = await loop.create_server(
            lambda: _Connection(loop, load.latency, site), sock=listener, ssl=context
        )
        ready.release()
        await server.serve_forever()

    # epoll, which asyncio takes, rounds waits up to milliseconds: 20 would be 21.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)
    loop.run_until_complete(run())


class _Site:
    """What all connections share."""

    def __init__(self, load: Load, counters: Counters) -> None:
        self.answer = _Answers(load, counters)
        self._counters = counters
        self._open: set[asyncio.Transport] = set()

    def opened(self, transport: asyncio.Transport) -> None:
        """Note a new connection."""
        self._open.add(transport)
        self._counters.opened.value += 1

    def closed(self, transport: asyncio.Transport) -> None:
        """Note the end of one."""
        self._open.discard(transport)
        self._counters.closed.value += 1

    def hang_up(self) -> None:
        """Close all connections."""
        for transport in self._open:
            transport.abort()


class _Answers:
    """Ready-made answers, and what was answered."""

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
        """Return how often this instance has changed: now and then, and not all at once.

        Of those that are asked for as often, the wanted share changes from one time to the next.
        """
        asked = self._asked[instance]
        self._asked[instance] += 1
        return math.floor((int(instance[1:]) + asked) * self._load.changing)

    def _is_over(self, limit: int) -> bool:
        """Whether more than `limit` requests came in this second of the clock."""
        second = int(time.monotonic())
        number = self._window[1] + 1 if self._window[0] == second else 1
        self._window = (second, number)
        return number > limit


def bytes_of(version: int) -> bytes:
    """Return a version as it is written into a listing."""
    return b"%012d" % version


def _packed(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


class _Connection(asyncio.Protocol):
    """One connection; requests without a body, one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency: float, site: _Site) -> None:
        self._loop = loop
        self._latency = latency
        self._site = site
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._write: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells mypy
        self._transport = transport
        self._write = transport.write
        self._site.opened(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Count that."""
        del error
        if self._transport is not None:
            self._site.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request when its latency is over."""
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            answer = self._site.answer(head)
            if self._latency:
                self._loop.call_later(self._latency, self._write, answer)
            else:
                self._write(answer)
