"""Tasks and instances as values: what they say of themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import EARLIEST_TIME, LATEST_AHEAD, Instance, Task
from dcs_task_exporter.tasks.statuses import Outcome
from tests.support.clouds import NOW

TASK = Task("a", "EXTEND", "SUCCESS", NOW, NOW + 12.345)


def test_duration() -> None:
    """A task took from its start to its end, to the millisecond."""
    assert TASK.duration == 12.345
    assert replace(TASK, updated_at=NOW).duration == 0


@pytest.mark.parametrize(
    "task",
    [
        replace(TASK, created_at=None),
        replace(TASK, updated_at=None),
        replace(TASK, updated_at=NOW - 0.001),
    ],
)
def test_no_duration(task: Task) -> None:
    """Without both times, or with an end before the start, nobody knows how long a task took."""
    assert task.duration is None


@pytest.mark.parametrize("at", [EARLIEST_TIME, NOW, NOW + LATEST_AHEAD])
def test_plausible_times(at: float) -> None:
    """A time from 2010 to a day ahead is kept: the task stays the same object."""
    task = replace(TASK, created_at=at, updated_at=at)

    assert task.with_plausible_times(NOW) is task
    assert replace(task, updated_at=None).with_plausible_times(NOW).created_at == at


@pytest.mark.parametrize("at", [EARLIEST_TIME - 1, NOW + LATEST_AHEAD + 1, 0.0])
def test_impossible_times(at: float) -> None:
    """A time before 2010 or more than a day ahead is unknown; the other time stays."""
    began = replace(TASK, created_at=at).with_plausible_times(NOW)
    ended = replace(TASK, updated_at=at).with_plausible_times(NOW)

    assert (began.created_at, began.updated_at) == (None, TASK.updated_at)
    assert (ended.created_at, ended.updated_at) == (TASK.created_at, None)


def test_summary() -> None:
    """A failed task says what was tried, any other what changed; its user only where asked for."""
    task = replace(TASK, details=TaskDetails(old_capacity=1.0, new_capacity=2.0))

    assert task.summary(Outcome.SUCCESS) != task.summary(Outcome.FAILURE)
    assert task.summary(Outcome.FAILURE).startswith("tried to")
    assert task.summary(Outcome.ACTIVE) == task.summary(Outcome.SUCCESS)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"id": "b"}, False),
        ({"name": "other"}, False),
        ({"project": "other"}, False),
        ({"spec_code": "other", "status": "FROZEN", "tags": {"a": "b"}}, True),
    ],
)
def test_the_same_series(change: dict[str, object], *, same: bool) -> None:
    """Two are the same to Prometheus when id, name and project are."""
    instance = Instance("a", "orders", "prod")

    assert instance.shares_series(replace(instance, **change)) is same  # type: ignore[arg-type]


def test_summary_with_who() -> None:
    """The summary names people where that is asked for."""
    task = replace(TASK, details=TaskDetails(account_name="alice"))

    assert task.summary(Outcome.SUCCESS) == ""
    assert task.summary(Outcome.SUCCESS, personal=True) == "account alice"
