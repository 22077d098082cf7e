"""Parsing at the edge: what odd answers become."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.models import MAX_SHARED_DETAILS, Task, TaskDetails, TaskPage, TaskParser

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
    """What a parser knows from before changes nothing: 1, 1.0 and true stay what they are."""
    parser = TaskParser()

    assert [parser.task(task_row(row)) for row in rows] == [
        Task.from_json(task_row(row)) for row in rows
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


def test_half_a_surrogate_pair() -> None:
    """A text that is valid JSON but no valid Unicode does not cost the whole exposition."""
    task = Task.from_json(json.loads('{"id": "a", "name": "EX\\ud83d", "error_code": "\\udc80"}'))

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
        TaskPage.from_json(body, Task.from_json)


@pytest.mark.parametrize("body", [{"task_count": 0}, {"tasks": []}, {"task_count": 5, "tasks": []}])
def test_no_tasks(body: object) -> None:
    """An answer without tasks is one: beyond the last page a total may stand beside it."""
    assert TaskPage.from_json(body, Task.from_json).tasks == ()
