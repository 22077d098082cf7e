"""Everything that counting remembers of one instance, as a value. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

from dcs_task_exporter.tasks.models import KNOWN_TASK_NAMES, Task
from dcs_task_exporter.tasks.naming import Naming, Series

OTHER: Final = "other"
"""The label value of every name or status above the cap."""

ZEROED_STATUSES: Final = ("SUCCESS", "FAILED")
"""The statuses whose counters start at 0 for every documented name."""

MAX_STATUSES: Final = 20
"""Most statuses of one instance as label values, including the known ones."""

KNOWN_SERIES: Final[tuple[Series, ...]] = tuple(product(KNOWN_TASK_NAMES, ZEROED_STATUSES))
"""The series that every instance has at 0 before anything is counted."""

_HELD: Final[Mapping[Series, Series]] = {series: series for series in KNOWN_SERIES}
"""Each known series once, for all instances: saves 1.5 MB with 1,000 instances of 50 tasks."""


@dataclass(frozen=True, slots=True)
class InstanceState:
    """The counts of one instance, and the tasks that they come from.

    Times are Unix seconds. `counts` has the finished tasks by series; `shown` has the values that
    the counters expose, which follow one delivered scrape later where a series is new or grew
    unseen. `naming` says which part of them is not shown under the present name.

    `counted` maps the id of each counted or baseline task to its start, or else its end; a task
    without either is at infinity. An id that is missing there, and started at `forgotten_until` or
    before, was counted and forgotten. `active` has the unfinished tasks, and `missing` those that
    the latest listing lacked: deleted, or hidden by a page that moved; `unlisted` has such ids at
    infinity.

    `baseline_at` is the time of the first listing, and `baseline_partial` says that the page cap
    cut it. `refreshed_at` is the latest refresh by a clock that was not in doubt. `listed_since` is
    the start of the window in which a task without a known start was listed, while it is followed.
    `failed` has the latest failed task of each name, even if it is no longer listed.
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
    naming: Naming = field(default_factory=Naming)


def renamed(state: InstanceState, name: str) -> InstanceState:
    """Return the state of an instance whose series carry another name from now on."""
    return replace(state, naming=state.naming.renamed(name, state.shown))


def seen_late(state: InstanceState, name: str, exposed: Mapping[Series, int]) -> InstanceState:
    """Return the state after an answer that was on its way when the instance was renamed.

    The series of the present name stay as they are: the counts that it showed were seen.
    """
    naming = state.naming.seen_late(name, exposed)
    if naming is state.naming:
        return state
    shown = naming.counts(state.naming.exposed(state.shown))
    return replace(state, shown=shown, naming=naming)


def reveal(state: InstanceState, delivered: Collection[Series]) -> InstanceState:
    """Return the state with the counts that may be shown now.

    Prometheus cannot see the increase of a series that is born above 0, or that grew while it was
    away. So a count is only shown after its earlier value was `delivered`.
    """
    shown = {
        series: value if series in delivered else state.shown.get(series, 0)
        for series, value in {**dict.fromkeys(KNOWN_SERIES, 0), **state.counts}.items()
    }
    return replace(state, shown=shown)


def handed_over(state: InstanceState) -> InstanceState:
    """Return the state of an instance that another exporter reads from now on.

    If it comes back, its counters go on from here, but the tasks finished by then are baseline: the
    other exporter counts them.
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


def has_pending(state: InstanceState) -> bool:
    """Whether a task is followed, or a count is not shown yet.

    If not, the same listing again changes only `refreshed_at` and the ids that are forgotten.
    """
    if state.active or state.missing or state.unlisted or not state.shown:
        return True
    return any(state.shown.get(series) != number for series, number in state.counts.items())


def label_of(state: InstanceState, task: Task) -> str:
    """Return the `task_name` of a task as a label value, within the cap."""
    return task.name if task.name in state.names else OTHER


def series_of(state: InstanceState, task: Task) -> Series:
    """Return the (`task_name`, `status`) of a task as label values."""
    series = label_of(state, task), task.status if task.status in state.statuses else OTHER
    return _HELD.get(series, series)


def names_had(state: InstanceState) -> dict[str, None]:
    """Return the names of all known tasks as label values, in the order of their discovery."""
    names = [name for name in state.names if name not in KNOWN_TASK_NAMES]
    names += [label_of(state, task) for task in (*state.active.values(), *state.missing.values())]
    names += [name for name, _status in state.counts]
    return dict.fromkeys([*names, *state.last_success, *state.last_failure, *state.failed])
