"""The families with one number for each instance, task name or series of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dcs_task_exporter.tasks.details import GIBIBYTE
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot, TaskMetrics

INSTANCE_LABELS: Final = ("project", "dcs_instance_id", "dcs_instance_name")
AS_OF: Final = "as of the latest refresh of the instance"

_BY_STATUS: Final = ("task_name", "status")
_BY_NAME: Final = ("task_name",)


def identity(instance: Instance) -> tuple[str, str, str]:
    """Return the values of `INSTANCE_LABELS`."""
    return instance.project, instance.id, instance.name


@dataclass(frozen=True, slots=True)
class TaskFamily:
    """A family of the tasks of an instance: `values` returns its samples by task name or series."""

    name: str
    text: str
    labels: tuple[str, ...]
    values: Callable[[TaskMetrics], Mapping[tuple[str, str], float] | Mapping[str, float]]
    kind: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily

    def family(self, snapshots: Iterable[Snapshot]) -> Metric:
        """Return the family with the samples of these snapshots."""
        made = self.kind(self.name, self.text, labels=(*INSTANCE_LABELS, *self.labels))
        for snapshot in snapshots:
            values = self.values(snapshot.metrics) if snapshot.metrics else {}
            for key, value in values.items():
                own = (key,) if isinstance(key, str) else key
                made.add_metric((*identity(snapshot.instance), *own), value)
        return made


@dataclass(frozen=True, slots=True)
class InstanceGauge:
    """A gauge with one sample for each instance, or none where `value` returns None."""

    name: str
    text: str
    value: Callable[[Snapshot], float | None]

    def family(self, snapshots: Iterable[Snapshot]) -> Metric:
        """Return the family with the samples of these snapshots."""
        made = GaugeMetricFamily(self.name, self.text, labels=INSTANCE_LABELS)
        for snapshot in snapshots:
            value = self.value(snapshot)
            if value is not None:
                made.add_metric(identity(snapshot.instance), value)
        return made


def _capacity(snapshot: Snapshot, which: str) -> float | None:
    task = snapshot.metrics.last_extend if snapshot.metrics else None
    capacity: float | None = getattr(task.details, f"{which}_capacity") if task else None
    return None if capacity is None else capacity * GIBIBYTE


def _progress(metrics: TaskMetrics, which: str) -> Mapping[str, float]:
    values = {name: getattr(progress, which) for name, progress in metrics.progress.items()}
    return {name: value for name, value in values.items() if value is not None}


TASK_FAMILIES: Final = (
    TaskFamily(
        "dcs_tasks_finished",
        "Background tasks seen finished, each counted once, since the instance was first read; "
        "tasks finished before that are not counted.",
        _BY_STATUS,
        lambda metrics: metrics.finished,
        CounterMetricFamily,
    ),
    TaskFamily(
        "dcs_tasks_recent",
        f"Background tasks that the API lists in the look-back window, by status, {AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.recent,
    ),
    TaskFamily(
        "dcs_tasks_active",
        f"Background tasks not yet finished, however long ago they started, {AS_OF}.",
        _BY_NAME,
        lambda metrics: metrics.active,
    ),
    TaskFamily(
        "dcs_tasks_active_oldest_start_timestamp_seconds",
        f"Unix time of the start of the oldest unfinished task, {AS_OF}.",
        _BY_NAME,
        lambda metrics: metrics.oldest_active_start,
    ),
    TaskFamily(
        "dcs_task_last_start_timestamp_seconds",
        "Unix time of the start of the latest task with this status in the look-back window, "
        f"{AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.last_start,
    ),
    TaskFamily(
        "dcs_task_last_end_timestamp_seconds",
        "Unix time of the end of the latest finished task with this status in the look-back "
        f"window, {AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.last_end,
    ),
    TaskFamily(
        "dcs_task_last_duration_seconds",
        f"Duration of the latest finished task with this status, {AS_OF}.",
        _BY_STATUS,
        lambda metrics: metrics.last_duration,
    ),
    TaskFamily(
        "dcs_task_last_success_timestamp_seconds",
        "Unix time of the end of the last success; 0 if none is known.",
        _BY_NAME,
        lambda metrics: metrics.last_success,
    ),
    TaskFamily(
        "dcs_task_last_failure_timestamp_seconds",
        "Unix time of the end of the last failure; 0 if none is known. If it is above that of the "
        "last success, the latest finished task failed.",
        _BY_NAME,
        lambda metrics: metrics.last_failure,
    ),
    TaskFamily(
        "dcs_task_progress_ratio",
        "Progress (0 to 1) of the slowest active task; only with collector.task_progress.",
        _BY_NAME,
        lambda metrics: _progress(metrics, "ratio"),
    ),
    TaskFamily(
        "dcs_task_remaining_seconds",
        "Time left for the active task, as the cloud estimates; only with collector.task_progress.",
        _BY_NAME,
        lambda metrics: _progress(metrics, "remaining"),
    ),
)

TASK_GAUGES: Final = (
    InstanceGauge(
        "dcs_task_extend_old_capacity_bytes",
        "Capacity before the latest successful EXTEND in the look-back window.",
        lambda snapshot: _capacity(snapshot, "old"),
    ),
    InstanceGauge(
        "dcs_task_extend_new_capacity_bytes",
        "Capacity after the latest successful EXTEND in the look-back window.",
        lambda snapshot: _capacity(snapshot, "new"),
    ),
    InstanceGauge(
        "dcs_instance_tasks_listed",
        f"Background tasks that the API lists in the look-back window, {AS_OF}; 0 means read, and "
        "none found.",
        lambda snapshot: snapshot.metrics.listed if snapshot.metrics else None,
    ),
)
"""The gauges that change only with `TaskMetrics`: their lines are kept."""

REFRESH_GAUGES: Final = (
    InstanceGauge(
        "dcs_instance_up",
        "1 if the latest refresh of this instance succeeded, 0 if it failed or there was none.",
        lambda snapshot: snapshot.up,
    ),
    InstanceGauge(
        "dcs_instance_last_refresh_timestamp_seconds",
        "Unix time of the data of this instance.",
        lambda snapshot: snapshot.refreshed_at,
    ),
    InstanceGauge(
        "dcs_instance_refresh_duration_seconds",
        "Duration of the latest refresh of this instance.",
        lambda snapshot: snapshot.refresh_duration,
    ),
    InstanceGauge(
        "dcs_instance_tasks_truncated",
        "1 if the page cap cut the listing of this instance's tasks: raise collector.max_pages.",
        lambda snapshot: snapshot.truncated if snapshot.metrics else None,
    ),
)
"""The gauges that can change with every refresh."""
