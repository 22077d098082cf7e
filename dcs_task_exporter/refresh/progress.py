"""How far active tasks are, asked for beside the reading of instances and never at its cost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiConnectionError, ApiError, ApiTimeoutError, StoppedError
from dcs_task_exporter.refresh.instance import Watched
from dcs_task_exporter.refresh.reader import fields_of
from dcs_task_exporter.refresh.workers import WorkerPool
from dcs_task_exporter.tasks.models import Progress
from dcs_task_exporter.tasks.snapshots import least_progress
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable

logger = logging.getLogger(__name__)

PATIENCE: Final = 2.0
"""Seconds after its listing in which the questions about an instance must have begun."""

PAUSE: Final = 60.0
"""Seconds for which nothing is asked of a project that did not answer."""

THREADS: Final = 2
"""Threads of each project that ask for progress."""


@dataclass(frozen=True, slots=True)
class _Question:
    """The question for the tasks of one instance, and what comes after it, whatever happens."""

    ask: Callable[[], None]
    done: Callable[[], None]

    def __call__(self) -> None:
        """Do both."""
        try:
            self.ask()
        finally:
            self.done()


class ProgressReader:
    """Asks for the progress of tasks that offer it, in threads of its own."""

    def __init__(
        self,
        statuses: StatusTable,
        lock: threading.Lock,
        clock: Clock,
        *,
        threads: int = THREADS,
    ) -> None:
        self._statuses = statuses
        self._threads = threads
        self._lock = lock
        self._clock = clock
        self._pools: dict[str, WorkerPool[_Question]] = {}
        self._silent_until: dict[str, float] = {}
        self._stopped = False

    def ask(self, entry: Watched, done: Callable[[], None]) -> None:
        """Ask for the progress of an instance's active tasks, and call `done` after that."""
        tasks = [
            task.id
            for task in entry.state.active.values()
            if task.enable_show and self._statuses.outcome(task.status) is Outcome.ACTIVE
        ]
        with self._lock:
            if not tasks or self._stopped:
                pool = None
            else:
                pool = self._pools.get(entry.project) or WorkerPool(
                    f"{entry.project}-progress", self._threads
                )
                self._pools[entry.project] = pool
        if pool is None:
            done()
            return
        # From now on, not from when its turn comes: until then the instance is not read again.
        deadline = self._clock.monotonic() + PATIENCE
        for question in pool.submit([_Question(partial(self._run, entry, tasks, deadline), done)]):
            question.done()

    def stop(self) -> None:
        """Ask no more."""
        with self._lock:
            self._stopped = True
            pools = list(self._pools.values())
        for pool in pools:
            for question in pool.stop():
                question.done()

    def _run(self, entry: Watched, tasks: list[str], deadline: float) -> None:
        try:
            found = self._asked(entry, tasks, deadline)
        except StoppedError:
            return
        with self._lock:
            self._show(entry, found)

    def _asked(self, entry: Watched, tasks: list[str], deadline: float) -> Mapping[str, Progress]:
        """Return what is told; of what is not, nothing is shown."""
        found: dict[str, Progress] = {}
        for key in tasks:
            now = self._clock.monotonic()
            if now > deadline or now < self._silent_until.get(entry.project, 0.0):
                break
            try:
                found[key] = entry.target.source.task_progress(entry.id, key, deadline)
            except StoppedError:
                raise
            except ApiError as error:
                if isinstance(error, ApiTimeoutError | ApiConnectionError):
                    self._silent_until[entry.project] = self._clock.monotonic() + PAUSE
                fields = {**fields_of(entry), "task_id": key, **error.fields}
                logger.debug(
                    "the cloud does not tell the progress of a task", extra={"fields": fields}
                )
        return found

    @staticmethod
    def _show(entry: Watched, found: Mapping[str, Progress]) -> None:
        entry.progress = found
        figures = entry.snapshot.figures
        least = least_progress(entry.state, found)
        if figures is not None and figures.progress != least:
            entry.snapshot = replace(entry.snapshot, figures=replace(figures, progress=least))
