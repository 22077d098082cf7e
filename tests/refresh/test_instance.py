"""The short way for a listing that shows nothing new leads to where the long one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.refresh.clocks import Moment
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.tasks.instance_state import InstanceState, has_pending, reveal, series_of
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Failure, Snapshot, task_metrics
from tests.support.clouds import SettableClock
from tests.support.counting import count
from tests.support.kept_journal import KeptJournal
from tests.support.refresh_settings import RULES, WEEK, collector

NOW = 1_750_000_000.0

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


def watched(state: InstanceState, listing: Listing, now: float, doubt: str = "") -> WatchedInstance:
    """Return an instance after a listing was published."""
    instance = Instance("i", "i", "prod")
    made = WatchedInstance(instance, collector(), RULES, Clock(), KeptJournal(state))
    made.publish(listing, Moment(now, doubt), began=1.0)
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
    state = entry.state
    now = NOW + later
    assume(entry.is_unchanged(two, now - WEEK))

    anew = reveal(count(state, two, now, RULES), ())
    kept = {"counted": state.counted, "forgotten_until": state.forgotten_until}
    assert replace(anew, **kept) == replace(state, refreshed_at=now)  # type: ignore[arg-type]
    assert task_metrics(anew, two, now, RULES) == entry.snapshot(1.0).metrics


@given(tasks=TASKS)
def test_settled(tasks: Sequence[Task]) -> None:
    """What is active, or counted and not yet shown, is not settled."""
    state = count(InstanceState(), Listing((), NOW - WEEK), NOW, RULES)
    state = reveal(count(state, Listing(tuple(tasks), NOW - WEEK), NOW, RULES), ())

    waits = any(state.shown[series] != number for series, number in state.counts.items())
    assert has_pending(state) == bool(state.active or waits)


def test_a_new_task_takes_the_long_way() -> None:
    """A listing with another task, or another status of one, is not what is shown."""
    task = Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW)
    listing = Listing((task,), NOW - WEEK)
    state = reveal(count(InstanceState(), listing, NOW, RULES), ())
    entry = watched(state, listing, NOW)

    assert entry.is_unchanged(listing, NOW - WEEK)
    assert not entry.is_unchanged(Listing((task, replace(task, id="b")), NOW - WEEK), NOW - WEEK)
    assert not entry.is_unchanged(
        Listing((replace(task, status="FAILED"),), NOW - WEEK), NOW - WEEK
    )


def test_a_count_that_waits_takes_the_long_way() -> None:
    """A listing whose counts are not all shown yet is counted again, to show them."""
    listing = Listing((Task("a", "EXTEND", "FAILED", NOW - 60, NOW),), NOW - WEEK)
    seen = count(InstanceState(), Listing((), NOW - WEEK), NOW - 120, RULES)
    entry = watched(seen, listing, NOW)

    assert not entry.is_unchanged(listing, NOW - WEEK)


def test_what_was_counted_in_doubt_takes_the_long_way() -> None:
    """When the clock was in doubt, the same listing is counted once more: to forget, and mend."""
    listing = Listing((Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW),), NOW - WEEK)
    state = reveal(count(InstanceState(), listing, NOW, RULES), ())
    entry = watched(state, listing, NOW, "2 days ahead of the cloud's")

    assert not entry.is_unchanged(listing, NOW - WEEK)


def test_a_task_before_the_window_takes_the_short_way() -> None:
    """A task that was before the window already, and is listed all the same, changes nothing."""
    task = Task("a", "EXTEND", "SUCCESS", NOW - 2 * WEEK, NOW - 2 * WEEK)
    listing = Listing((task,), NOW - 3 * WEEK)
    entry = watched(reveal(count(InstanceState(), listing, NOW, RULES), ()), listing, NOW)

    assert entry.is_unchanged(listing, NOW - WEEK + 60)


def test_a_task_that_leaves_the_window_takes_the_long_way() -> None:
    """When the window has moved past a task that is still listed, the metrics are made anew."""
    task = Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW)
    listing = Listing((task,), NOW - WEEK)
    entry = watched(reveal(count(InstanceState(), listing, NOW, RULES), ()), listing, NOW)

    assert not entry.is_unchanged(listing, NOW - 59)


def never_read(clock: SettableClock) -> WatchedInstance:
    """Return an instance before its first read."""
    journal = KeptJournal(InstanceState())
    return WatchedInstance(Instance("i", "i", "prod"), collector(), RULES, clock.clock, journal)


def test_a_published_listing_is_shown() -> None:
    """The snapshot has the time, the duration and the result of the read."""
    clock = SettableClock()
    entry = never_read(clock)
    clock.advance(2.5)
    entry.publish(Listing((), clock.wall - WEEK, truncated=True), Moment(clock.wall, ""), 1_001.0)
    shown = entry.snapshot(clock.steady)

    assert shown.instance is entry.instance
    assert (shown.up, shown.truncated, shown.failure) == (True, True, None)
    assert shown.refreshed_at == shown.attempted_at == clock.wall
    assert shown.refresh_duration == 1.5
    assert shown.metrics is not None


def test_a_failed_read_is_shown() -> None:
    """It has its own time and duration, and the data of the last good read with their time."""
    clock = SettableClock()
    entry = never_read(clock)
    entry.publish(Listing((), clock.wall - WEEK), Moment(clock.wall, ""), clock.steady)
    good = entry.snapshot(clock.steady)
    clock.advance(15)
    failure = Failure(clock.wall, "timeout", "no answer")
    entry.fail(failure, clock.steady - 5)
    shown = entry.snapshot(clock.steady)

    assert not shown.up
    assert shown.failure is failure is entry.failure
    assert (shown.attempted_at, shown.refresh_duration) == (clock.wall, 5.0)
    assert (shown.refreshed_at, shown.metrics) == (good.refreshed_at, good.metrics)


def test_a_failed_read_shows_no_change() -> None:
    """A change that was announced is still expected after a read that failed."""
    clock = SettableClock()
    entry = never_read(clock)
    entry.reads.expect_change()
    entry.fail(Failure(clock.wall, "timeout", "no answer"), clock.steady)
    assert entry.reads.expects_change
    entry.publish(Listing((), clock.wall - WEEK), Moment(clock.wall, ""), clock.steady)

    assert not entry.reads.expects_change


@pytest.mark.parametrize(("age", "is_shown"), [(3600.0, True), (3600.5, False)])
def test_data_disappear_when_they_are_too_old(*, age: float, is_shown: bool) -> None:
    """Data are shown until `max_staleness` has passed since their read began."""
    clock = SettableClock()
    entry = never_read(clock)
    entry.publish(Listing((), clock.wall - WEEK), Moment(clock.wall, ""), clock.steady)
    shown = entry.snapshot(clock.steady + age)

    assert shown.up == is_shown
    assert (shown.metrics is not None) == is_shown


def test_an_instance_that_left_shows_nothing() -> None:
    """Its data are gone with it, and its next read is due at once."""
    clock = SettableClock()
    entry = never_read(clock)
    entry.publish(Listing((), clock.wall - WEEK), Moment(clock.wall, ""), clock.steady)
    entry.leave()

    assert entry.snapshot(clock.steady) == Snapshot(entry.instance)
    assert entry.refreshed_at is None
    assert entry.reads.claim(urgent=False) is not None
