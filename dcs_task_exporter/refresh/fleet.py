"""All instances of all projects: searched for when that is due, read, and looked up by scrapes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import Config
from dcs_task_exporter.refresh.discovery import Discovery
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.targets import ProjectSource, Targets
from dcs_task_exporter.refresh.workers import all_of, wait_awake
from dcs_task_exporter.tasks.models import Instance

logger = logging.getLogger(__name__)


class Fleet:
    """The instances that are configured, and those that discovery finds.

    With a `refresh_interval` in the configuration, all instances are refreshed without a scrape,
    from `start` on, and scrapes of all of them wait for nothing.
    """

    def __init__(
        self,
        config: Config,
        sources: Mapping[str, ProjectSource],
        targets: Targets,
        refresher: Refresher,
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._refresher = refresher
        self._requests_per_second = config.collector.requests_per_second
        self._interval = config.collector.refresh_interval
        self._retargeting = threading.Lock()
        self._stopping = threading.Event()
        self.discoveries = [
            Discovery(
                project.name,
                project.discovery,
                sources[project.name].list_instances,
                partial(self._found, project.name),
                clock,
            )
            for project in config.projects
            if project.discovery.enabled
        ]

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Return when all due instances are read, or after `timeout` seconds.

        With a `target`, the id of an instance, only that one is read, if it is due.
        """
        if target is not None or not self._interval:
            await asyncio.wait([asyncio.wrap_future(self._read(target))], timeout=timeout)

    async def discover(self, timeout: float, project: str | None = None) -> bool:
        """Search what is due, of one project or of all; return whether its instances are known."""
        first = all_of(self._search(project).values())
        await asyncio.wait([asyncio.wrap_future(first)], timeout=timeout)
        return all(
            item.status.last_success is not None
            for item in self.discoveries
            if project in (None, item.project)
        )

    def refresh_and_wait(self, timeout: float) -> None:
        """Block until all due instances are read, or `timeout` seconds pass."""
        wait([self._read()], timeout)

    def read_everything(self, patience: float) -> None:
        """Read every instance once; wait `patience` seconds longer than the rate limit makes it."""
        wait_awake(self._search().values(), patience)
        longest = max(self.pass_times().values(), default=0.0)
        wait_awake([self._refresher.refresh()], patience + longest)

    def pass_times(self) -> Mapping[str, float]:
        """Return the seconds that one request for each instance takes, by project."""
        numbers = Counter(snapshot.instance.project for snapshot in self._refresher.snapshots())
        return {name: number / self._requests_per_second for name, number in numbers.items()}

    def was_tried(self) -> bool:
        """Whether every project was searched and every instance read, or tried, once."""
        searched = all(
            discovery.status.instances is not None or discovery.status.problem
            for discovery in self.discoveries
        )
        snapshots = self._refresher.snapshots()
        return searched and all(snapshot.attempted_at is not None for snapshot in snapshots)

    def start(self) -> None:
        """Begin to refresh without scrapes, if there is an interval for it."""
        if self._interval:
            threading.Thread(target=self._refresh_forever, name="refresh", daemon=True).start()

    def stop(self) -> None:
        """Start no more searches and reads."""
        self._stopping.set()
        for discovery in self.discoveries:
            discovery.stop()
        self._refresher.stop()

    def _refresh_forever(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.refresh_and_wait(self._interval)
            except Exception:
                logger.exception("the refresh of all instances failed; the next begins as planned")
            self._stopping.wait(max(0.0, began + self._interval - time.monotonic()))

    def _read(self, target: str | None = None) -> Future[None]:
        """Start reading one due instance, or all known ones and those of each first search."""
        searches = self._search()
        if target is not None:
            return self._refresher.refresh(target)
        found = [all_of(self._search_and_read(*search)) for search in searches.items()]
        return all_of([self._refresher.refresh(), *found])

    def _search_and_read(self, project: str, search: Future[None]) -> Iterator[Future[None]]:
        """Yield the first search of a project, and then the reads of what it found."""
        yield search
        try:
            yield self._refresher.refresh(project=project)
        except Exception:
            logger.exception("cannot start the refresh of discovered instances")

    def _search(self, project: str | None = None) -> Mapping[str, Future[None]]:
        """Search what is due, of one project or of all; return the first searches, by project."""
        chosen = [item for item in self.discoveries if project in (None, item.project)]
        searches = [(item, item.search()) for item in chosen]
        return {
            item.project: search
            for item, search in searches
            if search is not None and item.status.last_success is None
        }

    def _found(self, project: str, instances: Sequence[Instance]) -> None:
        """Watch the instances that a search found, in place of those that it no longer finds."""
        with self._retargeting:
            targets = self._targets.found(project, instances)
            self._refresher.retarget(targets)
        self._sources[project].forget_all_but({target.id for target in targets})
