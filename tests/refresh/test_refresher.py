"""The refresher: who is read when, what is shown meanwhile, and what a broken thread costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiTimeoutError, StoppedError
from dcs_task_exporter.refresh import refresher
from dcs_task_exporter.refresh.reader import MAX_REPORTED_WORDS
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.task_center import TaskCenter
from dcs_task_exporter.refresh.workers import Job, WorkerPool
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import CenterTask, Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot
from tests.support.held_source import NOW, PATIENCE, Source
from tests.support.kept_journal import KeptJournal
from tests.support.refresh_settings import RULES, collector

FAILED = ("EXTEND", "FAILED")


class Scene:
    """A refresher over a source, with clocks that a test moves."""

    def __init__(
        self,
        instances: int,
        *,
        journal: Journal | None = None,
        task_centers: Mapping[str, TaskCenter] | None = None,
        concurrency: int = 1,
        **more: Any,
    ) -> None:
        self.source = Source()
        self.steady = 1000.0
        known = [Instance(f"i{number}", f"n{number}", "prod") for number in range(instances)]
        self.refresher = Refresher(
            known,
            {"prod": self.source, "moved": self.source},
            collector(concurrency=concurrency, **more),
            RULES,
            Clock(lambda: NOW + self.steady, lambda: self.steady),
            journal=journal,
            task_centers=task_centers,
        )

    def refresh(self) -> None:
        """Refresh after a scrape interval."""
        self.steady += 15
        self.refresher.refresh().result(PATIENCE)

    def scrape(self) -> dict[tuple[str, str], int]:
        """Refresh, and return the counters of the first instance, if any."""
        self.refresh()
        return self.look()

    def look(self) -> dict[tuple[str, str], int]:
        """Scrape without a refresh."""
        snapshots = self.refresher.snapshots()
        self.refresher.delivered(snapshots)
        metrics = snapshots[0].metrics
        return dict(metrics.finished) if metrics else {}

    def failures(self, scrapes: int) -> list[int]:
        """Return how often EXTEND failed by each of several scrapes, -1 where that is not shown."""
        return [self.scrape().get(FAILED, -1) for _ in range(scrapes)]


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(instances: int = 1, **more: Any) -> Scene:
        made.append(Scene(instances, **more))
        return made[-1]

    yield make
    for one in made:
        one.refresher.stop()


def test_nobody_is_overtaken(scene: Callable[..., Scene]) -> None:
    """An instance that waits from an earlier scrape is read before those of later scrapes."""
    here = scene(4)
    here.source.permits = threading.Semaphore(0)
    waiting = []
    for _ in range(6):
        waiting.append(here.refresher.refresh())
        here.source.permits.release()
        here.steady += 15
    for _ in range(20):
        here.source.permits.release()
    for future in waiting:
        future.result(PATIENCE)

    assert here.source.read[:4] == ["i0", "i1", "i2", "i3"]


@pytest.mark.parametrize(
    "other", [Instance("i0", "renamed", "prod"), Instance("i0", "n0", "moved")]
)
def test_a_rename_while_data_are_old(scene: Callable[..., Scene], other: Instance) -> None:
    """A count that waits while data are too old starts at 0 under a new name, or project."""
    here = scene(1, max_staleness=60)
    here.scrape()
    here.steady += 15
    here.source.tasks = [Task("a", "EXTEND", "FAILED", NOW + here.steady, NOW + here.steady)]
    here.refresher.refresh().result(PATIENCE)  # counted, and scraped too late
    here.steady += 61
    here.source.error = ApiTimeoutError("silence")
    here.scrape()
    here.refresher.retarget([other])
    here.source.error = None

    assert here.failures(2) == [0, 1]


def test_old_data_are_not_up(scene: Callable[..., Scene]) -> None:
    """Data older than max_staleness disappear, and the instance does not stay up without them."""
    here = scene(1, max_staleness=60)
    here.scrape()
    here.steady += 61

    (snapshot,) = here.refresher.snapshots()

    assert (snapshot.up, snapshot.metrics) == (False, None)


def test_data_age_from_the_beginning_of_their_read(scene: Callable[..., Scene]) -> None:
    """Data are as old as the beginning of their read, however long that took."""
    here = scene(1, max_staleness=60)
    here.source.permits = threading.Semaphore(0)
    reading = here.refresher.refresh()
    here.source.wait_for_the_begin(1)
    here.steady += 50
    here.source.permits.release()
    reading.result(PATIENCE)
    here.steady += 20

    assert here.refresher.snapshots()[0].metrics is None


def unforeseen() -> Task:
    return Task("a", "DeleteAcl", "CANCELLED", NOW + 1020, NOW + 1021)


def test_two_scrapers_see_the_first_increment(scene: Callable[..., Scene]) -> None:
    """A new series stays at its first value until the slower of two scrapers has seen it."""
    here = scene(1, first_value_hold=60)
    here.scrape()
    here.source.tasks = [unforeseen()]
    series = ("DeleteAcl", "CANCELLED")

    seen = [here.scrape()[series] for _ in range(8)]

    assert seen[:4] == [0, 0, 0, 0]
    assert seen[-1] == 1


def test_a_look_is_no_scrape(scene: Callable[..., Scene]) -> None:
    """Snapshots that nobody rendered do not make a count rise."""
    here = scene()
    here.scrape()
    here.source.tasks = [unforeseen()]
    for _ in range(3):
        here.refresh()

    found = here.look()

    assert found["DeleteAcl", "CANCELLED"] == 0


@pytest.mark.parametrize("broken", [MemoryError("odd"), ValueError("odd")])
def test_a_bug_costs_one_refresh(scene: Callable[..., Scene], broken: Exception) -> None:
    """An error that nobody foresaw makes the instance fail once, and is read again."""
    here = scene()
    here.source.error = broken
    assert not here.scrape()
    here.source.error = None

    assert here.scrape()


def test_no_thread(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the instances fail, and are read when one can."""
    here = scene(2)

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        here.scrape()
    failed: Sequence[bool] = [item.failure is not None for item in here.refresher.snapshots()]
    here.scrape()

    assert failed == [True, True]
    assert all(item.up for item in here.refresher.snapshots())


def test_scrape_while_stopping(scene: Callable[..., Scene]) -> None:
    """A refresh that is asked for after the end waits for nothing."""
    here = scene(3)
    here.refresher.stop()

    assert here.refresher.refresh().result(PATIENCE) is None


def test_failure_keeps_the_data(scene: Callable[..., Scene]) -> None:
    """A failed refresh keeps the last data, says when they were read, and that it failed."""
    here = scene()
    here.scrape()
    here.source.error = ApiTimeoutError("silence")

    assert here.scrape()
    (snapshot,) = here.refresher.snapshots()
    assert (snapshot.up, snapshot.failure and snapshot.failure.reason) == (False, "timeout")
    assert snapshot.refreshed_at == NOW + 1015


def test_a_probe_overtakes(scene: Callable[..., Scene]) -> None:
    """An instance that waits already is read next when it alone is asked for, and read once."""
    here = scene(5)
    here.source.permits = threading.Semaphore(0)
    everything = here.refresher.refresh()
    probe = here.refresher.refresh("i4")
    here.source.permits.release(2)
    probe.result(PATIENCE)
    early = list(here.source.read)
    here.source.permits.release(10)
    everything.result(PATIENCE)

    assert "i4" in early
    assert sorted(here.source.read) == ["i0", "i1", "i2", "i3", "i4"]


def test_one_project_only(scene: Callable[..., Scene]) -> None:
    """A refresh of another project reads nothing."""
    here = scene(2)
    here.refresher.refresh(project="other").result(PATIENCE)

    assert here.source.read == []


def failed(number: int) -> Task:
    return Task(f"f{number}", "EXTEND", "FAILED", NOW + 1020, NOW + 1021)


def test_a_late_read_of_an_instance_that_left(scene: Callable[..., Scene]) -> None:
    """A read that ends after its instance left and came back neither loses nor repeats a count."""
    here = scene()
    here.scrape()
    target = Instance("i0", "n0", "prod")
    here.source.permits = threading.Semaphore(0)
    here.source.tasks = [failed(1)]
    here.steady += 15
    reading = here.refresher.refresh()
    here.refresher.retarget([])
    here.refresher.retarget([target])
    again = here.refresher.refresh()
    here.source.permits.release(10)
    for future in (reading, again):
        future.result(PATIENCE)
    seen = here.failures(3)

    assert seen == sorted(seen)
    assert seen[-1] == 1


def left_with_an_answer_on_its_way(here: Scene) -> tuple[Instance, Sequence[Snapshot]]:
    """Count a failed task, and stop watching its instance before that answer is delivered."""
    here.scrape()
    here.source.tasks = [failed(1)]
    here.refresh()
    on_its_way = here.refresher.snapshots()
    here.refresher.retarget([])
    return Instance("i0", "n0", "prod"), on_its_way


def test_an_answer_on_its_way_when_an_instance_leaves(scene: Callable[..., Scene]) -> None:
    """What an answer shows that is confirmed after its instance left is not taken back."""
    here = scene()
    target, on_its_way = left_with_an_answer_on_its_way(here)
    here.refresher.delivered(on_its_way, 7)
    here.refresher.retarget([target])
    seen = here.failures(3)

    assert on_its_way[0].metrics is not None
    assert on_its_way[0].metrics.finished[FAILED] == 1
    assert seen == [1, 1, 1]


def test_an_answer_under_an_old_name(scene: Callable[..., Scene]) -> None:
    """An answer under an old name that is delivered after the change shows no value of the new."""
    here = scene()
    here.scrape()
    here.source.tasks = [failed(1)]
    here.refresh()
    on_its_way = here.refresher.snapshots()
    here.refresher.retarget([Instance("i0", "new", "prod")])
    here.refresher.delivered(on_its_way, 7)

    assert here.look()[FAILED] == 0


def test_an_answer_to_who_has_no_series_any_more(scene: Callable[..., Scene]) -> None:
    """An answer that is delivered after its instance left gives it no series, should it return."""
    here = scene()
    here.scrape()
    on_its_way = here.refresher.snapshots()
    here.refresher.retarget([])
    here.refresher.delivered(on_its_way, 7)
    here.refresher.retarget([Instance("i0", "n0", "prod")])
    here.source.tasks = [failed(1)]

    assert here.failures(2) == [0, 1]


def test_the_end_saves_what_was_delivered(scene: Callable[..., Scene]) -> None:
    """At the end, a count that no scraper has seen is saved as one that is not shown yet."""
    journal = KeptJournal(InstanceState())
    here = scene(journal=journal)
    here.scrape()
    here.source.tasks = [failed(1)]
    here.refresh()
    before = journal.state.shown[FAILED]
    here.refresher.stop()

    assert (before, journal.state.shown[FAILED], journal.state.counts[FAILED]) == (1, 0, 1)


def test_a_failure_shows_what_waits(scene: Callable[..., Scene]) -> None:
    """A count whose first value was delivered is shown, although the next read fails."""
    here = scene()
    here.scrape()
    here.source.tasks = [unforeseen()]
    here.scrape()
    here.source.error = ApiTimeoutError("silence")

    assert here.scrape()["DeleteAcl", "CANCELLED"] == 1


def test_what_is_fresh_is_not_read(scene: Callable[..., Scene]) -> None:
    """An instance that was read a moment ago is not read again."""
    here = scene(1, min_refresh_interval=15)
    here.refresh()
    here.steady += 10
    here.refresher.refresh().result(PATIENCE)

    assert here.source.read == ["i0"]


def test_a_read_has_an_end(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """No request of a read begins later than a minute after it."""
    here = scene()
    deadlines = []

    def listing(_instance_id: str, start: float, deadline: float) -> Listing:
        deadlines.append(deadline)
        return Listing((), start)

    monkeypatch.setattr(here.source, "list_tasks", listing)
    here.refresh()

    assert deadlines == [here.steady + 60]


def test_a_name_that_changes_during_a_read(scene: Callable[..., Scene]) -> None:
    """What is read under the old name is shown under the new one, whose counters begin anew."""
    here = scene()
    here.scrape()
    here.source.permits = threading.Semaphore(0)
    here.source.tasks = [failed(1)]
    here.steady += 15
    reading = here.refresher.refresh()
    here.refresher.retarget([Instance("i0", "new", "prod")])
    here.source.permits.release(10)
    reading.result(PATIENCE)
    (snapshot,) = here.refresher.snapshots()
    found = here.look()

    assert snapshot.instance.name == "new"
    assert (found[FAILED], here.failures(1)) == (0, [1])


def test_the_same_is_the_same_object(scene: Callable[..., Scene]) -> None:
    """Neither a refresh nor a discovery nor a failure makes anew what shows nothing new."""
    here = scene()
    here.scrape()
    before = [here.refresher.snapshots()[0] for _ in range(1)]
    here.scrape()
    before += here.refresher.snapshots()
    here.refresher.retarget([Instance("i0", "n0", "prod")])
    before += here.refresher.snapshots()
    here.source.error = ApiTimeoutError("silence")
    here.scrape()
    here.scrape()
    before += here.refresher.snapshots()

    assert len({id(snapshot.metrics) for snapshot in before}) == 1
    assert len({id(snapshot.instance) for snapshot in before}) == 1


class RenamingJournal(Journal):
    """Saves nothing, but does something while a state is being saved."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] | None = None

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Do it once."""
        del instance_id, state
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()


def test_a_name_that_changes_while_counts_are_saved(scene: Callable[..., Scene]) -> None:
    """A count that was to be shown under the old name is not the first value of the new one."""
    journal = RenamingJournal()
    here = scene(journal=journal)
    here.scrape()
    here.source.tasks = [failed(1)]
    new = [Instance("i0", "new", "prod")]
    journal.meanwhile = lambda: here.refresher.retarget(new)
    found = here.scrape()

    assert found[FAILED] == 0
    assert here.refresher.snapshots()[0].instance.name == "new"
    assert here.failures(1) == [1]


def test_an_instance_that_returns(scene: Callable[..., Scene]) -> None:
    """It shows first what was seen of it before it left, and then what was counted."""
    here = scene()
    here.scrape()
    here.source.tasks = [failed(1)]
    here.refresh()
    here.refresher.retarget([])
    here.refresher.retarget([Instance("i0", "n0", "prod")])
    seen = here.failures(2)

    assert seen == [0, 1]


def beside_a_silent_centre(scene: Callable[..., Scene]) -> tuple[Scene, threading.Event]:
    """Return two instances that were read once, and what lets the task center answer."""
    answer = threading.Event()

    def listing(_start: float, _deadline: float) -> tuple[tuple[CenterTask, ...], bool]:
        assert answer.wait(PATIENCE)
        return (), False

    clock = Clock(lambda: 0.0, lambda: 0.0)
    center = TaskCenter("prod", listing, 3000.0, clock)
    here = scene(2, task_centers={"prod": center}, concurrency=2)
    answer.set()
    here.scrape()
    answer.clear()
    return here, answer


def test_a_probe_while_the_centre_is_asked(scene: Callable[..., Scene]) -> None:
    """A read that a probe began goes on as one read when the center spares the instance."""
    here, answer = beside_a_silent_centre(scene)
    here.source.permits = threading.Semaphore(0)
    here.steady += 15
    everything = here.refresher.refresh()
    probe = here.refresher.refresh("i0")
    here.source.wait_for_the_begin(3)
    answer.set()
    here.refresher.refresh("i1").result(PATIENCE)
    joined = here.refresher.refresh("i0")
    is_early = joined.done()
    here.source.permits.release(10)
    for future in (everything, probe, joined):
        future.result(PATIENCE)

    assert not is_early
    assert here.source.read.count("i0") == 2


def test_a_centre_that_answers_late(scene: Callable[..., Scene]) -> None:
    """An answer of the center ends nothing that became due after it was asked."""
    here, answer = beside_a_silent_centre(scene)
    here.steady += 15
    asking = here.refresher.refresh()
    here.source.error = ApiTimeoutError("silence")
    here.refresher.refresh("i0").result(PATIENCE)
    here.source.error = None
    here.source.permits = threading.Semaphore(0)
    here.steady += 16
    again = here.refresher.refresh()
    here.source.wait_for_the_begin(4)
    answer.set()
    asking.result(PATIENCE)
    is_early = again.done()
    here.source.permits.release(10)
    again.result(PATIENCE)

    assert not is_early
    assert here.source.read.count("i0") == 3


class Pass:
    """Scrapes every 15 s of which each has the budget for 10 of 100 instances: a pass takes 10."""

    def __init__(self, here: Scene) -> None:
        self.here = here
        here.source.permits = threading.Semaphore(0)
        self.waiting: list[Future[None]] = []

    def scrape(self) -> None:
        """Ask for all, and let the cloud answer for ten."""
        source = self.here.source
        assert source.permits is not None
        until = len(source.read) + 10
        self.waiting.append(self.here.refresher.refresh())
        source.permits.release(10)
        source.wait_for(until)
        self.here.steady += 15

    def end(self) -> None:
        """Let the cloud answer the rest."""
        assert self.here.source.permits is not None
        self.here.source.permits.release(1000)
        for future in self.waiting:
            future.result(PATIENCE)


def test_even_ages(scene: Callable[..., Scene]) -> None:
    """When the budget is small every instance is read once in a pass, in the order of the ages."""
    here = scene(100, requests_per_second=100 / 150)
    passing = Pass(here)
    for _ in range(30):
        passing.scrape()
    read = here.source.read[:300]
    passing.end()

    assert read[100:200] == read[200:300] == [f"i{number}" for number in range(100)]


def test_active_first(scene: Callable[..., Scene]) -> None:
    """Instances with active tasks are read every quarter of a pass, and the others still are."""
    here = scene(100, requests_per_second=100 / 150)
    here.source.active = {"i7", "i70"}
    passing = Pass(here)
    for _ in range(50):
        passing.scrape()
    read = here.source.read[:500]
    passing.end()
    latest = read[100:]

    assert 12 <= latest.count("i7") <= 17
    assert all(latest.count(f"i{number}") >= 3 for number in range(100))


def test_an_answer_that_arrives_after_its_instance_returned(scene: Callable[..., Scene]) -> None:
    """What an answer shows that is delivered after its instance came back is shown at once."""
    here = scene()
    target, on_its_way = left_with_an_answer_on_its_way(here)
    here.refresher.retarget([target])
    here.refresh()
    here.refresher.delivered(on_its_way, 7)
    first = here.look()[FAILED]

    assert [first, *here.failures(3)] == [1, 1, 1, 1]


class Held:
    """A pool of threads whose jobs wait for a permit each."""

    def __init__(self, size: int) -> None:
        self.pool = WorkerPool("held", size)
        self.begun, self.permits = threading.Semaphore(0), threading.Semaphore(0)
        self.done: list[int] = []

    def submit(self, number: int) -> None:
        """Queue so many jobs."""

        def do(at: int) -> None:
            self.begun.release()
            assert self.permits.acquire(timeout=PATIENCE)
            self.done.append(at)

        drop = partial(self.done.append, -1)
        self.pool.submit([Job(partial(do, at), drop) for at in range(number)])

    def begin(self, number: int) -> None:
        """Wait until so many jobs have begun."""
        for _ in range(number):
            assert self.begun.acquire(timeout=PATIENCE)

    def threads(self) -> list[threading.Thread]:
        """Return the threads of the pool."""
        return [it for it in threading.enumerate() if it.name.startswith("refresh-held-")]

    def join(self) -> None:
        """Wait until all its threads have ended."""
        for thread in self.threads():
            thread.join(PATIENCE)
        assert not self.threads()


def test_a_pool_that_ends_does_what_waits() -> None:
    """Threads that are not wanted any more end after the jobs that wait, and drop none."""
    held = Held(2)
    held.submit(5)
    held.begin(2)
    held.pool.resize(0)
    held.permits.release(5)
    held.join()

    assert sorted(held.done) == [0, 1, 2, 3, 4]


def test_a_pool_that_ended_still_works() -> None:
    """A job that comes late, after the end of the threads, is done all the same."""
    held = Held(1)
    held.pool.resize(0)
    held.submit(1)
    held.permits.release()
    held.join()

    assert held.done == [0]


def test_a_smaller_and_a_larger_pool() -> None:
    """As many threads end as are too many; as many come with the next jobs as may."""
    held = Held(3)
    held.submit(3)
    held.begin(3)
    held.pool.resize(1)
    held.submit(1)
    held.permits.release(2)
    held.permits.release(2)
    held.begin(1)
    held.pool.resize(4)
    held.submit(4)
    held.begin(4)
    most = len(held.threads())
    held.permits.release(4)
    held.pool.resize(0)
    held.join()

    assert most == 4
    assert len(held.done) == 8


def test_a_read_goes_on_with_the_new_client(scene: Callable[..., Scene]) -> None:
    """A read whose client is replaced meanwhile is done by the new one, as one read."""
    here = scene(1)
    old, new = here.source, Source()
    old.permits = threading.Semaphore(0)
    old.error = StoppedError("replaced")
    reading = here.refresher.refresh()
    old.wait_for_the_begin(1)
    sources = {"prod": new}
    known = [one.instance for one in here.refresher.snapshots()]
    here.refresher.change(known, sources, collector(), RULES, {})
    old.permits.release()
    reading.result(PATIENCE)

    assert new.read == ["i0"]
    assert [one.up for one in here.refresher.snapshots()] == [True]


def test_a_read_of_a_project_that_left(scene: Callable[..., Scene]) -> None:
    """A read that waits when its project leaves ends, without a failure that nobody had."""
    here = scene(2)
    here.source.permits = threading.Semaphore(0)
    reading = here.refresher.refresh()
    here.source.wait_for_the_begin(1)
    here.refresher.change([], {}, collector(), RULES, {})
    here.source.permits.release()
    reading.result(PATIENCE)
    late = here.refresher.refresh()
    here.refresher.change(
        [Instance("i1", "n1", "prod")], {"prod": Source()}, collector(), RULES, {}
    )

    late.result(PATIENCE)
    assert here.source.read == ["i0"]
    assert [one.failure for one in here.refresher.snapshots()] == [None]


def words_logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the unforeseen statuses that the log names."""
    lines = [record for record in caplog.records if "unknown status" in record.msg]
    return [vars(line)["fields"]["status"] for line in lines]


def test_an_unforeseen_status_is_logged_once(
    scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen status is logged once, whatever number of instances and refreshes show it."""
    here = scene(2)
    here.source.tasks = [Task("a", "EXTEND", "PAUSED", NOW, NOW)]
    here.refresh()
    here.refresh()

    assert words_logged(caplog) == ["PAUSED"]


def test_few_unforeseen_statuses_are_logged(
    scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture
) -> None:
    """At most 100 unforeseen statuses are logged, although one listing has more."""
    here = scene()
    here.source.tasks = [Task(f"t{at}", "EXTEND", f"WORD{at}", NOW, NOW) for at in range(150)]
    here.refresh()
    here.source.tasks = [Task("a", "EXTEND", "PAUSED", NOW, NOW)]
    here.refresh()

    assert len(words_logged(caplog)) == MAX_REPORTED_WORDS


def test_scrapes_that_only_join_are_counted(scene: Callable[..., Scene]) -> None:
    """A scrape of all that begins no read of its own is counted; nothing else is."""
    here = scene(2, concurrency=2)
    here.source.permits = threading.Semaphore(0)
    waiting = [here.refresher.refresh()]
    assert here.refresher.coalesced == 0
    waiting += [here.refresher.refresh() for _ in range(2)]
    assert here.refresher.coalesced == 2
    waiting += [
        here.refresher.refresh(is_scrape=False),
        here.refresher.refresh("i0"),
        here.refresher.refresh(project="prod"),
    ]
    here.source.permits.release(9)
    for future in waiting:
        future.result(PATIENCE)
    here.refresher.refresh().result(PATIENCE)  # nothing is due

    assert here.refresher.coalesced == 2


class Pools:
    """Pools of threads that note the sizes that they are given, and do nothing."""

    def __init__(self) -> None:
        self.sizes: dict[str, list[int]] = {}

    def make(self, name: str, size: int) -> WorkerPool:
        """Make a pool, as a refresher does."""
        noted = self.sizes[name] = [size]

        class Noted(WorkerPool):
            def resize(self, size: int) -> None:
                noted.append(size)

        return Noted(name, size)


def test_the_threads_of_projects() -> None:
    """Each project has its threads; those of one that leaves end, as do those for progress."""
    pools = Pools()
    source = Source()
    settings = collector(concurrency=3, task_progress=True)
    made = Refresher([], {"a": source}, settings, RULES, Clock(), pool_of=pools.make)
    assert pools.sizes == {"a": [3, 3], "a-progress": [2]}
    more = collector(concurrency=5)
    made.change([], {"a": source, "b": source}, more, RULES, {})
    assert pools.sizes == {"a": [3, 3, 5], "a-progress": [2, 0], "b": [5, 5]}
    made.change([], {"b": source}, settings, RULES, {})

    assert pools.sizes["a"] == [3, 3, 5, 0]
    assert pools.sizes["b"] == [5, 5, 3]
    assert pools.sizes["b-progress"] == [2]


@pytest.mark.parametrize(("rate", "threads"), [(10.0, 8), (1.0, 5), (0.05, 1)])
def test_no_thread_only_waits(rate: float, threads: int) -> None:
    """There are no more threads than requests are sent within a timeout, at least one."""
    pools = Pools()
    settings = collector(concurrency=8, timeout=5.0, requests_per_second=rate)
    Refresher([], {"a": Source()}, settings, RULES, Clock(), pool_of=pools.make)

    assert pools.sizes["a"][0] == threads


def test_few_that_left_are_remembered(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that left the first are forgotten, but none that is being read."""
    monkeypatch.setattr(refresher, "MAX_FORMER", 2)
    here = scene(5)
    here.source.permits = threading.Semaphore(0)
    reading = here.refresher.refresh("i0")
    here.source.wait_for_the_begin(1)
    here.refresher.retarget([])
    known = here.refresher._known  # noqa: SLF001 - what is remembered shows nowhere
    assert list(known) == ["i0", "i4"]
    here.source.permits.release(9)
    reading.result(PATIENCE)
    here.refresher.retarget([Instance("i9", "n", "prod")])
    here.refresher.retarget([])

    assert list(here.refresher._known) == ["i4", "i9"]  # noqa: SLF001


def test_who_is_found(scene: Callable[..., Scene]) -> None:
    """An instance is found by its id, and else by its name."""
    here = scene(3)
    here.refresher.retarget(
        [Instance("i0", "i1", "prod"), Instance("i1", "x", "prod"), Instance("i2", "x", "prod")]
    )

    found = {name: [one.id for one in here.refresher.find(name)] for name in ("i1", "x", "y")}

    assert found == {"i1": ["i1"], "x": ["i1", "i2"], "y": []}


def test_one_snapshot(scene: Callable[..., Scene]) -> None:
    """A probe gets the snapshot of its own instance, or none."""
    here = scene(2)

    assert [one.instance.id for one in here.refresher.snapshots("i1")] == ["i1"]
    assert here.refresher.snapshots("i9") == ()


def test_answers_are_told_apart_by_their_number(scene: Callable[..., Scene]) -> None:
    """An earlier answer that is delivered late takes no series away."""
    here = scene()
    here.scrape()
    before = here.refresher.snapshots()
    here.source.tasks = [unforeseen()]
    here.refresh()
    here.refresher.delivered(here.refresher.snapshots(), 2)
    here.refresher.delivered(before, 1)
    here.refresh()
    metrics = here.refresher.snapshots()[0].metrics

    assert metrics is not None
    assert metrics.finished["DeleteAcl", "CANCELLED"] == 1


def test_what_waits_at_the_end_has_not_failed(scene: Callable[..., Scene]) -> None:
    """A read that waits when the exporter stops ends without a failure."""
    here = scene(2)
    here.source.permits = threading.Semaphore(0)
    reading = here.refresher.refresh()
    here.source.wait_for_the_begin(1)
    here.refresher.stop()
    here.source.permits.release(2)
    reading.result(PATIENCE)

    assert [one.failure for one in here.refresher.snapshots()] == [None, None]


def test_the_end_while_the_center_waits(scene: Callable[..., Scene]) -> None:
    """Reads that wait for the center's answer end with the exporter."""
    here, answer = beside_a_silent_centre(scene)
    here.source.permits = threading.Semaphore(0)
    here.steady += 15
    probes = [here.refresher.refresh(key) for key in ("i0", "i1")]
    here.source.wait_for_the_begin(4)
    here.steady += 15
    here.source.permits.release(2)
    for probe in probes:
        probe.result(PATIENCE)
    here.source.permits = threading.Semaphore(0)
    waiting = here.refresher.refresh()
    here.refresher.stop()
    answer.set()
    here.source.permits.release(9)

    assert waiting.result(PATIENCE) is None


def test_a_center_is_asked_for_its_own_project() -> None:
    """A change that a center shows makes nobody of another project be read."""
    source = Source()
    tasks: list[CenterTask] = []
    steady = [1000.0]
    clock = Clock(lambda: NOW + steady[0], lambda: steady[0])
    center = TaskCenter("a", lambda *_: (tuple(tasks), False), 3000.0, clock)
    targets = [Instance("i0", "n", "a"), Instance("i1", "n", "b")]
    sources = {"a": source, "b": source}
    made = Refresher(targets, sources, collector(), RULES, clock, task_centers={"a": center})
    made.refresh().result(PATIENCE)
    tasks.append(CenterTask("t", "SUCCESS", "1"))
    steady[0] += 15
    made.refresh(project="a").result(PATIENCE)
    expecting = [one.reads.expects_change for one in made._chosen()]  # noqa: SLF001
    made.stop()

    assert source.read.count("i0") == 2
    assert expecting[1] is False
