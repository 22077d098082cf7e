"""The API's JSON as tasks, instances and pages: behind this module nothing sees a raw dictionary.

Sources: the API page *Querying Background Tasks*, tables 3 to 5, and the models of the Huawei
Cloud SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Generic, TypeVar

from dcs_task_exporter.cloud.values import (
    boolean_of,
    id_of,
    integer_of,
    number_of,
    object_of,
    required,
    tags_of,
    text_of,
    texts_of,
    word_of,
)
from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import (
    MAX_LABEL_LENGTH,
    UNNAMED,
    CenterTask,
    Instance,
    Progress,
    Task,
)
from dcs_task_exporter.tasks.statuses import NO_STATUS
from dcs_task_exporter.text.times import parse_time

MAX_ROWS: Final = 1000
"""Most rows of a page: the largest page that can be asked for."""

INSTANCE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}", re.ASCII)
"""The form of an instance's id: any other could change the path of the URL."""


Row = TypeVar("Row", bound=Task | CenterTask)


@dataclass(frozen=True, slots=True)
class TaskPage(Generic[Row]):
    """One page of a listing: its tasks, and the API's `task_count` where it is a number."""

    tasks: tuple[Row, ...]
    task_count: int | None


@dataclass(frozen=True, slots=True)
class InstancePage:
    """One page of the instances: those that can be watched, and the API's ``instance_num``.

    `size` counts all rows; `problem` says why one of them was left out, or is empty.
    """

    instances: tuple[Instance, ...]
    size: int
    counted: int
    problem: str


def parse_page(
    data: object,
    parse: Callable[[object], Row],
    *,
    is_first: bool = True,
    known: Iterable[Row] = (),
) -> TaskPage[Row]:
    """Parse the body of *Querying Background Tasks* (table 3), each task by `parse`.

    A page that is not the first may have no `tasks` beside a total. A row that equals a `known` one
    is held once, which saves 5 % of the memory when each of 1,000 listings of 50 tasks changes.
    Raises `InvalidResponseError` for any other body, and for a single task without an id: it may be
    the one that failed.
    """
    row = object_of(data, "the answer")
    _refuse_error(row)
    if "tasks" not in row and "task_count" not in row:
        message = "the answer has neither tasks nor task_count"
        raise InvalidResponseError(message)
    count = integer_of(row.get("task_count"))
    if row.get("tasks") is None and is_first and count:
        message = "the answer has no tasks, but a task_count"
        raise InvalidResponseError(message)
    rows = _rows(row, "tasks") if "tasks" in row else []
    before = {row.id: row for row in known}
    tasks = [(new, before.get(new.id)) for new in map(parse, rows)]
    return TaskPage(
        tuple(old if old is not None and old == new else new for new, old in tasks), count
    )


def parse_task(
    data: object, details: Callable[[object], TaskDetails] | None = None, *, personal: bool = True
) -> Task:
    """Parse one element of `tasks` (table 4), and its `details` by a parser of their own.

    Raises `InvalidResponseError` without an `id`: the task could be counted twice.
    """
    row = object_of(data, "a task")
    return Task(
        id=required(row, "id", "a task"),
        name=word_of(text_of(row.get("name"))[:MAX_LABEL_LENGTH]) or UNNAMED,
        status=word_of(text_of(row.get("status")).upper()[:MAX_LABEL_LENGTH]) or NO_STATUS,
        created_at=parse_time(row.get("created_at")),
        updated_at=parse_time(row.get("updated_at")),
        details=(details or parse_details)(row.get("details")),
        user_name=word_of(row.get("user_name")) if personal else "",
        enable_show=bool(boolean_of(row.get("enable_show"))),
        error_code=text_of(row.get("error_code")).replace(" ", ""),
    )


_DETAIL_PARSERS: Final[Mapping[str, Callable[[object], Any]]] = {
    item.name: {
        "float | None": number_of,
        "int | None": integer_of,
        "bool | None": boolean_of,
        "tuple[str, ...]": texts_of,
        "str": word_of,
    }[str(item.type)]
    for item in fields(TaskDetails)
}


def parse_details(data: object) -> TaskDetails:
    """Parse `details` (table 5), where any field may have another type, be null or be absent."""
    if not isinstance(data, dict):
        return TaskDetails()
    if "new_cache_mode" not in data and "new_cahce_mode" in data:
        # So spelled in the API page's example of 2021.
        data = {**data, "new_cache_mode": data["new_cahce_mode"]}
    return TaskDetails(
        **{
            name: _DETAIL_PARSERS[name](value)
            for name, value in data.items()
            if value is not None and value != "" and name in _DETAIL_PARSERS
        }
    )


def parse_center_task(data: object) -> CenterTask:
    """Parse one element of the task center's `tasks`.

    Raises `InvalidResponseError` when it has no `id`.
    """
    row = object_of(data, "a task")
    return CenterTask(
        id=required(row, "id", "a task"),
        status=text_of(row.get("status")).upper(),
        updated_at=text_of(row.get("updated_at")),
        instance_id=id_of(row.get("instance_id")),
        created_at=parse_time(row.get("created_at")),
    )


def parse_progress(data: object) -> Progress:
    """Parse the body of *Querying Background Task Progress*.

    Raises `InvalidResponseError` when it holds no progress.
    """
    row = object_of(data, "the answer")
    percent, remaining = number_of(row.get("progress")), number_of(row.get("remain_time"))
    if percent is None and remaining is None:
        message = "the answer has neither progress nor remain_time"
        raise InvalidResponseError(message)
    ratio = None if percent is None else min(max(percent / 100, 0.0), 1.0)
    return Progress(ratio, None if remaining is None else max(remaining, 0.0))


def parse_instances(data: object, parse: Callable[[object], Instance]) -> InstancePage:
    """Parse the body of *Querying All DCS Instances*, each instance by `parse`.

    A row that `parse` refuses with `InvalidResponseError` is left out.
    """
    row = object_of(data, "the answer")
    _refuse_error(row)
    rows, found, problem = _rows(row, "instances"), [], ""
    for item in rows:
        try:
            found.append(parse(item))
        except InvalidResponseError as error:
            problem = error.message
    return InstancePage(tuple(found), len(rows), integer_of(row.get("instance_num")) or 0, problem)


def parse_instance(data: object, *, project: str, project_id: str, region: str) -> Instance:
    """Parse one element of ``instances``.

    Raises `InvalidResponseError` without an ``instance_id`` that is fit for a URL.
    """
    row = object_of(data, "an instance")
    instance_id = required(row, "instance_id", "an instance")
    if not INSTANCE_ID.fullmatch(instance_id):
        message = f"the id of an instance is invalid: {instance_id[:64]!r}"
        raise InvalidResponseError(message)
    return Instance(
        id=instance_id,
        name=text_of(row.get("name")),
        project=project,
        project_id=project_id,
        region=region,
        engine=text_of(row.get("engine")),
        engine_version=text_of(row.get("engine_version")),
        spec_code=text_of(row.get("spec_code")),
        status=text_of(row.get("status")).upper(),
        tags=tags_of(row.get("tags")),
    )


def parse_project_ids(data: object) -> tuple[str, ...]:
    """Parse the body of the identity service's *Querying Project Information*."""
    rows = _rows(object_of(data, "the answer"), "projects")
    ids = (id_of(row.get("id")) for row in rows if isinstance(row, dict))
    return tuple(filter(None, ids))


def _rows(row: Mapping[str, Any], key: str) -> list[Any]:
    """Return the rows under a key; refuse too many before any of them is parsed."""
    if key not in row:
        message = f"the answer has no {key}"
        raise InvalidResponseError(message)
    rows = row[key]
    if rows is None:
        return []
    if not isinstance(rows, list):
        message = f"{key} is {type(rows).__name__}, not a list"
        raise InvalidResponseError(message)
    if len(rows) > MAX_ROWS:
        message = f"the answer has {len(rows)} rows, more than were asked for"
        raise InvalidResponseError(message)
    return rows


def _refuse_error(row: Mapping[str, Any]) -> None:
    """Raise `InvalidResponseError` for a good answer that holds an error beside its data."""
    code, text = text_of(row.get("error_code")), text_of(row.get("error_msg"))
    if code or text:
        message = f"the answer holds data and an error: {code or text}"
        raise InvalidResponseError(message)
