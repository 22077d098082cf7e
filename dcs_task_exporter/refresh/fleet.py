"""All instances of all projects: searched for when that is due, read, and looked up by scrapes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import Config, ProjectConfig
from dcs_task_exporter.refresh.discovery import Discovery
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.targets import ProjectSource, Targets
from dcs_task_exporter.refresh.task_center import TaskCenter
from dcs_task_exporter.refresh.workers import all_of, wait_awake
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.models import Instance

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Search:
    """The search of one project, and what it depends on."""

    project: ProjectConfig
    source: ProjectSource
    discovery: Discovery

    def is_of(self, project: ProjectConfig) -> bool:
        """Whether this is the project where the search finds instances, by its id or its name."""
        return all(
            getattr(self.project, key) == getattr(project, key)
            for key in ("project_id", "region", "project_name")
        )


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
        self._clock = clock
        self._targets = targets
        self._refresher = refresher
        self._retargeting = threading.Lock()
        self._stopping = threading.Event()
        self._refreshing = threading.Lock()
        self._changed = threading.Event()
        self._has_thread = self._is_started = self._was_tried = False
        self._sources: Mapping[str, ProjectSource] = {}
        self._searched: Mapping[str, _Search] = {}
        self._take(config, sources)

    @property
    def discoveries(self) -> Sequence[Discovery]:
        """The searches for instances, one of each project that has them."""
        return [search.discovery for search in self._searched.values()]

    def change(
        self,
        config: Config,
        sources: Mapping[str, ProjectSource],
        rules: CountingRules,
        task_centers: Mapping[str, TaskCenter],
    ) -> None:
        """Search and watch by another configuration from now on.

        No instance leaves because a search must begin anew: one that the new rules admit stays
        until a search does not find it.
        """
        with self._retargeting:
            ended = self._take(config, sources)
            discovered = {item.project: item.known for item in self.discoveries}
            targets = self._targets.change(config.projects, discovered)
            self._refresher.change(targets, sources, config.collector, rules, task_centers)
        for discovery in ended:
            discovery.stop()
        watched = {target.id for target in targets}
        for source in sources.values():
            source.forget_all_but(watched)
        self._refresh_alone()

    def _take(self, config: Config, sources: Mapping[str, ProjectSource]) -> Sequence[Discovery]:
        """Use these settings, and return the searches that end; the others go on."""
        before = self._searched
        self._sources = sources
        self._requests_per_second = config.collector.requests_per_second
        self._interval = config.collector.refresh_interval
        self._searched = {
            project.name: self._search_of(project, sources[project.name], before.get(project.name))
            for project in config.projects
            if project.discovery.enabled
        }
        kept = {id(search) for search in self._searched.values()}
        return [search.discovery for search in before.values() if id(search) not in kept]

    def _search_of(
        self, project: ProjectConfig, source: ProjectSource, before: _Search | None
    ) -> _Search:
        """Return the search before, if it is right still, or one that goes on where it ended."""
        if before is not None and not before.is_of(project):
            before = None
        if before and before.source is source and before.project.discovery == project.discovery:
            return before
        discovery = Discovery(
            project.name,
            project.discovery,
            source.list_instances,
            lambda instances: self._found(discovery, instances),
            self._clock,
            None if before is None else before.discovery,
        )
        return _Search(project, source, discovery)

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

    def refresh_and_wait(self, timeout: float, *, is_scrape: bool = True) -> None:
        """Block until all due instances are read, or `timeout` seconds pass."""
        wait([self._read(is_scrape=is_scrape)], timeout)

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
        """Whether every project was searched and every instance read, or tried, once.

        It stays true for those that come later, by discovery or by a reload.
        """
        if not self._was_tried:
            searched = all(
                discovery.status.instances is not None or discovery.status.problem
                for discovery in self.discoveries
            )
            snapshots = self._refresher.snapshots()
            self._was_tried = searched and all(it.attempted_at is not None for it in snapshots)
        return self._was_tried

    def start(self) -> None:
        """Begin to refresh without scrapes, whenever there is an interval for it."""
        self._is_started = True
        self._refresh_alone()

    def stop(self) -> None:
        """Start no more searches and reads."""
        self._stopping.set()
        self._changed.set()
        for discovery in self.discoveries:
            discovery.stop()
        self._refresher.stop()

    def _refresh_alone(self) -> None:
        """Begin to refresh without scrapes if that is wanted; a thread that does so goes on now."""
        self._changed.set()
        with self._refreshing:
            if self._is_started and self._interval and not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._refresh_forever, name="refresh", daemon=True).start()

    def _goes_on(self) -> bool:
        """Whether to refresh once more without a scrape; if not, the thread ends."""
        self._changed.clear()
        with self._refreshing:
            self._has_thread = bool(self._interval) and not self._stopping.is_set()
            return self._has_thread

    def _refresh_forever(self) -> None:
        while self._goes_on():
            began, interval = time.monotonic(), self._interval
            try:
                self.refresh_and_wait(interval, is_scrape=False)
            except Exception:
                logger.exception("the refresh of all instances failed; the next begins as planned")
            self._changed.wait(max(0.0, began + interval - time.monotonic()))

    def _read(self, target: str | None = None, *, is_scrape: bool = True) -> Future[None]:
        """Start reading one due instance, or all known ones and those of each first search."""
        searches = self._search()
        if target is not None:
            return self._refresher.refresh(target)
        found = [all_of(self._search_and_read(*search)) for search in searches.items()]
        return all_of([self._refresher.refresh(is_scrape=is_scrape), *found])

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

    def _found(self, discovery: Discovery, instances: Sequence[Instance]) -> None:
        """Watch the instances that a search found, in place of those that it no longer finds.

        A search that another has replaced finds nothing any more.
        """
        with self._retargeting:
            search = self._searched.get(discovery.project)
            if search is None or search.discovery is not discovery:
                return
            targets = self._targets.found(discovery.project, instances)
            self._refresher.retarget(targets)
        search.source.forget_all_but({target.id for target in targets})
