"""The routes: metrics, health, and a status page for people.

A scrape waits for the refresh without holding a thread; metrics and pages are rendered in small
pools of their own, so the answers about health never wait for either.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final, Protocol, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dcs_task_exporter.counting import Snapshot
from dcs_task_exporter.models import Outcome, StatusTable, Task
from dcs_task_exporter.web.exposition import ScrapeRequest, render, scrape_budget

TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"

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

    def now(self) -> float:
        """Return the Unix time."""

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
        self._template = _environment().get_template("status.html")
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
        registry = self._source.registry
        try:
            answer = await _in_pool(self._metrics_pool, lambda: render(registry, wanted))
        except Exception:
            logger.exception("metrics cannot be rendered")
            return _text("Metrics cannot be rendered: see the log of the exporter\n", 500)
        return Response(answer.body, headers={**COMMON_HEADERS, **answer.headers})

    def _render_page(self, nonce: str) -> str:
        views = _views(self._source.snapshots(), self._settings.statuses)
        return self._template.render(
            nonce=nonce,
            now=self._source.now(),
            overview=Overview.of(views),
            instances=views,
            unfolded=len(views) <= FEW_INSTANCES,
            settings=self._settings,
            healthy_path=HEALTHY_PATH,
            ready_path=READY_PATH,
        )


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as the status page shows it; `failed` and `active` are None when unknown."""

    snapshot: Snapshot
    kind: str
    failed: int | None
    active: int | None

    @classmethod
    def of(cls, snapshot: Snapshot, statuses: StatusTable) -> InstanceView:
        """Derive the view of a snapshot."""
        figures = snapshot.figures
        if figures is None:
            return cls(snapshot, _kind(snapshot), None, None)
        failed = sum(
            number
            for (_name, status), number in figures.recent.items()
            if statuses.outcome(status) is Outcome.FAILURE
        )
        return cls(snapshot, _kind(snapshot), failed, sum(figures.active.values()))

    @property
    def order(self) -> tuple[bool, bool, bool, str]:
        """Sort what needs attention first."""
        name = self.snapshot.instance.name or self.snapshot.instance.id
        return self.kind != "failing", self.kind != "waiting", not self.failed, name


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of all instances together; sums are over the instances that have data."""

    total: int
    up: int
    failing: int
    waiting: int
    unknown: int
    failed: int
    active: int
    oldest: float | None

    @classmethod
    def of(cls, views: Sequence[InstanceView]) -> Overview:
        """Sum up the views."""
        kinds = [view.kind for view in views]
        known = [view for view in views if view.snapshot.figures is not None]
        return cls(
            total=len(views),
            up=kinds.count("up"),
            failing=kinds.count("failing"),
            waiting=kinds.count("waiting"),
            unknown=len(views) - len(known),
            failed=sum(view.failed or 0 for view in known),
            active=sum(view.active or 0 for view in known),
            oldest=min((view.snapshot.refreshed_at or 0.0 for view in known), default=None),
        )

    @property
    def kind(self) -> str:
        """The worst state of any instance."""
        if self.failing:
            return "failing"
        return "up" if self.total and not self.waiting else "waiting"

    @property
    def headline(self) -> str:
        """The overall state in words."""
        if not self.total:
            return "No instance is watched"
        if self.up == self.total > 1:
            return f"All {self.total} instances read"
        parts = [f"{self.up} of {_plural(self.total, 'instance')} read"]
        parts += [f"{self.failing} failing"] if self.failing else []
        parts += [f"{self.waiting} not read yet"] if self.waiting else []
        return ", ".join(parts)


def _kind(snapshot: Snapshot) -> str:
    if snapshot.up:
        return "up"
    return "failing" if snapshot.failure is not None or snapshot.attempted_at else "waiting"


def _views(snapshots: Iterable[Snapshot], statuses: StatusTable) -> list[InstanceView]:
    views = [InstanceView.of(snapshot, statuses) for snapshot in snapshots]
    return sorted(views, key=lambda view: view.order)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dcs_task_exporter", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(utc=_utc, span=_span, age=_age, plural=_plural)
    environment.globals.update(counted=_counted, outcome=_outcome)
    return environment


def _counted(
    finished: Mapping[tuple[str, str], int], recent: Mapping[tuple[str, str], int]
) -> list[tuple[str, str, int, int]]:
    """Return name, status, both counts of each series that is not all zero."""
    rows = ((*key, finished.get(key, 0), recent.get(key, 0)) for key in {**finished, **recent})
    return sorted(row for row in rows if row[2] or row[3])


def _outcome(statuses: StatusTable, task: Task | str) -> str:
    status = task if isinstance(task, str) else task.status
    return statuses.outcome(status).value


def _utc(moment: float | None) -> str:
    """Write a Unix time as people read it."""
    if moment is None:
        return "unknown"
    try:
        return f"{datetime.fromtimestamp(moment, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return "unknown"


def _span(seconds: float | None) -> str:
    """Write a length of time in its two largest units."""
    if seconds is None:
        return "unknown"
    if seconds < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, large, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {large} {whole % size // part} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004


def _age(moment: float | None, now: float) -> str:
    """Say how long ago a moment was."""
    if moment is None:
        return "at an unknown time"
    if abs(now - moment) < 1:
        return "just now"
    ago = f"{_span(abs(now - moment))}".replace(".0 s", " s")
    return f"{ago} ago" if moment < now else f"{ago} ahead of this clock"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(body, status, {**COMMON_HEADERS, **(headers or {})})


async def _in_pool(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
