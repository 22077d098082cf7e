"""Counting background tasks: listings in, counts out.

Pure: no clock, no network, no thread, no Prometheus. The laws that it keeps are those of the
design: a finished task is counted once, by its id, when it is first seen finished; what was
finished when the instance was first seen is baseline; counters never fall; no first increment is
missed; names and statuses are open sets under a cap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final, TypeVar

from dcs_task_exporter.models import (
    KNOWN_TASK_NAMES,
    Instance,
    Listing,
    Outcome,
    StatusTable,
    Task,
)

OTHER: Final = "other"
"""The label value that stands for every name, or status, above the cap."""

ZEROED_STATUSES: Final = ("SUCCESS", "FAILED")
"""The statuses whose counters exist, at 0, for every name as soon as the name is known."""

MAX_STATUSES: Final = 20
"""Most status words that one instance may have as label values, the known ones included."""

SKEW_MARGIN: Final = 900.0
"""Seconds by which the cloud's clock may differ from ours: its gateway refuses more."""

RESIZE_NAMES: Final = ("EXTEND", "ChangeInstanceSpec")
"""The name of a resize, and the one it had in 2021."""

Key = TypeVar("Key", str, tuple[str, str])

SHOWN_TASKS: Final = 20
"""How many of the latest tasks a snapshot keeps to be looked at."""

Series = tuple[str, str]
"""The (task_name, status) of a series of one instance."""


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """What is shown of one instance's tasks: plain figures, ready to be exposed.

    Times are Unix seconds. Keys are (task_name, status) or task_name as label values, that is
    after the cap.
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

    `refreshed_at` is the Unix time of the data in `figures`; `figures` is None when nothing was
    read yet, or when what was read is too old to be shown.
    """

    instance: Instance
    up: bool = False
    figures: TaskFigures | None = None
    refreshed_at: float | None = None
    attempted_at: float | None = None
    refresh_duration: float | None = None
    truncated: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class CountingRules:
    """What the configuration says of counting; `lookback` is in seconds."""

    lookback: float
    max_task_names: int = 50
    statuses: StatusTable = field(default_factory=StatusTable)


@dataclass(frozen=True, slots=True)
class InstanceState:
    """All that counting remembers of one instance; a value, so that it can be saved.

    `counted` maps the id of each task that is counted, or baseline, to its start (Unix seconds);
    every id that started at `forgotten_until` or before and is not in there was counted once and
    forgotten. `shown` is what the counters showed last: it follows `counts` one scrape later
    where a series is new to the scraper.
    """

    baseline_at: float | None = None
    baseline_partial: bool = False
    refreshed_at: float | None = None
    forgotten_until: float | None = None
    names: tuple[str, ...] = KNOWN_TASK_NAMES
    statuses: tuple[str, ...] = ZEROED_STATUSES
    counts: Mapping[Series, int] = field(default_factory=dict)
    shown: Mapping[Series, int] = field(default_factory=dict)
    counted: Mapping[str, float] = field(default_factory=dict)
    active: Mapping[str, Task] = field(default_factory=dict)
    last_success: Mapping[str, float] = field(default_factory=dict)
    last_failure: Mapping[str, float] = field(default_factory=dict)


def listing_start(state: InstanceState, now: float, lookback: float) -> float:
    """Return the Unix time from which the tasks of an instance must be listed.

    It reaches back over the look-back window, to the latest refresh, and to the start of the
    oldest task that is still followed.
    """
    starts = [now - lookback]
    if state.refreshed_at is not None:
        starts.append(state.refreshed_at - SKEW_MARGIN)
    starts += [task.created_at for task in state.active.values() if task.created_at is not None]
    return min(starts)


def count(
    state: InstanceState, listing: Listing, now: float, rules: CountingRules
) -> InstanceState:
    """Return the state after a listing that was read at `now` (Unix seconds).

    The order of the listing does not matter, and reading the same listing again changes nothing
    but `refreshed_at`.
    """
    first = state.baseline_at is None
    tasks = sorted(listing.tasks, key=lambda task: (task.created_at or 0.0, task.id))
    finished = [task for task in tasks if rules.statuses.outcome(task.status).finished]
    new = [task for task in finished if _is_new(state, task)]
    labelled = _with_labels(state, tasks, rules)
    fresh = [] if first else [task for task in new if not _was_baseline(state, task)]
    remembered = {**state.counted, **{task.id: _start(task, now) for task in new}}
    counted, forgotten_until = _forget(state, remembered, listing)
    return replace(
        labelled,
        baseline_at=now if first else state.baseline_at,
        baseline_partial=listing.truncated if first else state.baseline_partial,
        refreshed_at=now,
        forgotten_until=forgotten_until,
        counts=_add(labelled, fresh),
        counted=counted,
        active=_followed(state, listing, rules),
        last_success=_latest_ends(labelled, finished, rules, Outcome.SUCCESS),
        last_failure=_latest_ends(labelled, finished, rules, Outcome.FAILURE),
    )


def reveal(state: InstanceState, witnessed: Collection[Series]) -> InstanceState:
    """Return the state with the counts that may be shown now.

    Prometheus cannot see the increase of a series that is born above 0, or that grew while it was
    away. So a count is only shown once the scraper has seen the value before it: `witnessed`
    holds the series that the latest scrape contained.
    """
    shown = {
        series: value if series in witnessed else state.shown.get(series, 0)
        for series, value in {**_zeros(state), **state.counts}.items()
    }
    return replace(state, shown=shown)


def figures(
    state: InstanceState, listing: Listing, now: float, rules: CountingRules
) -> TaskFigures:
    """Return what is to be shown of an instance after `count` and `reveal`."""
    window = now - rules.lookback
    recent = [
        task for task in listing.tasks if task.created_at is None or task.created_at >= window
    ]
    ended = [task for task in recent if rules.statuses.outcome(task.status).finished]
    last = _latest(recent, lambda task: _series(state, task))
    last_ended = _latest(ended, lambda task: _series(state, task))
    active = Counter(_name(state, task) for task in state.active.values())
    return TaskFigures(
        finished=state.shown,
        recent={**_zeros(state), **Counter(_series(state, task) for task in recent)},
        active={**dict.fromkeys(state.names, 0), **active},
        oldest_active_start=_oldest_starts(state),
        last_start=_known({key: task.created_at for key, task in last.items()}),
        last_end=_known({key: task.updated_at for key, task in last_ended.items()}),
        last_duration=_known({key: task.duration for key, task in last_ended.items()}),
        last_success={**dict.fromkeys(state.names, 0.0), **state.last_success},
        last_failure={**dict.fromkeys(state.names, 0.0), **state.last_failure},
        latest=_latest(recent, lambda task: _name(state, task)),
        last_extend=next(
            (
                task
                for task in sorted(recent, key=_recency, reverse=True)
                if task.name in RESIZE_NAMES and task.details.new_capacity is not None
            ),
            None,
        ),
        tasks=tuple(sorted(recent, key=_recency, reverse=True)[:SHOWN_TASKS]),
    )


def _is_new(state: InstanceState, task: Task) -> bool:
    """Whether a finished task was never counted: it is not remembered, nor old enough to be
    forgotten, unless it was followed while it was active.
    """
    if task.id in state.counted:
        return False
    if task.id in state.active or task.created_at is None or state.forgotten_until is None:
        return True
    return task.created_at > state.forgotten_until


def _was_baseline(state: InstanceState, task: Task) -> bool:
    """Whether a task belongs to a first listing that the page cap cut."""
    if not state.baseline_partial or state.baseline_at is None or task.id in state.active:
        return False
    end = task.updated_at or task.created_at
    return end is not None and end <= state.baseline_at


def _start(task: Task, now: float) -> float:
    for moment in (task.created_at, task.updated_at):
        if moment is not None:
            return moment
    return now


def _forget(
    state: InstanceState, remembered: Mapping[str, float], listing: Listing
) -> tuple[Mapping[str, float], float | None]:
    """Drop the ids that are older than a complete listing reaches, and note up to when."""
    if listing.truncated:
        return remembered, state.forgotten_until
    listed = {task.id for task in listing.tasks}
    limit = listing.start - SKEW_MARGIN
    dropped = [start for key, start in remembered.items() if start < limit and key not in listed]
    if not dropped:
        return remembered, state.forgotten_until
    kept = {key: at for key, at in remembered.items() if at >= limit or key in listed}
    return kept, max(
        dropped if state.forgotten_until is None else [*dropped, state.forgotten_until]
    )


def _followed(state: InstanceState, listing: Listing, rules: CountingRules) -> Mapping[str, Task]:
    """Return the unfinished tasks; a cut listing does not say that one is gone."""
    listed = {task.id: task for task in listing.tasks}
    followed = dict(state.active) if listing.truncated else {}
    followed.update(listed)
    return {
        key: task
        for key, task in followed.items()
        if not rules.statuses.outcome(task.status).finished
    }


def _with_labels(
    state: InstanceState, tasks: Iterable[Task], rules: CountingRules
) -> InstanceState:
    """Give a label value to each name and status that is new, as long as the cap allows."""
    names, statuses = dict.fromkeys(state.names), dict.fromkeys(state.statuses)
    for task in tasks:
        if len(names) < rules.max_task_names:
            names.setdefault(task.name)
        if len(statuses) < MAX_STATUSES:
            statuses.setdefault(task.status)
    return replace(state, names=tuple(names), statuses=tuple(statuses))


def _name(state: InstanceState, task: Task) -> str:
    return task.name if task.name in state.names else OTHER


def _series(state: InstanceState, task: Task) -> Series:
    return _name(state, task), task.status if task.status in state.statuses else OTHER


def _zeros(state: InstanceState) -> dict[Series, int]:
    return dict.fromkeys(product(state.names, ZEROED_STATUSES), 0)


def _add(state: InstanceState, tasks: Iterable[Task]) -> Mapping[Series, int]:
    counts = dict(state.counts)
    for task in tasks:
        series = _series(state, task)
        counts[series] = counts.get(series, 0) + 1
    return counts


def _latest_ends(
    state: InstanceState, finished: Iterable[Task], rules: CountingRules, outcome: Outcome
) -> Mapping[str, float]:
    """Return the latest end per name of tasks with this outcome, ever seen."""
    known = state.last_success if outcome is Outcome.SUCCESS else state.last_failure
    ends = dict(known)
    for task in finished:
        end = task.updated_at or task.created_at
        if end is not None and rules.statuses.outcome(task.status) is outcome:
            name = _name(state, task)
            ends[name] = max(end, ends.get(name, 0.0))
    return ends


def _oldest_starts(state: InstanceState) -> Mapping[str, float]:
    starts: dict[str, float] = {}
    for task in state.active.values():
        if task.created_at is not None:
            name = _name(state, task)
            starts[name] = min(task.created_at, starts.get(name, task.created_at))
    return starts


def _recency(task: Task) -> tuple[float, str]:
    """Order tasks by start; one without a readable start never passes for the latest."""
    return (0.0 if task.created_at is None else task.created_at, task.id)


def _latest(tasks: Iterable[Task], key: Callable[[Task], Key]) -> dict[Key, Task]:
    return {key(task): task for task in sorted(tasks, key=_recency)}


def _known(values: Mapping[Key, float | None]) -> dict[Key, float]:
    return {key: value for key, value in values.items() if value is not None}
