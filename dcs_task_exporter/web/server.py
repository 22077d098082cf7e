"""The web server: uvicorn in a thread of its own, with a start that can fail and a short end."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from dcs_task_exporter.web.connection import Connection, ServerConfig, Tls
from dcs_task_exporter.web.connection_limits import ConnectionLimits
from dcs_task_exporter.web.listen import BACKLOG, Address, ListenError, listen_on, url_of

START_PATIENCE: Final = 30.0
"""Seconds that the start may take."""

STOP_PATIENCE: Final = 1.0
"""Seconds that the end may take, beside those for answers in flight."""

STOP_STEP: Final = 0.02
"""Seconds between two looks at whether the answers in flight are done."""

logger = logging.getLogger(__name__)


class WebServer(uvicorn.Server):
    """Serves an ASGI application from a thread of its own, on one or more addresses.

    `sockets`, where given, listen on them already; they are closed at the end. `beat` is called ten
    times a second by the event loop that serves requests, unless something holds the loop up.
    """

    config: ServerConfig

    def __init__(
        self,
        app: ASGIApp,
        addresses: Sequence[Address],
        *,
        limits: ConnectionLimits | None = None,
        tls: Tls | None = None,
        sockets: Sequence[socket.socket] = (),
        beat: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(ServerConfig(app, limits or ConnectionLimits(), tls))
        self._addresses = tuple(addresses)
        self._sockets = list(sockets)
        self._beat = beat
        self._started_or_failed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port of the first address; after `start`, the real one."""
        return self._addresses[0][1]

    @property
    def url(self) -> str:
        """The address to open, without a slash at its end."""
        return url_of(self._addresses[0], "https" if self.config.tls else "http")

    def start(self) -> None:
        """Listen, and return when requests are answered; raise `ListenError` if it cannot."""
        self._sockets = self._sockets or listen_on(self._addresses)
        bound = zip(self._addresses, self._sockets, strict=True)
        self._addresses = tuple((host, sock.getsockname()[1]) for (host, _), sock in bound)
        self._thread = threading.Thread(target=self._run, name="web-server", daemon=True)
        self._thread.start()
        self._started_or_failed.wait(START_PATIENCE)
        if not self.started:
            message = "the web server did not start: see the log"
            raise ListenError(message)

    def stop(self) -> None:
        """Stop listening, finish the answers that are nearly done, and cut the rest."""
        self.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_PATIENCE + self.config.limits.stop)

    def _run(self) -> None:
        try:
            self.run(self._sockets)
        except Exception:
            logger.exception("the web server failed")
        finally:
            for sock in self._sockets:
                sock.close()
            self._started_or_failed.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and wake the thread that waits for it."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(BACKLOG)  # uvicorn takes one number for this and for ACCEPTED_AT_ONCE
        self._started_or_failed.set()

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does ten times a second, and beat."""
        self._beat()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections, wait shortly for answers in flight, and cut the rest."""
        for closable in [*self.servers, *(sockets or ())]:
            closable.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(round(self.config.limits.stop / STOP_STEP)):
            if not self.server_state.connections:
                break
            await asyncio.sleep(STOP_STEP)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.cut()
        await asyncio.sleep(STOP_STEP)
        for task in list(self.server_state.tasks):
            task.cancel()
