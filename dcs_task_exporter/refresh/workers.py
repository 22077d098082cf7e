"""Daemon threads that do the most urgent job first, and futures for several jobs.

`concurrent.futures` has neither: its threads keep the process alive until a silent cloud answers,
its queue has no order, and its `wait` blocks instead of returning a future for an event loop.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Final

LONGEST_WAIT: Final = 0.5
"""Seconds after which the main thread looks whether it was interrupted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do; `drop` is called instead where no thread will do it."""

    do: Callable[[], None]
    drop: Callable[[], None]
    order: float = 0.0


class WorkerPool:
    """Threads that do jobs: the lowest order first, and of the same order the oldest."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._fields = {"fields": {"pool": name}}
        self._changed = threading.Condition()
        self._jobs: list[tuple[float, int, Job]] = []
        self._arrivals = itertools.count()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs among those that wait already; drop them where no thread can be started."""
        if not self._queued(jobs):
            for job in jobs:
                job.drop()

    def resize(self, size: int) -> None:
        """Have `size` threads at most from now on; with 0 they end after the jobs that wait."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def stop(self) -> None:
        """Start no more jobs, and drop those that wait."""
        with self._changed:
            self._stopped = True
            waiting = [job for _, _, job in self._jobs]
            self._jobs.clear()
            self._changed.notify_all()
        for job in waiting:
            job.drop()

    def _queued(self, jobs: Sequence[Job]) -> bool:
        with self._changed:
            if self._stopped:
                return False
            for job in jobs:
                heapq.heappush(self._jobs, (job.order, next(self._arrivals), job))
            try:
                while self._threads < max(1, self._size) and self._idle < len(self._jobs):
                    self._start_thread()
            except RuntimeError:
                logger.exception("cannot start another worker thread", extra=self._fields)
            if not self._threads:
                self._jobs.clear()
            self._changed.notify_all()
            return self._threads > 0

    def _start_thread(self) -> None:
        name = f"refresh-{self._name}-{self._threads + 1}"
        threading.Thread(target=self._work, name=name, daemon=True).start()
        self._threads += 1
        self._idle += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._jobs or self._stopped or self._threads > self._size
                )
                if self._stopped:
                    return
                self._idle -= 1
                if self._threads > (max(1, self._size) if self._jobs else self._size):
                    self._threads -= 1
                    return
                _, _, job = heapq.heappop(self._jobs)
            try:
                job.do()
            except Exception:
                logger.exception("a job of a worker thread broke", extra=self._fields)
            with self._changed:
                self._idle += 1


def all_of(futures: Iterable[Future[None]]) -> Future[None]:
    """Return a future that is done when all of these are; it cannot be cancelled.

    Each is asked for when those before it are done: a generator may begin something then.
    """
    pending = iter(futures)
    whole: Future[None] = Future()
    whole.set_running_or_notify_cancel()

    def wait_for_next(_: object = None) -> None:
        for future in pending:
            if not future.done():
                future.add_done_callback(wait_for_next)
                return
        whole.set_result(None)

    wait_for_next()
    return whole


def wait_awake(futures: Iterable[Future[None]], seconds: float) -> None:
    """Wait for the futures in short pieces, so that Ctrl-C ends the wait at once.

    A signal just before a wait begins does not end that wait, but the next one.
    """
    left, pending = seconds, list(futures)
    while left > 0 and wait(pending, min(left, LONGEST_WAIT)).not_done:
        left -= LONGEST_WAIT
