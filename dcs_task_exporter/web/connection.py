"""One connection: uvicorn's HTTP/1.1 with limits, over TLS or not, and with known deliveries."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from dcs_task_exporter.web.connection_limits import (
    ConnectionLimits,
    TimeLimit,
    WaitingLine,
    most_connections,
)
from dcs_task_exporter.web.delivery import EXTENSION, Pieces, Wire
from dcs_task_exporter.web.tls_server import TlsServer

ACCEPTED_AT_ONCE: Final = 16
"""Connections accepted in one turn of the event loop, before the limit is looked at again."""

TLS_BUFFER: Final = 16 * 1024
"""Bytes read at once; asyncio keeps 256 KiB for each connection, even a silent one."""

Certificate = Mapping[str, Any]
"""What a client showed, as the ssl module's `getpeercert` returns it."""

Tls = Callable[[], TlsServer]
"""Gets the server's side of TLS, for each connection anew: it may change."""

logger = logging.getLogger(__name__)


class ServerConfig(uvicorn.Config):
    """uvicorn's settings, and the objects that the connections of one server share."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits, tls: Tls | None) -> None:
        super().__init__(
            app,
            loop="asyncio",
            interface="asgi3",
            http=Connection if tls is None else TlsDoor,
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
        self.line = WaitingLine(most_connections(limits.connections))
        self.pieces = Pieces()


class Connection(H11Protocol):
    """One connection, within `ConnectionLimits`.

    Under TLS it is `accepted`, and counts, before the client has spoken any.
    """

    config: ServerConfig

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.app = self._answer
        self.timeout_keep_alive = config.limits.idle  # type: ignore[assignment] # it may be a float
        self._request_limit = TimeLimit(config.limits.request)
        self._answer_limit = TimeLimit(config.limits.answer)
        self._admits: Callable[[Certificate | None], bool] = lambda _: True
        self.is_made = False
        """Whether the client can send requests: under TLS, after the handshake."""

    def accepted(self, transport: asyncio.Transport, tls: TlsServer | None = None) -> None:
        """Wait for the first request; the longest waiting connection makes room if it must.

        `transport` is the socket's, below any TLS.
        """
        self._admits = tls.admits if tls else self._admits
        self.connections.add(self)
        self.transport = self._wire = Wire(transport, self.config.pieces)
        self._follow()
        self.config.line.make_room(len(self.connections))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take requests from now on."""
        if self not in self.connections:
            self.accepted(transport)
        else:
            self._wire.encrypt(transport)
        super().connection_made(self._wire)
        self.is_made = True
        if not self._admits(transport.get_extra_info("peercert")):
            fields = {"address": (transport.get_extra_info("peername") or ("",))[0]}
            message = "a client certificate with none of the allowed names is refused"
            logger.warning(message, extra={"fields": fields})
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._wire.lost(exc)
        self.app = self.config.loaded_app  # `_answer` would keep this object alive
        self._unset_keepalive_if_required()
        self.config.line.leave(self.cut)
        self._request_limit.stop()
        self._answer_limit.stop()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; many small parts get no more time than one."""
        if self.transport.is_closing():
            return  # the last request of this connection is being answered
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wire.answered()  # first: the base may begin to answer a request that waits already
        super().on_response_complete()
        half_a_request = bool(self.conn.trailing_data[0])
        self._follow(between=not half_a_request)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no request; amid an answer there is no room for a refusal."""
        if self._is_answering():
            self.cut()
        else:
            super().send_400_response(msg)

    def eof_received(self) -> None:
        """Cut a client that sends no more before it has its answer: it is taken to be gone."""
        if self._is_answering() or self._wire.unsent:
            self.cut()

    def pause_writing(self) -> None:
        """Give the client a limited time to read."""
        super().pause_writing()
        self._answer_limit.start(self.loop, self.cut)

    def resume_writing(self) -> None:
        """Send more; end the time limit when the client has read everything, as far as we know."""
        self._wire.go_on()
        if self._wire.unsent:
            return
        super().resume_writing()
        self._answer_limit.stop()

    def cut(self) -> None:
        """End the connection at once; the unsent bytes will never be sent."""
        self.config.line.leave(self.cut)
        self._wire.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for too long, whether its answer was read or not."""
        self.cut()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, which can learn of its deliveries.

        A request that is cancelled when the server stops leaves no traceback in the log.
        """
        extensions = {EXTENSION: self._wire.expect}
        with suppress(asyncio.CancelledError):
            await self.config.loaded_app({**scope, "extensions": extensions}, receive, send)

    def _follow(self, *, between: bool = False) -> None:
        """Adapt the time limit and the place in the line to the state of the connection."""
        if self._is_answering():
            self._request_limit.stop()
            self.config.line.leave(self.cut)
        elif not self.transport.is_closing():
            self.config.line.join(self.cut)
            if not between:
                self._request_limit.start(self.loop, self.cut)

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete


class TlsDoor(asyncio.Protocol):
    """Puts TLS between a socket and its connection, which counts from the start."""

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        assert config.tls is not None  # noqa: S101 - for mypy
        self.connection = Connection(config, server_state, app_state, _loop)
        self._server = config.tls()
        self._tls = _Tls(self.connection, self._server.context)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Leave the rest to TLS."""
        transport.set_protocol(self._tls)
        self._tls.connection_made(transport)
        self.connection.accepted(transport, self._server)


class _Tls(SSLProtocol):
    """asyncio's TLS with a smaller buffer; it passes on events that asyncio's keeps to itself.

    Some versions of Python pass on some of these events: the connection may learn of one twice.
    """

    max_size = TLS_BUFFER

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        waiter: Any = None
        super().__init__(connection.loop, connection, context, waiter, server_side=True)
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:  # type: ignore[override] # as the base's base
        """Pass on an end before the handshake was done."""
        super().connection_lost(exc)
        if not self._connection.is_made:
            self._connection.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass on that the client sends no more, even while reading is paused."""
        if self._connection.is_made:
            self._connection.eof_received()
        super().eof_received()

    def pause_writing(self) -> None:
        """Pass on that the kernel does not take everything."""
        super().pause_writing()
        if self._connection.is_made:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the kernel has taken everything that was held back."""
        super().resume_writing()
        if self._connection.is_made:
            self._connection.resume_writing()

    if sys.version_info < (3, 11):

        def data_received(self, data: bytes) -> None:
            """Pass on that the client ended TLS, but not the connection."""
            ended_before = self._in_shutdown
            super().data_received(data)
            if self._in_shutdown and not ended_before:
                self._connection.eof_received()
