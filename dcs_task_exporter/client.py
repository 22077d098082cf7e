"""The client of the DCS API: one project's background tasks and instances.

Paging trusts neither the order, nor a short page, nor `task_count` until this cloud has shown
that it is a total (`dcs-api.md` section 2). Every request takes a slot of the project's budget,
passes the gate that a refused key closes, and is counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, TypeVar
from urllib.parse import quote

from dcs_task_exporter.answers import AnswerMemory
from dcs_task_exporter.caller import ApiCaller
from dcs_task_exporter.errors import (
    ApiError,
    BadRequestError,
    InvalidResponseError,
    NotFoundError,
)
from dcs_task_exporter.models import (
    CenterTask,
    Identified,
    Instance,
    Listing,
    Progress,
    Task,
    TaskPage,
    TaskParser,
)

LIST_TASKS: Final = "list_tasks"
LIST_INSTANCES: Final = "list_instances"
LIST_PROJECTS: Final = "list_projects"
LIST_CENTER_TASKS: Final = "list_center_tasks"
TASK_PROGRESS: Final = "task_progress"

START_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "start_time": ("start_time",),
    "begin_time": ("begin_time",),
    "both": ("start_time", "begin_time"),
}
"""The page's table says `start_time`, its example `begin_time`; which one is honoured is open."""

LOOK_UP_PAUSE: Final = 10.0
"""Seconds for which a failed look-up of the project's id stands for all instances."""

SAFE_PAGE_SIZE: Final = 10
"""The API's default page size, for clouds that refuse a larger one."""

MAX_INSTANCES: Final = 50_000
"""Instances of a project above which its listing is taken for one that never ends."""

_MISSING: Final = object()

Row = TypeVar("Row", bound=Identified)
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What the client needs to know of its project."""

    project: str
    region: str
    dcs_endpoint: str
    iam_endpoint: str
    project_id: str = ""
    iam_project_name: str = ""
    page_size: int = 100
    max_pages: int = 50
    start_parameter: str = "start_time"
    personal: bool = False


@dataclass(frozen=True, slots=True)
class _Listing:
    """What is listed: by which operation, where, since when, until when."""

    operation: str
    url: str
    start: float
    deadline: float
    subject: str = ""


class DcsClient:
    """Reads one project through the documented API; safe to use from several threads."""

    def __init__(
        self,
        settings: ClientSettings,
        caller: ApiCaller,
        monotonic: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._monotonic = monotonic
        self._project_id = settings.project_id
        self._project_id_lock = threading.Lock()
        self._look_up_failure: tuple[float, ApiError] | None = None
        self._page_size = settings.page_size
        self._memories: dict[str, AnswerMemory[TaskPage[Task]]] = {}
        self._parser = TaskParser(personal=settings.personal)
        self._totals: frozenset[str] = frozenset()

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return all tasks of an instance that started at `start` (Unix seconds) or later.

        No request starts after `deadline` (monotonic). Tasks without a readable start are kept:
        they cannot be said to be older. Raises `ApiError`.
        """
        base = self._project_url(deadline)
        url = f"{base}/instances/{quote(instance_id, safe='')}/tasks"
        memory = self._memory_of(instance_id)
        rows, truncated = self._all_pages(
            _Listing(LIST_TASKS, url, start, deadline, instance_id), self._parser.task, memory
        )
        tasks = {task.id: task for task in rows}  # of two reads, the later is the truer
        kept = [
            task for task in tasks.values() if task.created_at is None or task.created_at >= start
        ]
        kept.sort(key=lambda task: (-(task.created_at or 0.0), task.id))
        return Listing(tuple(kept), start, truncated=truncated)

    def list_center_tasks(
        self, start: float, deadline: float
    ) -> tuple[tuple[CenterTask, ...], bool]:
        """Return the tasks of the whole project that started at `start` or later.

        The second value says that the page cap cut the listing. Raises `ApiError`.
        """
        url = f"{self._project_url(deadline)}/tasks"
        rows, truncated = self._all_pages(
            _Listing(LIST_CENTER_TASKS, url, start, deadline), CenterTask.from_json
        )
        return tuple(rows), truncated

    def task_progress(self, instance_id: str, task_id: str, deadline: float) -> Progress:
        """Return how far an active task is. Raises `ApiError`."""
        base = self._project_url(deadline)
        instance, task = quote(instance_id, safe=""), quote(task_id, safe="")
        return self._caller.get(
            TASK_PROGRESS,
            f"{base}/instances/{instance}/tasks/{task}/progress",
            {},
            deadline,
            Progress.from_json,
            project_id=self._project_id,
            subject=instance_id,
        )

    def list_instances(self, deadline: float) -> tuple[Instance, ...]:
        """Return all instances of the project. Raises `ApiError`."""
        url = f"{self._project_url(deadline)}/instances"
        found: dict[str, Instance] = {}
        offset = 0
        while offset < MAX_INSTANCES:
            page = self._page(LIST_INSTANCES, url, {}, offset, deadline, self._instances)
            new = [instance for instance in page if instance.id not in found]
            if not new:  # nothing, or what a cloud that knows no offset lists again
                return tuple(found.values())
            found.update((instance.id, instance) for instance in page)
            offset += len(page)
        message = f"the listing of instances does not end after {MAX_INSTANCES}"
        raise InvalidResponseError(message)

    def project_id(self, deadline: float) -> str:
        """Return the project's id, looked up by name through the identity service if not given.

        Raises `ApiError`; `NotFoundError` when the name stands for no project or for several.
        """
        with self._project_id_lock:
            if self._project_id:
                return self._project_id
            if self._look_up_failure and self._monotonic() < self._look_up_failure[0]:
                raise self._look_up_failure[1].with_traceback(None)
            try:
                return self._look_up_project_id(deadline)
            except ApiError as error:
                # Else each of many instances would wait for a failure of its own.
                self._look_up_failure = (self._monotonic() + LOOK_UP_PAUSE, error)
                raise

    def close(self) -> None:
        """Close the idle connections."""
        self._caller.close()

    def _look_up_project_id(self, deadline: float) -> str:
        name = self._settings.iam_project_name or self._settings.region
        url = f"{self._settings.iam_endpoint}/v3/projects"
        ids = self._caller.get(LIST_PROJECTS, url, {"name": name}, deadline, _project_ids)
        if len(ids) != 1:
            count = f"{len(ids)} projects are" if ids else "no project is"
            message = f"{count} named {name}: set project_id in the configuration"
            raise NotFoundError(message)
        self._project_id = ids[0]
        return self._project_id

    def _memory_of(self, instance_id: str) -> AnswerMemory[TaskPage[Task]]:
        """Return the memory of an instance's first page, which seldom changes."""
        return self._memories.setdefault(instance_id, AnswerMemory())

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Keep nothing of the answers for other instances."""
        for key in self._memories.keys() - set(instance_ids):
            self._memories.pop(key, None)

    def _project_url(self, deadline: float) -> str:
        project_id = quote(self.project_id(deadline), safe="")
        return f"{self._settings.dcs_endpoint}/v2/{project_id}"

    def _all_pages(
        self,
        listing: _Listing,
        parse: Callable[[object], Row],
        memory: AnswerMemory[TaskPage[Row]] | None = None,
    ) -> tuple[list[Row], bool]:
        """Return the rows of all pages, and whether the page cap cut them."""
        rows: list[Row] = []
        for _ in range(self._settings.max_pages):
            page = self._task_page(listing, len(rows), parse, None if rows else memory)
            rows += page.tasks
            if self._is_last(listing.operation, page, len(rows)):
                return rows, False
        return rows, True

    def _task_page(
        self,
        listing: _Listing,
        offset: int,
        parse: Callable[[object], Row],
        memory: AnswerMemory[TaskPage[Row]] | None,
    ) -> TaskPage[Row]:
        moment = datetime.fromtimestamp(max(0.0, listing.start), tz=timezone.utc)
        start = moment.strftime("%Y%m%d%H%M%S")
        return self._page(
            listing.operation,
            listing.url,
            dict.fromkeys(START_PARAMETERS[self._settings.start_parameter], start),
            offset,
            listing.deadline,
            lambda data: TaskPage.from_json(data, parse, first=offset == 0).sharing(
                memory.latest if memory is not None else None
            ),
            memory,
            listing.subject,
        )

    def _page(
        self,
        operation: str,
        url: str,
        query: Mapping[str, str],
        offset: int,
        deadline: float,
        parse: Callable[[object], Parsed],
        memory: AnswerMemory[Parsed] | None = None,
        subject: str = "",
    ) -> Parsed:
        """Return one page of a listing, of the size that the cloud takes."""
        paged = {**query, "limit": str(self._page_size), "offset": str(offset)}
        try:
            return self._caller.get(
                operation,
                url,
                paged,
                deadline,
                parse,
                project_id=self._project_id,
                memory=memory,
                subject=subject,
            )
        except BadRequestError as error:
            if self._page_size <= SAFE_PAGE_SIZE or "limit" not in error.message.lower():
                raise
            # What the largest page is in older regions is not published.
            self._page_size = SAFE_PAGE_SIZE
            return self._page(operation, url, query, offset, deadline, parse, memory, subject)

    def _instances(self, data: object) -> tuple[Instance, ...]:
        settings = self._settings
        return tuple(
            Instance.from_json(
                row,
                project=settings.project,
                project_id=self._project_id,
                region=settings.region,
            )
            for row in _rows(data, "instances")
        )

    def _is_last(self, operation: str, page: TaskPage[Row], offset: int) -> bool:
        """Whether a page ends its listing; `offset` is how many rows came until its end.

        A `task_count` above the rows of its page can only be a total; until one was seen, one
        more page is asked for.
        """
        if page.task_count is not None and page.task_count > len(page.tasks):
            self._totals = self._totals | {operation}
        if not page.tasks:
            return True
        total_is_known = operation in self._totals and page.task_count is not None
        return total_is_known and offset >= (page.task_count or 0)


def _project_ids(data: object) -> tuple[str, ...]:
    rows = [row for row in _rows(data, "projects") if isinstance(row, Mapping)]
    return tuple(str(row["id"]) for row in rows if row.get("id"))


def _rows(data: object, key: str) -> list[Any]:
    rows = data.get(key, _MISSING) if isinstance(data, Mapping) else _MISSING
    if rows is None:
        return []
    if not isinstance(rows, list):
        message = f"the answer has no list of {key}"
        raise InvalidResponseError(message)
    return rows
