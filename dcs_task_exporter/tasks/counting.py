"""Count background tasks: listings in, counts out.

Pure: no clock, no network, no thread, no Prometheus. A finished task is counted once, by its id,
when it is first seen finished; a task that was finished in the first listing is baseline; counters
never fall; names and statuses are open sets under a cap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dcs_task_exporter.tasks.instance_state import (
    MAX_STATUSES,
    InstanceState,
    series_of,
)
from dcs_task_exporter.tasks.latest import latest_ends, latest_failed
from dcs_task_exporter.tasks.models import (
    EARLIEST_TIME,
    LATEST_AHEAD,
    Listing,
    Task,
)
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable

SKEW_MARGIN: Final = 900.0
"""Seconds by which the cloud's clock may differ from ours: its gateway refuses more."""


@dataclass(frozen=True, slots=True)
class CountingRules:
    """How tasks are counted; `lookback` is in seconds."""

    lookback: float
    max_task_names: int = 50
    statuses: StatusTable = field(default_factory=StatusTable)


def listing_start(state: InstanceState, now: float, lookback: float) -> float:
    """Return the Unix time from which the tasks of an instance must be listed.

    It reaches back over the look-back window, to the latest refresh, to the newest known task
    (whatever the clocks say: an unknown task began after it), and to the start of the oldest task
    that is still followed. The very first reaches back further than a short window, because the
    next ones do: what they alone would list is no news.
    """
    if state.baseline_at is None:
        lookback = max(lookback, 2 * SKEW_MARGIN)
    known = (at for at in state.counted.values() if at < math.inf)
    newest = max(known, default=state.baseline_at)
    read = [at - SKEW_MARGIN for at in (state.refreshed_at, newest) if at is not None]
    read += [] if state.listed_since is None else [state.listed_since]
    followed = (*state.active.values(), *state.missing.values())
    starts = [task.created_at for task in followed if task.created_at is not None]
    return min([now - lookback, *(at for at in (*read, *starts) if at >= EARLIEST_TIME)])


def count_new(
    state: InstanceState,
    listing: Listing,
    now: float,
    rules: CountingRules,
    *,
    in_doubt: bool = False,
) -> tuple[InstanceState, Sequence[Task]]:
    """Return the state after a listing at `now` (Unix seconds), and the tasks newly counted.

    When the clock is `in_doubt`, nothing is forgotten and no time is mended. The order of the
    listing does not matter. The same listing again changes only `refreshed_at` and the ids that are
    forgotten.
    """
    if state.baseline_at is None:
        state = replace(state, baseline_partial=listing.truncated)
    elif not in_doubt:
        state = _mended(state, now)
    tasks = _unique(listing.tasks, rules)
    failed = _with_outcome(tasks, Outcome.FAILURE, rules)
    finished = [task for task in tasks if rules.statuses.outcome(task.status).finished]
    new = [task for task in finished if _is_new(state, task)]
    labelled = _with_labels(state, tasks, rules)
    fresh = [task for task in new if not _is_baseline(state, task)]
    counted, unlisted = _without_unlisted(state, _remembered(state, finished, new), listing)
    forgotten_until = state.forgotten_until
    if not (in_doubt or listing.truncated):
        counted, forgotten_until = _forget(state, counted, listing)
    active, missing = _followed(state, tasks, rules, truncated=listing.truncated)
    counts = Counter(state.counts)
    counts.update(series_of(labelled, task) for task in fresh)
    after = replace(
        labelled,
        baseline_at=now if state.baseline_at is None else state.baseline_at,
        refreshed_at=refresh_time(state, now, in_doubt=in_doubt),
        forgotten_until=forgotten_until,
        counts=dict(counts),
        counted=counted,
        unlisted=unlisted,
        listed_since=_listed_since(state, listing, (*active.values(), *missing.values())),
        active=active,
        missing=missing,
        last_success=latest_ends(
            labelled, state.last_success, _with_outcome(tasks, Outcome.SUCCESS, rules)
        ),
        last_failure=latest_ends(labelled, state.last_failure, failed),
        failed=latest_failed(labelled, failed, {task.id for task in fresh}),
    )
    return after, fresh


def refresh_time(state: InstanceState, now: float, *, in_doubt: bool) -> float:
    """Return the time of the latest refresh; a clock in doubt never moves it back."""
    return max(now, state.refreshed_at or now) if in_doubt else now


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


def _with_outcome(tasks: Iterable[Task], outcome: Outcome, rules: CountingRules) -> list[Task]:
    return [task for task in tasks if rules.statuses.outcome(task.status) is outcome]


def _is_new(state: InstanceState, task: Task) -> bool:
    """Whether a finished task was never counted.

    Its id is unknown, and it is too young to be forgotten, or was followed while it was active.
    """
    if task.id in state.counted:
        return False
    if _was_followed(state, task) or state.forgotten_until is None:
        return True
    return _start(task) > state.forgotten_until


def _is_baseline(state: InstanceState, task: Task) -> bool:
    """Whether a new task had ended when the instance was first seen.

    That is every task of the first listing, and a later one that had ended by then but was cut by
    the page cap, hidden by pages that moved, or had started before its window.
    """
    if state.baseline_at is None:
        return True
    end = task.updated_at or task.created_at
    if end is None or _was_followed(state, task):
        return False
    # The cloud's clock dates the end, ours the first listing; ours may have been wrong.
    margin = 0.0 if state.baseline_partial else SKEW_MARGIN
    return end <= state.baseline_at - margin


def _was_followed(state: InstanceState, task: Task) -> bool:
    return task.id in state.active or task.id in state.missing


def _start(task: Task) -> float:
    """Return the start of a finished task, or else its end; infinity, to keep it, without both."""
    known = task.updated_at if task.created_at is None else task.created_at
    return math.inf if known is None else known


def _mended(state: InstanceState, now: float) -> InstanceState:
    """Return the state without implausible times, by a clock that is not in doubt.

    A state that was saved under a wrong clock, or by an older version, may have some.
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
    """Return the counted ids with the new ones, and with the times that are known by now."""
    dated = [task for task in finished if state.counted.get(task.id) == math.inf]
    return {**state.counted, **{task.id: _start(task) for task in (*dated, *new)}}


def _without_unlisted(
    state: InstanceState, remembered: Mapping[str, float], listing: Listing
) -> tuple[Mapping[str, float], frozenset[str]]:
    """Drop the ids without a time that this and the earlier complete listing lack.

    Return the others, and those of them that this listing lacks. Such a task has no age at which it
    could be forgotten; it is listed until its record is deleted.
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
    """Drop the ids from before a complete listing.

    Return the others, and the latest start of all that were ever dropped.
    """
    listed = {task.id for task in listing.tasks}
    limit = listing.start - SKEW_MARGIN
    dropped = [start for key, start in remembered.items() if start < limit and key not in listed]
    if not dropped:
        return remembered, state.forgotten_until
    kept = {key: at for key, at in remembered.items() if at >= limit or key in listed}
    return kept, max(*dropped, state.forgotten_until or -math.inf)


def _followed(
    state: InstanceState, tasks: Iterable[Task], rules: CountingRules, *, truncated: bool
) -> tuple[Mapping[str, Task], Mapping[str, Task]]:
    """Return the unfinished tasks, and the formerly unfinished ones that are no longer listed.

    Absence from a cut listing proves nothing. Absence from a complete one may come from a record
    that was deleted while its pages were read, so a task is dropped only when a second one lacks
    it.
    """
    listed = {task.id: task for task in tasks}
    lacking = {key: task for key, task in state.active.items() if key not in listed}
    active = {
        key: task
        for key, task in listed.items()
        if not rules.statuses.outcome(task.status).finished
    }
    if truncated:
        missing = {key: task for key, task in state.missing.items() if key not in listed}
        return {**lacking, **active}, missing
    return active, lacking


def _listed_since(state: InstanceState, listing: Listing, followed: Iterable[Task]) -> float | None:
    """Return the start of the window that still lists a followed task without a known start."""
    if all(task.created_at is not None for task in followed):
        return None
    return listing.start if state.listed_since is None else min(listing.start, state.listed_since)


def _with_labels(
    state: InstanceState, tasks: Iterable[Task], rules: CountingRules
) -> InstanceState:
    """Give a label value to each new name and status, up to the cap."""
    names, statuses = dict.fromkeys(state.names), dict.fromkeys(state.statuses)
    for task in tasks:
        if len(names) < rules.max_task_names:
            names.setdefault(task.name)
        if len(statuses) < MAX_STATUSES:
            statuses.setdefault(task.status)
    return replace(state, names=tuple(names), statuses=tuple(statuses))
