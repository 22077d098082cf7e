"""The metrics of an instance, from its counts and its latest listing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Listing, Progress, Task
from dcs_task_exporter.tasks.snapshots import (
    RESIZE_NAMES,
    SHOWN_TASKS,
    TaskMetrics,
    least_progress,
    task_metrics,
)
from tests.support.clouds import DAY, NOW

RULES = CountingRules(7 * DAY)
START = NOW - 7 * DAY
RESIZED = TaskDetails(old_capacity=1.0, new_capacity=2.0)
FIRST = Task("a", "EXTEND", "SUCCESS", NOW - 300, NOW - 200, RESIZED)
SECOND = Task("b", "EXTEND", "SUCCESS", NOW - 100, NOW - 50, RESIZED)
FAILED = Task("c", "EXTEND", "FAILED", NOW - 40, NOW - 30, RESIZED)
RUNS = Task("d", "EXTEND", "EXECUTING", NOW - 20, NOW - 10)


def metrics(*tasks: Task, state: InstanceState | None = None) -> TaskMetrics:
    return task_metrics(state or InstanceState(), Listing(tasks, START), NOW, RULES)


def test_the_latest_of_each_status() -> None:
    """Start, end and duration are those of the latest task of a name and status."""
    state = InstanceState(statuses=("SUCCESS", "FAILED", "EXECUTING"))
    found = metrics(SECOND, FAILED, FIRST, RUNS, state=state)
    done, failed, runs = (("EXTEND", status) for status in ("SUCCESS", "FAILED", "EXECUTING"))

    assert found.last_start == {done: NOW - 100, failed: NOW - 40, runs: NOW - 20}
    assert found.last_end == {done: NOW - 50, failed: NOW - 30}
    assert found.last_duration == {done: 50, failed: 10}
    assert found.latest == {"EXTEND": RUNS}
    assert found.recent == {done: 2, failed: 1, runs: 1}
    assert found.listed == 4


def test_the_window() -> None:
    """A task from before the look-back window is not shown; one without a start is."""
    old = replace(FIRST, created_at=START - 1)
    edge = replace(SECOND, created_at=START)
    found = metrics(old, edge, replace(FAILED, created_at=None))

    assert found.listed == 2
    assert [task.id for task in found.tasks] == ["b", "c"]


def test_what_was_counted_is_0_when_it_is_gone() -> None:
    """A name and status that was counted stays, at 0, when no task of it is listed."""
    state = InstanceState(counts={("EXTEND", "FAILED"): 3}, shown={("EXTEND", "FAILED"): 2})
    found = metrics(state=state)

    assert found.recent == {("EXTEND", "FAILED"): 0}
    assert found.finished == state.shown
    assert found.active == {"EXTEND": 0}
    assert found.last_success == found.last_failure == {"EXTEND": 0.0}


def test_known_ends() -> None:
    """The latest success and failure are the remembered ones, or 0 for a name without one."""
    state = InstanceState(last_success={"EXTEND": NOW}, last_failure={"modify": NOW - 1})
    found = metrics(state=state)

    assert found.last_success == {"EXTEND": NOW, "modify": 0.0}
    assert found.last_failure == {"EXTEND": 0.0, "modify": NOW - 1}


def test_active_tasks() -> None:
    """Active tasks are those that are followed, however old; the oldest start is shown."""
    old = replace(RUNS, id="e", created_at=START - DAY)
    unknown = replace(RUNS, id="f", created_at=None)
    state = InstanceState(active={task.id: task for task in (RUNS, old, unknown)})
    found = metrics(state=state)

    assert found.active == {"EXTEND": 3}
    assert found.oldest_active_start == {"EXTEND": START - DAY}


@pytest.mark.parametrize("name", RESIZE_NAMES)
def test_the_latest_resize(name: str) -> None:
    """The capacities are those of the latest resize that succeeded and says what it changed."""
    silent = Task("e", name, "SUCCESS", NOW - 5, NOW - 4)
    first, second = (replace(task, name=name) for task in (FIRST, SECOND))

    assert metrics(first, second, silent, replace(FAILED, name=name)).last_extend == second
    assert metrics(silent, replace(FIRST, name="modify")).last_extend is None


def test_the_status_page_shows_the_latest() -> None:
    """The latest tasks come first, and no more than the page shows."""
    tasks = [replace(FIRST, id=f"{at:03}", created_at=NOW - at) for at in range(SHOWN_TASKS + 5)]

    assert metrics(*tasks).tasks == tuple(tasks[:SHOWN_TASKS])


def test_the_slowest_progress() -> None:
    """Of several active tasks of a name the progress of the slowest is shown."""
    names = {"a": "EXTEND", "b": "EXTEND", "c": "modify", "d": "modify", "e": "modify"}
    state = InstanceState(
        active={key: replace(RUNS, id=key, name=name) for key, name in names.items()}
    )
    slow, fast, unknown = Progress(0.1, 50), Progress(0.9, 5), Progress(None, None)
    progress = {"a": slow, "b": fast, "c": fast, "d": unknown, "gone": slow}

    assert least_progress(state, progress) == {"EXTEND": slow, "modify": unknown}
    assert task_metrics(state, Listing((), START), NOW, RULES, progress).progress == {
        "EXTEND": slow,
        "modify": unknown,
    }
    assert metrics(state=state).progress == {}


def test_each_has_a_token_of_its_own() -> None:
    """Two equal metrics are equal, and yet told apart."""
    assert metrics(FIRST) == metrics(FIRST)
    assert metrics(FIRST).token is not metrics(FIRST).token


def test_a_task_without_a_start_is_never_the_latest() -> None:
    """Any start is later than none."""
    early = replace(FIRST, created_at=0.5)
    rules = CountingRules(NOW)

    for order in (
        (early, replace(SECOND, created_at=None)),
        (replace(SECOND, created_at=None), early),
    ):
        found = task_metrics(InstanceState(), Listing(order, START), NOW, rules)
        assert found.latest == {"EXTEND": early}


def test_progress_of_nothing() -> None:
    """A progress that is not told, or is none, is less than any other."""
    state = InstanceState(active={key: replace(RUNS, id=key) for key in "ab"})
    little = Progress(0.5, None)

    for nothing in (Progress(None, 9), Progress(0.0, 9)):
        assert least_progress(state, {"a": nothing, "b": little}) == {"EXTEND": nothing}
        assert least_progress(state, {"a": little, "b": nothing}) == {"EXTEND": nothing}


def test_a_failed_task_is_shown_when_it_is_not_listed() -> None:
    """The latest failed task of each name is that of the counts, in the window or not."""
    state = InstanceState(failed={"EXTEND": replace(FAILED, created_at=START - DAY)})

    assert metrics(state=state).failed == state.failed
