"""Snapshots of instances: their metrics, made from the counts and the latest listing; pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.instance_state import (
    InstanceState,
    label_of,
    names_had,
    series_of,
)
from dcs_task_exporter.tasks.models import Instance, Listing, Progress, Task
from dcs_task_exporter.tasks.naming import Series
from dcs_task_exporter.tasks.statuses import Outcome

RESIZE_NAMES: Final = ("EXTEND", "ChangeInstanceSpec")
"""The name of a resize, and the one it had in 2021."""

SHOWN_TASKS: Final = 20
"""Most tasks of a snapshot, for the status page: the latest."""

Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """The metrics of one instance's tasks, ready to be exposed.

    Times are Unix seconds. Keys are (task_name, status) or task_name as label values, within the
    cap, of the tasks that the instance has had; `finished` has the known series too. `listed` is
    the number of tasks in the look-back window; `failed` has the latest failed task of each name,
    in the window or not. The `token` is unique to this object: it identifies the object without
    keeping it alive.
    """

    finished: Mapping[Series, int]
    recent: Mapping[Series, int]
    active: Mapping[str, int]
    oldest_active_start: Mapping[str, float]
    last_start: Mapping[Series, float]
    last_end: Mapping[Series, float]
    last_duration: Mapping[Series, float]
    last_success: Mapping[str, float]
    last_failure: Mapping[str, float]
    latest: Mapping[str, Task]
    last_extend: Task | None
    tasks: tuple[Task, ...] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict)
    listed: int = 0
    failed: Mapping[str, Task] = field(default_factory=dict)
    token: object = field(init=False, default_factory=object, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the latest refresh of an instance failed, for the log and the status page."""

    at: float
    reason: str
    message: str
    error_code: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of one instance at one moment; immutable, published as a whole.

    `refreshed_at` is the Unix time of the data in `metrics`; `metrics` is None when nothing was
    read yet, or when the data are too old to be shown.
    """

    instance: Instance
    up: bool = False
    metrics: TaskMetrics | None = None
    refreshed_at: float | None = None
    attempted_at: float | None = None
    refresh_duration: float | None = None
    truncated: bool = False
    failure: Failure | None = None


def task_metrics(
    state: InstanceState,
    listing: Listing,
    now: float,
    rules: CountingRules,
    progress: Mapping[str, Progress] | None = None,
) -> TaskMetrics:
    """Return the metrics of an instance after `count_new` and `reveal`.

    `progress` is that of active tasks, by their ids.
    """
    window = now - rules.lookback
    recent = sorted(
        (task for task in listing.tasks if task.created_at is None or task.created_at >= window),
        key=lambda task: (task.created_at or 0.0, task.id),  # without a start, never the latest
    )
    ended = [task for task in recent if rules.statuses.outcome(task.status).finished]
    last = {series_of(state, task): task for task in recent}
    last_ended = {series_of(state, task): task for task in ended if task.updated_at is not None}
    active = Counter(label_of(state, task) for task in state.active.values())
    oldest_last = sorted(state.active.values(), key=lambda task: -(task.created_at or math.inf))
    latest = {label_of(state, task): task for task in recent}
    names = {**names_had(state), **dict.fromkeys(latest)}
    return TaskMetrics(
        finished=state.naming.exposed(state.shown),
        recent={
            **dict.fromkeys(state.counts, 0),
            **Counter(series_of(state, task) for task in recent),
        },
        active={**dict.fromkeys(names, 0), **active},
        oldest_active_start=_known(
            {label_of(state, task): task.created_at for task in oldest_last}
        ),
        last_start=_known({key: task.created_at for key, task in last.items()}),
        last_end=_known({key: task.updated_at for key, task in last_ended.items()}),
        last_duration=_known({key: task.duration for key, task in last_ended.items()}),
        last_success={**dict.fromkeys(names, 0.0), **state.last_success},
        last_failure={**dict.fromkeys(names, 0.0), **state.last_failure},
        latest=latest,
        last_extend=next(
            (
                task
                for task in reversed(recent)
                if task.name in RESIZE_NAMES
                and task.details.new_capacity is not None
                and rules.statuses.outcome(task.status) is Outcome.SUCCESS
            ),
            None,
        ),
        tasks=tuple(recent[: -SHOWN_TASKS - 1 : -1]),
        progress=least_progress(state, progress or {}),
        listed=len(recent),
        failed=state.failed,
    )


def least_progress(
    state: InstanceState, progress: Mapping[str, Progress]
) -> Mapping[str, Progress]:
    """Return the progress of the slowest task of each name."""
    known = [
        (label_of(state, task), progress[key])
        for key, task in state.active.items()
        if key in progress
    ]
    known.sort(key=lambda item: -(item[1].ratio or 0.0))
    return dict(known)


def _known(values: Mapping[Key, float | None]) -> dict[Key, float]:
    return {key: value for key, value in values.items() if value is not None}
