"""Counting background tasks: listings in, counts out.

Pure: no clock, no network, no thread, no Prometheus. The laws that it keeps are those of the
design: a finished task is counted once, by its id, when it is first seen finished; what was
finished when the instance was first seen is baseline; counters never fall; no first increment is
missed; names and statuses are open sets under a cap.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

from dcs_task_exporter.tasks.models import (
    EARLIEST_TIME,
    KNOWN_TASK_NAMES,
    LATEST_AHEAD,
    Listing,
    Task,
)
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable

OTHER: Final = "other"
"""The label value that stands for every name, or status, above the cap."""

ZEROED_STATUSES: Final = ("SUCCESS", "FAILED")
"""The statuses whose counters exist, at 0, for every documented name from the first reading on."""

MAX_STATUSES: Final = 20
"""Most status words that one instance may have as label values, the known ones included."""

SKEW_MARGIN: Final = 900.0
"""Seconds by which the cloud's clock may differ from ours: its gateway refuses more."""

Series = tuple[str, str]
"""The (task_name, status) of a series of one instance."""

KNOWN_SERIES: Final[tuple[Series, ...]] = tuple(product(KNOWN_TASK_NAMES, ZEROED_STATUSES))
"""The series that every instance has, at 0, before anything was counted."""


@dataclass(frozen=True, slots=True)
class CountingRules:
    """What the configuration says of counting; `lookback` is in seconds."""

    lookback: float
    max_task_names: int = 50
    statuses: StatusTable = field(default_factory=StatusTable)


@dataclass(frozen=True, slots=True)
class InstanceState:
    """All that counting remembers of one instance; a value, so that it can be saved.

    `counted` maps the id of each task that is counted, or baseline, to its start (Unix seconds), or
    else its end; one that has neither stands at infinity. Every id that started at
    `forgotten_until` or before and is not in there was counted once and forgotten. `unlisted` are
    those at infinity, and `missing` the unfinished tasks, that the latest listing lacked: deleted,
    or hidden by a page that moved. `refreshed_at` is the latest refresh by a clock that was not in
    doubt. `listed_since` is there while a task is followed whose start is unknown: it was listed in
    a window that began then. `failed` is the latest task of each name that failed, listed still or
    not. `shown` is what the counters showed last: it follows `counts` one scrape later where a
    series is new to the scraper.
    """

    baseline_at: float | None = None
    baseline_partial: bool = False
    refreshed_at: float | None = None
    forgotten_until: float | None = None
    listed_since: float | None = None
    names: tuple[str, ...] = KNOWN_TASK_NAMES
    statuses: tuple[str, ...] = ZEROED_STATUSES
    counts: Mapping[Series, int] = field(default_factory=dict)
    shown: Mapping[Series, int] = field(default_factory=dict)
    counted: Mapping[str, float] = field(default_factory=dict)
    unlisted: frozenset[str] = frozenset()
    active: Mapping[str, Task] = field(default_factory=dict)
    missing: Mapping[str, Task] = field(default_factory=dict)
    last_success: Mapping[str, float] = field(default_factory=dict)
    last_failure: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, Task] = field(default_factory=dict)


def listing_start(state: InstanceState, now: float, lookback: float) -> float:
    """Return the Unix time from which the tasks of an instance must be listed.

    It reaches back over the look-back window, to the latest refresh, to the newest task that is
    known (whatever the clocks said and say: what is not known yet began after it), and to the start
    of the oldest task that is still followed.
    """
    newest = max(state.counted.values(), default=state.baseline_at)
    if newest == math.inf:  # seldom
        known = (at for at in state.counted.values() if at < math.inf)
        newest = max(known, default=state.baseline_at)
    read = [at - SKEW_MARGIN for at in (state.refreshed_at, newest) if at is not None]
    read += [] if state.listed_since is None else [state.listed_since]
    followed = (*state.active.values(), *state.missing.values())
    starts = [task.created_at for task in followed if task.created_at is not None]
    return min([now - lookback, *(at for at in (*read, *starts) if at >= EARLIEST_TIME)])


def count(
    state: InstanceState,
    listing: Listing,
    now: float,
    rules: CountingRules,
    *,
    in_doubt: bool = False,
) -> InstanceState:
    """Return the state after a listing that was read at `now` (Unix seconds).

    As `count_new`, which also says what was counted.
    """
    return count_new(state, listing, now, rules, in_doubt=in_doubt)[0]


def count_new(
    state: InstanceState,
    listing: Listing,
    now: float,
    rules: CountingRules,
    *,
    in_doubt: bool = False,
) -> tuple[InstanceState, Sequence[Task]]:
    """Return the state after a listing that was read at `now`, and the tasks counted with it.

    When the clock is `in_doubt`, nothing is forgotten, and no time is mended. The order of the
    listing does not matter, and reading the same listing again changes nothing but `refreshed_at`,
    and what is forgotten.
    """
    if state.baseline_at is None:
        state = replace(state, baseline_partial=listing.truncated)
    elif not in_doubt:
        state = _mended(state, now)
    tasks = _unique(listing.tasks, rules)
    finished = [task for task in tasks if rules.statuses.outcome(task.status).finished]
    new = [task for task in finished if _is_new(state, task)]
    labelled = _with_labels(state, tasks, rules)
    fresh = [task for task in new if not _is_baseline(state, task)]
    counted, unlisted = _without_unlisted(state, _remembered(state, finished, new), listing)
    forgotten_until = state.forgotten_until
    if not (in_doubt or listing.truncated):
        counted, forgotten_until = _forget(state, counted, listing)
    active, missing = _followed(state, tasks, rules, truncated=listing.truncated)
    after = replace(
        labelled,
        baseline_at=now if state.baseline_at is None else state.baseline_at,
        refreshed_at=refresh_time(state, now, in_doubt=in_doubt),
        forgotten_until=forgotten_until,
        counts=_add(labelled, fresh),
        counted=counted,
        unlisted=unlisted,
        listed_since=_listed_since(state, listing, (*active.values(), *missing.values())),
        active=active,
        missing=missing,
        last_success=_latest_ends(labelled, finished, rules, Outcome.SUCCESS),
        last_failure=_latest_ends(labelled, finished, rules, Outcome.FAILURE),
        failed=_latest_failed(labelled, finished, rules, {task.id for task in fresh}),
    )
    return after, fresh


def refresh_time(state: InstanceState, now: float, *, in_doubt: bool) -> float:
    """Return the time of the latest refresh: one by a clock in doubt takes back no earlier one."""
    return max(now, state.refreshed_at or now) if in_doubt else now


def reveal(state: InstanceState, witnessed: Collection[Series]) -> InstanceState:
    """Return the state with the counts that may be shown now.

    Prometheus cannot see the increase of a series that is born above 0, or that grew while it was
    away. So a count is only shown once the scraper has seen the value before it: `witnessed`
    holds the series that the latest scrape contained.
    """
    shown = {
        series: value if series in witnessed else state.shown.get(series, 0)
        for series, value in {**dict.fromkeys(KNOWN_SERIES, 0), **state.counts}.items()
    }
    return replace(state, shown=shown)


def handed_over(state: InstanceState) -> InstanceState:
    """Return the state of an instance that another exporter reads from now on.

    Its counters go on from where they are should it return, but what is finished by then is
    baseline: the other one counts it.
    """
    return replace(
        state,
        baseline_at=None,
        baseline_partial=False,
        forgotten_until=None,
        counted={},
        unlisted=frozenset(),
        listed_since=None,
        active={},
        missing={},
    )


def is_settled(state: InstanceState) -> bool:
    """Whether nothing is followed, and all that was counted is shown.

    Then the same listing again, under the same window, changes nothing but `refreshed_at`, and
    what is forgotten.
    """
    if state.active or state.missing or state.unlisted:
        return False
    if not state.shown:
        return False
    return all(state.shown.get(series) == number for series, number in state.counts.items())


def label_of(state: InstanceState, task: Task) -> str:
    """Return the `task_name` of a task as a label value, that is under the cap."""
    return task.name if task.name in state.names else OTHER


def series_of(state: InstanceState, task: Task) -> Series:
    """Return the (`task_name`, `status`) of a task as label values."""
    return label_of(state, task), task.status if task.status in state.statuses else OTHER


def names_had(state: InstanceState) -> dict[str, None]:
    """Return the names of the tasks that are followed, or remembered, as label values, in order."""
    names = [name for name in state.names if name not in KNOWN_TASK_NAMES]
    names += [label_of(state, task) for task in (*state.active.values(), *state.missing.values())]
    names += [name for name, _status in state.counts]
    return dict.fromkeys([*names, *state.last_success, *state.last_failure, *state.failed])


def _unique(tasks: Iterable[Task], rules: CountingRules) -> list[Task]:
    """Return each id once, oldest start first: its finished form, if pages show both."""
    ordered = sorted(
        tasks,
        key=lambda task: (
            rules.statuses.outcome(task.status).finished,
            task.updated_at or 0.0,
            task.status,
        ),
    )
    by_id = {task.id: task for task in ordered}
    return sorted(by_id.values(), key=lambda task: (task.created_at or 0.0, task.id))


def _is_new(state: InstanceState, task: Task) -> bool:
    """Whether a finished task was never counted: it is not remembered, nor old enough to be
    forgotten, unless it was followed while it was active.
    """
    if task.id in state.counted:
        return False
    if _was_followed(state, task) or state.forgotten_until is None:
        return True
    return _start(task) > state.forgotten_until


def _is_baseline(state: InstanceState, task: Task) -> bool:
    """Whether a new task was over when the instance was first seen.

    All of the first listing are, and later those that it lacked although they were over then: cut
    by the page cap, hidden by pages that moved, or started before its window.
    """
    if state.baseline_at is None:
        return True
    end = task.updated_at or task.created_at
    if end is None or _was_followed(state, task):
        return False
    # The end is by the cloud's clock, the first listing by ours, which may have been wrong.
    margin = 0.0 if state.baseline_partial else SKEW_MARGIN
    return end <= state.baseline_at - margin


def _was_followed(state: InstanceState, task: Task) -> bool:
    return task.id in state.active or task.id in state.missing


def _start(task: Task) -> float:
    """Return when a finished task began, or else when it had: one without a time stays for ever."""
    known = task.updated_at if task.created_at is None else task.created_at
    return math.inf if known is None else known


def _mended(state: InstanceState, now: float) -> InstanceState:
    """Return the state without the times that cannot be, by a clock that is not in doubt.

    A state that was saved under a wrong clock, or by an older version, may hold them.
    """
    latest = now + LATEST_AHEAD + SKEW_MARGIN
    odd = [key for key, at in state.counted.items() if not EARLIEST_TIME <= at <= latest]
    return replace(
        state,
        baseline_at=None if state.baseline_at is None else min(state.baseline_at, now),
        last_success=_possible(state.last_success, latest),
        last_failure=_possible(state.last_failure, latest),
        failed={
            name: task
            for name, task in state.failed.items()
            if task.with_plausible_times(now + SKEW_MARGIN) is task
        },
        counted={**state.counted, **dict.fromkeys(odd, math.inf)} if odd else state.counted,
    )


def _possible(times: Mapping[str, float], latest: float) -> Mapping[str, float]:
    return {name: at for name, at in times.items() if EARLIEST_TIME <= at <= latest}


def _remembered(
    state: InstanceState, finished: Iterable[Task], new: Iterable[Task]
) -> Mapping[str, float]:
    """Return the ids that are counted, with those that are new, or whose time is known now."""
    dated = [task for task in finished if state.counted.get(task.id) == math.inf]
    return {**state.counted, **{task.id: _start(task) for task in (*dated, *new)}}


def _without_unlisted(
    state: InstanceState, remembered: Mapping[str, float], listing: Listing
) -> tuple[Mapping[str, float], frozenset[str]]:
    """Drop the ids without a time that this and an earlier complete listing lack.

    Return the others, and which of them this one lacks. No clock says when such a task may be
    forgotten, and none is needed: it is listed until its record is deleted.
    """
    listed = {task.id for task in listing.tasks}
    if listing.truncated:
        return remembered, state.unlisted - listed
    lacking = {key for key, at in remembered.items() if at == math.inf and key not in listed}
    gone = lacking & state.unlisted
    kept = {key: at for key, at in remembered.items() if key not in gone} if gone else remembered
    return kept, frozenset(lacking - gone)


def _forget(
    state: InstanceState, remembered: Mapping[str, float], listing: Listing
) -> tuple[Mapping[str, float], float | None]:
    """Drop the ids that are older than a complete listing reaches, and note up to when."""
    listed = {task.id for task in listing.tasks}
    limit = listing.start - SKEW_MARGIN
    dropped = [start for key, start in remembered.items() if start < limit and key not in listed]
    if not dropped:
        return remembered, state.forgotten_until
    kept = {key: at for key, at in remembered.items() if at >= limit or key in listed}
    return kept, max(
        dropped if state.forgotten_until is None else [*dropped, state.forgotten_until]
    )


def _followed(
    state: InstanceState, tasks: Iterable[Task], rules: CountingRules, *, truncated: bool
) -> tuple[Mapping[str, Task], Mapping[str, Task]]:
    """Return the unfinished tasks, and those that were unfinished and are not listed any more.

    A cut listing does not say that one is gone. A complete one that lacks it may have been torn,
    by a record deleted while its pages were read: only a second one lets it go.
    """
    listed = {task.id: task for task in tasks}
    before = {**state.missing, **state.active}
    gone = {key: task for key, task in before.items() if key not in listed}
    active = {
        key: task
        for key, task in listed.items()
        if not rules.statuses.outcome(task.status).finished
    }
    if truncated:
        still = {key: task for key, task in gone.items() if key in state.active}
        return {**still, **active}, {key: gone[key] for key in gone if key not in still}
    return active, {key: task for key, task in gone.items() if key in state.active}


def _listed_since(state: InstanceState, listing: Listing, followed: Iterable[Task]) -> float | None:
    """Return from when on tasks must be listed because one without a known start is followed."""
    if all(task.created_at is not None for task in followed):
        return None
    return listing.start if state.listed_since is None else min(listing.start, state.listed_since)


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


def _add(state: InstanceState, tasks: Iterable[Task]) -> Mapping[Series, int]:
    counts = dict(state.counts)
    for task in tasks:
        series = series_of(state, task)
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
            name = label_of(state, task)
            ends[name] = max(end, ends.get(name, 0.0))
    return ends


def _latest_failed(
    state: InstanceState, finished: Iterable[Task], rules: CountingRules, fresh: Collection[str]
) -> Mapping[str, Task]:
    """Return the latest task per name that failed, ever seen; who ran it is not kept."""
    latest = dict(state.failed)
    failed = [task for task in finished if rules.statuses.outcome(task.status) is Outcome.FAILURE]
    for task in sorted(failed, key=lambda task: (_end(task) is None, _end(task) or 0.0, task.id)):
        name = label_of(state, task)
        known = latest.get(name)
        if known is None or _is_later_failure(task, known, is_fresh=task.id in fresh):
            latest[name] = replace(task, user_name="")
    return latest


def _is_later_failure(task: Task, known: Task, *, is_fresh: bool) -> bool:
    """Whether a task failed after the one that is known, or is that one, as it is listed now.

    Of two of which one does not say when it ended, the later one is the one that is counted now.
    """
    if task.id == known.id:
        return True
    end, last = _end(task), _end(known)
    if end is None or last is None:
        return is_fresh
    return (end, task.id) > (last, known.id)


def _end(task: Task) -> float | None:
    return task.created_at if task.updated_at is None else task.updated_at
