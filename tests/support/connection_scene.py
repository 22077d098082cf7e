"""One connection of the web server over a socket whose kernel is the test's.

The connection and asyncio's transports, plain and TLS, are the real ones. The kernel takes as many
bytes as the test lets it, in any interleaving with what the client does. The truth is what that
kernel took, in order, and when it reported a disconnect.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import trustme
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from dcs_task_exporter.web.connection import Connection, ServerConfig, TlsDoor
from dcs_task_exporter.web.connection_limits import ConnectionLimits
from dcs_task_exporter.web.delivery import DeliveredResponse
from dcs_task_exporter.web.tls_server import TlsServer

ITERATIONS = 12
"""Turns of the event loop until nothing goes on by itself: TLS takes a few."""

AUTHORITY = trustme.CA()
Step = tuple[str, int]


@dataclass(frozen=True)
class Sent:
    """The kernel took these bytes."""

    data: bytes


@dataclass(frozen=True)
class Gone:
    """The kernel reported that the client is gone, or sends no more."""


@dataclass(frozen=True)
class Delivered:
    """The callback of an answer was called."""

    number: int


class Tap(socket.socket):
    """The server's end: its kernel takes what it is allowed to, and all that happens is noted."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end.family, end.type, fileno=end.detach())
        self.happened: list[Sent | Gone | Delivered] = []
        self.room: float = math.inf
        self.broken = False
        self.goodbye = False

    def send(self, data: Any, flags: int = 0) -> int:
        """Take some."""
        del flags
        if self.broken:
            self.happened.append(Gone())
            raise ConnectionResetError
        if not self.room:
            raise BlockingIOError
        taken = bytes(data)[: int(min(self.room, len(data)))]
        self.room -= len(taken)
        self.happened.append(Sent(taken))
        return len(taken)

    def sendmsg(self, buffers: Any, *_: Any) -> int:
        """Take some, as later versions of asyncio ask for it."""
        return self.send(b"".join(buffers))

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Hand over what the client sent."""
        del flags
        self._reset()
        data = super().recv(bufsize)
        self._note(len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Hand over what the client sent, as TLS asks for it."""
        self._reset()
        number = super().recv_into(buffer, nbytes, flags)
        self._note(number)
        return number

    def _reset(self) -> None:
        if self.broken:
            self.happened.append(Gone())
            raise ConnectionResetError

    def _note(self, number: int) -> None:
        if not number or self.goodbye:
            self.happened.append(Gone())


class Client:
    """The other end; what it can read is what the tap took."""

    def __init__(self, end: socket.socket, context: ssl.SSLContext | None) -> None:
        self._end = end
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname="localhost"
            )

    def shake_hands(self, server: Callable[[], bytes]) -> None:
        """Begin to speak TLS; `server` lets the server go on, and returns what it sent."""
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(server())
            else:
                break
        self._flush()

    def say(self, data: bytes) -> None:
        """Send."""
        if self._tls is None:
            self._end.sendall(data)
        else:
            self._tls.write(data)
            self._flush()

    def read(self, data: bytes) -> bytes:
        """Return what the client understands of what it was sent."""
        if self._tls is None:
            return data
        self._incoming.write(data)
        found = b""
        with suppress(ssl.SSLError):
            while part := self._tls.read(2**16):
                found += part
        return found

    def say_goodbye(self) -> None:
        """End TLS, but not the connection."""
        assert self._tls is not None
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()

    def stop_sending(self) -> None:
        """Close half of the connection."""
        self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self._end.close()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._end.sendall(data)


class Scene:
    """One connection, a turn of the event loop at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, *, tls: bool) -> None:
        self._loop = loop
        self._size = size
        self._server_tls = SERVER_TLS if tls else None
        end, other = socket.socketpair()
        self.tap = Tap(end)
        self.tap.setblocking(False)  # noqa: FBT003 - the only way to say it
        self.client = Client(other, CLIENT_TLS if tls else None)
        self.answers: list[asyncio.Future[None]] = []
        self.plain: dict[int, bytes] = {}
        self.ended = False
        self.tls = tls
        self.errors: list[Any] = []
        loop.set_exception_handler(lambda _, context: self.errors.append(context))

    def connect(self) -> None:
        """Let the server accept."""
        config = ServerConfig(self.app, ConnectionLimits(), self._server_tls)
        config.load()

        def made() -> Connection | TlsDoor:
            kind = TlsDoor if self._server_tls else Connection
            return kind(config, ServerState(), {}, self._loop)

        accepting = self._loop.create_task(self._loop.connect_accepted_socket(made, self.tap))
        self.client.shake_hands(self._sent)
        self.turn()
        protocol = accepting.result()[1]
        self.connection = protocol.connection if isinstance(protocol, TlsDoor) else protocol
        # What comes with the handshake is read with it; from here on, all events are in the tap.
        self.client.read(self._sent())

    def _sent(self) -> bytes:
        self.turn()
        sent = b"".join(item.data for item in self.tap.happened if isinstance(item, Sent))
        self.tap.happened.clear()
        return sent

    def turn(self) -> None:
        """Let everything that goes on by itself go on."""
        for _ in range(ITERATIONS):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer when the test says so."""
        number = len(self.answers)
        self.answers.append(self._loop.create_future())
        await self.answers[number]
        body = bytes(self._size) + end_of(number)
        answer = Response(body)
        if number in self.of_interest:
            event = Delivered(number)
            answer = DeliveredResponse(body, {}, lambda: self.tap.happened.append(event))
        await answer(scope, receive, send)

    @property
    def of_interest(self) -> range:
        """The answers whose delivery the application wants to know: every other one."""
        return range(0, len(self.answers), 2)

    def play(self, what: str, number: int) -> None:
        """Do one thing."""
        if what == "take":
            self.tap.room += number
        elif what in {"take half", "take all"}:
            waiting = self.connection._wire.unsent  # noqa: SLF001 - no less would do
            self.tap.room = waiting // 2 if what == "take half" else waiting
        elif what == "answer":
            for answer in self.answers:
                if not answer.done():
                    answer.set_result(None)
        elif what == "break":
            self.tap.broken = True
        elif what in {"cut", "stop"}:
            if self.is_connected():
                (self.connection.cut if what == "cut" else self.connection.shutdown)()
        elif not self.ended:
            self.act(what)
        self.turn()

    def act(self, what: str) -> None:
        """Let the client do one thing."""
        # Before TLS has answered, it does not look at what comes after: nothing is seen of an end.
        if what in {"ask", "ask once"} and not (self.tls and self.outstanding()):
            last = "Connection: close\r\n" if what == "ask once" else ""
            with suppress(OSError):
                self.client.say(f"GET / HTTP/1.1\r\nHost: x\r\n{last}\r\n".encode())
        if what in {"close", "reset"}:
            self.tap.broken = what == "reset"
            self.ended = True
            self.client.close()
        if what == "stop sending" or (what == "goodbye" and self.tls):
            self.ended = True
            with suppress(OSError):
                (self.client.stop_sending if what == "stop sending" else self.goodbye)()

    def is_connected(self) -> bool:
        """Whether the server has not closed the connection."""
        return self.tap.fileno() >= 0

    def goodbye(self) -> None:
        """End TLS in order."""
        self.truth()  # what was sent can be read before, and not after
        self.tap.goodbye = True
        self.client.say_goodbye()

    def outstanding(self) -> bool:
        """Whether the latest answer has not left whole."""
        self.truth()
        left = b"".join(self.plain.values())
        return bool(self.answers) and end_of(len(self.answers) - 1) not in left

    def truth(self) -> tuple[set[int], set[int]]:
        """Return which answers left whole before a disconnect was seen, and which were delivered.

        A callback before the answer left whole, or a second one, is an error at once.
        """
        left: set[int] = set()
        delivered: set[int] = set()
        gone, read = False, b""
        for position, item in enumerate(self.tap.happened):
            if isinstance(item, Delivered):
                assert item.number in left, "called back too early"
                assert item.number not in delivered, "called back twice"
                delivered.add(item.number)
            elif isinstance(item, Gone):
                gone = True
            else:
                read += self._understood(position, item.data)
                if not gone:
                    left.update(n for n in self.of_interest if end_of(n) in read)
        return left, delivered

    def _understood(self, position: int, data: bytes) -> bytes:
        """Return the plain text of what left; TLS can read it only once."""
        if position not in self.plain:
            self.plain[position] = self.client.read(data)
        return self.plain[position]


def end_of(number: int) -> bytes:
    return f"<the end of answer {number}>".encode()


SERVER_TLS = partial(TlsServer, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
AUTHORITY.issue_cert("localhost").configure_cert(SERVER_TLS().context)
CLIENT_TLS = ssl.create_default_context()
AUTHORITY.configure_trust(CLIENT_TLS)


@contextmanager
def scene(size: int, *, tls: bool) -> Iterator[Scene]:
    loop = asyncio.SelectorEventLoop()
    made = Scene(loop, size, tls=tls)
    try:
        made.connect()
        yield made
    finally:
        made.client.close()
        if made.is_connected():
            made.connection.cut()
        made.turn()
        assert not made.is_connected(), "cut, and yet open"
        for task in asyncio.all_tasks(loop):
            task.cancel()
        made.turn()
        loop.close()
