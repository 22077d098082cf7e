"""Rows that no exporter wrote are refused when they are read, not when they are used."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from dcs_task_exporter.state.encoding import encode
from dcs_task_exporter.state.row_shape import check_row
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Task

TASK = Task("f", "EXTEND", "FAILED", 1.0, 2.0, TaskDetails(old_capacity=0.5), error_code="E")
STATE = InstanceState(
    counts={("EXTEND", "FAILED"): 1}, active={"a": Task("a", "modify", "RUNNING", 1.0)},
    last_failure={"EXTEND": 2.0}, failed={"EXTEND": TASK},
)  # fmt: skip


def checked(
    changes: dict[str, Any] | None = None,
    refreshed_at: object = 1.0,
    counted: object = None,
) -> None:
    row = {**json.loads(encode(STATE)), **(changes or {})}
    check_row(json.dumps(row), refreshed_at=refreshed_at, counted=counted or {})


def test_good() -> None:
    """A row that an exporter wrote is taken, with a task whose time is unknown."""
    checked(refreshed_at=None, counted={"a": math.inf, "b": 1.0})


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline_at": "x"},
        {"baseline_at": math.nan},
        {"names": "EXTEND"},
        {"counts": [["EXTEND", "FAILED"]]},
        {"counts": [["EXTEND", "FAILED", -1]]},
        {"counts": [["EXTEND", "FAILED", 2**63]]},
        {"counts": [["EXTEND", "FAILED", 1.5]]},
        {"shown": [["EXTEND", 7, 1]]},
        {"active": [["a", "modify", "RUNNING", "x", None]]},
        {"last_success": []},
        {"last_success": {"EXTEND": "1"}},
        {"failed": {"EXTEND": ["f", "EXTEND", "FAILED", 1.0, 2.0, "E", {"old_capacity": "x"}]}},
        {"failed": {"EXTEND": ["f", "EXTEND", "FAILED", 1.0, 2.0, "E", {"new_port": True}]}},
    ],
)
def test_bad_rows(changes: dict[str, Any]) -> None:
    """A value of another type, or a number that cannot be, is refused; the key is named."""
    with pytest.raises(ValueError, match=rf"^{next(iter(changes))}: [A-Z]"):
        checked(changes)


@pytest.mark.parametrize(
    ("refreshed_at", "counted"),
    [("x", {}), (math.inf, {}), (1.0, {"a": None}), (1.0, {"a": "x"}), (1.0, {None: 1.0})],
)
def test_bad_columns(refreshed_at: object, counted: object) -> None:
    """So is a column beside the row."""
    with pytest.raises(ValueError, match=r"refreshed_at|counted"):
        checked(None, refreshed_at, counted)


@pytest.mark.parametrize(
    "text", [None, 7, b"{}", "", "{", "[]", "[" * 100_000, '{"names": 1e999}', '"\\ud800"']
)
def test_no_row(text: object) -> None:
    """What is no row at all is refused too, however deep it is, and half a character."""
    with pytest.raises(ValueError, match=r"^[a-zI]") as error:
        check_row(text, refreshed_at=None, counted={})

    assert isinstance(text, str) or str(error.value) == "a row is no text"


def test_no_value_is_shown() -> None:
    """The reason shows no value: the file may be another's."""
    with pytest.raises(ValueError, match="names") as error:
        checked({"names": "hunter2"})

    assert "hunter2" not in str(error.value)
