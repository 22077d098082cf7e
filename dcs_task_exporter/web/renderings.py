"""Rendering scrapes in a few threads, once for all that wait for the same thing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from dcs_task_exporter.metrics.exposition import INSTANCES, Exposition, ScrapeRequest

RENDERING_OF_ONE: Final = 0.001
"""Seconds that the first rendering of one instance takes; later ones are measured."""

THREADS: Final = 2
"""Scrapes that are rendered at once."""

RENDER_MARGIN: Final = 2.0
"""How many times as long as before rendering may take, when there is more to show."""

READ_SPEED: Final = 50e6
"""Bytes a second, decompressed, that a scraper reads at least: 500,000 series are 70 MB."""

MEMORY_OF_SLOWNESS: Final = 0.9
"""The share of an earlier, slower time to hand over that each whole scrape leaves."""


class Renderings:
    """Calls `render` for scrapes, and remembers how long whole ones take to hand over.

    `timer` returns a time in seconds.
    """

    def __init__(
        self, render: Callable[[ScrapeRequest], Exposition], timer: Callable[[], float]
    ) -> None:
        self._render = render
        self._timer = timer
        self._time_to_hand_over = 0.0
        self._pool = ThreadPoolExecutor(THREADS, "web-metrics")
        self._lock = threading.Lock()
        self._not_begun: dict[ScrapeRequest, Future[Exposition]] = {}

    def time_to_hand_over(self, instances: int) -> float:
        """Return the expected seconds from the refresh to the end of the scraper's reading."""
        return self._time_to_hand_over or RENDERING_OF_ONE * instances

    async def render(self, request: ScrapeRequest) -> Exposition:
        """Render a scrape, or share a rendering that has not begun yet: it shows as much."""
        start = self._timer()
        with self._lock:
            rendering = self._not_begun.get(request)
            if rendering is None:
                rendering = self._pool.submit(self._begin, request)
                self._not_begun[request] = rendering
        made = await asyncio.wrap_future(rendering)  # cancelled only when the server stops
        if INSTANCES in request.parts and not request.names and request.target is None:
            latest = RENDER_MARGIN * (self._timer() - start) + made.size / READ_SPEED
            self._time_to_hand_over = max(latest, MEMORY_OF_SLOWNESS * self._time_to_hand_over)
        return made

    def _begin(self, request: ScrapeRequest) -> Exposition:
        with self._lock:
            del self._not_begun[request]
        return self._render(request)
