"""Worker threads: which job is first, what a broken one costs, and futures for several jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from dcs_task_exporter.refresh import workers
from dcs_task_exporter.refresh.workers import Job, WorkerPool, all_of, wait_awake

PATIENCE = 30


class Work:
    """Jobs that note what became of them, and wait until they may end."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.dropped: list[str] = []
        self.threads: set[threading.Thread] = set()
        self.ended = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def job(self, name: str, order: float = 0.0) -> Job:
        """Return a job that ends at once."""
        return Job(lambda: self._do(name), lambda: self.dropped.append(name), order)

    def held(self) -> Job:
        """Return a job that waits for `may_end`."""

        def hold() -> None:
            self.begun.release()
            assert self.may_end.wait(PATIENCE)
            self._do("held")

        return Job(hold, lambda: self.dropped.append("held"))

    def _do(self, name: str) -> None:
        self.done.append(name)
        self.threads.add(threading.current_thread())
        self.ended.release()

    def wait_for(self, number: int) -> None:
        """Wait until so many more jobs are done."""
        for _ in range(number):
            assert self.ended.acquire(timeout=PATIENCE)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def pool() -> Iterator[Callable[[int], WorkerPool]]:
    made: list[WorkerPool] = []

    def make(size: int) -> WorkerPool:
        made.append(WorkerPool("prod", size))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_the_order(work: Work, pool: Callable[[int], WorkerPool]) -> None:
    """The lowest order is first, and of the same order the job that was submitted first."""
    own = pool(1)
    own.submit([work.held()])
    assert work.begun.acquire(timeout=PATIENCE)
    own.submit([work.job("b", 2.0), work.job("c", 2.0), work.job("d", 3.0)])
    own.submit([work.job("e", 2.0), work.job("a", 1.0)])
    work.may_end.set()
    work.wait_for(6)

    assert work.done == ["held", "a", "b", "c", "e", "d"]


def test_the_default_order_is_0() -> None:
    """A job without an order is neither early nor late."""
    assert Job(nothing, nothing).order == 0


def wait_until_idle(pool: WorkerPool) -> None:
    """Wait until the thread of a pool waits for the next job; nobody is told when it does."""
    changed = pool._changed  # noqa: SLF001 - no public sign shows it
    with changed:
        for _ in range(100 * PATIENCE):
            if changed.wait_for(lambda: pool._idle == 1, 0.01):  # noqa: SLF001
                return
    message = "the thread is not idle"
    raise AssertionError(message)


def nothing() -> None:
    """Do nothing."""


def test_one_thread_is_enough_for_one_job_at_a_time(
    work: Work, pool: Callable[[int], WorkerPool]
) -> None:
    """A thread that is idle does the next job; no other is started for it."""
    own = pool(4)
    for _ in range(3):
        own.submit([work.job("a")])
        work.wait_for(1)
        wait_until_idle(own)

    assert len(work.threads) == 1
    assert [thread.name for thread in work.threads] == ["refresh-prod-1"]
    assert all(thread.daemon for thread in work.threads)


def test_as_many_threads_as_may_be(work: Work, pool: Callable[[int], WorkerPool]) -> None:
    """As many jobs are done at once as the pool has threads."""
    own = pool(2)
    own.submit([work.held(), work.held()])
    own.submit([work.held()])
    assert work.begun.acquire(timeout=PATIENCE)
    assert work.begun.acquire(timeout=PATIENCE)
    assert own._threads == 2  # noqa: SLF001 - a third job must not begin
    work.may_end.set()
    work.wait_for(3)

    assert {thread.name for thread in work.threads} <= {"refresh-prod-1", "refresh-prod-2"}


def test_a_stopped_pool_drops_what_waits(work: Work, pool: Callable[[int], WorkerPool]) -> None:
    """After the stop no job begins: those that wait are dropped, and those that come."""
    own = pool(1)
    own.submit([work.held()])
    assert work.begun.acquire(timeout=PATIENCE)
    own.submit([work.job("a"), work.job("b")])
    own.stop()
    own.submit([work.job("c"), work.job("d")])
    work.may_end.set()
    work.wait_for(1)

    assert work.dropped == ["a", "b", "c", "d"]
    assert work.done == ["held"]


def test_a_broken_job(
    work: Work, pool: Callable[[int], WorkerPool], caplog: pytest.LogCaptureFixture
) -> None:
    """A job that breaks is logged with its pool; its thread does the next one."""

    def break_it() -> None:
        message = "broken"
        raise ValueError(message)

    own = pool(1)
    own.submit([Job(break_it, nothing), work.job("a", 1.0)])
    work.wait_for(1)

    (line,) = caplog.records
    assert line.levelno == logging.ERROR
    assert vars(line)["fields"] == {"pool": "prod"}
    assert line.exc_info is not None


def test_no_thread_can_be_started(
    work: Work, pool: Callable[[int], WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any thread, jobs are dropped once; a later thread does not do them."""

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    own = pool(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        own.submit([work.job("a"), work.job("b")])
    own.submit([work.job("c")])
    work.wait_for(1)

    assert work.dropped == ["a", "b"]
    assert work.done == ["c"]


def test_no_further_thread_can_be_started(
    work: Work, pool: Callable[[int], WorkerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a thread is at work already, jobs wait for it."""

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    own = pool(2)
    own.submit([work.held()])
    assert work.begun.acquire(timeout=PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        own.submit([work.job("a")])
    work.may_end.set()
    work.wait_for(2)

    assert work.dropped == []
    assert work.done == ["held", "a"]


def test_all_of_none() -> None:
    """A future for no futures is done."""
    assert all_of([]).done()


def test_all_of_several() -> None:
    """A future for several is done when the last of them is, in any order."""
    parts = [Future[None]() for _ in range(3)]
    whole = all_of(parts)
    for part in (parts[1], parts[2]):
        part.set_result(None)
        assert not whole.done()
    parts[0].set_result(None)

    assert whole.done()
    assert whole.result() is None


def test_all_of_cannot_be_cancelled() -> None:
    """A client that leaves does not end what others wait for."""
    assert all_of([Future()]).cancel() is False


def test_each_is_asked_for_in_its_turn() -> None:
    """The next future is made when the one before is done."""
    parts, made = [Future[None](), Future[None]()], []

    def in_turn() -> Iterator[Future[None]]:
        for number, part in enumerate(parts):
            made.append(number)
            yield part

    all_of(in_turn())
    assert made == [0]
    parts[0].set_result(None)

    assert made == [0, 1]


class Waits:
    """Stands in for `wait`: notes each patience, and ends a future after some waits."""

    def __init__(self, ends_after: int) -> None:
        self.slept: list[float] = []
        self._ends_after = ends_after
        self.future = Future[None]()

    def __call__(self, pending: list[Future[None]], patience: float) -> Waits:
        assert pending == [self.future]
        self.slept.append(patience)
        if len(self.slept) == self._ends_after:
            self.future.set_result(None)
        return self

    @property
    def not_done(self) -> set[Future[None]]:
        """The futures that are still awaited."""
        return set() if self.future.done() else {self.future}


@pytest.mark.parametrize(
    ("seconds", "ends_after", "slept"),
    [
        (1.2, 99, [0.5, 0.5, pytest.approx(0.2)]),
        (1.0, 99, [0.5, 0.5]),
        (60.0, 2, [0.5, 0.5]),
        (0.3, 99, [0.3]),
        (0.0, 99, []),
    ],
)
def test_a_wait_is_in_pieces(
    seconds: float, ends_after: int, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait is made of pieces of half a second, until all is done or the patience ends."""
    waits = Waits(ends_after)
    monkeypatch.setattr(workers, "wait", waits)
    wait_awake(iter([waits.future]), seconds)

    assert waits.slept == slept


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that are started."""
    found: list[str] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        found.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    return found


def test_no_more_threads_than_may_be(
    work: Work, pool: Callable[[int], WorkerPool], started: list[str]
) -> None:
    """However many jobs wait, no further thread is started than the pool may have."""
    own = pool(2)
    own.submit([work.held()])
    own.submit([work.held(), work.held()])
    own.submit([work.held()])
    work.may_end.set()
    work.wait_for(4)

    assert started == ["refresh-prod-1", "refresh-prod-2"]


def test_no_more_threads_than_jobs(
    work: Work, pool: Callable[[int], WorkerPool], started: list[str]
) -> None:
    """No thread is started for whom there is no job."""
    own = pool(5)
    own.submit([])
    own.submit([work.held(), work.held()])
    work.may_end.set()
    work.wait_for(2)

    assert started == ["refresh-prod-1", "refresh-prod-2"]


@pytest.mark.parametrize("size", [1, 0])
def test_a_smaller_pool_ends_its_threads_at_once(
    work: Work, pool: Callable[[int], WorkerPool], size: int
) -> None:
    """A thread that is one too many ends after its job, although others wait for the last one."""
    own, alive = pool(2), list[int]()
    own.submit([work.held(), work.held()])
    for _ in range(2):
        assert work.begun.acquire(timeout=PATIENCE)
    own.resize(size)

    def note() -> None:
        alive.append(own._threads)  # noqa: SLF001 - the other has ended
        work.ended.release()

    own.submit([Job(note, note), Job(note, note)])
    work.may_end.set()
    work.wait_for(4)

    assert alive == [1, 1]
