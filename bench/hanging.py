"""Clients that hang, many at once, and a pipe that nobody reads."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Final

PATIENCE: Final = 30.0
"""Seconds after which an answer or an end counts as missing."""

BATCH: Final = 50
"""Clients that connect at once: the kernel has room for as many."""

CONNECTING: Final = 2.0
"""Seconds that they have to connect."""

RECEIVE_BUFFER: Final = 4096
"""Bytes that the kernel keeps for a client that does not read."""


@contextmanager
def connected(number: int, port: int, data: bytes) -> Iterator[Sequence[socket.socket]]:
    """Connect so many clients, each of which sends `data`; those nobody accepts only try to."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(number)]
        for start in range(0, number, BATCH):
            _connect(clients[start : start + BATCH], port, data)
        yield clients


def _connect(clients: Sequence[socket.socket], port: int, data: bytes) -> None:
    """Connect and send; where nobody accepts them, some clients stay unconnected."""
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


def fill(pipe: IO[bytes] | None) -> None:
    """Fill a pipe, opened anew so that the exporter's own writes still block."""
    assert pipe is not None  # noqa: S101 - tells mypy
    again = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(again, bytes(4096))
    except BlockingIOError:
        os.close(again)
