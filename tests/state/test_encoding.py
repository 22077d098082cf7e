"""The text of a state: all of it comes back, and nothing personal is in it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from dcs_task_exporter.state.encoding import decode, encode
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Task
from dcs_task_exporter.tasks.naming import Naming

FAILED = ("EXTEND", "FAILED")
STATE = InstanceState(
    baseline_at=1.0,
    baseline_partial=True,
    refreshed_at=2.0,
    forgotten_until=3.0,
    listed_since=4.0,
    names=("EXTEND", "other name"),
    statuses=("FAILED", "NEW"),
    counts={FAILED: 5, ("other name", "NEW"): 6},
    shown={FAILED: 4},
    counted={"t1": 7.0},
    unlisted=frozenset({"u2", "u1"}),
    active={"a": Task("a", "modify", "RUNNING", 8.0, 9.0)},
    missing={"m": Task("m", "modify", "RUNNING", None, None)},
    last_success={"EXTEND": 10.0},
    last_failure={"modify": 11.0},
    failed={
        "EXTEND": Task(
            "f",
            "EXTEND",
            "FAILED",
            12.0,
            13.0,
            TaskDetails(old_capacity=0.5, rename_commands=("keys", "flushall")),
            error_code="DCS.1",
        )
    },
    naming=Naming("prod\nn", {FAILED: 1}, {"prod\nold": {FAILED: 2}}),
)
"""A state of which every field is set."""


def decoded(text: str) -> InstanceState:
    """Return the state of a text, with the times beside it."""
    return decode(text, refreshed_at=2.0, counted={"t1": 7.0})


def test_every_field_is_set() -> None:
    """The state of these tests has nothing that is as by default."""
    default, names = InstanceState(), [item.name for item in fields(STATE)]

    assert [name for name in names if getattr(STATE, name) == getattr(default, name)] == []


def test_all_comes_back() -> None:
    """A state that is written and read is the same."""
    assert decoded(encode(STATE)) == STATE


def test_an_empty_state_comes_back() -> None:
    """A state of which nothing is known is the same, too."""
    assert decode(encode(InstanceState()), refreshed_at=None, counted={}) == InstanceState()


def test_the_text() -> None:
    """The text is that which earlier versions wrote, without blanks and in order."""
    text = encode(replace(STATE, naming=Naming()))

    assert text == (
        '{"baseline_at":1.0,"baseline_partial":true,"forgotten_until":3.0,"listed_since":4.0,'
        '"names":["EXTEND","other name"],"statuses":["FAILED","NEW"],'
        '"counts":[["EXTEND","FAILED",5],["other name","NEW",6]],'
        '"shown":[["EXTEND","FAILED",4]],"unlisted":["u1","u2"],'
        '"active":[["a","modify","RUNNING",8.0,9.0]],'
        '"missing":[["m","modify","RUNNING",null,null]],'
        '"last_success":{"EXTEND":10.0},"last_failure":{"modify":11.0},'
        '"failed":{"EXTEND":["f","EXTEND","FAILED",12.0,13.0,"DCS.1",'
        '{"old_capacity":0.5,"rename_commands":["keys","flushall"]}]}}'
    )


def test_the_name_of_the_series() -> None:
    """What was seen under other names is written where a name is known."""
    assert json.loads(encode(STATE))["naming"] == {
        "name": "prod\nn",
        "elsewhere": [["EXTEND", "FAILED", 1]],
        "former": {"prod\nold": [["EXTEND", "FAILED", 2]]},
    }


def test_a_file_without_names() -> None:
    """A text of an earlier version has no name of the series."""
    row = json.loads(encode(STATE))
    del row["naming"]

    assert decoded(json.dumps(row)) == replace(STATE, naming=Naming())


@pytest.mark.parametrize("number", [0, 1])
def test_a_number_for_a_boolean(number: int) -> None:
    """SQLite had no booleans: a number of an earlier version is read as one."""
    row = {**json.loads(encode(STATE)), "baseline_partial": number}

    assert decoded(json.dumps(row)).baseline_partial is bool(number)


def test_whole_times_are_numbers_with_a_fraction() -> None:
    """A time that was written without a fraction is read as any other."""
    row = {**json.loads(encode(STATE)), "last_success": {"EXTEND": 10}}
    (at,) = decoded(json.dumps(row)).last_success.values()

    assert isinstance(at, float)


def test_a_row_without_sense() -> None:
    """A text that no exporter wrote is refused."""
    with pytest.raises(ValueError, match="names"):
        decoded(encode(STATE).replace('"names":[', '"names":[7,'))


@pytest.mark.parametrize(
    ("refreshed_at", "counted", "name"),
    [("x", {}, "refreshed_at"), (1.0, {"a": "x"}, "counted")],
)
def test_a_column_without_sense(refreshed_at: Any, counted: Any, name: str) -> None:
    """What is saved beside the text is refused as well."""
    with pytest.raises(ValueError, match=name):
        decode(encode(STATE), refreshed_at=refreshed_at, counted=counted)
