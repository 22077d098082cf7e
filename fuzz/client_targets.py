"""What clients of the web server send, as functions of bytes.

The connection, the routes and the renderer are the real ones; there is no socket, and nothing is
refreshed.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, Final, TypeVar
from unittest import mock

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from dcs_task_exporter.config.credentials import EnvironmentCredentials
from dcs_task_exporter.config.model import Config, ProjectConfig
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest, scrape_budget
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.tasks.counting import CountingRules, count_new
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.connection import Connection, ServerConfig
from dcs_task_exporter.web.connection_limits import ConnectionLimits
from fuzz.checks import NOW, StrictLog, Target, check_exposition, expect, logged
from fuzz.words import HTTP_WORDS
from tests.support.fake_source import QuietSource

STATUSES: Final = (100, 200, 400, 401, 403, 404, 405, 501, 503, 505)
"""What a client may be told; 500 is a bug."""

TURNS: Final = 200
"""Turns of the event loop within which all requests of an input are answered."""

_Result = TypeVar("_Result")


class _OnTheLoop:
    """Runs what it is given in the next turn of the event loop, in place of a pool of threads."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, call: Callable[..., _Result], *arguments: object) -> Future[_Result]:
        """Return the result, later."""
        done: Future[_Result] = Future()

        def run() -> None:
            try:
                done.set_result(call(*arguments))
            except Exception as error:  # noqa: BLE001 - as a pool does
                done.set_exception(error)

        asyncio.get_running_loop().call_soon(run)
        return done


class _Source(QuietSource):
    """Two instances with a few tasks; it looks at the time that a scrape is granted."""

    def __init__(self) -> None:
        super().__init__()
        credentials = EnvironmentCredentials(type="environment")
        project = ProjectConfig.model_construct(name="prod", credentials=credentials)
        self.config = Config.model_construct(projects=(project,))
        collector = TaskCollector(lambda _: self.snapshots(), personal=True, tags=())
        self._renderer = Renderer(collector, CollectorRegistry())
        task = Task("t", "EXTEND", "SUCCESS", NOW - 60, NOW - 30)
        listing, rules = Listing((task,), NOW - 3600), CountingRules(3600.0)
        state = reveal(count_new(InstanceState(), listing, NOW, rules)[0], ())
        metrics = task_metrics(state, listing, NOW, rules)
        self._snapshots = [
            Snapshot(
                Instance(f"i{at}", f'cache-{at}"<é>', "prod"),
                up=True,
                metrics=metrics,
                refreshed_at=NOW,
            )
            for at in range(2)
        ]

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Look at the arguments."""
        expect(math.isfinite(timeout) and 0 <= timeout <= 300, f"a scrape of {timeout} s")  # noqa: PLR2004 - README
        expect(target in (None, "i0", "i1"), "a target that is not watched")

    def snapshots(self) -> Sequence[Snapshot]:
        """Return two."""
        return self._snapshots

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render both, or one."""
        return self._renderer.exposition(request)


class _Wire(asyncio.Transport):
    """Keeps what the server writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Keep it."""
        self.written += data

    def close(self) -> None:
        """Take no more."""
        self._closing = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Say that all was sent."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take any."""

    def pause_reading(self) -> None:
        """Go on."""

    def resume_reading(self) -> None:
        """Go on."""


class _Told(StrictLog):
    """Keeps the errors of log lines: raised, they would be caught once more."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error of a line, or the one that it tells of."""
        try:
            super().emit(record)
        except Exception as error:  # noqa: BLE001 - raised later
            self.errors.append(error)


class Server:
    """The web server without its sockets."""

    def __init__(self, app: ASGIApp) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._broke)
        self._config = ServerConfig(app, ConnectionLimits(), None)
        self._config.load()
        self._told = _Told()

    def answers(self, data: bytes) -> bytes:
        """Return what a client gets that sends these bytes and then no more."""
        self._told.errors.clear()
        with logged(self._told), logged(self._told, "uvicorn"), logged(self._told, "asyncio"):
            written = self._loop.run_until_complete(self._talk(data))
        for error in self._told.errors:
            raise error
        return written

    async def _talk(self, data: bytes) -> bytes:
        wire = _Wire()
        connection = Connection(self._config, ServerState(), {}, self._loop)
        connection.connection_made(wire)
        if data:  # none is the end of the connection
            connection.data_received(data)
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if wire.is_closing():
                break
        connection.eof_received()
        wire.close()
        connection.connection_lost(None)
        for _ in range(3):
            await asyncio.sleep(0)
        return bytes(wire.written)

    def _broke(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._told.errors.append(context.get("exception") or RuntimeError(context["message"]))


@cache
def _site() -> Server:
    with (
        mock.patch("dcs_task_exporter.web.renderings.ThreadPoolExecutor", _OnTheLoop),
        mock.patch("dcs_task_exporter.web.app.ThreadPoolExecutor", _OnTheLoop),
    ):
        return Server(create_app(_Source().sources))


def requests(data: bytes) -> Sequence[bytes]:
    """Send the bytes of requests to the web server, and judge its answers."""
    written = _site().answers(data)
    headless = b"HEAD" in data
    for status, headers, body in responses(written, headless=headless):
        expect(status in STATUSES, f"an answer {status}")
        if status == http.client.OK and not headless:
            _check_body(data, headers, body)
    return ()


class _Answered:
    """Bytes as the socket that `http.client` reads; it does not close them."""

    def __init__(self, data: io.BytesIO) -> None:
        self._data = data

    def makefile(self, *_: object) -> _Answered:
        """Return itself."""
        return self

    def read(self, size: int = -1) -> bytes:
        """Return some bytes."""
        return self._data.read(size)

    def readline(self, size: int = -1) -> bytes:
        """Return a line."""
        return self._data.readline(size)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Leave the bytes open: the next answer follows."""


def responses(
    written: bytes, *, headless: bool = False
) -> Iterable[tuple[int, http.client.HTTPMessage, bytes]]:
    """Yield the status, headers and body of each answer.

    Where an answer may have no body, because HEAD was asked for, only the first, without its body.
    """
    stream = io.BytesIO(written)
    while stream.tell() < len(written):
        source: Any = _Answered(stream)
        made = http.client.HTTPResponse(source, method="GET")
        made.begin()
        if headless:
            yield made.status, made.headers, b""
            return
        yield made.status, made.headers, made.read()


def _check_body(data: bytes, headers: http.client.HTTPMessage, body: bytes) -> None:
    kind = headers.get("Content-Type", "")
    if headers.get("Content-Encoding") == "gzip":
        expect(b"gzip" in data.lower(), "gzip that nobody asked for")
        body = zlib.decompress(body, wbits=zlib.MAX_WBITS | 16)
    body.decode()
    if kind.startswith("application/openmetrics-text") and body:
        expect(b"openmetrics" in data.lower(), "OpenMetrics that nobody asked for")
        check_exposition(body)
    expect(headers.get("X-Content-Type-Options") == "nosniff", "a header is missing")


def timeouts(data: bytes) -> Sequence[bytes]:
    """Read the header by which a scraper says how long it waits."""
    header, _, rest = data.decode("latin-1").partition("\n")
    for offset in (0.0, 0.5, 1000.0, float(len(rest))):
        granted = scrape_budget(header, 10.0, offset)
        expect(0 < granted <= 300, f"a scrape of {granted} s")  # noqa: PLR2004 - docs/configuration.md
    return ()


CLIENT_TARGETS: Final = (
    Target("requests", requests, "text", HTTP_WORDS),
    Target("timeouts", timeouts, "text", HTTP_WORDS),
)
