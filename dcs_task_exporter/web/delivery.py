"""Know when an answer is delivered: when its last byte has left the buffers of this process.

The kernel's own buffers are out of reach. Bytes that the kernel does not take yet wait here, in
pieces; clients that wait for the same bytes share them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakValueDictionary

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

EXTENSION: Final = "dcs.delivered"
"""The ASGI extension by which an application learns that its answer is delivered."""

PIECE: Final = 16 * 1024
"""Bytes handed to a transport at once, and the most that its buffer holds for a slow client."""

Callback = Callable[[], None]


class DeliveredResponse(Response):
    """A response that calls `delivered` when its client was sent all of it, and never otherwise."""

    def __init__(self, body: bytes, headers: Mapping[str, str], delivered: Callback) -> None:
        super().__init__(body, headers=headers)
        self._delivered = delivered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, through a server with the extension: ours."""
        scope["extensions"][EXTENSION](self._delivered)
        await super().__call__(scope, receive, send)


class Piece:
    """Some bytes of an answer; freed with the last client that waits for them."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


Pieces = WeakValueDictionary[bytes, Piece]
"""The pieces that slow clients wait for: one for all clients that wait for the same bytes."""


class Wire(asyncio.Transport):
    """All that is between an answer and the kernel: the socket's transport, and above it maybe TLS.

    It hands over one piece at a time. The protocol of the socket's transport hears of every byte
    that the kernel does not take, by `pause_writing`, and calls `go_on` on `resume_writing`.
    The callbacks of answers that can no longer be delivered are dropped.
    """

    def __init__(self, transport: asyncio.Transport, pieces: Pieces) -> None:
        super().__init__()
        self._upper = self._lowest = transport
        self._pieces = pieces
        self._waiting: deque[Piece] = deque()
        self._held = 0
        self._closing = False
        self._expected: Callback | None = None
        self._answered: list[Callback] = []
        transport.set_write_buffer_limits(high=0)  # so `pause_writing` comes with the first byte

    def encrypt(self, tls: asyncio.Transport) -> None:
        """Send through the transport of a TLS above the socket's from now on."""
        self._upper = tls

    @property
    def unsent(self) -> int:
        """About how many bytes have not left; 0 when all have, or never will."""
        return self._held + self._below

    @property
    def _below(self) -> int:
        lowest = self._lowest.get_write_buffer_size()
        # A TLS whose connection broke may have been taken apart; nothing more of it will leave.
        if self._upper is self._lowest or self._broken:
            return lowest
        return lowest + self._upper.get_write_buffer_size()

    @property
    def _broken(self) -> bool:
        """Whether the socket is closing or broken."""
        return self._lowest.is_closing()

    def expect(self, delivered: Callback) -> None:
        """Call `delivered` once all of the answer that is being written has left."""
        self._expected = delivered

    def answered(self) -> None:
        """Note that the answer is written whole, even if only into the buffers of this process."""
        if self._expected is not None:
            self._answered.append(self._expected)
            self._expected = None
        if self._is_free():
            self._call_back()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send what the kernel takes, and hold the rest until it takes more."""
        if self.is_closing():
            return
        at = 0
        while at < len(data) and not self._waiting and self._is_free():
            self._upper.write(data[at : at + PIECE])
            at += PIECE
        if not self._broken:
            for start in range(at, len(data), PIECE):
                part = bytes(data[start : start + PIECE])
                self._waiting.append(self._pieces.setdefault(part, Piece(part)))
                self._held += len(part)

    def go_on(self) -> None:
        """Send more of the held bytes; after the last one call back, and close if that is due."""
        while self._waiting and self._is_free():
            piece = self._waiting.popleft()
            self._held -= len(piece.data)
            self._upper.write(piece.data)
        if self._closing and not self._waiting:
            # Not from within a transport, which closes by itself what was closed meanwhile.
            asyncio.get_running_loop().call_soon(self._close_upper)
        if self._is_free():
            self._call_back()

    def close(self) -> None:
        """Close the connection when all is sent."""
        if self._closing:
            return
        self._closing = True
        if not self._waiting:
            self._close_upper()
        elif self._upper is self._lowest:
            self._upper.pause_reading()  # as a closing transport does; TLS has to go on reading

    def abort(self) -> None:
        """Close the connection at once, without the unsent bytes."""
        self._drop()
        if not self._upper.is_closing():
            self._upper.abort()
        # A closed TLS does not pass it on; aborted twice, it breaks before Python 3.11.3.
        self._lowest.abort()

    def lost(self, error: Exception | None) -> None:
        """Note the end of the connection; one that ends without an error was emptied before."""
        if error is None and not self._held:
            self._call_back()
        self._drop()
        if self._upper is not self._lowest:
            self._close_upper()  # Python 3.10 warns of a TLS that was not closed

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
        """Return a fact about the connection."""
        return self._upper.get_extra_info(name, default)

    def _close_upper(self) -> None:
        if not self._upper.is_closing():
            self._upper.close()

    def _is_free(self) -> bool:
        """Whether the kernel took all that it was handed; while it has not, the rest is held."""
        return not self._broken and not self._below

    def _call_back(self) -> None:
        answered, self._answered = self._answered, []
        for delivered in answered:
            delivered()

    def _drop(self) -> None:
        self._waiting.clear()
        self._held = 0
        self._expected = None
        self._answered.clear()
