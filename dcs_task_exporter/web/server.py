"""The web server: uvicorn in a thread, with limits that it does not have by itself.

uvicorn has no time limit for a client that never sends its request, or never reads its answer,
and no limit of connections. Here each connection has both, and when there are too many the one
that has been silent for longest makes room: silent clients cannot shut the scraper out.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import threading
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ssl import SSLContext
from types import MappingProxyType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.web.delivery import EXTENSION, Delivery, Pieces, Wire

BACKLOG: Final = 128
"""How many connections the system accepts before we do; they come on top of the limit."""

ACCEPTED_AT_ONCE: Final = 16
"""How many of them we accept before we look whether there are too many: some turns later."""

TLS_BUFFER: Final = 16 * 1024
"""Bytes that are read at once; asyncio keeps 256 KiB for each connection, which 640 fill."""

RESERVED_FILES: Final = 256
"""File descriptors that are kept for all else: the cloud's connections, the state file."""

MAX_PORT: Final = 65535
STOP_PATIENCE: Final = 1.0
START_PATIENCE: Final = 30.0

REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EADDRINUSE: "address in use",
        errno.EACCES: "permission denied",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }
)

Address = tuple[str, int]
"""A host and a port; the host "" stands for all addresses of this machine."""

logger = logging.getLogger(__name__)


class ListenError(ExporterError):
    """The server cannot listen where it was told to."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and how long each may keep us waiting, in seconds.

    `request` bounds the sending of a request, `answer` the reading of an answer, `idle` the pause
    between two requests, `stop` what is in flight when the server stops.
    """

    connections: int = 2048
    request: float = 30.0
    answer: float = 30.0
    idle: float = 90.0
    stop: float = 0.5


def parse_listen_address(text: str) -> Address:
    """Return the host and port of ``:39327``, ``[::1]:9100`` or ``host:port``.

    Raises `ValueError` with what is wrong.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        message = f"{text!r} has no port: write host:port, or :port for all addresses"
        raise ValueError(message)
    if not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        message = f"{text!r}: the port must be a number from 0 to {MAX_PORT}, not {port!r}"
        raise ValueError(message)
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        message = f"{text!r}: put an IPv6 address in brackets, as in [::1]:9100"
        raise ValueError(message)
    host = host[1:-1] if bracketed else host
    if any(character in host for character in "[]/@ ") or (bracketed and ":" not in host):
        message = f"{text!r}: {host!r} is no host name or address"
        raise ValueError(message)
    return host, int(port)


class WebServer:
    """Serves an ASGI application from a thread of its own, on one or more addresses.

    `sockets`, where given, listen on them already; they are closed at the end.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        more: Sequence[Address] = (),
        limits: ConnectionLimits | None = None,
        tls: SSLContext | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._addresses: tuple[Address, ...] = ((host, port), *more)
        self._sockets = sockets
        self._tls = tls
        self._server = _Server(_Config(app, limits or ConnectionLimits(), tls))
        self._thread: threading.Thread | None = None
        self._bound: tuple[Address, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses that the server listens on, with their real ports; none before `start`."""
        return self._bound

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self._bound[0][1] if self._bound else self._addresses[0][1]

    @property
    def url(self) -> str:
        """The address to open, without a slash at its end."""
        return url_of((self._addresses[0][0], self.port), "https" if self._tls else "http")

    def start(self) -> None:
        """Listen, and return when requests are answered; raise `ListenError` if it cannot."""
        sockets = list(self._sockets) or listen_on(self._addresses)
        self._bound = tuple(sock.getsockname()[:2] for sock in sockets)
        self._thread = threading.Thread(
            target=self._run, args=(sockets,), name="web-server", daemon=True
        )
        self._thread.start()
        self._server.settled.wait(START_PATIENCE)
        if not self._server.started:
            message = "the web server did not start: see the log"
            raise ListenError(message)

    def stop(self) -> None:
        """Stop listening, finish what can be finished at once, and cut the rest."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_PATIENCE + self._server.limits.stop)

    def _run(self, sockets: list[socket.socket]) -> None:
        try:
            loop = _Loop()
            try:
                loop.run_until_complete(self._server.serve(sockets=sockets))
            finally:
                loop.finish()
        except Exception:
            logger.exception("the web server failed")
        finally:
            for sock in sockets:
                sock.close()
            self._server.settled.set()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that ends as `asyncio.run` ends its own."""

    def finish(self) -> None:
        """Cancel what is left, and close."""
        self.run_until_complete(_cancel_the_rest())
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()


class _Config(uvicorn.Config):
    """uvicorn's settings, with our limits and the connections that wait for a request."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits, tls: SSLContext | None) -> None:
        super().__init__(
            _quiet(app),
            loop="asyncio",
            http=_Connection if tls is None else _Door,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=ACCEPTED_AT_ONCE,
        )
        self.tls = tls
        self.limits = limits
        self.most_connections = most_connections(limits.connections)
        self.waiting: dict[_Connection, None] = {}
        self.pieces = Pieces()


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is up, and whose end is short and quiet."""

    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        self.limits = config.limits
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell the thread that waits for it."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(BACKLOG)  # uvicorn takes one number for this and for ACCEPTED_AT_ONCE
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is idle, wait shortly for what is in flight, cut the rest."""
        for closable in [*self.servers, *(sockets or ())]:
            closable.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        step = 0.02
        for _ in range(round(self.limits.stop / step)):
            if not self.server_state.connections:
                break
            await asyncio.sleep(step)
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Connection):
                connection.cut()
        await asyncio.sleep(step)
        for task in list(self.server_state.tasks):
            task.cancel()


class _Connection(H11Protocol):
    """One connection, with the limits of `ConnectionLimits`."""

    config: _Config

    def __init__(
        self,
        config: _Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.app = _telling(self.app, lambda: self._delivery)
        self.timeout_keep_alive = config.limits.idle  # type: ignore[assignment] # it may be a float
        self._made = False
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def accepted(self, transport: asyncio.Transport) -> None:
        """Wait for the first request, in the place of the longest waiting if there is no other.

        Where TLS is spoken this comes before `connection_made`, which has another transport.
        """
        self.connections.add(self)
        self._send_over(transport)
        self._follow()
        if len(self.connections) > self.config.most_connections:
            # There is always one that waits: this one, at the latest.
            next(iter(self.config.waiting)).cut()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take requests from now on."""
        if self not in self.connections:
            self.accepted(transport)
        else:
            self._send_over(transport)
        super().connection_made(self._wire)
        self._made = True

    def closed_early(self, exc: Exception | None) -> None:
        """Take the end of a connection, if it came before `connection_made`."""
        if not self._made:
            self.connection_lost(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._delivery.lost(exc)
        self._wire.abort()  # TLS, too: Python 3.10 warns of one that was not closed
        self.app = self.config.loaded_app  # else it would keep the connection alive
        self._unset_keepalive_if_required()
        self.config.waiting.pop(self, None)
        _cancel(self._request_timer)
        self._request_timer = None
        _cancel(self._answer_timer)
        self._answer_timer = None

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; many small parts get no more time than one."""
        if self.transport.is_closing():
            return  # it was the last request that is answered here
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Wait for the next request, and for the client to read this answer."""
        # Before the next request, which may wait already, is answered.
        self._delivery.written()
        super().on_response_complete()
        if self._wire.unsent:
            self._watch_answer()
        half_a_request = bool(self.conn.trailing_data[0])
        self._follow(between=not half_a_request)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; in the middle of an answer there is no room for a refusal."""
        if self._is_answering():
            self.cut()
        else:
            super().send_400_response(msg)

    def eof_received(self) -> None:
        """Take a client that sends no more, and lacks some of its answer, for one that is gone."""
        if self._is_answering() or self._wire.unsent:
            self.cut()

    def pause_writing(self) -> None:
        """Give the client a limited time to read."""
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        """Send more; take note when the client has read everything, as far as we know."""
        self._wire.go_on()
        if self._wire.unsent:
            return
        super().resume_writing()
        _cancel(self._answer_timer)
        self._answer_timer = None
        self._delivery.settle()

    def cut(self) -> None:
        """End the connection at once; what was not sent by now never will be."""
        self._delivery.abandon()
        self.config.waiting.pop(self, None)
        self._wire.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for too long, read or not."""
        self.cut()

    def _send_over(self, transport: asyncio.Transport) -> None:
        self.transport = self._wire = Wire(
            transport,
            self.config.pieces,
            filled=self.pause_writing,
            emptied=self.resume_writing,
            ended=self.eof_received,
        )
        self._delivery = Delivery(self._wire)

    def _follow(self, *, between: bool = False) -> None:
        """Keep the timer and the list of those that wait in step with the state."""
        if self._is_answering():
            _cancel(self._request_timer)
            self._request_timer = None
            self.config.waiting.pop(self, None)
            return
        if self.transport.is_closing():
            return
        self.config.waiting.setdefault(self)
        if self._request_timer is None and not between:
            limit = self.config.limits.request
            self._request_timer = self.loop.call_later(limit, self.cut)

    def _watch_answer(self) -> None:
        if self._answer_timer is None:
            limit = self.config.limits.answer
            self._answer_timer = self.loop.call_later(limit, self._cut_unread)

    def _cut_unread(self) -> None:
        self._answer_timer = None
        if self._wire.unsent:
            self.cut()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete


class _Door(asyncio.Protocol):
    """Lets a client in that is to speak TLS: its connection counts before it does."""

    def __init__(
        self,
        config: _Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._connection = _Connection(config, server_state, app_state, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Leave the rest to TLS."""
        assert self._config.tls is not None  # noqa: S101 - tells mypy
        tls = _Tls(self._connection, self._config.tls)
        transport.set_protocol(tls)
        tls.connection_made(transport)
        self._connection.accepted(transport)


class _Tls(SSLProtocol):
    """asyncio's TLS, of less memory, which tells a connection also of an end before its start."""

    max_size = TLS_BUFFER

    def __init__(self, connection: _Connection, context: SSLContext) -> None:
        nobody_waits: Any = None
        super().__init__(connection.loop, connection, context, nobody_waits, server_side=True)
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:  # type: ignore[override] # as the base's base
        """Take the end of the connection."""
        super().connection_lost(exc)
        self._connection.closed_early(exc)


async def _cancel_the_rest() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def most_connections(wanted: int) -> int:
    """Return how many connections the limit of open files leaves room for, at most `wanted`."""
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 - not everywhere

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, max(files - RESERVED_FILES - BACKLOG, files // 4)))


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _telling(app: ASGIApp, delivery: Callable[[], Delivery]) -> ASGIApp:
    """Let an application ask to be told when its answer was delivered."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {**(scope.get("extensions") or {}), EXTENSION: {"call": delivery().expect}}
        await app({**scope, "extensions": extensions}, receive, send)

    return wrapped


def _quiet(app: ASGIApp) -> ASGIApp:
    """Let a request that is cut when the server stops end without a traceback in the log."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            return

    return wrapped


def url_of(address: Address, scheme: str = "http") -> str:
    """Return the URL to open for an address that is listened on, without a slash at its end."""
    host, port = address
    named = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
    shown = named.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{port}"


def listen_on(addresses: Sequence[Address]) -> list[socket.socket]:
    """Listen on all of the addresses, or on none; raise `ListenError` if one cannot be had."""
    with ExitStack() as undo:
        sockets = [undo.enter_context(_listen(host, port)) for host, port in addresses]
        undo.pop_all()
    return sockets


def _listen(host: str, port: int) -> socket.socket:
    try:
        return _bind(host, port) if host else _bind_everywhere(port)
    except OSError as error:
        raise ListenError(_explain(host, port, error)) from error


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def _bind_everywhere(port: int) -> socket.socket:
    """Listen on all addresses, of both families where the machine has both."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("", port), backlog=BACKLOG)


def _explain(host: str, port: int, error: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    known = "no such host" if isinstance(error, socket.gaierror) else REASONS.get(error.errno or 0)
    reason = known or error.strerror or str(error)
    return f"cannot listen on {where}: {reason}; choose another with --web.listen-address"
