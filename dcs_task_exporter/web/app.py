"""The routes: metrics, health, and a status page for people.

A scrape waits for the refresh without holding a thread; metrics and pages are rendered in small
pools of their own, so the answers about health never wait for either.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dcs_task_exporter.metrics.collector import label_name
from dcs_task_exporter.metrics.exposition import (
    INSTANCES,
    PARTS,
    Exposition,
    ScrapeRequest,
    Shown,
    scrape_budget,
    time_to_hand_over,
)
from dcs_task_exporter.state.file import StateStatus
from dcs_task_exporter.tasks.models import MAX_LABEL_LENGTH, Instance
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.tasks.statuses import StatusTable
from dcs_task_exporter.web.delivery import DeliveredResponse
from dcs_task_exporter.web.status_page import Overview, status_environment, views_of

TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"
PROBE_PATH: Final = "/probe"
DISCOVERY_PATH: Final = "/sd"

MEMORY_OF_SLOWNESS: Final = 0.9
"""What is left after each scrape of the time that a slower one before it took to hand over."""

RENDERING_OF_ONE: Final = 0.001
"""Seconds that the first rendering of one instance takes, before it is known how long it does."""

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

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Return when what is due is read, or after `timeout` seconds; of one target, if given."""

    async def discover(self, timeout: float, project: str | None = None) -> bool:
        """Search what is due, of one project or of all; return whether its instances are known."""

    @property
    def projects(self) -> Sequence[str]:
        """The names of the projects."""

    def find(self, target: str) -> Sequence[Instance]:
        """Return the watched instances with this id, or else with this name."""

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render what a scrape asks for; called in a thread."""

    def problems(self) -> Sequence[str]:
        """Return what is wrong besides the instances, in sentences for people."""

    def snapshots(self) -> Sequence[Snapshot]:
        """Return what is known of each instance now."""

    def ready(self) -> bool:
        """Return whether the exporter can answer scrapes."""

    def state_status(self) -> StateStatus | None:
        """Return whether counts are saved; None when they are meant to live in memory."""

    def now(self) -> float:
        """Return the Unix time."""

    def confirm_scrape(self, shown: Shown) -> None:
        """Take note that a scraper was sent these counters, whole; called in the event loop."""

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
        if path in (HEALTHY_PATH, READY_PATH, PROBE_PATH, DISCOVERY_PATH):
            message = f"telemetry path {path!r} is taken by another answer"
            raise ValueError(message)


def create_app(
    source: ScrapeSource,
    settings: WebSettings,
    *,
    timer: Callable[[], float] = time.perf_counter,
) -> Starlette:
    """Return the ASGI application that serves `source`; `timer` says how long things take."""
    site = _Site(source, settings, timer)
    app = Starlette(
        routes=[
            Route(settings.telemetry_path, site.metrics),
            Route(PROBE_PATH, site.probe),
            Route(DISCOVERY_PATH, site.targets),
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

    def __init__(
        self, source: ScrapeSource, settings: WebSettings, timer: Callable[[], float]
    ) -> None:
        self._source = source
        self._settings = settings
        self._timer = timer
        self._time_to_hand_over: float | None = None
        self._template = status_environment().get_template("status.html")
        self._metrics_pool = ThreadPoolExecutor(METRICS_THREADS, "web-metrics")
        self._page_pool = ThreadPoolExecutor(PAGE_THREADS, "web-page")
        self._lock = threading.Lock()
        self._not_begun: dict[ScrapeRequest, Future[Exposition]] = {}

    async def metrics(self, request: Request) -> Response:
        """Refresh what is due, as long as the scraper waits, and render all metrics."""
        parts = request.query_params.getlist("collect[]") or PARTS
        wrong = [part for part in parts if part not in PARTS]
        if wrong:
            return _text(f"Unknown collect[]={wrong[0]}: there are {' and '.join(PARTS)}\n", 400)
        start = self._timer()
        try:
            if INSTANCES in parts:
                kept = self._time_to_hand_over
                if kept is None:
                    kept = RENDERING_OF_ONE * len(self._source.snapshots())
                await self._refresh(self._budget(request, kept))
            return await self._exposition(request, parts)
        finally:
            self._source.observe_scrape(self._timer() - start)

    async def probe(self, request: Request) -> Response:
        """Refresh one instance if it is due, and render its metrics."""
        target = request.query_params.get("target", "")
        if not target:
            return _text(f"Which instance? {PROBE_PATH}?target=<id or name>\n", 400)
        deadline = self._timer() + self._budget(request)
        found = self._source.find(target)
        if not found:  # it may be new
            await self._discover(deadline - self._timer())
            found = self._source.find(target)
        if len(found) != 1:
            return _text(_not_one(target, found), 400)
        await self._refresh(max(0.0, deadline - self._timer()), found[0].id)
        return await self._exposition(request, (INSTANCES,), found[0].id)

    async def targets(self, request: Request) -> Response:
        """List the instances, of one project or of all, for Prometheus' ``http_sd_configs``."""
        project = request.query_params.get("project")
        if project not in (None, *self._source.projects):
            known = ", ".join(self._source.projects)
            return _text(f"No project {project!r:.{MAX_LABEL_LENGTH}}: there are {known}\n", 400)
        if not await self._discover(self._budget(request), project):
            # Of an error Prometheus keeps the targets that it has; an empty list drops them.
            return _text("It is not known yet which instances there are\n", 503)
        instances = [
            snapshot.instance
            for snapshot in self._source.snapshots()
            if project in (None, snapshot.instance.project)
        ]
        return JSONResponse([_target(item) for item in instances], headers=COMMON_HEADERS)

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

    def _budget(self, request: Request, more: float = 0.0) -> float:
        """Return the seconds that the scraper waits, less `more` that are needed afterwards."""
        settings = self._settings
        return scrape_budget(
            request.headers.get(TIMEOUT_HEADER),
            settings.default_scrape_timeout,
            settings.scrape_timeout_offset + more,
        )

    async def _refresh(self, seconds: float, target: str | None = None) -> None:
        try:
            await self._source.refresh(seconds, target)
        except Exception:  # whatever it is, what is in memory is worth more than a 500
            logger.exception("the refresh for a scrape broke; the answer shows what is in memory")

    async def _discover(self, seconds: float, project: str | None = None) -> bool:
        try:
            return await self._source.discover(seconds, project)
        except Exception:
            logger.exception("the search for /sd broke; the answer shows what is in memory")
            return False

    async def _exposition(
        self, request: Request, parts: Sequence[str], target: str | None = None
    ) -> Response:
        wanted = ScrapeRequest(
            accept=",".join(request.headers.getlist("Accept")),
            accept_encoding=",".join(request.headers.getlist("Accept-Encoding")),
            names=tuple(name for name in request.query_params.getlist("name[]") if name),
            parts=tuple(parts),
            target=target,
        )

        start = self._timer()
        try:
            answer = await self._rendered(wanted)
        except Exception:
            logger.exception("the metrics cannot be rendered")
            return _text("Metrics cannot be rendered: see the log of the exporter\n", 500)
        whole = target is None and request.method == "GET" and not wanted.names
        if whole and INSTANCES in parts:
            latest = time_to_hand_over(self._timer() - start, answer.size)
            before = self._time_to_hand_over or 0.0
            self._time_to_hand_over = max(latest, MEMORY_OF_SLOWNESS * before)
        headers = {**COMMON_HEADERS, **answer.headers}
        if answer.shown is None or request.method != "GET":
            return Response(answer.body, headers=headers)
        delivered = partial(self._source.confirm_scrape, answer.shown)
        return DeliveredResponse(answer.body, headers, delivered)

    async def _rendered(self, wanted: ScrapeRequest) -> Exposition:
        """Render, or share what is rendered for another: not yet begun, it shows as much."""
        with self._lock:
            rendering = self._not_begun.get(wanted)
            if rendering is None:
                rendering = self._metrics_pool.submit(self._render, wanted)
                self._not_begun[wanted] = rendering
        return await asyncio.wrap_future(rendering)  # cancelled only when the server stops

    def _render(self, wanted: ScrapeRequest) -> Exposition:
        with self._lock:
            del self._not_begun[wanted]
        return self._source.exposition(wanted)

    def _render_page(self, nonce: str) -> str:
        views = views_of(self._source.snapshots(), self._settings.statuses)
        problems = self._source.problems()
        return self._template.render(
            nonce=nonce,
            now=self._source.now(),
            state=self._source.state_status(),
            problems=problems,
            overview=Overview.of(views, len(problems)),
            instances=views,
            unfolded=len(views) <= FEW_INSTANCES,
            settings=self._settings,
            healthy_path=HEALTHY_PATH,
            ready_path=READY_PATH,
        )


def _not_one(target: str, found: Sequence[Instance]) -> str:
    """Say why a target is not one instance."""
    shown = target[:MAX_LABEL_LENGTH]
    if not found:
        return (
            f"No instance {shown!r} is watched: a target is the id or the name of a configured or "
            f"discovered one, as {DISCOVERY_PATH} lists them\n"
        )
    ids = ", ".join(item.id for item in found)
    return f"{len(found)} instances are named {shown!r}: use the id, one of {ids}\n"


def _target(instance: Instance) -> Mapping[str, object]:
    """Return one target group; the labels are there for relabelling only."""
    known = {
        "instance_id": instance.id,
        "instance_name": instance.name,
        "project": instance.project,
        "project_id": instance.project_id,
        "region": instance.region,
        "engine": instance.engine,
        "engine_version": instance.engine_version,
        "spec_code": instance.spec_code,
        "instance_status": instance.status,
        **{f"tag_{label_name(key)}": value for key, value in instance.tags.items()},
    }
    labels = {f"__meta_dcs_{key}": value for key, value in known.items() if value}
    return {"targets": [instance.id], "labels": labels}


def _text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(body, status, {**COMMON_HEADERS, **(headers or {})})


async def _in_pool(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
