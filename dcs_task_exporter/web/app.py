"""The routes: metrics, health, and a status page for people.

A scrape waits for the refresh without holding a thread; metrics and pages are rendered in small
pools of their own, so the answers about health never wait for either.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dcs_task_exporter.models import StatusTable
from dcs_task_exporter.snapshots import Snapshot
from dcs_task_exporter.state import StateStatus
from dcs_task_exporter.web.exposition import Exposition, ScrapeRequest, render, scrape_budget
from dcs_task_exporter.web.status import Overview, status_environment, views_of

TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"

COUNTER_NAME: Final = "dcs_tasks_finished_total"
"""The metric whose values a scraper must have seen before they may grow."""

METRICS_THREADS: Final = 2
"""How many scrapes are rendered at once."""

PAGE_THREADS: Final = 1
"""How many status pages are rendered at once."""

FEW_INSTANCES: Final = 6
"""Up to this many instances, the status page shows each of them unfolded."""

COMMON_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every answer."""

PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class ScrapeSource(Protocol):
    """Where the web part gets what it shows."""

    registry: CollectorRegistry

    async def refresh(self, timeout: float) -> None:
        """Return when all due instances are read, or after `timeout` seconds; never raise."""

    def snapshots(self) -> Sequence[Snapshot]:
        """Return what is known of each instance now."""

    def ready(self) -> bool:
        """Return whether the exporter can answer scrapes."""

    def state_status(self) -> StateStatus | None:
        """Return whether counts are saved; None when they are meant to live in memory."""

    def now(self) -> float:
        """Return the Unix time."""

    def confirm_scrape(self) -> None:
        """Take note that this thread rendered the counters, whole, for a scraper."""

    def observe_scrape(self, seconds: float) -> None:
        """Take note of how long one scrape took."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What the command line and the configuration say of the web part; times are in seconds.

    Raises `ValueError` for a telemetry path that cannot be served.
    """

    telemetry_path: str = "/metrics"
    default_scrape_timeout: float = 10.0
    scrape_timeout_offset: float = 0.5
    version: str = ""
    docs_url: str = ""
    statuses: StatusTable = field(default_factory=StatusTable)

    def __post_init__(self) -> None:
        """Refuse a path that is none, or that hides another one."""
        path = self.telemetry_path
        if not path.startswith("/") or any(character in path for character in "?#{}% \t\r\n"):
            message = f"telemetry path {path!r} must be a plain path that starts with /"
            raise ValueError(message)
        if path in (HEALTHY_PATH, READY_PATH):
            message = f"telemetry path {path!r} is taken by the health answers"
            raise ValueError(message)


def create_app(source: ScrapeSource, settings: WebSettings) -> Starlette:
    """Return the ASGI application that serves `source`."""
    site = _Site(source, settings)
    app = Starlette(
        routes=[
            Route(settings.telemetry_path, site.metrics),
            Route(HEALTHY_PATH, site.healthy),
            Route(READY_PATH, site.ready),
            Route("/", site.status),
        ],
        exception_handlers={HTTPException: site.refuse},
    )
    app.router.redirect_slashes = False
    return app


class _Site:
    """The answers to each path; its pools of threads end with it."""

    def __init__(self, source: ScrapeSource, settings: WebSettings) -> None:
        self._source = source
        self._settings = settings
        self._template = status_environment().get_template("status.html")
        self._metrics_pool = ThreadPoolExecutor(METRICS_THREADS, "web-metrics")
        self._page_pool = ThreadPoolExecutor(PAGE_THREADS, "web-page")

    async def metrics(self, request: Request) -> Response:
        """Refresh what is due, as long as the scraper waits, and render all metrics."""
        start = time.perf_counter()
        try:
            await self._refresh(request.headers.get(TIMEOUT_HEADER))
            return await self._exposition(request)
        finally:
            self._source.observe_scrape(time.perf_counter() - start)

    async def healthy(self, _request: Request) -> Response:
        """Say that the process answers."""
        return _text("Healthy\n")

    async def ready(self, _request: Request) -> Response:
        """Say whether scrapes can be answered."""
        if self._source.ready():
            return _text("Ready\n")
        return _text("Not ready: the exporter is starting or stopping\n", 503)

    async def status(self, _request: Request) -> Response:
        """Render the status page from memory, without a refresh."""
        nonce = secrets.token_urlsafe(16)
        page = await _in_pool(self._page_pool, lambda: self._render_page(nonce))
        policy = PAGE_POLICY.format(nonce=nonce)
        return Response(
            page,
            headers={**COMMON_HEADERS, "Content-Security-Policy": policy},
            media_type="text/html",
        )

    async def refuse(self, _request: Request, error: Exception) -> Response:
        """Answer a wrong path or method in plain text that names the right ones."""
        if not isinstance(error, HTTPException):
            raise error
        headers = dict(error.headers or {})
        if error.status_code == 405:  # noqa: PLR2004 - the number is the name
            allowed = ", ".join(sorted(headers.pop("Allow", "GET, HEAD").split(", ")))
            return _text(f"Method not allowed: use {allowed}\n", 405, {"Allow": allowed})
        where = f"metrics are at {self._settings.telemetry_path}, the status page is at /"
        return _text(f"Not found: {where}\n", error.status_code, headers)

    async def _refresh(self, header: str | None) -> None:
        settings = self._settings
        budget = scrape_budget(
            header, settings.default_scrape_timeout, settings.scrape_timeout_offset
        )
        try:
            await self._source.refresh(budget)
        except Exception:  # whatever it is, what is in memory is worth more than a 500
            logger.exception("refresh failed; serving what is in memory")

    async def _exposition(self, request: Request) -> Response:
        wanted = ScrapeRequest(
            accept=",".join(request.headers.getlist("Accept")),
            accept_encoding=",".join(request.headers.getlist("Accept-Encoding")),
            names=request.query_params.getlist("name[]"),
        )

        def rendered() -> Exposition:
            exposition = render(self._source.registry, wanted)
            if request.method == "GET" and (not wanted.names or COUNTER_NAME in wanted.names):
                self._source.confirm_scrape()
            return exposition

        try:
            answer = await _in_pool(self._metrics_pool, rendered)
        except Exception:
            logger.exception("metrics cannot be rendered")
            return _text("Metrics cannot be rendered: see the log of the exporter\n", 500)
        return Response(answer.body, headers={**COMMON_HEADERS, **answer.headers})

    def _render_page(self, nonce: str) -> str:
        views = views_of(self._source.snapshots(), self._settings.statuses)
        return self._template.render(
            nonce=nonce,
            now=self._source.now(),
            state=self._source.state_status(),
            overview=Overview.of(views),
            instances=views,
            unfolded=len(views) <= FEW_INSTANCES,
            settings=self._settings,
            healthy_path=HEALTHY_PATH,
            ready_path=READY_PATH,
        )


def _text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(body, status, {**COMMON_HEADERS, **(headers or {})})


async def _in_pool(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
