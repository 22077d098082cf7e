"""A source for the web part that answers everything with as little as possible."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest, Shown, render
from dcs_task_exporter.state.file import StateStatus
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot


class QuietSource:
    """No instance, no problem; what a test is about, it overrides."""

    state: StateStatus | None = None
    moment = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.confirmed: list[int] = []

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Do nothing."""

    async def discover(self, timeout: float, project: str | None = None) -> bool:
        """Say that nothing is to be searched."""
        return timeout > 0 and project in (None, *self.projects)

    @property
    def projects(self) -> Sequence[str]:
        """Return one project."""
        return ("prod",)

    def find(self, target: str) -> Sequence[Instance]:
        """Return the instances of the snapshots with this name."""
        found = [snapshot.instance for snapshot in self.snapshots()]
        return [instance for instance in found if target in (instance.id, instance.name)]

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render the registry."""
        return render(self.registry, request)

    def snapshots(self) -> Sequence[Snapshot]:
        """Return no instance."""
        return ()

    def ready(self) -> bool:
        """Return true."""
        return True

    def problems(self) -> Sequence[str]:
        """Return no problem."""
        return ()

    def state_status(self) -> StateStatus | None:
        """Return what the test says."""
        return self.state

    def now(self) -> float:
        """Return a fixed moment."""
        return self.moment

    def confirm_scrape(self, shown: Shown) -> None:
        """Keep its number."""
        self.confirmed.append(shown.number)

    def observe_scrape(self, seconds: float) -> None:
        """Ignore it."""
