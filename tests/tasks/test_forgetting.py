"""What counting forgets, and when: an id is dropped only where nothing can bring it back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dcs_task_exporter.tasks.counting import SKEW_MARGIN, CountingRules, count_new, listing_start
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Listing, Task
from tests.support.clouds import DAY, NOW

RULES = CountingRules(lookback=7 * DAY)
START = NOW - 7 * DAY
OLD = START - DAY
STATE = InstanceState(baseline_at=NOW - 30 * DAY, refreshed_at=NOW - 60, counted={"old": OLD})
EMPTY = Listing((), START)


def after(
    listing: Listing, state: InstanceState = STATE, *, in_doubt: bool = False
) -> InstanceState:
    return count_new(state, listing, NOW, RULES, in_doubt=in_doubt)[0]


def test_a_whole_listing_forgets() -> None:
    """An id from before a whole listing that lacks it is dropped, and its start is remembered."""
    state, _ = count_new(STATE, EMPTY, NOW, RULES)

    assert (state.counted, state.forgotten_until) == ({}, OLD)


@pytest.mark.parametrize("known", [None, OLD - DAY, OLD + DAY])
def test_the_latest_forgotten_start(known: float | None) -> None:
    """Of all starts that were ever forgotten the latest is remembered."""
    counted = {"old": OLD, "older": OLD - 60}
    state = after(EMPTY, replace(STATE, counted=counted, forgotten_until=known))

    assert state.forgotten_until == max(OLD, known or OLD)


def test_a_cut_listing_forgets_nothing() -> None:
    """What a cut listing lacks may be behind the cut: no id is dropped, none counted anew."""
    cut = after(replace(EMPTY, truncated=True))
    assert (cut.counted, cut.forgotten_until) == (STATE.counted, None)

    task = Task("old", "EXTEND", "FAILED", OLD, OLD)
    again, fresh = count_new(cut, Listing((task,), OLD - DAY), NOW, RULES)
    assert (fresh, again.counts) == ([], {})


def test_a_clock_in_doubt_forgets_nothing() -> None:
    """By a clock in doubt no id is dropped."""
    assert after(EMPTY, in_doubt=True).counted == STATE.counted


def test_what_is_listed_is_not_forgotten() -> None:
    """An id that is listed stays, however old it is, and whether its window still begins there."""
    task = Task("old", "EXTEND", "FAILED", OLD, OLD)

    assert after(Listing((task,), START)).counted == {"old": OLD}


@pytest.mark.parametrize(("start", "kept"), [(-1.0, False), (0.0, True)])
def test_the_edge_of_the_window(*, start: float, kept: bool) -> None:
    """An id is dropped when it is older than the window by more than clocks may differ."""
    state = replace(STATE, counted={"edge": START - SKEW_MARGIN + start})

    assert ("edge" in after(EMPTY, state).counted) is kept


def test_an_id_without_a_time_in_a_cut_listing() -> None:
    """A cut listing is none of the two whole ones that must lack an id without a time."""
    state = replace(STATE, counted={"a": math.inf}, unlisted=frozenset("a"))

    cut = after(replace(EMPTY, truncated=True), state)
    assert (cut.counted, cut.unlisted) == ({"a": math.inf}, frozenset("a"))
    assert after(EMPTY, cut).counted == {}


def test_a_listed_id_without_a_time_begins_anew() -> None:
    """An id without a time that a cut listing has is no longer one that the latest one lacked."""
    state = replace(STATE, counted={"a": math.inf}, unlisted=frozenset("a"))
    task = Task("a", "EXTEND", "FAILED", None, None)

    cut = after(Listing((task,), START, truncated=True), state)
    assert cut.unlisted == frozenset()


def test_what_is_active_behind_a_cut() -> None:
    """An active task that a cut listing lacks stays active; a missing one stays missing."""
    active, missing = (Task(key, "EXTEND", "EXECUTING", NOW - 60, None) for key in "am")
    state = replace(STATE, active={"a": active}, missing={"m": missing})

    cut = after(replace(EMPTY, truncated=True), state)
    assert (cut.active, cut.missing) == ({"a": active}, {"m": missing})
    whole = after(EMPTY, state)
    assert (whole.active, whole.missing) == ({}, {"a": active})


def test_a_cut_first_listing_is_partial() -> None:
    """Only a first listing that was cut makes later tasks from before it baseline for certain."""
    first = InstanceState()

    assert after(replace(EMPTY, truncated=True), first).baseline_partial
    assert not after(EMPTY, first).baseline_partial
    assert not after(replace(EMPTY, truncated=True)).baseline_partial


def test_the_first_listing_stays_the_first() -> None:
    """The time of the first listing is that of the first, not of a later one."""
    assert after(EMPTY, InstanceState()).baseline_at == NOW
    assert after(EMPTY).baseline_at == STATE.baseline_at


def test_a_waiting_task_without_a_start_keeps_its_window() -> None:
    """The window that listed a followed task without a start is asked for until the task ends."""
    task = Task("a", "EXTEND", "EXECUTING", None, None)
    early = START - DAY

    state = after(Listing((task,), early), replace(STATE, counted={"new": NOW}))
    assert state.listed_since == early
    state = after(Listing((task,), START), state)
    assert state.listed_since == early
    assert listing_start(state, NOW, RULES.lookback) == early
    state = after(Listing((replace(task, status="SUCCESS"),), early), state)
    assert state.listed_since is None


def test_only_what_is_older_than_the_window_is_forgotten() -> None:
    """A listing that lacks young ids and old ones drops the old ones alone."""
    limit = START - SKEW_MARGIN
    state = after(EMPTY, replace(STATE, counted={"old": OLD, "edge": limit, "young": NOW}))

    assert state.counted == {"edge": limit, "young": NOW}
    assert state.forgotten_until == OLD


def test_what_was_forgotten_stays_so() -> None:
    """The latest forgotten start outlives listings that forget nothing: cut, doubted or whole."""
    state = replace(STATE, counted={"young": NOW}, forgotten_until=OLD)

    assert after(replace(EMPTY, truncated=True), state).forgotten_until == OLD
    assert after(EMPTY, state, in_doubt=True).forgotten_until == OLD
    assert after(EMPTY, state).forgotten_until == OLD


def test_what_is_remembered_of_the_latest() -> None:
    """The latest ends and failures outlive the records of their tasks."""
    task = Task("old", "EXTEND", "FAILED", OLD, OLD)
    state = replace(
        STATE, last_success={"modify": OLD}, last_failure={"EXTEND": OLD}, failed={"EXTEND": task}
    )

    forgot = after(EMPTY, state)

    assert forgot.last_success == state.last_success
    assert forgot.last_failure == state.last_failure
    assert forgot.failed == state.failed
