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
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dcs_task_exporter.config.model import Config
from dcs_task_exporter.metrics.collector import facts, label_name
from dcs_task_exporter.metrics.exposition import (
    INSTANCES,
    PARTS,
    Exposition,
    ScrapeRequest,
    scrape_budget,
)
from dcs_task_exporter.refresh.fleet import Fleet
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.tasks.models import MAX_LABEL_LENGTH, Instance
from dcs_task_exporter.web.delivery import DeliveredResponse
from dcs_task_exporter.web.paths import (
    DISCOVERY_PATH,
    HEALTHY_PATH,
    PROBE_PATH,
    READY_PATH,
    RELOAD_PATH,
    STATUS_PATH,
)
from dcs_task_exporter.web.reloads import Reloads
from dcs_task_exporter.web.renderings import Renderings
from dcs_task_exporter.web.status_page import ExporterStatus, StatusPage

TIMEOUT_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"

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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the web app gets its answers; `render` is called in threads, the others are quick.

    `config` returns the configuration in use.
    """

    config: Callable[[], Config]
    fleet: Fleet
    refresher: Refresher
    render: Callable[[ScrapeRequest], Exposition]
    observe_scrape: Callable[[float], None]
    status: Callable[[], ExporterStatus]


def create_app(
    sources: Sources,
    telemetry_path: str = "/metrics",
    *,
    reload: Callable[[], None] | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Starlette:
    """Return the ASGI application over `sources`; `timer` measures how long scrapes take.

    `reload` is called in a thread for a client that asks for it, and may raise `ExporterError`.
    """
    site = _Site(sources, telemetry_path, reload, timer)
    app = Starlette(
        routes=[
            Route(telemetry_path, site.metrics),
            Route(PROBE_PATH, site.probe),
            Route(DISCOVERY_PATH, site.targets),
            Route(HEALTHY_PATH, site.healthy),
            Route(READY_PATH, site.ready),
            Route(RELOAD_PATH, site.reload, methods=["POST", "PUT"]),
            Route(STATUS_PATH, site.status),
        ],
        exception_handlers={HTTPException: site.refuse},
    )
    app.router.redirect_slashes = False
    return app


class _Site:
    """The answers to each path; its thread pools end with it."""

    def __init__(
        self,
        sources: Sources,
        telemetry_path: str,
        reload: Callable[[], None] | None,
        timer: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._fleet = sources.fleet
        self._refresher = sources.refresher
        self._telemetry_path = telemetry_path
        self._timer = timer
        self._renderings = Renderings(sources.render, timer)
        self._reloads = Reloads(reload)
        self._page = StatusPage(telemetry_path)
        self._page_pool = ThreadPoolExecutor(1, "web-page")

    async def metrics(self, request: Request) -> Response:
        """Refresh the due instances while the scraper waits, and render all metrics."""
        parts = request.query_params.getlist("collect[]") or PARTS
        wrong = [part for part in parts if part not in PARTS]
        if wrong:
            return _text(f"Unknown collect[]={wrong[0]}: there are {' and '.join(PARTS)}\n", 400)
        start = self._timer()
        try:
            if INSTANCES in parts:
                reserved = self._renderings.time_to_hand_over(len(self._refresher.snapshots()))
                await self._refresh(self._budget(request, reserved))
            return await self._exposition(request, parts)
        finally:
            self._sources.observe_scrape(self._timer() - start)

    async def probe(self, request: Request) -> Response:
        """Refresh one instance if it is due, and render its metrics."""
        target = request.query_params.get("target", "")
        if not target:
            return _text(f"Which instance? {PROBE_PATH}?target=<id or name>\n", 400)
        deadline = self._timer() + self._budget(request)
        found = self._refresher.find(target)
        if not found:  # it may be new
            await self._discover(deadline - self._timer())
            found = self._refresher.find(target)
        if len(found) != 1:
            return _text(_not_one(target, found), 400)
        await self._refresh(max(0.0, deadline - self._timer()), found[0].id)
        return await self._exposition(request, (INSTANCES,), found[0].id)

    async def targets(self, request: Request) -> Response:
        """List the instances, of one project or of all, for Prometheus' ``http_sd_configs``."""
        project = request.query_params.get("project")
        projects = [one.name for one in self._sources.config().projects]
        if project not in (None, *projects):
            known = ", ".join(projects)
            return _text(f"No project {project!r:.{MAX_LABEL_LENGTH}}: there are {known}\n", 400)
        if not await self._discover(self._budget(request), project):
            # On an error Prometheus keeps the targets that it has; an empty list drops them.
            return _text("The instances are not known yet\n", 503)
        instances = [snapshot.instance for snapshot in self._refresher.snapshots()]
        chosen = [_target(item) for item in instances if project in (None, item.project)]
        return JSONResponse(chosen, headers=COMMON_HEADERS)

    async def healthy(self, _request: Request) -> Response:
        """Say that the process answers."""
        return _text("Healthy\n")

    async def ready(self, _request: Request) -> Response:
        """Say whether scrapes can be answered."""
        if self._sources.status().ready:
            return _text("Ready\n")
        reason = "instances were not read yet (a scrape reads them), or the exporter is stopping"
        return _text(f"Not ready: {reason}\n", 503)

    async def reload(self, _request: Request) -> Response:
        """Reload the configuration, and say what became of it."""
        status, text = await self._reloads.ask()
        return _text(f"{text}\n", status)

    async def status(self, _request: Request) -> Response:
        """Render the status page from memory, without a refresh."""
        nonce = secrets.token_urlsafe(16)
        page = await asyncio.get_running_loop().run_in_executor(
            self._page_pool,
            self._page.render,
            self._refresher.snapshots(),
            self._sources.status(),
            self._sources.config().status_words.table(),
            nonce,
        )
        headers = {**COMMON_HEADERS, "Content-Security-Policy": PAGE_POLICY.format(nonce=nonce)}
        return Response(page, headers=headers, media_type="text/html")

    async def refuse(self, _request: Request, error: Exception) -> Response:
        """Answer a wrong path or method in plain text that names the right ones."""
        if not isinstance(error, HTTPException):
            raise error
        headers = dict(error.headers or {})
        if error.status_code == 405:  # noqa: PLR2004 - the number is the name
            allowed = ", ".join(sorted(headers.pop("Allow", "GET, HEAD").split(", ")))
            return _text(f"Method not allowed: use {allowed}\n", 405, {"Allow": allowed})
        where = f"metrics are at {self._telemetry_path}, the status page is at {STATUS_PATH}"
        return _text(f"Not found: {where}\n", error.status_code, headers)

    def _budget(self, request: Request, reserved: float = 0.0) -> float:
        """Return the seconds that the scraper waits, less those `reserved` for the answer."""
        collector = self._sources.config().collector
        return scrape_budget(
            request.headers.get(TIMEOUT_HEADER),
            collector.default_scrape_timeout,
            collector.scrape_timeout_offset + reserved,
        )

    async def _refresh(self, seconds: float, target: str | None = None) -> None:
        try:
            await self._fleet.refresh(seconds, target)
        except Exception:  # the data in memory are worth more than a 500
            logger.exception("the refresh for a scrape failed; the answer shows the data in memory")

    async def _discover(self, seconds: float, project: str | None = None) -> bool:
        try:
            return await self._fleet.discover(seconds, project)
        except Exception:
            logger.exception("the search for instances failed; those known before are shown")
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
        try:
            answer = await self._renderings.render(wanted)
        except Exception:
            logger.exception("the metrics cannot be rendered")
            return _text("Metrics cannot be rendered: see the log of the exporter\n", 500)
        headers = {**COMMON_HEADERS, **answer.headers}
        if not answer.counted or request.method != "GET":
            return Response(answer.body, headers=headers)
        delivered = partial(self._refresher.delivered, answer.counted, answer.number)
        return DeliveredResponse(answer.body, headers, delivered)


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
    """Return one target group; its labels are for relabelling only."""
    known = {
        "instance_id": instance.id,
        "instance_name": instance.name,
        "project": instance.project,
        **facts(instance),
        **{f"tag_{label_name(key)}": value for key, value in instance.tags.items()},
    }
    labels = {f"__meta_dcs_{key}": value for key, value in known.items() if value}
    return {"targets": [instance.id], "labels": labels}


def _text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(body, status, {**COMMON_HEADERS, **(headers or {})})
