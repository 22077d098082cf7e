"""The short way for a listing that shows nothing new leads to where the long one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.refresh import instance
from dcs_task_exporter.refresh.clocks import Moment
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.counting import count_new
from dcs_task_exporter.tasks.instance_state import InstanceState, has_pending, reveal, series_of
from dcs_task_exporter.tasks.models import Instance, Listing, Progress, Task
from dcs_task_exporter.tasks.naming import Series
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


FAILED: Series = ("EXTEND", "FAILED")
ENDED = Task("a", "EXTEND", "FAILED", NOW + 60, NOW + 90)


class Saves(Journal):
    """A journal that notes what is saved, and does something during the next save."""

    def __init__(self) -> None:
        self.saved: list[InstanceState] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Note a state."""
        assert instance_id == "i"
        self.saved.append(state)
        act, self.meanwhile = self.meanwhile, lambda: None
        act()


class Scene:
    """An instance that was read once and had no task, its journal, and a clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = SettableClock()
        self.journal = Saves()
        self.instance = Instance("i", "name", "prod")
        self.watched = WatchedInstance(
            self.instance, collector(**settings), RULES, self.clock.clock, self.journal
        )
        self.publish()
        self.journal.saved.clear()

    @property
    def counters(self) -> dict[Series, int]:
        """The counters that a scrape sees now, without those at 0."""
        metrics = self.look().metrics
        assert metrics is not None
        return {key: number for key, number in metrics.finished.items() if number}

    def look(self) -> Snapshot:
        """Return what a scrape sees now."""
        return self.watched.snapshot(self.clock.steady)

    def scrape(self, number: int | None = None) -> None:
        """Deliver what a scrape sees now."""
        self.watched.delivered(self.look(), number, self.clock.steady)

    def publish(self, *tasks: Task, doubt: str = "") -> list[tuple[Series, float | None]]:
        """Publish a listing of these tasks, 15 seconds later."""
        self.clock.advance(15)
        listing = Listing(tasks, self.clock.wall - WEEK)
        moment = Moment(self.clock.wall, doubt)
        return list(self.watched.publish(listing, moment, self.clock.steady))

    def fail(self) -> None:
        """Let a read fail, 15 seconds later."""
        self.clock.advance(15)
        self.watched.fail(Failure(self.clock.wall, "timeout", "no"), self.clock.steady)


def test_what_is_counted_is_told() -> None:
    """The series and the duration of each newly counted task are returned, once."""
    here = Scene()

    assert here.publish(ENDED, Task("b", "modify", "EXECUTING", NOW)) == [(FAILED, 30.0)]
    assert here.publish(ENDED) == []


def test_a_count_is_saved_before_it_is_shown() -> None:
    """A count that may be shown is saved once, and is not shown before."""
    here = Scene()
    here.scrape()
    seen: list[dict[Series, int]] = []
    here.journal.meanwhile = lambda: seen.append(here.counters)
    here.publish(ENDED)

    assert seen == [{}]
    assert here.counters == {FAILED: 1}
    assert here.journal.saved == [here.watched.state]


@pytest.mark.parametrize("read", [Scene.publish, Scene.fail])
def test_a_change_during_a_save_is_saved_too(read: Callable[[Scene], object]) -> None:
    """A name that changes while the counts are saved is saved after them."""
    here = Scene()
    here.journal.meanwhile = lambda: here.watched.rename(Instance("i", "new", "prod"))
    read(here)

    assert len(here.journal.saved) == 2
    assert here.journal.saved[-1] is here.watched.state


@pytest.fixture
def while_counting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen while the tasks of the next listing are counted."""

    def happen(act: Callable[[], object]) -> None:
        def counted(*given: Any, **more: Any) -> Any:
            monkeypatch.setattr(instance, "count_new", count_new)
            act()
            return count_new(*given, **more)

        monkeypatch.setattr(instance, "count_new", counted)

    return happen


def test_a_name_that_changes_while_tasks_are_counted(
    while_counting: Callable[[Callable[[], object]], None],
) -> None:
    """An instance that is renamed while its tasks are counted has the series of its new name."""
    here = Scene()
    while_counting(lambda: here.watched.rename(Instance("i", "new", "prod")))
    here.publish(ENDED)

    renamed = Scene()
    renamed.watched.rename(Instance("i", "new", "prod"))
    assert here.watched.state.naming == renamed.watched.state.naming
    assert here.watched.state.counts[FAILED] == 1


def test_series_that_end_while_tasks_are_counted(
    while_counting: Callable[[Callable[[], object]], None],
) -> None:
    """An instance that leaves while its tasks are counted goes back to what scrapers have seen."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    assert here.watched.state.shown[FAILED] == 1
    while_counting(here.watched.leave)
    here.publish(ENDED, replace(ENDED, id="b"))

    assert here.watched.state.shown[FAILED] == 0
    assert here.watched.state.counts[FAILED] == 2


def test_what_was_never_read_is_not_saved() -> None:
    """An instance that leaves before its first read has no counts to keep."""
    journal = Saves()
    instance = Instance("i", "name", "prod")
    entry = WatchedInstance(instance, collector(), RULES, Clock(), journal)
    entry.leave()
    entry.stop()

    assert journal.saved == []


def test_a_refresh_that_shows_nothing_new_is_timed() -> None:
    """The short way, too, notes when the instance was read; a clock in doubt moves it not back."""
    here = Scene()
    here.publish()
    assert here.watched.state.refreshed_at == here.clock.wall
    here.clock.wall -= WEEK
    here.publish(doubt="behind")

    assert here.watched.state.refreshed_at == NOW + 30
    assert here.look().refreshed_at == here.clock.wall


def test_the_same_counts_are_shown_by_the_same_object() -> None:
    """A refresh that shows nothing new shows the same object; one with a new task another."""
    here = Scene()
    before = here.look().metrics
    here.publish()
    assert here.look().metrics is before
    here.publish(ENDED)

    assert here.look().metrics is not before


def test_a_first_value_is_held() -> None:
    """A count is shown when its earlier value was delivered as long ago as it is held."""
    here = Scene(first_value_hold=60.0)
    here.scrape()
    here.publish(ENDED)
    here.clock.advance(29.5)
    here.publish(ENDED)
    assert here.counters == {}
    here.clock.advance(-14.5)
    here.publish(ENDED)

    assert here.counters == {FAILED: 1}


def test_a_failed_read_shows_what_waited() -> None:
    """A count whose earlier value was delivered meanwhile is shown by a read that fails, too."""
    here = Scene()
    here.publish(ENDED)
    assert here.counters == {}
    here.scrape()
    here.fail()

    assert here.counters == {FAILED: 1}


def test_what_was_delivered_is_shown() -> None:
    """What an answer shows that leaves after its instance returned is shown, and saved."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    on_its_way = here.look()
    here.watched.leave()
    here.watched.rename(here.instance)
    here.publish()
    assert here.counters == {}
    here.journal.saved.clear()
    here.watched.delivered(on_its_way, 7, here.clock.steady)

    assert here.counters == {FAILED: 1}
    assert here.watched.state.shown[FAILED] == 1
    assert here.journal.saved == [here.watched.state]


def test_what_was_delivered_before_the_first_data() -> None:
    """An answer that is delivered before the instance is read again is counted as seen."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    on_its_way = here.look()
    here.watched.leave()
    here.watched.delivered(on_its_way, 7, here.clock.steady)

    assert here.look().metrics is None
    assert here.watched.state.shown[FAILED] == 1


def test_a_usual_answer_saves_nothing() -> None:
    """An answer with the values that are shown, or without any, changes no state."""
    here = Scene()
    before = here.watched.state
    here.scrape()
    here.watched.delivered(Snapshot(here.instance), None, here.clock.steady)

    assert here.watched.state is before
    assert here.journal.saved == []


def test_an_answer_gives_who_left_no_series() -> None:
    """After it left, an instance has no series, whatever is delivered late."""
    here = Scene()
    on_its_way = here.look()
    here.watched.leave()
    here.watched.delivered(on_its_way, 7, here.clock.steady)
    here.watched.rename(here.instance)
    here.publish(ENDED)

    assert here.counters == {}


def test_another_name() -> None:
    """Under another name the counters begin with what was delivered; metrics stay."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    assert here.counters == {FAILED: 1}
    new = Instance("i", "new", "prod")
    here.watched.rename(new)

    assert here.watched.instance is here.look().instance is new
    assert here.counters == {}
    assert here.watched.state.naming.name == "prod\nnew"
    here.scrape()
    here.publish(ENDED)
    assert here.counters == {FAILED: 1}


def test_an_answer_under_a_former_name() -> None:
    """What an answer under a former name shows is not shown again under that name."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    on_its_way = here.look()
    here.watched.rename(Instance("i", "new", "prod"))
    here.watched.delivered(on_its_way, 7, here.clock.steady)

    assert here.counters == {}
    assert here.watched.state.naming.former["prod\nname"][FAILED] == 1


def test_other_properties() -> None:
    """Other properties are shown with the same metrics; equal ones by the same object."""
    here = Scene()
    before = here.look()
    here.watched.rename(replace(here.instance))
    assert here.look() is before
    assert here.watched.instance is here.instance
    here.watched.rename(replace(here.instance, status="FROZEN"))

    assert here.look() == replace(before, instance=replace(here.instance, status="FROZEN"))
    assert here.look().metrics is before.metrics


def test_leaving_keeps_what_was_delivered() -> None:
    """An instance that leaves is saved with the values that were delivered."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    here.watched.leave()

    (state,) = here.journal.saved[1:]
    assert (state.shown[FAILED], state.counts[FAILED]) == (0, 1)
    assert here.watched.state is state


@pytest.mark.parametrize(("is_claimed", "saves"), [(True, 0), (False, 1)])
def test_the_end(*, is_claimed: bool, saves: int) -> None:
    """At the end the delivered values are saved, unless a read is under way."""
    here = Scene()
    here.scrape()
    here.publish(ENDED)
    here.journal.saved.clear()
    here.clock.advance(60)
    if is_claimed:
        here.watched.reads.claim(urgent=False)
    here.watched.stop()

    assert [state.shown[FAILED] for state in here.journal.saved] == [0] * saves


def test_progress() -> None:
    """Progress is shown at once and by later reads, until it is another; not without data."""
    here = Scene()
    running = Task("p", "EXTEND", "EXECUTING", NOW)
    some = Progress(0.5, 10.0)
    here.publish(running)
    before = here.look()
    here.watched.show_progress({"p": some, "gone": some})
    shown = here.look()
    here.watched.show_progress({"p": some})
    assert here.look() is shown
    here.publish(running, ENDED)

    assert before.metrics is not None
    assert shown == replace(before, metrics=replace(before.metrics, progress={"EXTEND": some}))
    metrics = here.look().metrics
    assert metrics is not None
    assert metrics.progress == {"EXTEND": some}
    here.watched.leave()
    here.watched.show_progress({"p": some})
    assert here.look().metrics is None


def test_no_progress_of_who_left() -> None:
    """An instance that returns shows no progress of before."""
    here = Scene()
    running = Task("p", "EXTEND", "EXECUTING", NOW)
    here.publish(running)
    here.watched.show_progress({"p": Progress(0.5, 10.0)})
    here.watched.leave()
    here.watched.rename(here.instance)
    here.publish(running)

    metrics = here.look().metrics
    assert metrics is not None
    assert metrics.progress == {}


def test_other_settings() -> None:
    """The age, the interval and the rules are those of the latest settings."""
    here = Scene(max_staleness=3600.0, min_refresh_interval=15.0)
    here.publish(ENDED)
    listing = Listing((ENDED,), here.clock.wall - WEEK)
    assert here.watched.is_unchanged(listing, here.clock.wall - WEEK) is False
    here.scrape()
    here.publish(ENDED)
    here.publish(ENDED)
    assert here.watched.is_unchanged(listing, here.clock.wall - WEEK) is True
    rules = replace(RULES, max_task_names=11)
    here.watched.change(collector(max_staleness=30.0, min_refresh_interval=600.0), rules)

    assert here.watched.is_unchanged(listing, here.clock.wall - WEEK) is False
    here.clock.advance(31)
    assert here.look().metrics is None
    assert here.watched.reads.claim(urgent=False) is None


def test_a_cut_listing_takes_the_long_way() -> None:
    """A listing that is cut, or was, is counted again, as is one whose data are too old."""
    here = Scene()
    window = here.clock.wall - WEEK
    whole, cut = Listing((), window), Listing((), window, truncated=True)
    assert here.watched.is_unchanged(whole, window) is True
    assert here.watched.is_unchanged(cut, window) is False
    here.watched.publish(cut, Moment(here.clock.wall), here.clock.steady)
    assert here.watched.is_unchanged(cut, window) is False
    assert here.watched.is_unchanged(whole, window) is False
    here.publish()
    here.clock.advance(WEEK)
    here.look()

    assert here.watched.is_unchanged(whole, window) is False


def test_a_task_without_a_start_takes_the_short_way() -> None:
    """A task without a start leaves no window."""
    here = Scene()
    timeless = Task("a", "EXTEND", "SUCCESS", None, NOW - WEEK)
    for _ in range(3):
        here.publish(timeless)
        here.scrape()

    listing = Listing((timeless,), NOW - WEEK)
    assert here.watched.is_unchanged(listing, here.clock.wall - WEEK + 9) is True


@pytest.mark.parametrize(
    ("age", "is_short"), [(-1.0, True), (0.0, False), (5.0, False), (15.0, True)]
)
def test_a_task_at_the_edge_of_the_window(*, age: float, is_short: bool) -> None:
    """A task between the window's start of then and now takes the long way, whoever moved it."""
    here = Scene()
    task = Task("a", "EXTEND", "SUCCESS", here.clock.wall + 15 - WEEK + age, NOW)
    for _ in range(2):
        here.publish(task)
        here.clock.advance(-15)
        here.scrape()
    listing = Listing((task,), NOW - WEEK)

    assert here.watched.is_unchanged(listing, here.clock.wall + 30 - WEEK) is is_short


def test_nothing_is_forgotten_in_doubt() -> None:
    """While the clock is in doubt, a task that is not listed any more stays counted."""
    here = Scene()
    here.publish(ENDED)
    here.clock.wall += 3 * WEEK
    here.publish(doubt="ahead")
    assert set(here.watched.state.counted) == {"a"}
    here.publish()

    assert set(here.watched.state.counted) == set()


def test_an_earlier_answer_takes_no_series_away() -> None:
    """Answers are told apart by their numbers, in whatever order they arrive."""
    here = Scene()
    cancelled = Task("c", "DeleteAcl", "CANCELLED", NOW + 60, NOW + 90)
    before = here.look()
    here.publish(cancelled)
    here.watched.delivered(here.look(), 2, here.clock.steady)
    here.watched.delivered(before, 1, here.clock.steady)
    here.publish(cancelled)

    assert here.counters == {("DeleteAcl", "CANCELLED"): 1}


@pytest.mark.parametrize("number", [0, 1])
def test_an_answer_with_a_series_that_is_not_known(number: int) -> None:
    """A series that only a late answer showed is shown with the value that it had."""
    here = Scene()
    shown = here.look()
    assert shown.metrics is not None
    new: Series = ("DeleteAcl", "CANCELLED")
    metrics = replace(shown.metrics, finished={FAILED: 1 - number, new: number})
    here.watched.delivered(replace(shown, metrics=metrics), 7, here.clock.steady)

    assert here.watched.state.shown[new] == number
    assert here.watched.state.shown[FAILED] == 1 - number
