"""When one instance is read, and who waits for it."""

from __future__ import annotations

import pytest

from dcs_task_exporter.refresh.schedule import ReadSchedule
from tests.support.clouds import SettableClock

INTERVAL = 15.0


@pytest.fixture
def clock() -> SettableClock:
    """A clock that a test moves by hand."""
    return SettableClock()


@pytest.fixture
def reads(clock: SettableClock) -> ReadSchedule:
    """The reads of an instance that was never read."""
    return ReadSchedule(INTERVAL, clock.clock)


def read(reads: ReadSchedule, clock: SettableClock, *, succeeded: bool = True) -> None:
    """Read the instance now."""
    assert reads.claim(urgent=False) is not None
    assert reads.begin()
    reads.note(clock.steady, succeeded=succeeded)
    reads.finish()


def test_the_first_read_is_due(reads: ReadSchedule) -> None:
    """An instance that was never read is due at once."""
    claim = reads.claim(urgent=False)

    assert claim is not None
    assert claim[1]


@pytest.mark.parametrize(("age", "due"), [(0.0, False), (14.4, False), (14.5, True), (15.0, True)])
@pytest.mark.parametrize("succeeded", [True, False])
def test_due_again_after_the_interval(
    reads: ReadSchedule, clock: SettableClock, *, age: float, due: bool, succeeded: bool
) -> None:
    """The next read is due after the interval, less half a second; a failed one is a read too."""
    read(reads, clock, succeeded=succeeded)
    clock.advance(age)

    assert (reads.claim(urgent=False) is not None) == due


def test_a_short_interval_has_a_short_tolerance(clock: SettableClock) -> None:
    """Of an interval under a second at least a half must pass."""
    reads = ReadSchedule(0.2, clock.clock)
    read(reads, clock)
    clock.advance(0.09)
    assert reads.claim(urgent=False) is None
    clock.advance(0.02)

    assert reads.claim(urgent=False) is not None


def test_a_claimed_read_is_joined(reads: ReadSchedule) -> None:
    """Whoever comes while a read waits gets its future, and must not queue it."""
    first, second = reads.claim(urgent=False), reads.claim(urgent=False)

    assert first is not None
    assert second == (first[0], False)


def test_an_urgent_claim_is_queued_again(reads: ReadSchedule) -> None:
    """An urgent read that waits in the queue is to be queued again; one under way is not."""
    first = reads.claim(urgent=False)
    assert first is not None
    assert reads.claim(urgent=True) == (first[0], True)
    reads.begin()

    assert reads.claim(urgent=True) == (first[0], False)


def test_one_thread_reads(reads: ReadSchedule) -> None:
    """A read begins once, and only if it was claimed."""
    assert not reads.begin()
    reads.claim(urgent=False)

    assert [reads.begin(), reads.begin()] == [True, False]


def test_the_end_of_a_read_is_heard(reads: ReadSchedule) -> None:
    """Its future is done with the read, and not before."""
    claim = reads.claim(urgent=False)
    assert claim is not None
    reads.begin()
    assert not claim[0].done()
    assert reads.is_claimed
    reads.finish()

    assert claim[0].done()
    assert not reads.is_claimed


def test_an_abandoned_read_is_due_at_once(reads: ReadSchedule) -> None:
    """Who waits for an abandoned read goes on; the next read is due."""
    claim = reads.claim(urgent=False)
    assert claim is not None

    assert reads.abandon(claim[0])
    assert claim[0].done()
    assert reads.claim(urgent=False) is not None


def test_a_read_that_was_unnecessary(reads: ReadSchedule, clock: SettableClock) -> None:
    """A read that is abandoned as done counts as one: the next is due after the interval."""
    claim = reads.claim(urgent=False)
    assert claim is not None
    reads.abandon(claim[0], as_done=True)

    assert reads.claim(urgent=False) is None
    clock.advance(INTERVAL)
    assert reads.claim(urgent=False) is not None


def test_a_change_is_not_abandoned_as_done(reads: ReadSchedule) -> None:
    """A read that was to show a change stays due."""
    claim = reads.claim(urgent=False)
    assert claim is not None
    reads.expect_change()
    reads.abandon(claim[0], as_done=True)

    assert reads.claim(urgent=False) is not None


def test_a_read_under_way_is_not_abandoned(reads: ReadSchedule) -> None:
    """A read that began, or has another future, goes on."""
    claim = reads.claim(urgent=False)
    assert claim is not None
    reads.begin()
    assert not reads.abandon(claim[0])
    reads.finish()
    reads.reset()
    reads.claim(urgent=False)

    assert not reads.abandon(claim[0])


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_expected_change(reads: ReadSchedule, clock: SettableClock, *, succeeded: bool) -> None:
    """A change is expected until a read succeeds that began when it was announced, or later."""
    reads.expect_change()
    read(reads, clock, succeeded=succeeded)

    assert reads.expects_change != succeeded


def test_a_change_during_a_read(reads: ReadSchedule, clock: SettableClock) -> None:
    """A read that began before a change was announced may not show it."""
    began = clock.steady
    clock.advance(1)
    reads.expect_change()
    reads.note(began, succeeded=True)

    assert reads.expects_change


def test_read_longest_ago_first(reads: ReadSchedule, clock: SettableClock) -> None:
    """Reads are in the order of the last ones; who was never read comes first."""
    assert reads.due_before(100.0, is_active=False) < 0
    read(reads, clock)

    assert reads.due_before(100.0, is_active=False) == clock.steady


def test_a_head_start(reads: ReadSchedule, clock: SettableClock) -> None:
    """Who is active, or expects a change, counts as read three quarters of a pass earlier."""
    read(reads, clock)
    assert reads.due_before(100.0, is_active=True) == clock.steady - 75
    reads.expect_change()

    assert reads.due_before(100.0, is_active=False) == clock.steady - 75


def test_reset(reads: ReadSchedule, clock: SettableClock) -> None:
    """After a reset the instance counts as never read."""
    read(reads, clock)
    reads.reset()

    assert reads.claim(urgent=False) is not None
