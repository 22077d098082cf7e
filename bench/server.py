"""The process behind `BenchCloud`: ready-made answers, as fast as asyncio gives them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing.synchronize
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import trustme
from cloud import Counters, Load

CHANGING: Final = b"_changing___"
"""What is replaced by a number in listings that change."""

NODE: Final = b"_node_of_____"
"""What is replaced by the id of the instance."""

NO_DETAILS: Final[Mapping[str, object]] = {
    "old_capacity": "",
    "new_capacity": "",
    "enable_public_ip": False,
    "public_ip_id": "",
    "public_ip_address": "",
    "enable_ssl": False,
    "old_cache_mode": "",
    "new_cache_mode": "",
    "old_resource_spec_code": "",
    "new_resource_spec_code": "",
    "old_replica_num": 0,
    "new_replica_num": 0,
    "old_cache_type": "",
    "new_cache_type": "",
    "replica_ip": "",
    "replica_az": "",
    "group_name": "",
    "old_port": 0,
    "new_port": 0,
    "is_only_adjust_charging": False,
    "account_name": "",
    "source_ip": "",
    "target_ip": "",
    "node_name": "",
}
DETAILS: Final[Mapping[str, Mapping[str, object]]] = {
    "EXTEND": {
        "old_capacity": "0.125",
        "new_capacity": "0.25",
        "old_cache_mode": "ha",
        "new_cache_mode": "ha",
        "old_resource_spec_code": "redis.ha.xu1.tiny.r2.128",
        "new_resource_spec_code": "redis.ha.xu1.tiny.r2.256",
        "old_replica_num": 2,
        "new_replica_num": 2,
        "old_cache_type": "ha",
        "new_cache_type": "ha",
    },
    "AddWhitelist": {"group_name": "default"},
    "masterStandbySwapJob": {
        "source_ip": NODE.decode(),
        "target_ip": f"{NODE.decode()}-2",
        "node_name": NODE.decode(),
    },
    "modify": {"updated_config_length": 1},
    "UpdatePort": {"old_port": 6379, "new_port": 6380},
}
"""What a task of each name says in its details, beside what is empty."""

NAMES: Final = tuple(DETAILS)


def task_body(tasks: int, now: float, *, active: bool = False) -> bytes:
    """Return a listing of this many tasks, each of about 900 bytes; finished, or all but one.

    Its details have all fields, as the API's sample has, and say what a task of its name changes.
    """
    rows = []
    for number in range(tasks):
        start, name = now - 3600 * (number + 2), NAMES[number % len(NAMES)]
        rows.append(
            {
                "id": f"{number:032x}",
                "name": name,
                "user_name": "dcs_000_02",
                "user_id": "d53977d1adfb49c5b025ba7d33a13fd7",
                "details": {**NO_DETAILS, **DETAILS[name]},
                "params": CHANGING.decode(),
                "enable_show": False,
                "status": "EXECUTING" if active and not number else _ending(number),
                "created_at": _moment(start),
                "updated_at": _moment(start + 120),
                "error_code": "",
                "job_id": f"{number:032x}",
            }
        )
    return json.dumps({"task_count": str(tasks), "tasks": rows}).encode()


def _ending(number: int) -> str:
    return "SUCCESS" if number % 7 else "FAILED"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.503Z", time.gmtime(seconds))


def serve(
    load: Load,
    listener: socket.socket,
    ca_file: Path,
    ready: multiprocessing.synchronize.Semaphore,
    counters: Counters,
) -> None:
    """Write the certificate to be trusted, and answer until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.num_tickets = 0  # nobody resumes a session, and the server is not to be the bottleneck
    answer = _Answers(load, counters)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Connection(loop, load.latency, answer), sock=listener, ssl=context
        )
        ready.release()
        await server.serve_forever()

    # epoll, which asyncio takes, rounds waits up to milliseconds: 20 would be 21.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    asyncio.set_event_loop(loop)
    loop.run_until_complete(run())


class _Answers:
    """Ready-made answers, and what was answered."""

    def __init__(self, load: Load, counters: Counters) -> None:
        self._limit = load.limit
        self._served, self._refused, self.connections = counters
        self._window = (0, 0)
        self._center = _packed(b'{"task_count": "0", "tasks": []}')
        self._changing = load.changing
        self._number = 0
        self._tasks = _packed(task_body(load.tasks, time.time()))
        self._active = _packed(task_body(load.tasks, time.time(), active=True))
        self._some_active = load.active
        self._later_page = _packed(b'{"task_count": "%d", "tasks": []}' % load.tasks)
        refusal = b'{"error_code": "APIGW.0308", "error_msg": "limit:100,time:1 second"}'
        self._refusal = _packed(refusal, b"429 Too Many Requests")

    def __call__(self, head: bytes) -> bytes:
        """Return the answer to the request with this head."""
        self._served.value += 1
        if self._limit is not None and self._is_over(self._limit):
            self._refused.value += 1
            return self._refusal
        line = head.partition(b"\r\n")[0]
        instance = line.partition(b"/instances/")[2].partition(b"/")[0]
        if not instance:
            return self._center
        if b"offset=0" not in line:
            return self._later_page
        is_active = self._some_active and instance.endswith(b"00")
        tasks = self._active if is_active else self._tasks
        body = tasks.replace(NODE, instance.ljust(len(NODE), b"_"))
        if self._changing:
            self._number += 1
            return body.replace(CHANGING, b"%012d" % self._number, 1)
        return body

    def _is_over(self, limit: int) -> bool:
        """Whether more than `limit` requests came in this second of the clock."""
        second = int(time.monotonic())
        number = self._window[1] + 1 if self._window[0] == second else 1
        self._window = (second, number)
        return number > limit


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
        loop: asyncio.AbstractEventLoop,
        latency: float,
        answer: _Answers,
    ) -> None:
        self._loop = loop
        self._latency = latency
        self._answer = answer
        self._head = b""
        self._write: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells mypy
        self._write = transport.write
        self._answer.connections.value += 1

    def data_received(self, data: bytes) -> None:
        """Answer each complete request when its latency is over."""
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            answer = self._answer(head)
            if self._latency:
                self._loop.call_later(self._latency, self._write, answer)
            else:
                self._write(answer)
