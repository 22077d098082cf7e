"""Parsing at the edge: what odd answers become."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dcs_task_exporter.cloud.parsing import (
    MAX_SHARED_DETAILS,
    TaskPage,
    TaskParser,
    parse_page,
    parse_progress,
    parse_task,
)
from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import Progress, Task

VALUES = st.none() | st.booleans() | st.sampled_from([0, 1, 2, 0.0, 1.0, "", "1", "true"])
DETAILS = st.dictionaries(
    st.sampled_from(["old_port", "enable_ssl", "old_capacity", "node_name", "rename_commands"]),
    VALUES | st.lists(st.text(max_size=2), max_size=2) | st.dictionaries(st.text(), st.text()),
)


def task_row(details: object) -> dict[str, object]:
    """Return a task of the API with these details."""
    return {"id": "a", "name": "EXTEND", "details": details}


@given(st.lists(DETAILS | st.none() | st.text(), max_size=8))
def test_shared_details(rows: list[object]) -> None:
    """Details of earlier tasks change nothing: 1, 1.0 and true stay as they are."""
    parser = TaskParser()

    assert [repr(parser.task(task_row(row))) for row in rows] == [
        repr(parse_task(task_row(row))) for row in rows
    ]


def test_details_are_held_once() -> None:
    """Tasks with the same details hold the same object."""
    parser = TaskParser()
    one, other = (parser.task(task_row({"node_name": "n", "old_port": 1})) for _ in range(2))

    assert one.details == TaskDetails(node_name="n", old_port=1)
    assert one.details is other.details


def test_details_that_never_come_again() -> None:
    """A parser does not grow for ever."""
    parser = TaskParser()
    for number in range(3 * MAX_SHARED_DETAILS):
        parser.task(task_row({"node_name": f"n{number}"}))

    assert parser.remembered <= MAX_SHARED_DETAILS


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


def test_nothing_personal_is_kept() -> None:
    """Unless it is wanted, neither the user nor an account nor an address is kept."""
    row = {
        "id": "a",
        "user_name": "alice",
        "details": {
            "account_name": "bob",
            "source_ip": "192.0.2.1",
            "target_ip": "192.0.2.2",
            "node_name": "node-192.0.2.3",
            "replica_ip": "192.0.2.4",
            "public_ip_address": "192.0.2.5",
            "new_port": 6380,
        },
    }
    kept = TaskParser(personal=False).task(row)

    assert not re.search(r"alice|bob|192\.0\.2", repr(kept))
    assert kept.details.new_port == 6380
    assert len(re.findall(r"192\.0\.2", repr(TaskParser().task(row)))) == 5


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
