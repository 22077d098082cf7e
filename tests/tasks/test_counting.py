"""The counting laws, as properties of the pure module against a trivial model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.tasks.counting import SKEW_MARGIN, CountingRules, listing_start
from dcs_task_exporter.tasks.instance_state import (
    MAX_STATUSES,
    OTHER,
    ZEROED_STATUSES,
    InstanceState,
    has_pending,
    reveal,
)
from dcs_task_exporter.tasks.models import EARLIEST_TIME, LATEST_AHEAD, Listing, Task
from dcs_task_exporter.tasks.snapshots import task_metrics
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable
from tests.support.clouds import DAY, NOW
from tests.support.counting import count

RULES = CountingRules(lookback=7 * DAY)
NAMES = st.sampled_from(["EXTEND", "modify", "DeleteAcl", "unheard-of"])
ENDINGS = st.sampled_from(["SUCCESS", "FAILED", "FAIL", "CANCELLED"])
TASKS = st.lists(
    st.builds(
        Task,
        id=st.text("abcdef0123456789", min_size=4, max_size=4),
        name=NAMES,
        status=st.sampled_from(["SUCCESS", "FAILED", "EXECUTING", "CREATED", "PAUSED"]),
        created_at=st.one_of(st.none(), st.floats(NOW - 6 * DAY, NOW)),
    ),
    unique_by=lambda task: task.id,
    max_size=12,
)


def listing(tasks: list[Task], *, truncated: bool = False) -> Listing:
    return Listing(tuple(tasks), NOW - 7 * DAY, truncated=truncated)


def shown(state: InstanceState, tasks: list[Task]) -> dict[tuple[str, str], int]:
    return dict(task_metrics(state, listing(tasks), NOW, RULES).finished)


SEEN = count(InstanceState(), listing([]), NOW, RULES)
"""The state of an instance that was read once, and had no task."""


@given(TASKS)
def test_first_listing_is_baseline(tasks: list[Task]) -> None:
    """What was finished when the instance is first seen is not counted."""
    state = count(InstanceState(), listing(tasks), NOW, RULES)

    assert not state.counts


@given(TASKS, TASKS)
def test_twice_is_once(before: list[Task], tasks: list[Task]) -> None:
    """Reading the same listing twice is as reading it once, but that what it lacks is gone."""
    first = count(InstanceState(), listing(before), NOW, RULES)
    once = count(first, listing(tasks), NOW, RULES)

    kept = {key: at for key, at in once.counted.items() if key not in once.unlisted}
    gone = replace(once, missing={}, counted=kept, unlisted=frozenset())
    again = count(once, listing(tasks), NOW, RULES)
    assert again == replace(gone, listed_since=again.listed_since)


@given(TASKS, TASKS, st.randoms(use_true_random=False))
def test_order_does_not_matter(before: list[Task], tasks: list[Task], chance: object) -> None:
    """Any order of a listing gives the same state."""
    shuffled = list(tasks)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    first = count(InstanceState(), listing(before), NOW, RULES)

    ordered, other = (count(first, listing(order), NOW, RULES) for order in (tasks, shuffled))

    assert ordered == other


@given(TASKS, TASKS)
def test_counters_never_fall(before: list[Task], tasks: list[Task]) -> None:
    """Whatever a listing holds, no counter falls, and none that was shown disappears."""
    first = reveal(count(InstanceState(), listing(before), NOW, RULES), {})
    second = reveal(count(first, listing(tasks), NOW, RULES), first.shown)

    assert all(second.shown[series] >= number for series, number in first.shown.items())


def test_unseen_value_is_shown_first() -> None:
    """A count whose earlier value no scrape has seen is held back for one scrape."""
    task = Task("a", "EXTEND", "FAILED", NOW, NOW)
    ended = count(SEEN, listing([task]), NOW, RULES)

    held, told = reveal(ended, {}), reveal(ended, {("EXTEND", "FAILED"): 0})

    assert (held.shown["EXTEND", "FAILED"], told.shown["EXTEND", "FAILED"]) == (0, 1)


def test_vanished_active_task() -> None:
    """An active record that vanishes leaves the active gauge and counts as nothing."""
    task = Task("a", "EXTEND", "EXECUTING", NOW)
    before = count(InstanceState(), listing([task]), NOW, RULES)
    after = count(before, listing([]), NOW, RULES)

    assert (len(before.active), len(after.active), dict(after.counts)) == (1, 0, {})


def test_cut_listing_keeps_active_tasks() -> None:
    """A listing that the page cap cut does not say that an active task is gone."""
    task = Task("a", "EXTEND", "EXECUTING", NOW)
    before = count(InstanceState(), listing([task]), NOW, RULES)
    after = count(before, listing([], truncated=True), NOW, RULES)

    assert set(after.active) == {"a"}


def test_cut_baseline() -> None:
    """After a cut first listing, what ended before it is baseline too, not news."""
    first = count(InstanceState(), listing([], truncated=True), NOW, RULES)
    old = Task("a", "EXTEND", "FAILED", NOW - DAY, NOW - DAY)
    new = Task("b", "EXTEND", "FAILED", NOW + 1, NOW + 2)

    state = count(first, listing([old, new]), NOW + 3, RULES)

    assert dict(state.counts) == {("EXTEND", "FAILED"): 1}


def test_the_last_minutes_before_a_cut_first_listing() -> None:
    """After a cut first listing, what ended just before it is baseline: the cut may have hid it."""
    first = count(InstanceState(), listing([], truncated=True), NOW, RULES)
    just = Task("a", "EXTEND", "FAILED", NOW - 60, NOW - 60)

    assert not count(first, listing([just]), NOW + 60, RULES).counts


def test_long_task_is_followed() -> None:
    """A task that started before the window is listed from its start, until it ends."""
    started = NOW - 30 * DAY
    task = Task("a", "EXTEND", "EXECUTING", started)
    state = count(InstanceState(), Listing((task,), started), NOW, RULES)

    assert listing_start(state, NOW, RULES.lookback) == started

    ended = Listing((replace(task, status="FAILED", updated_at=NOW),), started)
    assert dict(count(state, ended, NOW, RULES).counts) == {("EXTEND", "FAILED"): 1}


def test_a_followed_task_is_no_baseline() -> None:
    """A task that was seen unfinished is counted, even if its end is dated long before."""
    running = Task("a", "EXTEND", "EXECUTING", NOW - DAY)
    state = count(InstanceState(), listing([running]), NOW, RULES)
    ended = replace(running, status="FAILED", updated_at=NOW - DAY)

    assert count(state, listing([ended]), NOW + 60, RULES).counts == {("EXTEND", "FAILED"): 1}


def test_a_followed_task_is_not_forgotten() -> None:
    """A task that was seen unfinished is counted, even if younger ones were forgotten meanwhile."""
    running = Task("a", "EXTEND", "EXECUTING", NOW - 30 * DAY)
    state = replace(SEEN, active={"a": running}, forgotten_until=NOW - 8 * DAY)
    ended = Listing((replace(running, status="FAILED", updated_at=NOW),), NOW - 30 * DAY)

    assert count(state, ended, NOW + 60, RULES).counts == {("EXTEND", "FAILED"): 1}


@pytest.mark.parametrize("ended_before", [310, 600, 890, 1500, 2000])
def test_short_window(ended_before: int) -> None:
    """With a look-back window of five minutes, what ended before the first listing is baseline."""
    rules = CountingRules(lookback=300)
    old = Task("a", "EXTEND", "SUCCESS", NOW - ended_before - 5, NOW - ended_before)
    state = InstanceState()
    for now in (NOW, NOW + 15, NOW + 30):
        start = listing_start(state, now, rules.lookback)
        listed = [old] if (old.created_at or 0.0) >= start else []
        state = count(state, Listing(tuple(listed), start), now, rules)

    assert not state.counts


def test_look_back_reaches_the_latest_refresh() -> None:
    """After a long outage, what is listed reaches back to the latest refresh."""
    assert listing_start(SEEN, NOW + 30 * DAY, RULES.lookback) < NOW


def test_forgotten_ids_do_not_return() -> None:
    """An id forgotten at the end of the window is not counted when the window grows."""
    task = Task("a", "EXTEND", "FAILED", NOW, NOW)
    state = count(SEEN, listing([task]), NOW, RULES)
    later = NOW + 9 * DAY
    state = count(state, Listing((), later - 7 * DAY), later, RULES)
    assert "a" not in state.counted

    state = count(state, Listing((task,), NOW - DAY), later, RULES)
    assert dict(state.counts) == {("EXTEND", "FAILED"): 1}


@given(st.integers(10, 40))
def test_cap(cap: int) -> None:
    """There are never more names than the cap, and `other`."""
    rules = CountingRules(lookback=7 * DAY, max_task_names=cap)
    tasks = [Task(f"{at}", f"name{at}", "EXECUTING", NOW) for at in range(60)]
    state = count(InstanceState(), listing(tasks), NOW, rules)
    found = task_metrics(reveal(state, {}), listing(tasks), NOW, rules)

    assert len({*found.active, *(name for name, _ in found.finished)}) == cap + 1
    assert sum(found.active.values()) == 60
    assert found.active[OTHER] == 60 - (cap - 10)


def test_cap_of_statuses() -> None:
    """Above the cap, statuses are counted together as `other`."""
    rules = replace(RULES, statuses=StatusTable({f"END{at}": Outcome.ENDED for at in range(60)}))
    tasks = [Task(f"{at}", "EXTEND", f"END{at}", NOW, NOW) for at in range(60)]
    state = count(SEEN, listing(tasks), NOW, rules)

    assert len(state.counts) == MAX_STATUSES - len(ZEROED_STATUSES) + 1
    assert sum(state.counts.values()) == 60


def test_odd_times_never_pass_for_the_latest() -> None:
    """A task without a start does not hide the latest one."""
    known = Task("a", "EXTEND", "FAILED", NOW, NOW)
    odd = Task("z", "EXTEND", "SUCCESS")
    state = count(InstanceState(), listing([known, odd]), NOW, RULES)

    assert task_metrics(state, listing([known, odd]), NOW, RULES).latest["EXTEND"] == known


def test_task_hidden_by_a_torn_page_is_still_followed() -> None:
    """An old active task that one listing lacks is still asked for, and counted when it ends."""
    started = NOW - 30 * DAY
    task = Task("a", "EXTEND", "EXECUTING", started)
    state = count(InstanceState(), Listing((task,), started), NOW, RULES)
    torn = count(state, Listing((), started), NOW, RULES)

    assert not torn.active
    assert listing_start(torn, NOW, RULES.lookback) == started
    ended = Listing((replace(task, status="FAILED", updated_at=NOW),), started)
    assert dict(count(torn, ended, NOW, RULES).counts) == {("EXTEND", "FAILED"): 1}


def test_deleted_task_is_let_go() -> None:
    """An active task that two listings lack is not asked for any more."""
    started = NOW - 30 * DAY
    task = Task("a", "EXTEND", "EXECUTING", started)
    state = count(InstanceState(), Listing((task,), started), NOW, RULES)
    for _ in range(2):
        state = count(state, Listing((), started), NOW, RULES)

    assert listing_start(state, NOW, RULES.lookback) == NOW - RULES.lookback


def test_raised_look_back_finds_baseline() -> None:
    """What was over before the first listing began is not counted when the window grows."""
    old = Task("a", "EXTEND", "FAILED", NOW - 20 * DAY, NOW - 20 * DAY)
    state = count(SEEN, Listing((old,), NOW - 30 * DAY), NOW, RULES)

    assert not state.counts


@given(st.permutations([0, 1]))
def test_pages_that_show_a_task_twice(order: list[int]) -> None:
    """A task that ended while its pages were read counts as ended, whichever form comes first."""
    running = Task("a", "EXTEND", "EXECUTING", NOW)
    forms = [running, replace(running, status="FAILED", updated_at=NOW)]
    state = count(SEEN, listing([forms[at] for at in order]), NOW, RULES)

    assert (dict(state.counts), dict(state.active)) == ({("EXTEND", "FAILED"): 1}, {})


def test_a_task_that_ended_has_ended() -> None:
    """A task that two pages show counts as ended, even if its unfinished form has a later time."""
    ended = Task("a", "EXTEND", "FAILED", NOW, NOW + 1)
    running = replace(ended, status="EXECUTING", updated_at=NOW + 2)

    assert count(SEEN, listing([ended, running]), NOW, RULES).counts == {("EXTEND", "FAILED"): 1}


def test_torn_baseline() -> None:
    """What a torn first listing hid is baseline too, if it was over long before."""
    old = Task("a", "EXTEND", "FAILED", NOW - DAY, NOW - DAY)

    assert not count(SEEN, listing([old]), NOW + 60, RULES).counts


def test_wrong_clock_at_the_first_listing() -> None:
    """A clock that was days ahead when the instance was first seen makes no old task new."""
    old = Task("a", "EXTEND", "FAILED", NOW - DAY, NOW - DAY)
    state = count(InstanceState(), Listing((), NOW + DAY), NOW + 8 * DAY, RULES)

    assert not count(state, listing([old]), NOW, RULES).counts


def test_task_without_a_start_is_counted_once() -> None:
    """A task that does not say when it began is counted once, however often it comes and goes."""
    task = Task("a", "EXTEND", "FAILED", None, NOW)
    state = SEEN
    for found in ([task], [], [task], [], [task]):
        later = NOW + 9 * DAY
        state = count(state, Listing(tuple(found), later - 7 * DAY), later, RULES)

    assert dict(state.counts) == {("EXTEND", "FAILED"): 1}


def test_waiting_since_an_unknown_time() -> None:
    """A task that waits, and does not say since when, is active."""
    waiting = Task("a", "EXTEND", "WAITING")
    state = count(InstanceState(), listing([waiting]), NOW, RULES)

    assert task_metrics(state, listing([waiting]), NOW, RULES).active["EXTEND"] == 1


@pytest.mark.parametrize("began", [None, NOW + 60])
def test_failed_at_an_unknown_time(began: float | None) -> None:
    """A failure that does not say when it ended is counted."""
    state = count(SEEN, listing([Task("a", "EXTEND", "FAILED", began)]), NOW + 9999, RULES)

    assert dict(state.counts) == {("EXTEND", "FAILED"): 1}


@given(st.permutations([0, 1, 2]))
def test_an_unknown_time_wins_no_last(order: list[int]) -> None:
    """Tasks without times hide no end, start or duration of those that have them."""
    known = Task("b", "EXTEND", "FAILED", NOW - 60, NOW - 30)
    endless = Task("c", "EXTEND", "FAILED", NOW - 10)
    tasks = [known, endless, Task("z", "EXTEND", "FAILED")]
    found = listing([tasks[at] for at in order])
    state = count(InstanceState(), found, NOW, RULES)

    shown = task_metrics(state, found, NOW, RULES)

    assert dict(shown.last_end) == {("EXTEND", "FAILED"): NOW - 30}
    assert dict(shown.last_duration) == {("EXTEND", "FAILED"): 30}
    assert dict(shown.last_start) == {("EXTEND", "FAILED"): NOW - 10}


def test_ends_that_nobody_knows_are_no_last_failure() -> None:
    """A failure without any time changes nothing of when the last one was."""
    found = listing([Task("a", "EXTEND", "FAILED"), Task("b", "EXTEND", "SUCCESS")])

    state = count(InstanceState(), found, NOW, RULES)

    assert (dict(state.last_failure), dict(state.last_success)) == ({}, {})


TIMELESS = Task("a", "EXTEND", "FAILED")
ABSENT = listing([])
CUT = listing([], truncated=True)


def counted_after(*listings: Listing, in_doubt: bool = False) -> InstanceState:
    state = count(InstanceState(), listing([TIMELESS]), NOW, RULES)
    for found in listings:
        state = count(state, found, NOW, RULES, in_doubt=in_doubt)
    return state


@pytest.mark.parametrize(
    ("listings", "remembered"),
    [
        ([ABSENT], True),
        ([ABSENT, ABSENT], False),
        ([CUT, CUT, CUT], True),
        ([ABSENT, CUT], True),
        ([ABSENT, CUT, ABSENT], False),
        ([ABSENT, listing([TIMELESS]), ABSENT], True),
        ([ABSENT, listing([TIMELESS], truncated=True), ABSENT], True),
    ],
)
@pytest.mark.parametrize("in_doubt", [False, True])
def test_id_of_an_unknown_time(
    listings: list[Listing], *, remembered: bool, in_doubt: bool
) -> None:
    """An id without a time is forgotten once two whole listings in a row lack it, by any clock."""
    assert ("a" in counted_after(*listings, in_doubt=in_doubt).counted) == remembered


def test_a_time_that_is_known_later() -> None:
    """An id whose time was unknown is remembered by its time as soon as a listing tells it."""
    known = replace(TIMELESS, created_at=NOW - 60)

    assert counted_after(listing([known])).counted == {"a": NOW - 60}


def test_not_settled_while_an_id_is_unlisted() -> None:
    """The short way for a listing that shows nothing new is not taken until the id is forgotten."""
    shown = reveal(counted_after(ABSENT), {})
    gone = reveal(counted_after(ABSENT, ABSENT), {})

    assert (has_pending(shown), has_pending(gone)) == (True, False)


@pytest.mark.parametrize("odd", [253_370_764_800.0, NOW + 2 * DAY, -62_135_596_800.0])
def test_impossible_times_of_an_older_version(odd: float) -> None:
    """A last success of year 9999, or of year 1, leaves the state, but not while in doubt."""
    saved = InstanceState(
        baseline_at=NOW, last_success={"EXTEND": odd, "modify": NOW}, last_failure={"EXTEND": odd}
    )
    mended = count(saved, listing([]), NOW, RULES)
    doubted = count(saved, listing([]), NOW, RULES, in_doubt=True)

    assert (dict(mended.last_success), dict(mended.last_failure)) == ({"modify": NOW}, {})
    assert doubted.last_success == saved.last_success


@pytest.mark.parametrize("odd", [253_370_764_800.0, -62_135_596_800.0])
def test_impossible_start_of_an_older_version(odd: float) -> None:
    """An id that an older version saved with a start of year 9999 is forgotten like one without."""
    state = InstanceState(baseline_at=NOW, counted={"a": odd})
    kept = []
    for _ in range(3):
        kept.append("a" in state.counted)
        state = count(state, listing([]), NOW, RULES)

    assert kept == [True, True, False]


def test_impossible_start_of_a_followed_task() -> None:
    """A task that an older version followed since year 1 does not make all be listed."""
    state = InstanceState(active={"a": Task("a", "EXTEND", "WAITING", -62_135_596_800.0)})

    assert listing_start(state, NOW, RULES.lookback) == NOW - RULES.lookback


def test_nothing_is_forgotten_in_doubt() -> None:
    """While the clock is in doubt, no id is forgotten, whatever it says."""
    task = Task("a", "EXTEND", "FAILED", NOW, NOW)
    state = count(InstanceState(), listing([task]), NOW, RULES)
    later = NOW + 100 * DAY

    doubted = count(state, Listing((), later - 7 * DAY), later, RULES, in_doubt=True)

    assert (dict(doubted.counted), doubted.forgotten_until) == ({"a": NOW}, None)


def test_first_listing_by_a_clock_ahead() -> None:
    """Once the clock is right, the moment of the first listing is not in the future any more."""
    ahead = count(InstanceState(), listing([]), NOW + 30 * DAY, RULES)
    state = count(ahead, listing([]), NOW, RULES)
    failed = Task("a", "EXTEND", "FAILED", NOW + 60, NOW + 60)

    state = count(state, listing([failed]), NOW + 3600, RULES)

    assert dict(state.counts) == {("EXTEND", "FAILED"): 1}


def test_a_clock_that_goes_back_makes_nothing_new() -> None:
    """A window that reaches far back, by a clock in doubt, finds baseline, not news."""
    old = Task("a", "EXTEND", "FAILED", NOW - 20 * DAY, NOW - 20 * DAY)
    back = NOW - 100 * DAY

    state = count(SEEN, Listing((old,), back - 7 * DAY), back, RULES, in_doubt=True)

    assert not state.counts


def test_a_refresh_in_doubt_takes_no_time_back() -> None:
    """The latest refresh that is remembered is never made an earlier one by a clock in doubt."""
    state = count(SEEN, listing([]), NOW - DAY, RULES, in_doubt=True)

    assert state.refreshed_at == NOW


@given(st.floats(-400 * DAY, 400 * DAY))
def test_window_whatever_the_clock_says(jump: float) -> None:
    """What began after the newest known task is listed by every clock."""
    task = Task("a", "EXTEND", "FAILED", NOW, NOW)
    state = count(InstanceState(), listing([task]), NOW, RULES)
    ahead = count(state, listing([task]), NOW + 400 * DAY, RULES)

    assert listing_start(ahead, NOW + jump, RULES.lookback) < NOW


@pytest.mark.parametrize("lookback", [300.0, 1800.0, 7 * DAY])
def test_the_very_first_window(lookback: float) -> None:
    """The first listing reaches back over the window, or twice what clocks may differ by."""
    assert listing_start(InstanceState(), NOW, lookback) == NOW - max(lookback, 2 * SKEW_MARGIN)


@pytest.mark.parametrize(
    ("state", "start"),
    [
        (replace(SEEN, counted={"a": math.inf, "b": NOW - 30 * DAY}), NOW - 30 * DAY - SKEW_MARGIN),
        (replace(SEEN, baseline_at=NOW - 30 * DAY), NOW - 30 * DAY - SKEW_MARGIN),
        (replace(SEEN, refreshed_at=NOW - 30 * DAY), NOW - 30 * DAY - SKEW_MARGIN),
        (replace(SEEN, listed_since=EARLIEST_TIME), EARLIEST_TIME),
        (replace(SEEN, listed_since=EARLIEST_TIME - 1), NOW - 7 * DAY),
    ],
)
def test_the_window_reaches_the_earliest(state: InstanceState, start: float) -> None:
    """The window reaches the newest known task, or the first listing, refresh or window."""
    assert listing_start(state, NOW, RULES.lookback) == start


def test_whose_status_changes() -> None:
    """The latest ends and the latest failure are those of tasks with such an outcome."""
    tasks = [
        Task("a", "EXTEND", "SUCCESS", NOW - 9, NOW - 8),
        Task("b", "EXTEND", "FAILED", NOW - 7, NOW - 6),
        Task("c", "EXTEND", "EXECUTING", NOW - 5, NOW - 4),
        Task("d", "EXTEND", "CANCELLED", NOW - 3, NOW - 2),
    ]

    state = count(SEEN, listing(tasks), NOW, RULES)

    assert state.last_success == {"EXTEND": NOW - 8}
    assert state.last_failure == {"EXTEND": NOW - 6}
    assert state.failed == {"EXTEND": tasks[1]}


def test_a_refresh_is_noted() -> None:
    """The time of a refresh is that of its listing, whether it finds something or not."""
    assert count(SEEN, listing([]), NOW + 60, RULES).refreshed_at == NOW + 60


def test_a_form_with_a_time_is_the_later_one() -> None:
    """Of two forms of a task that both ended, the one that says when is kept."""
    dated = Task("a", "EXTEND", "FAILED", NOW, 0.5)
    forms = (replace(dated, status="ERROR", updated_at=None), dated)

    for order in (forms, forms[::-1]):
        assert count(SEEN, listing(list(order)), NOW, RULES).failed == {"EXTEND": dated}


def test_labels_go_to_the_oldest_first() -> None:
    """Under the cap, the first label goes to the task that began first, or says no start."""
    rules = replace(RULES, max_task_names=len(SEEN.names) + 1)
    first, second = Task("z", "first", "SUCCESS"), Task("a", "second", "SUCCESS", 0.5)

    state = count(SEEN, listing([second, first]), NOW, rules)

    assert state.names == (*SEEN.names, "first")


@pytest.mark.parametrize(("began", "ended"), [(NOW - 1, None), (NOW - DAY, NOW), (NOW - 1, NOW)])
def test_the_edge_of_a_cut_baseline(began: float, ended: float | None) -> None:
    """After a cut first listing, a task that ended at its very time, or began then, is baseline."""
    state = replace(SEEN, baseline_partial=True)
    over, news = (
        Task("a", "EXTEND", "FAILED", began, ended),
        Task("b", "EXTEND", "FAILED", NOW - 1, NOW + 1),
    )

    assert not count(state, listing([over]), NOW + 60, RULES).counts
    assert count(state, listing([over, news]), NOW + 60, RULES).counts == {("EXTEND", "FAILED"): 1}


@pytest.mark.parametrize(("ended", "number"), [(-1.0, 0), (0.0, 0), (1.0, 1)])
def test_the_edge_of_a_baseline(*, ended: float, number: int) -> None:
    """A task is news if it ended less before the first listing than clocks may differ by."""
    at = NOW - SKEW_MARGIN + ended
    task = Task("a", "EXTEND", "FAILED", NOW - DAY, at)

    state = count(SEEN, listing([task]), NOW, RULES)

    assert sum(state.counts.values()) == number


LATEST = NOW + LATEST_AHEAD + SKEW_MARGIN


@pytest.mark.parametrize(
    ("at", "kept"),
    [(EARLIEST_TIME - 1, False), (EARLIEST_TIME, True), (LATEST, True), (LATEST + 1, False)],
)
def test_what_is_mended(*, at: float, kept: bool) -> None:
    """A remembered time may be as early or as late as a clock may be wrong, and no more."""
    saved = replace(
        SEEN,
        counted={"a": at, "b": NOW},
        last_success={"EXTEND": at},
        last_failure={"modify": at},
        failed={"EXTEND": Task("a", "EXTEND", "FAILED", at)},
    )

    mended = count(saved, listing([], truncated=True), NOW, RULES)

    assert mended.last_success == (saved.last_success if kept else {})
    assert mended.last_failure == (saved.last_failure if kept else {})
    assert mended.failed == (saved.failed if kept else {})
    assert mended.counted == {"a": at if kept else math.inf, "b": NOW}
