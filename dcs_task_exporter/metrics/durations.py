"""The histogram of how long background tasks take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from typing import Final

from prometheus_client import Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from dcs_task_exporter.tasks.instance_state import MAX_STATUSES, OTHER
from dcs_task_exporter.tasks.naming import Series

BUCKETS: Final = (
    *(10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    *(1200.0, 1800.0, 3600.0, 7200.0, 14_400.0),
)
"""Bounds in seconds: from 10 seconds to 4 hours."""

LABELS: Final = ("project", "task_name", "status")


class TaskDurations(Collector):
    """Durations of the tasks counted since the start; safe to use from threads.

    There is one histogram for each kind of task of a project, not of an instance, because tasks
    are rare. Above `max_names` names of a project, the others are ``other``.
    """

    def __init__(self, monotonic: Callable[[], float], *, hold: float, max_names: int) -> None:
        self._monotonic = monotonic
        self._hold = hold
        self._max_names = max_names
        self._lock = threading.Lock()
        self._projects: Collection[str] | None = None
        self._born: dict[tuple[str, str, str], float] = {}
        self._histogram = Histogram(
            "dcs_task_duration_seconds",
            "Duration of the background tasks counted since the exporter started.",
            LABELS,
            buckets=BUCKETS,
            registry=None,
        )

    def change(self, *, hold: float, max_names: int, projects: Collection[str]) -> None:
        """Use these settings from now on; the series of projects that are not named end."""
        with self._lock:
            self._hold, self._max_names, self._projects = hold, max_names, projects
            for key in [key for key in self._born if key[0] not in projects]:
                del self._born[key]
                self._histogram.remove(*key)

    def observe(self, project: str, series: Series, seconds: float) -> None:
        """Add the duration of one task."""
        with self._lock:
            if self._projects is not None and project not in self._projects:
                return  # it has left
            key = self._key(project, *series)
            self._born.setdefault(key, self._monotonic())
            self._histogram.labels(*key).observe(seconds)

    def _key(self, project: str, name: str, status: str) -> tuple[str, str, str]:
        names = {known for other, known, _ in self._born if other == project}
        words = {known for other, _, known in self._born if other == project}
        name = name if name in names or len(names) < self._max_names else OTHER
        return project, name, status if status in words or len(words) < MAX_STATUSES else OTHER

    def collect(self) -> Iterator[Metric]:
        """Yield the family with all durations; a new series is 0 for `hold` seconds."""
        with self._lock:
            (family,) = self._histogram.collect()
            latest = self._monotonic() - self._hold
            held = {key for key, born in self._born.items() if born > latest}
        # The library shows a series with its first value, and Prometheus would miss that increase.
        family.samples = [
            sample._replace(value=0.0)
            if tuple(sample.labels[label] for label in LABELS) in held
            else sample
            for sample in family.samples
        ]
        yield family
