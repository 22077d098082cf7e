"""The rate limit: evenly spaced slots, shared by all threads of a project."""

from __future__ import annotations

import pytest

from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.errors import NoSlotError, StoppedError
from tests.support.clouds import SettableClock


class Sleeper:
    """Sleeps by moving the clock; remembers for how long, and can be told to stop."""

    def __init__(self) -> None:
        self.clock = SettableClock()
        self.slept: list[float] = []
        self.stopping = False

    def wait(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.clock.advance(seconds)
        return self.stopping

    def limit(self, rate: float) -> RateLimit:
        return RateLimit(rate, self.clock.clock, self.wait)

    @property
    def later(self) -> float:
        """A deadline that is far away."""
        return self.clock.steady + 1_000


def test_even_pace() -> None:
    """A hundred requests at 10 a second take 9.9 seconds, never more than 10 in any second."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    taken = []
    for _ in range(100):
        limit.take(sleeper.later)
        taken.append(sleeper.clock.steady)

    assert taken[-1] - taken[0] == pytest.approx(9.9)
    assert all(late - early >= 0.999 for early, late in zip(taken, taken[10:], strict=False))


def test_idle_time_is_not_saved_up() -> None:
    """After an idle minute there is no burst."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    limit.take(sleeper.later)
    sleeper.clock.advance(60)
    waits = [limit.take(sleeper.later) for _ in range(3)]

    assert waits == pytest.approx([0, 0.1, 0.1])


def test_pause() -> None:
    """A pause that the cloud asked for holds every request."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    limit.pause(30)

    assert limit.take(sleeper.later) == pytest.approx(30)


def test_no_slot_in_time() -> None:
    """A request that would have to wait beyond its deadline is refused at once, and takes none."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    limit.pause(30)
    with pytest.raises(NoSlotError, match="no slot for another 30 s"):
        limit.take(sleeper.clock.steady + 5)

    assert sleeper.slept == []
    assert limit.take(sleeper.later) == pytest.approx(30)


class Interrupted(Sleeper):
    """A sleeper during whose first sleep the cloud asks for a pause."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = self.limit(1)

    def wait(self, seconds: float) -> bool:
        if not self.slept:
            self.shared.pause(30)
        return super().wait(seconds)


def test_a_pause_holds_those_that_have_a_slot() -> None:
    """A pause that begins while a request waits for its slot holds that request too."""
    sleeper = Interrupted()
    sleeper.shared.take(sleeper.later)

    assert sleeper.shared.take(sleeper.later) == pytest.approx(30)


def test_no_request_leaves_late() -> None:
    """A request whose pause ends after its deadline is refused instead of sent late."""
    sleeper = Interrupted()
    sleeper.shared.take(sleeper.later)

    with pytest.raises(NoSlotError):
        sleeper.shared.take(sleeper.clock.steady + 5)


def test_stop() -> None:
    """A wait ends when the exporter stops."""
    sleeper = Sleeper()
    sleeper.stopping = True
    limit = sleeper.limit(10)
    limit.take(sleeper.later)

    with pytest.raises(StoppedError):
        limit.take(sleeper.later)


class Crowd(Sleeper):
    """Sleepers of whom each takes a slot before the one before wakes: all wake with the last."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.left: list[float] = []
        self.shared = self.limit(10)

    def wait(self, seconds: float) -> bool:
        if self.size > 0:
            self.size -= 1
            self.take()
            return False
        return super().wait(seconds)

    def take(self) -> None:
        self.shared.take(self.later)
        self.left.append(self.clock.steady)


def test_late_wakers() -> None:
    """Threads that a stalled machine wakes late and together still keep the limit of any second."""
    crowd = Crowd(6)
    for _ in range(30):
        crowd.take()

    assert len(set(crowd.left[1:7])) == 1
    later = crowd.left[10:]
    assert all(late - early >= 0.999 for early, late in zip(crowd.left, later, strict=False))


def test_a_faster_pace() -> None:
    """A higher rate holds from the next request on, also where slots were given away before."""
    sleeper = Sleeper()
    limit = sleeper.limit(1)
    for _ in range(5):
        limit.take(sleeper.later)
    limit.change(10)
    waits = [limit.take(sleeper.later) for _ in range(3)]

    assert waits == pytest.approx([0.1, 0.1, 0.1])


def test_a_slower_pace() -> None:
    """A lower rate counts the requests that were sent at the higher one."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    for _ in range(10):
        limit.take(sleeper.later)
    began = sleeper.clock.steady
    limit.change(2)
    for _ in range(3):
        limit.take(sleeper.later)

    assert sleeper.clock.steady - began >= 1.4


def test_a_pause_outlives_another_pace() -> None:
    """What the cloud asked for holds, whatever the rate is by now."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    limit.pause(30)
    limit.change(100)

    assert limit.take(sleeper.later) == pytest.approx(30)


def test_no_request_waits_after_a_while() -> None:
    """A request that comes when its slot is there already waits for nothing."""
    sleeper = Sleeper()
    limit = sleeper.limit(2)
    limit.take(sleeper.later)
    sleeper.clock.advance(0.5)

    assert limit.take(sleeper.later) == 0
    assert sleeper.slept == []


@pytest.mark.parametrize(("patience", "waits"), [(0.5, True), (0.4, False)])
def test_a_slot_at_the_deadline(patience: float, *, waits: bool) -> None:
    """A slot that comes at the deadline is taken; one after it is refused at once."""
    sleeper = Sleeper()
    limit = sleeper.limit(2)
    limit.take(sleeper.later)
    deadline = sleeper.clock.steady + patience
    if waits:
        assert limit.take(deadline) == 0.5
        return
    with pytest.raises(NoSlotError, match=r"has no slot for another 0 s"):
        limit.take(deadline)
    assert sleeper.slept == []


def test_who_is_refused_takes_no_slot() -> None:
    """A request that does not wait for its slot leaves it to the next."""
    sleeper = Sleeper()
    limit = sleeper.limit(2)
    limit.take(sleeper.later)
    with pytest.raises(NoSlotError):
        limit.take(sleeper.clock.steady)

    assert limit.take(sleeper.later) == 0.5


def test_a_shorter_pause_shortens_none() -> None:
    """Of two pauses the one that ends later holds."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    limit.pause(20)
    limit.pause(5)

    assert limit.take(sleeper.later) == 20


def test_the_wait_is_told() -> None:
    """The error says how long no slot is free."""
    sleeper = Sleeper()
    limit = sleeper.limit(10)
    limit.pause(20)
    with pytest.raises(NoSlotError, match=r"the rate limit has no slot for another 20 s"):
        limit.take(sleeper.clock.steady + 19)


def test_a_slow_rate() -> None:
    """A rate below one a second spaces requests by more than a second."""
    sleeper = Sleeper()
    limit = sleeper.limit(0.25)

    assert [limit.take(sleeper.later) for _ in range(3)] == [0, 4, 4]
