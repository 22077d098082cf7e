"""Parsing at the edge: what odd answers become."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.tasks.models import (
    MAX_SHARED_DETAILS,
    Outcome,
    Task,
    TaskDetails,
    TaskPage,
    TaskParser,
)

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


def test_equal_tasks_are_held_once() -> None:
    """Of two pages the later holds the earlier one's tasks, but for those that changed."""

    def page(*statuses: str) -> TaskPage[Task]:
        rows = [{"id": str(at), "status": status} for at, status in enumerate(statuses)]
        return TaskPage.from_json({"tasks": rows}, Task.from_json)

    before = page("SUCCESS", "EXECUTING")
    after = page("SUCCESS", "FAILED", "CREATED")
    shared = after.sharing(before)

    assert shared == after
    assert shared.tasks[0] is before.tasks[0]
    assert after.sharing(None) is after


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
    ("details", "attempt"),
    [
        ({}, ""),
        (
            {"old_capacity": "0.125", "new_capacity": "0.25"},
            "tried to extend from 0.125 GB to 0.25 GB",
        ),
        ({"old_capacity": 4, "new_capacity": 2}, "tried to shrink from 4 GB to 2 GB"),
        (
            {"old_replica_num": 1, "new_replica_num": 2, "old_port": 1, "new_port": 2},
            "tried to change the number of replicas from 1 to 2 and change the port from 1 to 2",
        ),
        (
            {"enable_ssl": True, "rename_commands": ["KEYS", "FLUSHALL"], "enable_public_ip": 0},
            "tried to switch SSL on and rename the commands KEYS, FLUSHALL",
        ),
        (
            {"enable_public_ip": False, "enable_ssl": False, "updated_config_length": 3},
            "tried to switch public access off, switch SSL off and change 3 settings",
        ),
        ({"new_capacity": 2}, ""),
        ({"account_name": "alice", "source_ip": "192.0.2.1", "target_ip": "192.0.2.2"}, ""),
    ],
)
def test_attempt(details: dict[str, Any], attempt: str) -> None:
    """What a failed task was about is told as an attempt, never as a change."""
    failed = Task("a", "EXTEND", "FAILED", details=TaskDetails.from_json(details))

    assert failed.summary(Outcome.FAILURE) == attempt


def test_attempt_with_who_and_where() -> None:
    """Who and from which address is told of an attempt only when that is wanted."""
    details = TaskDetails(account_name="alice", source_ip="192.0.2.1", target_ip="192.0.2.2")

    told = details.attempt(personal=True)

    assert told == "account alice, address 192.0.2.1 -> 192.0.2.2"
