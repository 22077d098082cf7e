"""Snapshots as metric families: what a scrape of the instances shows.

Families are built anew for every scrape, so that what is gone is not shown. Nothing here counts,
waits or asks the network. Where an instance has no metrics, its task series are absent: an
outage must never read as zero failed tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dcs_task_exporter.tasks.models import Task
from dcs_task_exporter.tasks.snapshots import Snapshot, TaskMetrics
from dcs_task_exporter.tasks.statuses import StatusTable

INSTANCE_LABELS: Final = ("project", "dcs_instance_id", "dcs_instance_name")
INFO_LABELS: Final = (
    "project_id",
    "region",
    "engine",
    "engine_version",
    "spec_code",
    "instance_status",
)
LATEST_LABELS: Final = ("task_name", "task_id", "status", "error_code", "summary")
FAILED_LABELS: Final = ("task_name", "task_id", "error_code", "reason", "summary")
PERSONAL_LABELS: Final = ("user_name",)

_AS_OF = "as of the latest refresh of the instance"
_BY_STATUS = ("task_name", "status")
_BY_NAME = ("task_name",)

Values = Mapping[tuple[str, ...], float]


class TaskCollector(Collector):
    """Renders the snapshots of all instances."""

    def __init__(
        self,
        snapshots: Callable[[], Iterable[Snapshot]],
        *,
        personal: bool = False,
        tags: Sequence[str] = (),
        statuses: StatusTable | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._personal = personal
        self._tags = tuple(tags)
        self._statuses = statuses or StatusTable()

    def over(self, snapshots: Callable[[], Iterable[Snapshot]]) -> TaskCollector:
        """Return one that renders these instead."""
        return TaskCollector(
            snapshots, personal=self._personal, tags=self._tags, statuses=self._statuses
        )

    def describe(self) -> Iterator[Metric]:
        """Yield every family that `collect` can yield, without samples."""
        return iter(self._families(()))

    def collect(self) -> Iterator[Metric]:
        """Yield the families with what is known now."""
        return iter(self._families(one_each(self._snapshots())))

    def _families(self, snapshots: Sequence[Snapshot]) -> list[Metric]:
        return [*self.steady(snapshots), *self.passing(snapshots)]

    def steady(self, snapshots: Sequence[Snapshot]) -> list[Metric]:
        """Return the families that depend on the instances and their metrics only."""
        families: list[Metric] = [_task_family(spec, snapshots) for spec in _TASK_FAMILIES]
        families += [self._latest(snapshots), self._failed(snapshots)]
        families += [_capacity(which, snapshots) for which in ("old", "new")]
        families += [_listed(snapshots), self._info(snapshots)]
        return families

    def passing(self, snapshots: Sequence[Snapshot]) -> list[Metric]:
        """Return the families that each refresh changes."""
        return [_instance_family(spec, snapshots) for spec in _INSTANCE_FAMILIES]

    def _latest(self, snapshots: Sequence[Snapshot]) -> Metric:
        labels = (*INSTANCE_LABELS, *LATEST_LABELS, *(PERSONAL_LABELS if self._personal else ()))
        family = InfoMetricFamily(
            "dcs_task_last",
            f"The latest task of each name in the look-back window, {_AS_OF}; summary says what "
            "it changed or, where it failed, what it tried.",
            labels=labels,
        )
        for snapshot in snapshots:
            latest = snapshot.metrics.latest if snapshot.metrics else {}
            for name, task in latest.items():
                values = (*_identity(snapshot), *self._latest_values(name, task))
                family.add_metric(values, {})
        return family

    def _latest_values(self, name: str, task: Task) -> tuple[str, ...]:
        summary = task.summary(self._statuses.outcome(task.status), personal=self._personal)
        personal = (task.user_name,) if self._personal else ()
        return (name, task.id, task.status, task.error_code, summary, *personal)

    def _failed(self, snapshots: Sequence[Snapshot]) -> Metric:
        family = InfoMetricFamily(
            "dcs_task_last_failure",
            f"The latest failed task of each name, also where it is not listed any more, {_AS_OF}; "
            "summary says what it tried.",
            labels=(*INSTANCE_LABELS, *FAILED_LABELS),
        )
        for snapshot in snapshots:
            failed = snapshot.metrics.failed if snapshot.metrics else {}
            for name, task in failed.items():
                # No listing tells why a task failed: the reason is empty.
                tried = task.details.attempt(personal=self._personal)
                values = (name, task.id, task.error_code, "", tried)
                family.add_metric((*_identity(snapshot), *values), {})
        return family

    def _info(self, snapshots: Sequence[Snapshot]) -> Metric:
        tag_labels = tuple(f"tag_{label_name(tag)}" for tag in self._tags)
        family = InfoMetricFamily(
            "dcs_instance",
            "What is known of a DCS instance; join it by dcs_instance_id.",
            labels=(*INSTANCE_LABELS, *INFO_LABELS, *tag_labels),
        )
        for snapshot in snapshots:
            instance = snapshot.instance
            known = (
                instance.project_id,
                instance.region,
                instance.engine,
                instance.engine_version,
                instance.spec_code,
                instance.status,
            )
            tags = (instance.tags.get(tag, "") for tag in self._tags)
            family.add_metric((*_identity(snapshot), *known, *tags), {})
        return family


class _TaskFamily:
    """One family whose samples are a mapping of the metrics."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        values: Callable[[TaskMetrics], Mapping[tuple[str, str], float] | Mapping[str, float]],
        *,
        counter: bool = False,
    ) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.values = values
        self.counter = counter


_TASK_FAMILIES: Final = (
    _TaskFamily(
        "dcs_tasks_finished",
        "Background tasks seen finished, each counted once, since the instance was first read; "
        "what was finished before is not counted.",
        _BY_STATUS,
        lambda metrics: metrics.finished,
        counter=True,
    ),
    _TaskFamily(
        "dcs_tasks_recent",
        f"Background tasks that the API lists in the look-back window, by status, {_AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.recent,
    ),
    _TaskFamily(
        "dcs_tasks_active",
        f"Background tasks not yet finished, however long ago they started, {_AS_OF}.",
        _BY_NAME,
        lambda metrics: metrics.active,
    ),
    _TaskFamily(
        "dcs_tasks_active_oldest_start_timestamp_seconds",
        f"Start (Unix time) of the oldest task not yet finished, {_AS_OF}.",
        _BY_NAME,
        lambda metrics: metrics.oldest_active_start,
    ),
    _TaskFamily(
        "dcs_task_last_start_timestamp_seconds",
        f"Start (Unix time) of the latest task with this status in the look-back window, {_AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.last_start,
    ),
    _TaskFamily(
        "dcs_task_last_end_timestamp_seconds",
        "End (Unix time) of the latest finished task with this status in the look-back window, "
        f"{_AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.last_end,
    ),
    _TaskFamily(
        "dcs_task_last_duration_seconds",
        f"How long the latest finished task with this status took, {_AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.last_duration,
    ),
    _TaskFamily(
        "dcs_task_last_success_timestamp_seconds",
        "End (Unix time) of the last success; 0 when none is known.",
        _BY_NAME,
        lambda metrics: metrics.last_success,
    ),
    _TaskFamily(
        "dcs_task_last_failure_timestamp_seconds",
        "End (Unix time) of the last failure; 0 when none is known. Above the last success, the "
        "latest outcome was a failure.",
        _BY_NAME,
        lambda metrics: metrics.last_failure,
    ),
    _TaskFamily(
        "dcs_task_progress_ratio",
        "How far (0 to 1) the active task is, the slowest of its name; only with "
        "collector.task_progress.",
        _BY_NAME,
        lambda metrics: {
            name: progress.ratio
            for name, progress in metrics.progress.items()
            if progress.ratio is not None
        },
    ),
    _TaskFamily(
        "dcs_task_remaining_seconds",
        "How long the active task will take, as the cloud estimates; only with "
        "collector.task_progress.",
        _BY_NAME,
        lambda metrics: {
            name: progress.remaining
            for name, progress in metrics.progress.items()
            if progress.remaining is not None
        },
    ),
)

_INSTANCE_FAMILIES: Final[tuple[tuple[str, str, Callable[[Snapshot], float | None]], ...]] = (
    (
        "dcs_instance_up",
        "1 when the latest refresh of this instance succeeded, 0 when it failed or none was made.",
        lambda snapshot: float(snapshot.up),
    ),
    (
        "dcs_instance_last_refresh_timestamp_seconds",
        "When (Unix time) the data shown for this instance were read.",
        lambda snapshot: snapshot.refreshed_at,
    ),
    (
        "dcs_instance_refresh_duration_seconds",
        "How long the latest refresh of this instance took.",
        lambda snapshot: snapshot.refresh_duration,
    ),
    (
        "dcs_instance_tasks_truncated",
        "1 when the page cap cut the listing of this instance's tasks: raise collector.max_pages.",
        lambda snapshot: None if snapshot.metrics is None else float(snapshot.truncated),
    ),
)


def one_each(snapshots: Iterable[Snapshot]) -> Sequence[Snapshot]:
    """Return the first snapshot of each instance: two would make the exposition invalid."""
    seen: dict[str, Snapshot] = {}
    for snapshot in snapshots:
        seen.setdefault(snapshot.instance.id, snapshot)
    return tuple(seen.values())


def label_name(text: str) -> str:
    """Return a text as (part of) a label's name."""
    return re.sub("[^a-zA-Z0-9_]", "_", text)


def _identity(snapshot: Snapshot) -> tuple[str, str, str]:
    instance = snapshot.instance
    return instance.project, instance.id, instance.name


def _task_family(spec: _TaskFamily, snapshots: Sequence[Snapshot]) -> Metric:
    labels = (*INSTANCE_LABELS, *spec.labels)
    family: CounterMetricFamily | GaugeMetricFamily
    if spec.counter:
        family = CounterMetricFamily(spec.name, spec.text, labels=labels)
    else:
        family = GaugeMetricFamily(spec.name, spec.text, labels=labels)
    for snapshot in snapshots:
        if snapshot.metrics is None:
            continue
        for key, value in spec.values(snapshot.metrics).items():
            own = (key,) if isinstance(key, str) else key
            family.add_metric((*_identity(snapshot), *own), value)
    return family


def _instance_family(
    spec: tuple[str, str, Callable[[Snapshot], float | None]], snapshots: Sequence[Snapshot]
) -> Metric:
    name, text, value_of = spec
    family = GaugeMetricFamily(name, text, labels=INSTANCE_LABELS)
    for snapshot in snapshots:
        value = value_of(snapshot)
        if value is not None:
            family.add_metric(_identity(snapshot), value)
    return family


def _listed(snapshots: Sequence[Snapshot]) -> Metric:
    family = GaugeMetricFamily(
        "dcs_instance_tasks_listed",
        f"Background tasks that the API lists in the look-back window, {_AS_OF}; 0 means read, and "
        "none found.",
        labels=INSTANCE_LABELS,
    )
    for snapshot in snapshots:
        if snapshot.metrics is not None:
            family.add_metric(_identity(snapshot), snapshot.metrics.listed)
    return family


def _capacity(which: str, snapshots: Sequence[Snapshot]) -> Metric:
    moment = "before" if which == "old" else "after"
    family = GaugeMetricFamily(
        f"dcs_task_extend_{which}_capacity_bytes",
        f"Capacity {moment} the latest successful EXTEND in the look-back window.",
        labels=INSTANCE_LABELS,
    )
    for snapshot in snapshots:
        task = snapshot.metrics.last_extend if snapshot.metrics else None
        value = getattr(task.details, f"{which}_capacity_bytes") if task else None
        if value is not None:
            family.add_metric(_identity(snapshot), value)
    return family
