"""Daemon threads that do jobs in order of urgency, and futures that stand for several."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future


class WorkerPool:
    """Daemon threads for one project: a silent cloud must not keep the process alive."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._changed = threading.Condition()
        self._jobs: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def submit(self, rank: int, job: Callable[[], None]) -> None:
        """Run `job` in a thread; a lower rank goes first."""
        with self._changed:
            heapq.heappush(self._jobs, (rank, next(self._order), job))
            if self._idle < len(self._jobs) and self._threads < self._size:
                self._threads += 1
                name = f"refresh-{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._changed.notify()

    def stop(self) -> None:
        """Start no more jobs; the threads end when theirs do."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._jobs or self._stopped)
                self._idle -= 1
                if self._stopped:
                    return
                job = heapq.heappop(self._jobs)[-1]
            job()


def all_of(futures: Iterable[Future[None]]) -> Future[None]:
    """Return a future that is done when all of these are."""
    pending = list(futures)
    whole: Future[None] = Future()
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
