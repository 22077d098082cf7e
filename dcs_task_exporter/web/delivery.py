"""Knowing when an answer was delivered: when its last byte has left the buffers of this process.

What the kernel still holds then is beyond us. What it does not take yet waits here, in pieces that
are there once for all clients that wait for the same bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakValueDictionary

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EXTENSION: Final = "dcs.delivered"
"""The ASGI extension that tells an application when its answer was delivered."""

PIECE: Final = 16 * 1024
"""Bytes that are handed to a transport at once; its buffer holds no more of a slow client's."""

Told = Callable[[], None]


class DeliveredResponse(Response):
    """A response that calls `delivered` once its client was sent all of it, or else never."""

    def __init__(self, body: bytes, headers: Mapping[str, str], delivered: Told) -> None:
        super().__init__(body, headers=headers)
        self._delivered = delivered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Of a server that cannot tell, the end of sending is taken for the delivery."""
        extension = (scope.get("extensions") or {}).get(EXTENSION)
        gone = extension is None and await _is_gone(scope, receive)
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        if extension is not None:
            extension["call"](self._delivered)
        await send({"type": "http.response.body", "body": self.body})
        if extension is None and not gone:
            self._delivered()


async def _is_gone(scope: Scope, receive: Receive) -> bool:
    request = Request(scope, receive)
    try:
        await request.body()
    except ClientDisconnect:
        return True
    return await request.is_disconnected()


class Piece:
    """Some bytes of an answer; gone when the last client that waits for them is."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


class Pieces:
    """The pieces that slow clients wait for: of the same bytes, all of them hold the same one."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[bytes, Piece] = WeakValueDictionary()

    def of(self, data: bytes) -> Piece:
        """Return the piece with these bytes."""
        known = self._known.get(data)
        if known is None:
            known = self._known[data] = Piece(data)
        return known


class Wire(asyncio.Transport):
    """All that is between an answer and the kernel: a transport, and below TLS a second one.

    It hands over a piece at a time, and the next one when the last has left: `filled` is called
    when the lowest transport begins to hold something back, `emptied` when that has left, and
    `ended` when the client sends no more, where TLS might not tell. Without TLS, the protocol of
    the transport hears of all three by itself. Whoever hears of `emptied` calls `go_on`.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        pieces: Pieces,
        *,
        filled: Told,
        emptied: Told,
        ended: Told,
    ) -> None:
        super().__init__()
        self._upper = transport
        self._lowest = _lowest(transport)
        self._pieces = pieces
        self._waiting: deque[Piece] = deque()
        self._held = 0
        self._closing = False
        tls = self._lowest.get_protocol()
        if self._lowest is not transport and isinstance(tls, asyncio.BufferedProtocol):
            self._lowest.set_protocol(_BelowTls(tls, filled, emptied, ended))
        elif self._lowest is not transport and isinstance(tls, asyncio.Protocol):
            self._lowest.set_protocol(_BelowOldTls(tls, ended))
        # With no limit, whatever is held back is told, and so is when the last byte has left.
        self._lowest.set_write_buffer_limits(high=0)

    @property
    def held(self) -> int:
        """How many bytes no transport has taken yet."""
        return self._held

    @property
    def unsent(self) -> int:
        """About how many bytes have not left; 0 when all have, or never will."""
        return self._held + self._below

    @property
    def is_open(self) -> bool:
        """Whether the socket is neither closing nor broken."""
        return not self._lowest.is_closing()

    @property
    def _below(self) -> int:
        lowest = self._lowest.get_write_buffer_size()
        # A TLS that is closing, or whose connection broke, may have been taken apart, and holds
        # nothing that will leave when the lowest holds nothing.
        if self._upper.is_closing() or self._lowest.is_closing():
            return lowest
        return lowest + self._upper.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send what the kernel takes, and hold the rest until it takes more."""
        if self.is_closing():
            return
        at = 0
        while at < len(data) and self._takes_more():
            self._upper.write(data[at : at + PIECE])
            at += PIECE
        if self.is_open:
            for start in range(at, len(data), PIECE):
                piece = self._pieces.of(bytes(data[start : start + PIECE]))
                self._waiting.append(piece)
                self._held += len(piece.data)

    def go_on(self) -> None:
        """Send more of what is held; close when that was all and is wanted."""
        while self._waiting and not self._below and self.is_open:
            piece = self._waiting.popleft()
            self._held -= len(piece.data)
            self._upper.write(piece.data)
        if self._closing and not self._waiting:
            # Not from within a transport, which closes by itself what was closed meanwhile.
            asyncio.get_running_loop().call_soon(self._close_upper)

    def _takes_more(self) -> bool:
        return not self._waiting and not self._below and self.is_open

    def close(self) -> None:
        """Close it when all is sent."""
        if self._closing:
            return
        self._closing = True
        if not self._waiting:
            self._close_upper()
        elif self._upper is self._lowest:
            self._upper.pause_reading()  # as a transport that closes; TLS must go on to listen

    def abort(self) -> None:
        """Close it at once, without what is unsent."""
        self.drop()
        if not self._upper.is_closing():
            self._upper.abort()
        # A TLS that was closed does not pass it on; closed twice, it breaks before Python 3.11.3.
        self._lowest.abort()

    def lost(self) -> None:
        """Take the end of the connection: nothing more is sent."""
        self.drop()
        if self._upper is not self._lowest:
            self._close_upper()  # Python 3.10 warns of a TLS that was not closed

    def drop(self) -> None:
        """Forget what is held: it never will be sent."""
        self._waiting.clear()
        self._held = 0

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self._closing or self._upper.is_closing()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._upper.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._closing:
            self._upper.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - the base's
        """Return what the transport knows of the connection."""
        return self._upper.get_extra_info(name, default)

    def _close_upper(self) -> None:
        if not self._upper.is_closing():
            self._upper.close()


class Delivery:
    """Who is to be told when the answers of one connection are delivered.

    An answer that can no more be delivered is forgotten.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._next: Told | None = None
        self._written: list[Told] = []

    def expect(self, told: Told) -> None:
        """Call `told` once the answer that is being written is delivered."""
        self._next = told

    def written(self) -> None:
        """Take note that the answer is written whole, be it only into our buffers."""
        if self._next is not None:
            self._written.append(self._next)
            self._next = None
        self.settle()

    def settle(self) -> None:
        """Tell of what is delivered by now."""
        if self._wire.is_open and not self._wire.unsent:
            self._tell()

    def lost(self, error: Exception | None) -> None:
        """Take the end of the connection: what was closed without an error was emptied before."""
        if error is None and not self._wire.held:
            self._tell()
        self.abandon()

    def abandon(self) -> None:
        """Forget what is not delivered: it never will be."""
        self._next = None
        self._written.clear()

    def _tell(self) -> None:
        written, self._written = self._written, []
        for told in written:
            told()


def _lowest(transport: asyncio.Transport) -> asyncio.Transport:
    """Return the transport that has the socket; asyncio has no public way to it from TLS."""
    if transport.get_extra_info("sslcontext") is None:
        return transport
    lowest: asyncio.Transport = transport._ssl_protocol._transport  # type: ignore[attr-defined] # noqa: SLF001
    return lowest


class _BelowTls(asyncio.BufferedProtocol):
    """Stands between a socket and TLS, whose buffers do not tell what waits below them."""

    def __init__(
        self, tls: asyncio.BufferedProtocol, filled: Told, emptied: Told, ended: Told
    ) -> None:
        self._tls = tls
        self._filled = filled
        self._emptied = emptied
        self._ended = ended

    def get_buffer(self, sizehint: int) -> Any:  # noqa: ANN401 - as the base
        """Return where to put what the client sends."""
        return self._tls.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what the client sent."""
        self._tls.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        """Hand on that the client sends no more; TLS, while it pauses reading, keeps it."""
        self._ended()
        return self._tls.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection is lost."""
        self._tls.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell that the kernel does not take all."""
        self._tls.pause_writing()
        self._filled()

    def resume_writing(self) -> None:
        """Tell that the kernel has taken all that was held back here."""
        self._tls.resume_writing()
        self._emptied()


class _BelowOldTls(asyncio.Protocol):
    """The same below the TLS of Python 3.10, which hands on all but that the client ended it."""

    def __init__(self, tls: asyncio.Protocol, ended: Told) -> None:
        self._tls = tls
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        """Hand on what the client sent, and tell if that was the end."""
        before = self._is_ending()
        self._tls.data_received(data)
        if self._is_ending() and not before:
            self._ended()

    def eof_received(self) -> bool | None:
        """Hand on that the client sends no more."""
        return self._tls.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that the connection is lost."""
        self._tls.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand on that the kernel does not take all."""
        self._tls.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the kernel has taken all that was held back."""
        self._tls.resume_writing()

    def _is_ending(self) -> bool:
        return bool(getattr(self._tls, "_in_shutdown", False))
