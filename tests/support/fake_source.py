"""A fleet, a renderer and a status for the web app: as little of each as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from prometheus_client import CollectorRegistry

from dcs_task_exporter.config.model import Config
from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest, render
from dcs_task_exporter.refresh.fleet import Fleet
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.web.app import Sources
from dcs_task_exporter.web.status_page import ExporterStatus


class QuietSource:
    """No instance, no problem; a test overrides the part that it is about."""

    def __init__(self) -> None:
        self.config = Config.model_construct(projects=())
        self.registry = CollectorRegistry()

    @property
    def sources(self) -> Sources:
        """All of it, as the web app takes it."""
        return Sources(
            lambda: self.config,
            cast("Fleet", self),
            cast("Refresher", self),
            self.exposition,
            self.observe_scrape,
            self.status,
        )

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Do nothing."""

    async def discover(self, timeout: float, project: str | None = None) -> bool:
        """Say that there is nothing to search."""
        return timeout > 0 and not project

    def find(self, target: str) -> Sequence[Instance]:
        """Return the instances of the snapshots with this id or name."""
        found = [snapshot.instance for snapshot in self.snapshots()]
        return [instance for instance in found if target in (instance.id, instance.name)]

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render the registry."""
        return render(self.registry, request)

    def snapshots(self) -> Sequence[Snapshot]:
        """Return no instance."""
        return ()

    def status(self) -> ExporterStatus:
        """Return that all is well, at 2027-01-15 08:00:00 UTC."""
        return ExporterStatus(1_800_000_000.0)

    def delivered(self, snapshots: Sequence[Snapshot], number: int) -> None:
        """Ignore it."""

    def observe_scrape(self, seconds: float) -> None:
        """Ignore it."""
