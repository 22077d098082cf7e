"""The progress of active tasks, in threads of its own: no listing waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiConnectionError, ApiError, ApiTimeoutError
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.refresh.reader import log_fields
from dcs_task_exporter.refresh.targets import TaskSource
from dcs_task_exporter.refresh.workers import Job, WorkerPool
from dcs_task_exporter.tasks.models import Instance, Progress
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable

logger = logging.getLogger(__name__)

PATIENCE: Final = 2.0
"""Seconds after its listing in which the requests for an instance must have begun."""

PAUSE: Final = 60.0
"""Seconds for which no progress is requested after a request without an answer."""

PROGRESS_THREADS: Final = 2
"""Threads of each project that request progress."""


class ProgressReader:
    """Reads the progress of the tasks of one project that offer it, in the threads of `pool`."""

    def __init__(
        self, source: TaskSource, statuses: StatusTable, clock: Clock, pool: WorkerPool
    ) -> None:
        self._source = source
        self._statuses = statuses
        self._clock = clock
        self._pool = pool
        self._silent_until = clock.monotonic()

    def read(self, watched: WatchedInstance, done: Callable[[], None]) -> None:
        """Read the progress of an instance's active tasks, then call `done`."""
        tasks = [
            task.id
            for task in watched.state.active.values()
            if task.enable_show and self._statuses.outcome(task.status) is Outcome.ACTIVE
        ]
        if not tasks:
            done()
            return
        # From now, not from when its turn comes: until then the instance is not read again.
        deadline = self._clock.monotonic() + PATIENCE
        self._pool.submit([Job(partial(self._read, watched, tasks, deadline, done), done)])

    def change(self, source: TaskSource, statuses: StatusTable) -> None:
        """Ask another client, or by other words, from now on."""
        self._source, self._statuses = source, statuses

    def end(self) -> None:
        """End the threads after the requests that wait: nothing more will be read."""
        self._pool.resize(0)

    def stop(self) -> None:
        """Send no more requests."""
        self._pool.stop()

    def _read(
        self,
        watched: WatchedInstance,
        tasks: Sequence[str],
        deadline: float,
        done: Callable[[], None],
    ) -> None:
        try:
            watched.show_progress(self._found(watched.instance, tasks, deadline))
        finally:
            done()

    def _found(
        self, instance: Instance, tasks: Sequence[str], deadline: float
    ) -> Mapping[str, Progress]:
        """Return the progress by task id; a task whose progress is unknown is not in there."""
        found: dict[str, Progress] = {}
        for key in tasks:
            now = self._clock.monotonic()
            if now > deadline or now < self._silent_until:
                break
            try:
                found[key] = self._source.task_progress(instance.id, key, deadline)
            except ApiError as error:
                if isinstance(error, ApiTimeoutError | ApiConnectionError):
                    self._silent_until = self._clock.monotonic() + PAUSE
                fields = {**log_fields(instance), "task_id": key, **error.fields}
                logger.debug("cannot read the progress of a task", extra={"fields": fields})
        return found
