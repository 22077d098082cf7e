"""The reload of the configuration, as a web client asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from dcs_task_exporter.errors import ExporterError

NOT_ENABLED: Final = "Lifecycle API is not enabled."
"""What Prometheus says where its own `/-/reload` is switched off."""


class Reloads:
    """Calls `reload` in a thread of its own: once for all who ask before it begins.

    Without a `reload` the clients are refused.
    """

    def __init__(self, reload: Callable[[], None] | None) -> None:
        self._reload = reload
        self._pool = ThreadPoolExecutor(1, "web-reload")
        self._latest: Future[None] | None = None

    async def ask(self) -> tuple[int, str]:
        """Return the status and the text of the answer, after the reload."""
        if self._reload is None:
            return 403, NOT_ENABLED
        if self._latest is None or self._latest.running() or self._latest.done():
            self._latest = self._pool.submit(self._reload)
        try:
            await asyncio.wrap_future(self._latest)
        except ExporterError as error:
            return 500, f"The configuration was not reloaded, the one before stays:\n{error}"
        return 200, "The configuration was reloaded"
