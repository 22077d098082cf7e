"""The short way for a listing that shows nothing new leads to where the long one does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from dcs_task_exporter.refresh.instance import Target, Watched
from dcs_task_exporter.tasks.counting import (
    CountingRules,
    InstanceState,
    count,
    is_settled,
    reveal,
    series_of,
)
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from tests.support.held_source import Source

NOW = 1_750_000_000.0
WEEK = 7 * 86_400.0
RULES = CountingRules(WEEK)

TASKS = st.lists(
    st.builds(
        Task,
        id=st.sampled_from("abcdefgh"),
        name=st.sampled_from(["EXTEND", "modify", "DeleteAcl"]),
        status=st.sampled_from(["SUCCESS", "FAILED", "CANCELLED", "EXECUTING", "PAUSED"]),
        created_at=st.none() | st.floats(NOW - WEEK, NOW - 1),
        updated_at=st.none() | st.floats(NOW - WEEK, NOW),
    ),
    max_size=6,
    unique_by=lambda task: task.id,
)


def watched(state: InstanceState, listing: Listing, now: float) -> Watched:
    """Return an instance as it is after this listing was published."""
    made = Watched(Target(Instance("i", "i", "prod"), Source()), state)
    made.snapshot = Snapshot(
        made.target.instance,
        up=True,
        metrics=task_metrics(state, listing, now, RULES),
        refreshed_at=now,
    )
    made.counted(listing, now - WEEK, doubt="")
    return made


@given(first=TASKS, second=TASKS, again=st.booleans(), later=st.floats(0, WEEK))
def test_the_short_way(
    *, first: Sequence[Task], second: Sequence[Task], again: bool, later: float
) -> None:
    """Where it is taken, counting anew would give the same state and the same metrics."""
    one = Listing(tuple(first), NOW - WEEK)
    state = count(InstanceState(), one, NOW, RULES)
    two = one if again else Listing(tuple(second), NOW - WEEK)
    state = count(state, two, NOW, RULES)
    everything = {series_of(state, task) for task in (*first, *second)}
    state = reveal(state, everything)
    entry = watched(state, two, NOW)
    now = NOW + later
    assume(entry.shows(two, now - WEEK))

    anew = reveal(count(state, two, now, RULES), ())
    kept = {"counted": state.counted, "forgotten_until": state.forgotten_until}
    assert replace(anew, **kept) == replace(state, refreshed_at=now)  # type: ignore[arg-type]
    assert task_metrics(anew, two, now, RULES) == entry.snapshot.metrics


@given(tasks=TASKS)
def test_settled(tasks: Sequence[Task]) -> None:
    """What is active, or counted and not yet shown, is not settled."""
    state = count(InstanceState(), Listing((), NOW - WEEK), NOW, RULES)
    state = reveal(count(state, Listing(tuple(tasks), NOW - WEEK), NOW, RULES), ())

    waits = any(state.shown[series] != number for series, number in state.counts.items())
    assert is_settled(state) == (not state.active and not waits)


def test_a_new_task_takes_the_long_way() -> None:
    """A listing with another task, or another status of one, is not what is shown."""
    task = Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW)
    listing = Listing((task,), NOW - WEEK)
    state = reveal(count(InstanceState(), listing, NOW, RULES), ())
    entry = watched(state, listing, NOW)

    assert entry.shows(listing, NOW - WEEK)
    assert not entry.shows(Listing((task, replace(task, id="b")), NOW - WEEK), NOW - WEEK)
    assert not entry.shows(Listing((replace(task, status="FAILED"),), NOW - WEEK), NOW - WEEK)


def test_what_was_counted_in_doubt_takes_the_long_way() -> None:
    """When the clock was in doubt, the same listing is counted once more: to forget, and mend."""
    listing = Listing((Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW),), NOW - WEEK)
    entry = watched(reveal(count(InstanceState(), listing, NOW, RULES), ()), listing, NOW)
    entry.counted(listing, NOW - WEEK, doubt="2 days ahead of the cloud's")

    assert not entry.shows(listing, NOW - WEEK)


def test_a_task_before_the_window_takes_the_short_way() -> None:
    """A task that was before the window already, and is listed all the same, changes nothing."""
    task = Task("a", "EXTEND", "SUCCESS", NOW - 2 * WEEK, NOW - 2 * WEEK)
    listing = Listing((task,), NOW - 3 * WEEK)
    entry = watched(reveal(count(InstanceState(), listing, NOW, RULES), ()), listing, NOW)

    assert entry.shows(listing, NOW - WEEK + 60)


def test_a_task_that_leaves_the_window_takes_the_long_way() -> None:
    """When the window has moved past a task that is still listed, the metrics are made anew."""
    task = Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW)
    listing = Listing((task,), NOW - WEEK)
    entry = watched(reveal(count(InstanceState(), listing, NOW, RULES), ()), listing, NOW)

    assert not entry.shows(listing, NOW - 59)


@given(
    name=st.text("abcdef0123456789", min_size=1, max_size=36),
    read=st.floats(0, 1e6),
    steps=st.lists(st.floats(1, 60), min_size=1, max_size=200),
)
def test_full_pass(name: str, read: float, steps: Sequence[float]) -> None:
    """However often it is looked at, a full pass is due once an interval, and never later."""
    made = Watched(Target(Instance(name, "n", "prod"), Source()), InstanceState())
    made.refreshed_mono = read
    due, now = [read], read
    for step in steps:
        now += step
        if made.full_pass_is_due(now, 600):
            due.append(now)
            made.refreshed_mono = now

    assert now - due[-1] < 600
    assert len(due) - 1 <= (now - read) / 600 + 1


def test_full_passes_are_spread() -> None:
    """Of 1,000 instances that were read together, about as many are due in each tenth."""
    made = [
        Watched(Target(Instance(f"{number:08x}-cebf-4473", "n", "prod"), Source()), InstanceState())
        for number in range(1000)
    ]
    for one in made:
        one.refreshed_mono = 1000.0
    due = [sum(one.full_pass_is_due(1000 + 60 * tenth, 600) for one in made) for tenth in range(11)]

    assert due[-1] == 1000
    assert all(60 <= late - early <= 140 for early, late in itertools.pairwise(due))


def test_scrapes_that_are_confirmed_out_of_order() -> None:
    """What an earlier scrape showed, confirmed after a later one, takes nothing back."""
    made = Watched(Target(Instance("i", "i", "prod"), Source()), InstanceState())
    for number in (2, 1):
        made.saw({("EXTEND", "FAILED"): number})

    assert made.settled().shown == {("EXTEND", "FAILED"): 2}


def test_a_late_confirmation_takes_no_series_away() -> None:
    """A series that a later scrape showed first stays seen, when an earlier scrape is confirmed."""
    made = Watched(Target(Instance("i", "i", "prod"), Source()), InstanceState())
    made.saw({("EXTEND", "FAILED"): 2, ("new", "FAILED"): 0}, 2)
    made.saw({("EXTEND", "FAILED"): 3}, 1)

    assert made.witnessed == {("EXTEND", "FAILED"): 3, ("new", "FAILED"): 0}


def test_a_late_confirmation_brings_no_series_back() -> None:
    """A series that a later scrape did not show is not seen, when an earlier one is confirmed."""
    made = Watched(Target(Instance("i", "i", "prod"), Source()), InstanceState())
    made.saw({}, 2)
    made.saw({("EXTEND", "FAILED"): 3}, 1)

    assert made.witnessed == {}
