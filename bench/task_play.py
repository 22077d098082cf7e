"""Tasks that start and end at random in a simulated cloud, and the ends that came of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Protocol

NAMES = ("EXTEND", "masterStandbySwapJob", "UpdatePort", "DeleteAcl")
ENDINGS = ("SUCCESS", "SUCCESS", "FAILED", "CANCELLED")


class TaskCloud(Protocol):
    """The part of a simulated cloud that plays tasks, maybe of another process."""

    def start_task(
        self, instance_id: str, name: str, *, details: Mapping[str, Any] | None = None
    ) -> str:
        """Start a task and return its id."""
        ...

    def finish_task(self, instance_id: str, task_id: str, status: str) -> None:
        """Finish a task now, with `status`."""
        ...


class TaskPlay:
    """Starts and ends tasks; `ended` counts those that ended, by their name and status.

    `note` learns of the instance, name and status of each end before the cloud shows it.
    """

    def __init__(
        self,
        cloud: TaskCloud,
        instances: Sequence[str],
        random: Random,
        note: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        self._cloud = cloud
        self._instances = instances
        self._note = note
        self._active: list[tuple[str, str, str]] = []
        self.random = random
        self.ended: Counter[tuple[str, str]] = Counter()

    @property
    def active(self) -> int:
        """The number of tasks that have not ended."""
        return len(self._active)

    def start(self, details: Mapping[str, Any] | None = None) -> None:
        """Start a task of some name in some instance."""
        instance, name = self.random.choice(self._instances), self.random.choice(NAMES)
        task = self._cloud.start_task(instance, name, details=details)
        self._active.append((instance, task, name))

    def end(self) -> None:
        """End one of the active tasks."""
        instance, task, name = self._active.pop(self.random.randrange(len(self._active)))
        status = self.random.choice(ENDINGS)
        self._note(instance, name, status)
        self._cloud.finish_task(instance, task, status)
        self.ended[name, status] += 1

    @contextmanager
    def going_on(self, interval: float, most: int) -> Iterator[None]:
        """Start a task every `interval` seconds while the block lasts, then end the active ones.

        Before that, one ends whenever more than `most` are active.
        """
        stopped = threading.Event()

        def go_on() -> None:
            while not stopped.wait(interval):
                self.start()
                if self.active > most:
                    self.end()

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            while self.active:
                self.end()
