"""A source of listings for the tests of the refresher."""

from __future__ import annotations

import threading

from dcs_task_exporter.tasks.models import Listing, Progress, Task

NOW = 1_750_000_000.0
PATIENCE = 30
"""Seconds that a test waits at most for another thread."""

ACTIVE = Task("active", "EXTEND", "EXECUTING", NOW, NOW)


class NoProgress:
    """A source that nobody asks for the progress of a task."""

    def task_progress(self, instance_id: str, task_id: str, deadline: float) -> Progress:
        del deadline
        message = f"nobody asked for the progress of {task_id} of {instance_id}"
        raise AssertionError(message)


class Source(NoProgress):
    """A source of listings that a test holds back, one permit each; it notes who was read."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.read: list[str] = []
        self.permits: threading.Semaphore | None = None
        self.tasks: list[Task] = []
        self.active: set[str] = set()
        self.error: Exception | None = None
        self._changed = threading.Condition()

    def wait_for(self, number: int) -> None:
        """Wait until so many instances have been read."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.read) >= number, PATIENCE)

    def wait_for_the_begin(self, number: int) -> None:
        """Wait until the read of so many instances has begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= number, PATIENCE)

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        del deadline
        with self._changed:
            self.begun.append(instance_id)
            self._changed.notify_all()
        if self.permits is not None:
            assert self.permits.acquire(timeout=PATIENCE)
        with self._changed:
            self.read.append(instance_id)
            self._changed.notify_all()
        if self.error is not None:
            raise self.error
        tasks = [*self.tasks, *([ACTIVE] if instance_id in self.active else [])]
        return Listing(tuple(tasks), start)
