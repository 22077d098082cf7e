"""Parsing at the edge: what odd answers become."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.models import Task, TaskPage


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
        TaskPage.from_json(body)


@pytest.mark.parametrize("body", [{"task_count": 0}, {"tasks": []}, {"task_count": 5, "tasks": []}])
def test_no_tasks(body: object) -> None:
    """An answer without tasks is one: beyond the last page a total may stand beside it."""
    assert TaskPage.from_json(body).tasks == ()
