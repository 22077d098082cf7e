"""Background tasks, instances and listings as frozen values.

Task names and statuses are open sets, because the public documents contradict each other: they stay
strings. Sources: the API page *Querying Background Tasks*, tables 3 to 5, and the models of the
Huawei Cloud SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.statuses import Outcome

KNOWN_TASK_NAMES: Final = (
    "EXTEND",
    "BindEip",
    "UnBindEip",
    "AddReplica",
    "DelReplica",
    "AddWhitelist",
    "UpdatePort",
    "RemoveIpFromDns",
    "masterStandbySwapJob",
    "modify",
)
"""The ten names that the API page documents (table 4); others exist and are exported too."""

UNNAMED: Final = "unknown"
"""The `task_name` of a task that the API lists without a name."""

MAX_LABEL_LENGTH: Final = 128
"""Longest task name or status in characters; longer ones are cut."""

EARLIEST_TIME: Final = 1_262_304_000.0
"""2010-01-01 as Unix time: DCS had no tasks before, so an earlier time is an unknown time."""

LATEST_AHEAD: Final = 86_400.0
"""Seconds by which a task's time may be ahead of the cloud's clock; a later one is unknown."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One DCS instance that is watched."""

    id: str
    name: str
    project: str
    project_id: str = ""
    region: str = ""
    engine: str = ""
    engine_version: str = ""
    spec_code: str = ""
    status: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def shares_series(self, other: Instance) -> bool:
        """Whether both are the same to Prometheus: the labels of every series are equal."""
        return (self.id, self.name, self.project) == (other.id, other.name, other.project)


@dataclass(frozen=True, slots=True)
class Task:
    """One background task, as one listing shows it.

    `status` is in upper case; `created_at` (start) and `updated_at` (end, once the task is
    finished) are Unix times in seconds, or None where the API gives no readable time. Fields that
    no metric needs (`user_id`, `params`, `job_id`) are not kept.
    """

    id: str
    name: str
    status: str
    created_at: float | None = None
    updated_at: float | None = None
    details: TaskDetails = field(default_factory=TaskDetails)
    user_name: str = ""
    enable_show: bool = False
    error_code: str = ""

    def summary(self, outcome: Outcome, *, personal: bool = False) -> str:
        """Return the change, or the attempt of a failed task, in a few words or none."""
        return self.details.summary(failed=outcome is Outcome.FAILURE, personal=personal)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; only meaningful of a finished task."""
        if self.created_at is None or self.updated_at is None:
            return None
        # The API gives milliseconds; the subtraction must not invent more digits.
        seconds = round(self.updated_at - self.created_at, 3)
        return seconds if seconds >= 0 else None

    def with_plausible_times(self, now: float) -> Task:
        """Return the task without impossible times; `now` is the cloud's time (Unix seconds)."""
        began, ended, latest = self.created_at, self.updated_at, now + LATEST_AHEAD
        if began is not None and not EARLIEST_TIME <= began <= latest:
            began = None
        if ended is not None and not EARLIEST_TIME <= ended <= latest:
            ended = None
        if began is self.created_at and ended is self.updated_at:
            return self
        return replace(self, created_at=began, updated_at=ended)


@dataclass(frozen=True, slots=True)
class Listing:
    """All pages of one instance's tasks: each id once, newest start first.

    `start` is the Unix time from which the tasks were asked for; `truncated` says that the page
    cap cut the listing. `answered_at` is the cloud's own time (Unix seconds) by the `Date` header
    of the last page, or None without one.
    """

    tasks: tuple[Task, ...]
    start: float
    truncated: bool = False
    answered_at: float | None = None


@dataclass(frozen=True, slots=True)
class CenterTask:
    """One task as the task center lists it: only the fields that show a change.

    `instance_id` is empty where the task center does not name the instance: no document promises it
    (*Querying Center Tasks*; `dcs-api.md` 6.2).
    """

    id: str
    status: str
    updated_at: str
    instance_id: str = ""
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an active task: `ratio` from 0 to 1, `remaining` in seconds.

    Source: *Querying Background Task Progress*, the fields ``progress`` and ``remain_time``.
    """

    ratio: float | None
    remaining: float | None
