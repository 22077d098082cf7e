"""The client of the DCS API: one project's background tasks and instances.

How pages become a whole listing is `listing.py`'s affair. Every request takes a slot of the
project's budget, passes the gate that a refused key closes, and is counted.
"""

from __future__ import annotations

import logging
import re
import threading
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from dcs_task_exporter.cloud.listing import (
    LONGEST_CHECK_INTERVAL,
    READINGS,
    Listed,
    PageSize,
    Place,
    StartParameter,
    WholeListing,
    Window,
    check_interval,
)
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.cloud.responses import AnswerMemory
from dcs_task_exporter.errors import (
    ApiError,
    BadRequestError,
    InvalidResponseError,
    NotFoundError,
    TooLargeError,
)
from dcs_task_exporter.tasks.models import (
    MAX_ROWS,
    CenterTask,
    Instance,
    Listing,
    Progress,
    Task,
    TaskPage,
    TaskParser,
    at_most,
    refuse_error,
)
from dcs_task_exporter.text.json_values import id_of, integer_of

LIST_TASKS: Final = "list_tasks"
LIST_INSTANCES: Final = "list_instances"
LIST_PROJECTS: Final = "list_projects"
LIST_CENTER_TASKS: Final = "list_center_tasks"
TASK_PROGRESS: Final = "task_progress"

LOOK_UP_PAUSE: Final = 10.0
"""Seconds for which a failed look-up of the project's id stands for all instances."""

SAFE_PAGE_SIZE: Final = 10
"""The API's default page size, for clouds that refuse a larger one."""

MAX_INSTANCES: Final = 50_000
"""Instances of a project above which its listing is taken for one that never ends."""

INSTANCE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}", re.ASCII)
"""What an instance's id looks like: another one would ask for another path."""

_MISSING: Final = object()

logger = logging.getLogger(__name__)

Row = TypeVar("Row", bound=Listed)
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
class _Listing(Generic[Row]):
    """What is listed: by which operation, of which instance, where, since when, until when."""

    operation: str
    subject: str
    url: str
    start: float
    deadline: float
    parse: Callable[[object], Row]
    page_size: PageSize


@dataclass(slots=True)
class _Memory:
    """What is remembered of an instance's listings; used by one thread at a time.

    `tasks` are those of the latest one, also where it was cut. Now and then a listing is
    exhaustive, each instance's at a moment of its own. The times of the page `checked` can be, at
    `checked_at` and later.
    """

    first_page: AnswerMemory[TaskPage[Task]] = field(default_factory=AnswerMemory)
    page_size: PageSize = field(default_factory=PageSize)
    tasks: tuple[Task, ...] | None = None
    listings: int = 0
    checked: TaskPage[Task] | None = None
    checked_at: float = 0.0

    def is_exhaustive(self, interval: int) -> bool:
        """Count a listing, and return whether it is read to its end: one in `interval` is."""
        self.listings += 1
        return self.listings % interval == 0


@dataclass(frozen=True, slots=True)
class _InstancePage:
    """One page of the instances: those that can be read, its rows, and its ``instance_num``."""

    instances: tuple[Instance, ...]
    size: int
    counted: int


@dataclass(slots=True)
class _Heard:
    """The cloud's time (Unix seconds) by its latest answer."""

    at: float | None = None

    def hear(self, at: float | None) -> None:
        """Note the time of an answer."""
        self.at = at


class DcsClient:
    """Reads one project through the documented API; safe to use from several threads.

    `latest_time` returns the latest time (Unix seconds) that it may be, where no answer tells.
    """

    def __init__(
        self,
        settings: ClientSettings,
        caller: ApiCaller,
        monotonic: Callable[[], float],
        latest_time: Callable[[], float],
    ) -> None:
        self._latest_time = latest_time
        self._settings = settings
        self._caller = caller
        self._monotonic = monotonic
        self._project_id = settings.project_id
        self._project_id_lock = threading.Lock()
        self._look_up_failure: tuple[float, ApiError] | None = None
        self._page_size = settings.page_size
        self._memories: dict[str, _Memory] = {}
        self._parser = TaskParser(personal=settings.personal)
        self._start = {
            operation: StartParameter(settings.start_parameter, self._say_of(operation))
            for operation in (LIST_TASKS, LIST_CENTER_TASKS)
        }
        self._tasks: WholeListing[Task] = self._whole_listing(LIST_TASKS)
        self._center_tasks: WholeListing[CenterTask] = self._whole_listing(LIST_CENTER_TASKS)
        self._center_page_size = PageSize()
        self._told_of_times = False
        self._told_of_rows = False

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return all tasks of an instance that started at `start` (Unix seconds) or later.

        No request starts after `deadline` (monotonic). Tasks without a start that can be are kept:
        they cannot be said to be older. Raises `ApiError`; `InvalidResponseError` and
        `IncompleteListingError` where the pages are no whole listing.
        """
        base = self._project_url(deadline)
        url = f"{base}/instances/{quote(instance_id, safe='')}/tasks"
        memory, heard = self._memory_of(instance_id), _Heard()
        memory.page_size.begin()
        listing = _Listing(
            LIST_TASKS, instance_id, url, start, deadline, self._parser.task, memory.page_size
        )
        interval = check_interval(len(self._memories))
        window = Window(start, memory.tasks, memory.is_exhaustive(interval))

        def fetch(place: Place, names: tuple[str, ...]) -> tuple[TaskPage[Task], int]:
            first = memory.first_page if place.position == 0 else None
            page, limit = self._task_page(listing, place, names, heard, first)
            latest = self._latest_time() if heard.at is None else heard.at
            # The usual case, and all its times need not be looked at once more (6 us).
            if page is not memory.checked or latest < memory.checked_at:
                odd, page = page, self._with_plausible_times(page, latest, instance_id)
                memory.checked, memory.checked_at = page if page is odd else None, latest
            return page, limit

        rows, truncated = self._tasks.read(fetch, window)
        kept = [task for task in rows if task.created_at is None or task.created_at >= start]
        kept.sort(key=lambda task: (-(task.created_at or 0.0), task.id))
        tasks = tuple(kept)
        memory.tasks = tasks
        return Listing(tasks, start, truncated=truncated, answered_at=heard.at)

    def list_center_tasks(
        self, start: float, deadline: float
    ) -> tuple[tuple[CenterTask, ...], bool]:
        """Return the tasks of the whole project that started at `start` or later.

        The second value says that the page cap cut the listing. Raises `ApiError`.
        """
        url = f"{self._project_url(deadline)}/tasks"
        heard, page_size = _Heard(), self._center_page_size
        page_size.begin()
        listing = _Listing(
            LIST_CENTER_TASKS, "", url, start, deadline, CenterTask.from_json, page_size
        )

        def fetch(place: Place, names: tuple[str, ...]) -> tuple[TaskPage[CenterTask], int]:
            return self._task_page(listing, place, names, heard)

        rows, truncated = self._center_tasks.read(fetch, Window(start))
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
        """Return all instances of the project; a row that cannot be one costs itself.

        Raises `ApiError`; `InvalidResponseError` when twice fewer are listed than are counted.
        """
        url = f"{self._project_url(deadline)}/instances"
        counted = listed = 0
        for _ in range(READINGS):
            found, listed, counted = self._all_instances(url, deadline)
            if counted <= listed:
                return found
        message = f"the listing of instances counts {counted}, and lists {listed}"
        error = InvalidResponseError(message)
        self._caller.count_error(LIST_INSTANCES, error)
        raise error

    def _all_instances(self, url: str, deadline: float) -> tuple[tuple[Instance, ...], int, int]:
        """Return the instances of all pages, how many rows these have, and the largest count."""
        found: dict[str, Instance] = {}
        offset = unreadable = counted = 0
        page_size = PageSize()
        while offset < MAX_INSTANCES:
            page, limit = self._page(
                LIST_INSTANCES, url, {}, Place(offset), page_size, deadline, self._instances
            )
            counted = max(counted, page.counted)
            new = [instance for instance in page.instances if instance.id not in found]
            # Nothing, or what a cloud that knows no offset lists again.
            if not new and (page.instances or page.size < limit):
                unreadable += page.size - len(page.instances)
                return tuple(found.values()), len(found) + unreadable, counted
            found.update((instance.id, instance) for instance in page.instances)
            unreadable += page.size - len(page.instances)
            offset += page.size
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

    def _memory_of(self, instance_id: str) -> _Memory:
        """Return the memory of an instance, whose first page seldom changes."""
        memory = self._memories.get(instance_id)
        if memory is None:
            began = zlib.crc32(instance_id.encode(errors="replace")) % LONGEST_CHECK_INTERVAL
            memory = self._memories.setdefault(instance_id, _Memory(listings=began))
        return memory

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Keep nothing of the answers for other instances."""
        for key in self._memories.keys() - set(instance_ids):
            self._memories.pop(key, None)

    def _project_url(self, deadline: float) -> str:
        project_id = quote(self.project_id(deadline), safe="")
        return f"{self._settings.dcs_endpoint}/v2/{project_id}"

    def _task_page(
        self,
        listing: _Listing[Row],
        place: Place,
        names: tuple[str, ...],
        heard: _Heard,
        memory: AnswerMemory[TaskPage[Row]] | None = None,
    ) -> tuple[TaskPage[Row], int]:
        moment = datetime.fromtimestamp(max(0.0, listing.start), tz=timezone.utc)
        start = moment.strftime("%Y%m%d%H%M%S")
        try:
            return self._page(
                listing.operation,
                listing.url,
                dict.fromkeys(names, start),
                place,
                listing.page_size,
                listing.deadline,
                lambda data: TaskPage.from_json(
                    data, listing.parse, first=place.position == 0
                ).sharing(memory.latest if memory is not None else None),
                memory,
                subject=listing.subject,
                heard=heard.hear,
            )
        except BadRequestError:
            parameter = self._start[listing.operation]
            if not parameter.refused(names):
                raise
            return self._task_page(listing, place, parameter.names, heard, memory)

    def _page(
        self,
        operation: str,
        url: str,
        query: Mapping[str, str],
        place: Place,
        page_size: PageSize,
        deadline: float,
        parse: Callable[[object], Parsed],
        memory: AnswerMemory[Parsed] | None = None,
        *,
        subject: str = "",
        heard: Callable[[float | None], None] | None = None,
    ) -> tuple[Parsed, int]:
        """Return one page of a listing, and its limit: what the cloud takes, and we can read."""
        while True:
            limit = page_size.of(self._page_size)
            paged = {**query, "limit": str(limit), "offset": str(place.offset(limit))}
            try:
                page = self._caller.get(
                    operation,
                    url,
                    paged,
                    deadline,
                    parse,
                    project_id=self._project_id,
                    memory=memory,
                    subject=subject,
                    heard=heard,
                )
            except BadRequestError as error:
                if limit <= SAFE_PAGE_SIZE or "limit" not in error.message.lower():
                    raise
                # What the largest page is in older regions is not published.
                self._page_size = SAFE_PAGE_SIZE
            except TooLargeError as error:
                self._ask_for_less(error, operation, subject, limit)
                page_size.halve(limit)
            else:
                return page, limit

    def _ask_for_less(self, error: TooLargeError, operation: str, subject: str, limit: int) -> None:
        """Say that a page was too large; raise `TooLargeError` where it was asked for one row."""
        if limit == 1:
            message = f"{error.message}, although it was asked for one row"
            raise TooLargeError(message, status=error.status, request_id=error.request_id) from None
        fields = {
            "project": self._settings.project,
            "operation": operation,
            "dcs_instance_id": subject,
            "error": error.message,
        }
        logger.warning("an answer is too large: fewer rows are asked for", extra={"fields": fields})

    def _instances(self, data: object) -> _InstancePage:
        if isinstance(data, Mapping):
            refuse_error(data)
        rows = at_most(MAX_ROWS, _rows(data, "instances"))
        found = [instance for row in rows if (instance := self._instance(row)) is not None]
        counted = integer_of(data.get("instance_num")) if isinstance(data, Mapping) else None
        return _InstancePage(tuple(found), len(rows), counted or 0)

    def _instance(self, row: object) -> Instance | None:
        """Return the instance of a row, or None of one that cannot be asked for."""
        settings = self._settings
        try:
            instance = Instance.from_json(
                row,
                project=settings.project,
                project_id=self._project_id,
                region=settings.region,
            )
        except InvalidResponseError as error:
            self._tell_of_row(error.message)
            return None
        if INSTANCE_ID.fullmatch(instance.id):
            return instance
        self._tell_of_row(f"its id cannot be one: {instance.id[:64]!r}")
        return None

    def _tell_of_row(self, problem: str) -> None:
        if not self._told_of_rows:
            self._told_of_rows = True
            logger.warning(
                "the listing of instances has a row that cannot be read: it is left out",
                extra={"fields": {"project": self._settings.project, "problem": problem}},
            )

    def _with_plausible_times(
        self, page: TaskPage[Task], latest: float, instance_id: str
    ) -> TaskPage[Task]:
        """Return the page without the times that cannot be; say once that there were some."""
        tasks = tuple(task.with_plausible_times(latest) for task in page.tasks)
        odd = [new.id for old, new in zip(page.tasks, tasks, strict=True) if new is not old]
        if not odd:
            return page
        if not self._told_of_times:
            self._told_of_times = True
            fields = {
                "project": self._settings.project,
                "dcs_instance_id": instance_id,
                "task_id": odd[0],
            }
            logger.warning(
                "a task has a time before 2010 or in the future: it counts as unknown",
                extra={"fields": fields},
            )
        return TaskPage(tasks, page.task_count)

    def _whole_listing(self, operation: str) -> WholeListing[Any]:
        return WholeListing(
            self._start[operation],
            self._settings.max_pages,
            lambda error: self._caller.count_error(operation, error),
        )

    def _say_of(self, operation: str) -> Callable[[str], None]:
        fields = {"project": self._settings.project, "operation": operation}
        return lambda message: logger.warning(message, extra={"fields": fields})


def _project_ids(data: object) -> tuple[str, ...]:
    rows = [row for row in _rows(data, "projects") if isinstance(row, Mapping)]
    return tuple(project_id for row in rows if (project_id := id_of(row.get("id"))))


def _rows(data: object, key: str) -> list[Any]:
    rows = data.get(key, _MISSING) if isinstance(data, Mapping) else _MISSING
    if rows is None:
        return []
    if not isinstance(rows, list):
        message = f"the answer has no list of {key}"
        raise InvalidResponseError(message)
    return rows
