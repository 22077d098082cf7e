"""Answers that are not read yet: there once for all clients, whole in the end, bounded in time."""

from __future__ import annotations

import os
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from starlette.types import Receive, Scope, Send

from dcs_task_exporter.web.server import WebServer
from tests.support.connection_scene import CLIENT_TLS, SERVER_TLS, scene

PATIENCE = 30.0
SIZE = 2**23
"""Bytes of an answer of which the kernels keep only a part for a client that does not read."""

TEXT = os.urandom(SIZE)
CASES = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with a large text, which is made anew each time."""
    text = bytes(bytearray(TEXT))
    headers = [(b"content-length", b"%d" % SIZE)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@contextmanager
def serving(*, tls: bool) -> Iterator[WebServer]:
    server = WebServer(large, [("127.0.0.1", 0)], tls=SERVER_TLS if tls else None)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def ask(server: WebServer, stack: ExitStack, version: bytes, *, tls: bool) -> socket.socket:
    """Ask as a client whose kernel takes little that it does not read, and read one byte."""
    plain = stack.enter_context(socket.socket())
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(PATIENCE)
    plain.connect(("127.0.0.1", server.port))
    made = plain
    if tls:
        made = stack.enter_context(CLIENT_TLS.wrap_socket(plain, server_hostname="localhost"))
    made.sendall(b"GET / HTTP/%b\r\nHost: x\r\n\r\n" % version)
    assert made.recv(1)
    return made


@CASES
def test_unread_answers_are_there_once(*, tls: bool) -> None:
    """Clients that do not read wait for the same answer once, though it was made for each anew."""
    with serving(tls=tls) as server, ExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(20):
            ask(server, stack, b"1.1", tls=tls)
        assert tracemalloc.get_traced_memory()[0] < 3 * SIZE


@CASES
def test_a_slow_reader_gets_all(*, tls: bool) -> None:
    """Who reads late gets every byte in its order, and then the end of the connection."""
    with serving(tls=tls) as server, ExitStack() as stack:
        made = ask(server, stack, b"1.0", tls=tls)
        received = b"".join(iter(lambda: made.recv(65536), b""))
    assert received.partition(b"\r\n\r\n")[2] == TEXT


@CASES
def test_the_time_for_an_answer(*, tls: bool) -> None:
    """The time to read an answer begins once: to have read a part of it gives no more."""
    with scene(600_000, tls=tls) as here:
        here.tap.room = 1000  # the head leaves, and the beginning of the body
        here.play("ask", 0)
        here.play("answer", 0)
        timer = here.connection._answer_limit._timer  # noqa: SLF001 - no less would do
        for _ in range(8):
            here.play("take", 40_000)
        assert timer is not None
        assert here.connection._answer_limit._timer is timer  # noqa: SLF001 - likewise
        for _ in range(3):
            here.play("take all", 0)
        assert here.connection._answer_limit._timer is None  # noqa: SLF001 - likewise
