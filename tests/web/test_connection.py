"""One connection: clients that leave early, or in the middle of something."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from dcs_task_exporter.web.connection import ServerConfig, TlsDoor
from dcs_task_exporter.web.connection_limits import ConnectionLimits
from tests.support.connection_scene import SERVER_TLS, scene

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
TURNS = 12
"""Turns of the event loop until nothing goes on by itself."""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TLS reads nothing while reading is paused")
def test_a_client_that_leaves_while_reading_is_paused() -> None:
    """A TLS client that ends its side is gone, even while a request of it waits unread: an answer
    that has not left by then does not count as delivered.
    """
    with scene(10_000, tls=True) as here:
        here.tap.room = 5_000
        here.play("ask", 0)
        here.client.say(ASK * 2)  # the second one waits unread while the first is answered
        here.turn()
        here.play("answer", 0)
        here.play("stop sending", 0)
        here.play("take all", 0)
        here.play("take all", 0)

        assert here.truth() == (set(), set())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_asks_again_without_reading(*, tls: bool) -> None:
    """An answer is begun only when the client has read those before: endless requests of a client
    that does not read fill no memory.
    """
    with scene(600_000, tls=tls) as here:
        here.tap.room = 10_000
        here.play("ask", 0)
        here.client.say(ASK * 20)
        for _ in range(20):
            here.play("answer", 0)

        assert here.connection._wire.unsent < 700_000  # noqa: SLF001 - no less would do


def test_a_client_that_leaves_before_the_handshake() -> None:
    """A client that leaves without speaking TLS is no connection any longer."""
    loop = asyncio.SelectorEventLoop()
    state = ServerState()
    config = ServerConfig(_unasked, ConnectionLimits(), SERVER_TLS)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - the only way to say it

    async def come_and_go() -> tuple[int, int]:
        await loop.connect_accepted_socket(lambda: TlsDoor(config, state, {}, loop), ours)
        before = len(state.connections)
        theirs.close()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return before, len(state.connections)

    try:
        assert loop.run_until_complete(come_and_go()) == (1, 0)
    finally:
        loop.close()


async def _unasked(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Fail: no one asks for anything."""
    raise AssertionError
