"""The client of the DCS API: one project's background tasks and instances, by operation."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.calls import Call
from dcs_task_exporter.cloud.evidence import StartParameter
from dcs_task_exporter.cloud.listing import READINGS, Fetch, ListingReader, Window
from dcs_task_exporter.cloud.paging import (
    LONGEST_CHECK_INTERVAL,
    Fetched,
    ListingMemory,
    Pager,
    Place,
    check_interval,
)
from dcs_task_exporter.cloud.parsing import (
    InstancePage,
    Row,
    TaskPage,
    parse_center_task,
    parse_instance,
    parse_instances,
    parse_page,
    parse_progress,
)
from dcs_task_exporter.cloud.project import ProjectId
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.cloud.responses import AnswerMemory
from dcs_task_exporter.cloud.task_parser import TaskParser
from dcs_task_exporter.config.model import CollectorConfig, ProjectConfig
from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.tasks.models import CenterTask, Instance, Listing, Progress, Task

LIST_TASKS: Final = "list_tasks"
LIST_INSTANCES: Final = "list_instances"
LIST_CENTER_TASKS: Final = "list_center_tasks"
TASK_PROGRESS: Final = "task_progress"

MAX_INSTANCES: Final = 50_000
"""Instances of a project above which its listing is taken for an endless one."""

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")


class DcsClient:
    """Reads one project through the documented API; safe to use from threads.

    `collector` says how its listings are read. `latest_time` returns an upper bound of the time
    (Unix seconds), for answers without a date.
    """

    def __init__(
        self,
        project: ProjectConfig,
        collector: CollectorConfig,
        caller: ApiCaller,
        clock: Clock,
        latest_time: Callable[[], float],
    ) -> None:
        self._project = project
        self._collector = collector
        self._caller = caller
        self._latest_time = latest_time
        name = project.project_name or project.region
        self._project_id = ProjectId(
            caller, project.iam_url, name, project.project_id, clock.monotonic
        )
        self._pager = Pager(caller, project.name, collector.page_size)
        self._memories: dict[str, ListingMemory[Task]] = {}
        self._tasks: ListingReader[Task] = self._reader(LIST_TASKS)
        self._center_memory = ListingMemory[CenterTask]()
        self._center_tasks: ListingReader[CenterTask] = self._reader(LIST_CENTER_TASKS)
        self._parser = TaskParser(personal=collector.personal_labels)
        self._warned: set[str] = set()

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return all tasks of an instance that started at `start` (Unix seconds) or later.

        No request starts after `deadline` (monotonic). Tasks without a plausible start are kept:
        they may not be older. Raises `ApiError`; `InvalidResponseError` and
        `IncompleteListingError` where the pages are no whole listing.
        """
        memory = self._memory_of(instance_id)
        memory.begin()
        path = f"/instances/{_encoded(instance_id)}/tasks"
        pages = self._pages(
            LIST_TASKS, path, start, deadline, self._parser.task, memory, instance_id
        )

        def fetch(place: Place, names: tuple[str, ...]) -> Fetched[TaskPage[Task]]:
            return self._with_plausible_times(pages(place, names), instance_id)

        is_exhaustive = memory.is_exhaustive(check_interval(len(self._memories)))
        whole = self._tasks.read(fetch, Window(start, memory.rows, is_exhaustive))
        rows = whole.rows.values()
        kept = [it for it in rows if it.created_at is None or it.created_at >= start]
        kept.sort(key=lambda task: (-(task.created_at or 0.0), task.id))
        listing = Listing(tuple(kept), start, whole.truncated, whole.answered_at)
        memory.keep(listing.tasks)
        return listing

    def list_center_tasks(
        self, start: float, deadline: float
    ) -> tuple[tuple[CenterTask, ...], bool]:
        """Return the tasks of the whole project that started at `start` or later.

        The second value says that the page cap cut the listing. Raises `ApiError`.
        """
        memory = self._center_memory
        memory.begin()
        fetch = self._pages(LIST_CENTER_TASKS, "/tasks", start, deadline, parse_center_task, memory)
        whole = self._center_tasks.read(fetch, Window(start))
        return tuple(whole.rows.values()), whole.truncated

    def task_progress(self, instance_id: str, task_id: str, deadline: float) -> Progress:
        """Return the progress of an active task. Raises `ApiError`."""
        path = f"/instances/{_encoded(instance_id)}/tasks/{_encoded(task_id)}/progress"
        call = self._call(TASK_PROGRESS, path, deadline, parse_progress, instance_id)
        return self._caller.get(call).value

    def list_instances(self, deadline: float) -> tuple[Instance, ...]:
        """Return all instances of the project; a row that is no valid instance is left out.

        Raises `ApiError`; `InvalidResponseError` when twice fewer are listed than are counted.
        """
        parse = partial(self._instances, self._project_id.get(deadline))
        call = partial(self._call, LIST_INSTANCES, "/instances", deadline, parse, "")
        counted = listed = 0
        for _ in range(READINGS):
            found, listed, counted = self._read_instances(call)
            if counted <= listed:
                return found
        message = f"the listing of instances counts {counted}, and lists {listed}"
        error = InvalidResponseError(message)
        self._caller.count_error(LIST_INSTANCES, error)
        raise error

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Forget the answers for all other instances."""
        for key in self._memories.keys() - set(instance_ids):
            self._memories.pop(key, None)

    def close(self) -> None:
        """Refuse waiting requests, and close the idle connections."""
        self._caller.close()

    def _call(
        self,
        operation: str,
        path: str,
        deadline: float,
        parse: Callable[[object], Parsed],
        subject: str,
        query: Mapping[str, str] | None = None,
        memory: AnswerMemory[Parsed] | None = None,
    ) -> Call[Parsed]:
        """Return the call to a path of the project."""
        project_id = self._project_id.get(deadline)
        url = f"{self._project.dcs_endpoint}/v2/{_encoded(project_id)}{path}"
        return Call(operation, url, deadline, parse, query or {}, project_id, subject, memory)

    def _pages(
        self,
        operation: str,
        path: str,
        start: float,
        deadline: float,
        parse: Callable[[object], Row],
        memory: ListingMemory[Row],
        subject: str = "",
    ) -> Fetch[Row]:
        """Return a function that fetches the pages of a listing of tasks."""
        moment = datetime.fromtimestamp(max(0.0, start), tz=timezone.utc)
        since = moment.strftime("%Y%m%d%H%M%S")
        known = memory.rows or ()

        def fetch(place: Place, names: tuple[str, ...]) -> Fetched[TaskPage[Row]]:
            is_first = place.position == 0
            page = partial(parse_page, parse=parse, known=known, is_first=is_first)
            remembered = memory.first_page if is_first else None

            def call_with(query: Mapping[str, str]) -> Call[TaskPage[Row]]:
                asked = {**dict.fromkeys(names, since), **query}
                return self._call(operation, path, deadline, page, subject, asked, remembered)

            return self._pager.fetch(call_with, place, memory)

        return fetch

    def _memory_of(self, instance_id: str) -> ListingMemory[Task]:
        memory = self._memories.get(instance_id)
        if memory is None:
            count = zlib.crc32(instance_id.encode(errors="replace")) % LONGEST_CHECK_INTERVAL
            memory = self._memories.setdefault(instance_id, ListingMemory(count))
        return memory

    def _with_plausible_times(
        self, fetched: Fetched[TaskPage[Task]], instance_id: str
    ) -> Fetched[TaskPage[Task]]:
        """Return the page without impossible times, and log once that it has some."""
        page, now = fetched.page, fetched.answered_at
        now = self._latest_time() if now is None else now
        tasks = tuple(task.with_plausible_times(now) for task in page.tasks)
        odd = [new.id for old, new in zip(page.tasks, tasks, strict=True) if new is not old]
        if not odd:
            return fetched
        self._warn_once(
            "a task has a time before 2010 or in the future: it counts as unknown",
            dcs_instance_id=instance_id,
            task_id=odd[0],
        )
        return replace(fetched, page=TaskPage(tasks, page.task_count))

    def _read_instances(
        self, call_with: Callable[[Mapping[str, str]], Call[InstancePage]]
    ) -> tuple[tuple[Instance, ...], int, int]:
        """Return the instances of all pages, the number of their rows, and the largest count."""
        found: dict[str, Instance] = {}
        offset = unreadable = counted = 0
        memory = ListingMemory[Task]()
        while offset < MAX_INSTANCES:
            fetched = self._pager.fetch(call_with, Place(offset), memory)
            page = fetched.page
            counted = max(counted, page.counted)
            unreadable += page.size - len(page.instances)
            new = [instance for instance in page.instances if instance.id not in found]
            # Nothing, or the same rows again from a cloud that ignores the offset.
            if not new and (page.instances or page.size < fetched.limit):
                return tuple(found.values()), len(found) + unreadable, counted
            found.update((instance.id, instance) for instance in page.instances)
            offset += page.size
        message = f"the listing of instances does not end after {MAX_INSTANCES}"
        raise InvalidResponseError(message)

    def _instances(self, project_id: str, data: object) -> InstancePage:
        project = self._project
        parse = partial(
            parse_instance, project=project.name, project_id=project_id, region=project.region
        )
        page = parse_instances(data, parse)
        if page.problem:
            self._warn_once(
                "the listing of instances has a row that cannot be read: it is left out",
                problem=page.problem,
            )
        return page

    def _warn_once(self, message: str, **fields: object) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message, extra={"fields": {"project": self._project.name, **fields}})

    def _reader(self, operation: str) -> ListingReader[Any]:
        fields = {"project": self._project.name, "operation": operation}
        warn = partial(logger.warning, extra={"fields": fields})
        start = StartParameter(self._collector.start_parameter, warn)
        failed = partial(self._caller.count_error, operation)
        return ListingReader(start, self._collector.max_pages, failed)


def _encoded(segment: str) -> str:
    """Return a segment of a path, with its slashes encoded too."""
    return quote(segment, safe="")
