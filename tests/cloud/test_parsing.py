"""Parsing at the edge: what odd answers become."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dcs_task_exporter.cloud.parsing import (
    TaskPage,
    parse_center_task,
    parse_details,
    parse_instance,
    parse_instances,
    parse_page,
    parse_progress,
    parse_project_ids,
    parse_task,
)
from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import CenterTask, Instance, Progress, Task


def test_equal_tasks_are_held_once() -> None:
    """A page holds the known tasks, but for those that changed."""

    def page(*statuses: str, known: tuple[Task, ...] = ()) -> TaskPage[Task]:
        rows = [{"id": str(at), "status": status} for at, status in enumerate(statuses)]
        return parse_page({"tasks": rows}, parse_task, known=known)

    before = page("SUCCESS", "EXECUTING").tasks
    after = page("SUCCESS", "FAILED", "CREATED", known=before)

    assert after == page("SUCCESS", "FAILED", "CREATED")
    assert after.tasks[0] is before[0]


def test_half_a_surrogate_pair() -> None:
    """A text that is valid JSON but no valid Unicode does not cost the whole exposition."""
    task = parse_task(json.loads('{"id": "a", "name": "EX\\ud83d", "error_code": "\\udc80"}'))

    class Shown(Collector):
        def collect(self) -> list[GaugeMetricFamily]:
            family = GaugeMetricFamily("x", "X.", labels=["a", "b"])
            family.add_metric([task.name, task.error_code], 1)
            return [family]

    registry = CollectorRegistry()
    registry.register(Shown())

    assert b'a="EX?"' in generate_latest(registry)


def test_a_status_in_any_case() -> None:
    """A status is in upper case, however the cloud writes it."""
    assert parse_task({"id": "a", "status": "Success"}).status == "SUCCESS"


@pytest.mark.parametrize(
    "body",
    [
        {"task_count": 3, "tasks": None},
        {"task_count": "3"},
        {"tasks": None, "error_code": "DCS.5000"},
    ],
)
def test_contradiction(body: object) -> None:
    """An answer that counts tasks, or errs, but lists none, is not taken for "no tasks"."""
    with pytest.raises(InvalidResponseError):
        parse_page(body, parse_task)


@pytest.mark.parametrize("body", [{"task_count": 0}, {"tasks": []}, {"task_count": 5, "tasks": []}])
def test_no_tasks(body: object) -> None:
    """An answer without tasks is one: beyond the last page a total may stand beside it."""
    assert parse_page(body, parse_task).tasks == ()


@pytest.mark.parametrize(
    ("body", "progress"),
    [
        ({"progress": 30, "remain_time": 100}, Progress(0.3, 100)),
        ({"progress": "100", "remain_time": None}, Progress(1, None)),
        ({"progress": 140, "remain_time": -1}, Progress(1, 0)),
        ({"remain_time": 5}, Progress(None, 5)),
    ],
)
def test_parsing(body: object, progress: Progress) -> None:
    """Numbers may be text; what is out of range is cut to it."""
    assert parse_progress(body) == progress


@pytest.mark.parametrize("body", [{}, {"progress": "soon"}, [], None, {"error_code": "DCS.4802"}])
def test_no_progress_in_it(body: object) -> None:
    """A body without either number is an invalid answer."""
    with pytest.raises(InvalidResponseError):
        parse_progress(body)


def test_every_field_of_a_task() -> None:
    """Each field of table 4 that is kept arrives in its field."""
    row = {
        "id": "ff80",
        "name": "EXTEND",
        "details": {"new_port": 6380},
        "user_name": "alice",
        "user_id": "f1d2",
        "params": "",
        "status": "success",
        "created_at": "2020-06-17T07:37:42.503Z",
        "updated_at": "2020-06-17T07:38:42.504Z",
        "error_code": " DCS. 4802 ",
        "enable_show": True,
        "job_id": "j",
    }
    task = Task(
        id="ff80",
        name="EXTEND",
        status="SUCCESS",
        created_at=1_592_379_462.503,
        updated_at=1_592_379_522.504,
        details=TaskDetails(new_port=6380),
        user_name="alice",
        enable_show=True,
        error_code="DCS.4802",
    )

    assert parse_task(row) == task


def test_the_user_is_personal() -> None:
    """The name of the user is kept only where personal data are wanted."""
    assert parse_task({"id": "a", "user_name": "alice"}, personal=False).user_name == ""


def test_a_task_with_an_id_alone() -> None:
    """A task may lack everything but its id."""
    assert parse_task({"id": "a"}) == Task("a", "unknown", "UNKNOWN")


@pytest.mark.parametrize("row", [{}, {"id": ""}, {"id": None}, {"id": " "}])
@pytest.mark.parametrize("parse", [parse_task, parse_center_task])
def test_a_task_without_an_id(parse: Callable[[object], object], row: object) -> None:
    """A task without an id could be counted twice: it is refused, and said so."""
    with pytest.raises(InvalidResponseError, match=r"^a task has no id$"):
        parse(row)


@pytest.mark.parametrize("parse", [parse_task, parse_center_task])
def test_a_task_that_is_no_object(parse: Callable[[object], object]) -> None:
    """A row of another type is refused, and its type is named."""
    with pytest.raises(InvalidResponseError, match=r"^a task is str, not an object$"):
        parse("EXTEND")


def test_every_field_of_the_details() -> None:
    """Each documented field of `details` arrives in its field, with its type."""
    texts = {item.name: f"a {item.name}" for item in fields(TaskDetails) if item.type == "str"}
    numbers = {"old_capacity": 0.125, "new_capacity": 0.25}
    wholes = {"old_replica_num": 1, "new_replica_num": 2, "old_port": 6379, "new_port": 6380}
    wholes["updated_config_length"] = 3
    switches = {"enable_public_ip": True, "enable_ssl": False, "is_only_adjust_charging": True}
    listed = {"rename_commands": ("keys", "flushall")}
    known: dict[str, Any] = {**texts, **numbers, **wholes, **switches, **listed}

    assert {item.name for item in fields(TaskDetails)} == known.keys()
    assert parse_details({**known, "rename_commands": ["keys", "flushall"]}) == TaskDetails(**known)


@pytest.mark.parametrize(
    ("details", "mode"),
    [
        ({"new_cahce_mode": "ha"}, "ha"),
        ({"new_cache_mode": "single", "new_cahce_mode": "ha"}, "single"),
        ({"new_cache_mode": "", "new_cahce_mode": "ha"}, ""),
    ],
)
def test_the_misspelt_cache_mode(details: object, mode: str) -> None:
    """The API page's example misspells a key: it counts where the right one is absent."""
    assert parse_details(details).new_cache_mode == mode


def test_every_field_of_a_center_task() -> None:
    """Each field that shows a change arrives in its field."""
    row = {
        "id": "t",
        "status": "executing",
        "updated_at": "2020-06-17T07:38:42Z",
        "instance_id": "i0",
        "created_at": "2020-06-17T07:37:42Z",
    }
    task = CenterTask("t", "EXECUTING", "2020-06-17T07:38:42Z", "i0", 1_592_379_462.0)

    assert parse_center_task(row) == task


INSTANCE_ROW = {
    "instance_id": "i0",
    "name": "orders",
    "engine": "Redis",
    "engine_version": "5.0",
    "spec_code": "redis.ha.xu1.tiny.r2.128",
    "status": "running",
    "tags": [{"key": "team", "value": "orders"}, {"key": "", "value": "x"}, "odd"],
}


def parsed_instance(data: object) -> Instance:
    """Return an instance of the project `prod`."""
    return parse_instance(data, project="prod", project_id="p0", region="cn-north-4")


def test_every_field_of_an_instance() -> None:
    """Each field that is shown arrives in its field."""
    assert parsed_instance(INSTANCE_ROW) == Instance(
        id="i0",
        name="orders",
        project="prod",
        project_id="p0",
        region="cn-north-4",
        engine="Redis",
        engine_version="5.0",
        spec_code="redis.ha.xu1.tiny.r2.128",
        status="RUNNING",
        tags={"team": "orders"},
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "^an instance has no instance_id$"),
        ("i0", "^an instance is str, not an object$"),
        ({"instance_id": "../../v3"}, "^the id of an instance is invalid: '../../v3'$"),
        ({"instance_id": "a" * 129}, "^the id of an instance is invalid: 'a{64}'$"),
    ],
)
def test_an_instance_without_a_good_id(row: object, message: str) -> None:
    """An id that is no part of a path is refused, and shown cut."""
    with pytest.raises(InvalidResponseError, match=message):
        parsed_instance(row)


def test_a_row_that_is_no_instance_is_left_out() -> None:
    """One bad row does not cost the others; its problem is told, and it is counted."""
    page = parse_instances({"instances": [INSTANCE_ROW, {}], "instance_num": "2"}, parsed_instance)

    assert [item.id for item in page.instances] == ["i0"]
    assert (page.size, page.counted, page.problem) == (2, 2, "an instance has no instance_id")


def test_ids_of_projects() -> None:
    """The ids of the projects are read; rows without one are left out."""
    body = {"projects": [{"id": "p0"}, {"name": "x"}, "odd", {"id": ""}, {"id": "p1"}]}

    assert parse_project_ids(body) == ("p0", "p1")


@pytest.mark.parametrize(
    ("parse", "body", "message"),
    [
        (parse_project_ids, [], "^the answer is list, not an object$"),
        (parse_project_ids, {}, "^the answer has no projects$"),
        (parse_project_ids, {"projects": {}}, "^projects is dict, not a list$"),
        (
            parse_project_ids,
            {"projects": [{}] * 1001},
            "^the answer has 1001 rows, more than were asked for$",
        ),
        (parse_progress, [], "^the answer is list, not an object$"),
        (parse_progress, {}, "^the answer has neither progress nor remain_time$"),
        (partial(parse_page, parse=parse_task), [], "^the answer is list, not an object$"),
        (
            partial(parse_page, parse=parse_task),
            {},
            "^the answer has neither tasks nor task_count$",
        ),
        (
            partial(parse_page, parse=parse_task),
            {"task_count": 2},
            "^the answer has no tasks, but a task_count$",
        ),
        (
            partial(parse_page, parse=parse_task),
            {"tasks": [], "error_code": "DCS.5000"},
            "^the answer holds data and an error: DCS.5000$",
        ),
        (
            partial(parse_page, parse=parse_task),
            {"tasks": [], "error_msg": "busy"},
            "^the answer holds data and an error: busy$",
        ),
        (
            partial(parse_instances, parse=parsed_instance),
            {"instances": [], "error_msg": "busy"},
            "^the answer holds data and an error: busy$",
        ),
        (partial(parse_instances, parse=parsed_instance), {}, "^the answer has no instances$"),
    ],
)
def test_the_reason_of_an_invalid_answer(
    parse: Callable[[object], object], body: object, message: str
) -> None:
    """An answer that is not as documented is refused with its reason."""
    with pytest.raises(InvalidResponseError, match=message):
        parse(body)


def test_a_thousand_rows_are_read() -> None:
    """The largest page that can be asked for is read whole."""
    rows = [{"id": str(at)} for at in range(1000)]

    assert len(parse_page({"tasks": rows}, parse_task).tasks) == 1000
