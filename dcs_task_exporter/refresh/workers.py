"""Daemon threads that do jobs, the most urgent first, and futures for several."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from typing import Final, Generic, TypeVar

Job = TypeVar("Job", bound=Callable[[], None])

LONGEST_PIECE: Final = 0.5
"""Seconds that the main thread waits without looking whether it was interrupted."""

logger = logging.getLogger(__name__)


class WorkerPool(Generic[Job]):
    """Daemon threads for one project: a silent cloud must not keep the process alive.

    The lowest order is done first; of the same order, first come, first served.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._changed = threading.Condition()
        self._jobs: list[tuple[float, int, Job]] = []
        self._arrivals = itertools.count()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def submit(
        self, jobs: Sequence[Job], order: Callable[[Job], float] = lambda _: 0.0
    ) -> Sequence[Job]:
        """Run `jobs`, lowest `order` first; return what will not be run, for want of a thread.

        Jobs that wait from earlier take their place by their order too.
        """
        with self._changed:
            if self._stopped:
                return jobs
            for job in jobs:
                heapq.heappush(self._jobs, (order(job), next(self._arrivals), job))
            try:
                while self._threads < self._size and self._idle < len(self._jobs):
                    self._start_thread()
            except RuntimeError:
                logger.exception(
                    "cannot start another worker thread", extra={"fields": {"pool": self._name}}
                )
            if self._threads:
                self._changed.notify_all()
                return ()
            self._jobs.clear()
            return jobs

    def stop(self) -> Sequence[Job]:
        """Start no more jobs, and return those that were waiting."""
        with self._changed:
            self._stopped = True
            waiting = [job for _, _, job in self._jobs]
            self._jobs.clear()
            self._changed.notify_all()
        return waiting

    def _start_thread(self) -> None:
        name = f"refresh-{self._name}-{self._threads + 1}"
        threading.Thread(target=self._work, name=name, daemon=True).start()
        self._threads += 1
        self._idle += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._stopped)
                if self._stopped:
                    return
                self._idle -= 1
                _, _, job = heapq.heappop(self._jobs)
            try:
                job()
            except Exception:
                logger.exception(
                    "a job of a worker thread broke", extra={"fields": {"pool": self._name}}
                )
            with self._changed:
                self._idle += 1


def uncancellable() -> Future[None]:
    """Return a future that its waiters cannot cancel: others wait for it too."""
    made: Future[None] = Future()
    made.set_running_or_notify_cancel()
    return made


def and_then(first: Future[None], begin: Callable[[], Future[None]]) -> Future[None]:
    """Return a future of what begins when the first one is done."""
    whole = uncancellable()

    def begun(_: object) -> None:
        try:
            begin().add_done_callback(lambda _: whole.set_result(None))
        except Exception:
            logger.exception("cannot start the refresh of what a search found")
            whole.set_result(None)

    first.add_done_callback(begun)
    return whole


def wait_awake(futures: Iterable[Future[None]], seconds: float) -> None:
    """Wait for all of these, and never long in one piece.

    Ctrl-C that comes just before a wait begins does not end it, but the next one.
    """
    left, pending = seconds, list(futures)
    while left > 0 and wait(pending, min(left, LONGEST_PIECE)).not_done:
        left -= LONGEST_PIECE


def all_of(futures: Iterable[Future[None]]) -> Future[None]:
    """Return a future that is done when all of these are."""
    pending = list(futures)
    whole = uncancellable()
    left = itertools.count(len(pending), -1)
    lock = threading.Lock()

    def one_done(_: object = None) -> None:
        with lock:
            last = next(left) == 1
        if last:
            whole.set_result(None)

    if not pending:
        whole.set_result(None)
    for future in pending:
        future.add_done_callback(one_done)
    return whole
