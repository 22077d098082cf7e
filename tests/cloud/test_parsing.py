"""Parsing at the edge: what odd answers become."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dcs_task_exporter.cloud.parsing import (
    TaskPage,
    parse_page,
    parse_progress,
    parse_task,
)
from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.tasks.models import Progress, Task


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
