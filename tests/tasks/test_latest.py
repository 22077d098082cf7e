"""The latest end and the latest failed task of each name."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from dcs_task_exporter.tasks.instance_state import OTHER, InstanceState
from dcs_task_exporter.tasks.latest import latest_ends, latest_failed
from dcs_task_exporter.tasks.models import Task
from tests.support.clouds import NOW

STATE = InstanceState()
FIRST = Task("a", "EXTEND", "FAILED", NOW, NOW + 10)
SECOND = Task("b", "EXTEND", "FAILED", NOW + 5, NOW + 20)
OTHERS = Task("c", "modify", "FAILED", NOW, NOW + 15)
WITHOUT_AN_END = Task("d", "EXTEND", "FAILED", NOW + 30, None)
WITHOUT_A_TIME = Task("e", "EXTEND", "FAILED", None, None)

ORDERS = pytest.mark.parametrize("tasks", list(permutations([FIRST, SECOND, OTHERS])))


@ORDERS
def test_the_latest_end_of_each_name(tasks: tuple[Task, ...]) -> None:
    """The latest of several ends is kept, whatever the order of the listing."""
    assert latest_ends(STATE, {}, tasks) == {"EXTEND": NOW + 20, "modify": NOW + 15}


@pytest.mark.parametrize("known", [NOW - 100, NOW + 100])
def test_a_known_end(known: float) -> None:
    """A known end gives way to a later one only, and stays when no task of its name is listed."""
    ends = {"EXTEND": known, "DeleteAcl": known}

    assert latest_ends(STATE, ends, [FIRST]) == {
        "EXTEND": max(known, NOW + 10),
        "DeleteAcl": known,
    }
    assert ends == {"EXTEND": known, "DeleteAcl": known}


def test_a_task_without_an_end() -> None:
    """A finished task without an end ended at its start; without both it changes nothing."""
    assert latest_ends(STATE, {}, [WITHOUT_AN_END, WITHOUT_A_TIME]) == {"EXTEND": NOW + 30}
    assert latest_ends(STATE, {}, [WITHOUT_A_TIME]) == {}


def test_the_latest_end_above_the_cap() -> None:
    """Names above the cap have their latest end together."""
    state = replace(STATE, names=("EXTEND",))
    more = replace(OTHERS, name="AddReplica", updated_at=NOW + 50)

    assert latest_ends(state, {}, [more, OTHERS]) == {OTHER: NOW + 50}


@ORDERS
def test_the_latest_failed_task(tasks: tuple[Task, ...]) -> None:
    """Of several failed tasks of a name the one that ended last is kept."""
    assert latest_failed(STATE, tasks, ()) == {"EXTEND": SECOND, "modify": OTHERS}


def test_a_known_failed_task() -> None:
    """A known failed task gives way only to one that ended later, or to its own latest form."""
    state = replace(STATE, failed={"EXTEND": SECOND})
    mended = replace(SECOND, error_code="DCS.4842", updated_at=NOW + 1)

    assert latest_failed(state, [FIRST], ()) == {"EXTEND": SECOND}
    assert latest_failed(state, [replace(FIRST, updated_at=NOW + 21)], ())["EXTEND"].id == "a"
    assert latest_failed(state, [mended], ()) == {"EXTEND": mended}


def test_two_that_failed_at_once() -> None:
    """Of two that ended at one time the same one is kept whatever is known first."""
    twin = replace(FIRST, id="z")

    for known, listed in ((FIRST, twin), (twin, FIRST)):
        state = replace(STATE, failed={"EXTEND": known})
        assert latest_failed(state, [listed], ()) == {"EXTEND": twin}


@pytest.mark.parametrize(("known", "listed"), [(SECOND, WITHOUT_A_TIME), (WITHOUT_A_TIME, FIRST)])
def test_a_failure_without_a_time(known: Task, listed: Task) -> None:
    """Where no time tells which of two failed last, it is the one that is newly counted."""
    state = replace(STATE, failed={"EXTEND": known})

    assert latest_failed(state, [listed], ()) == {"EXTEND": known}
    assert latest_failed(state, [listed], {listed.id}) == {"EXTEND": listed}


def test_no_user_is_remembered() -> None:
    """The failed task that is remembered names nobody."""
    task = replace(FIRST, user_name="ann")

    assert latest_failed(STATE, [task], ())["EXTEND"] == FIRST


def test_an_early_end() -> None:
    """An end is kept however early it is."""
    assert latest_ends(STATE, {}, [replace(FIRST, updated_at=0.5)]) == {"EXTEND": 0.5}


def test_ends_without_a_known_failure() -> None:
    """Where no failure is known, the one that ended last is kept, before one without a time."""
    tasks = [WITHOUT_A_TIME, replace(SECOND, updated_at=0.5), replace(FIRST, updated_at=0.25)]

    for order in permutations(tasks):
        assert latest_failed(STATE, order, ())["EXTEND"].id == "b"
        assert latest_failed(STATE, order, {"e"})["EXTEND"].id == "e"


def test_the_latest_of_two_at_once() -> None:
    """Of two failed tasks that ended at one time, or at none, the last by id is kept."""
    ended = [FIRST, replace(FIRST, id="z")]
    timeless = [WITHOUT_A_TIME, replace(WITHOUT_A_TIME, id="z")]

    for order in permutations(ended):
        assert latest_failed(STATE, order, ())["EXTEND"].id == "z"
    for order in permutations(timeless):
        assert latest_failed(STATE, order, {"e", "z"})["EXTEND"].id == "z"
