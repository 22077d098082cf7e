"""The latest end and the latest failed task of each name. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from dcs_task_exporter.tasks.instance_state import InstanceState, label_of
from dcs_task_exporter.tasks.models import Task


def latest_ends(
    state: InstanceState, known: Mapping[str, float], tasks: Iterable[Task]
) -> Mapping[str, float]:
    """Return the latest end of each name (Unix seconds), known or of these finished tasks."""
    ends = dict(known)
    for task in tasks:
        if (end := _end(task)) is not None:
            name = label_of(state, task)
            ends[name] = max(end, ends.get(name, 0.0))
    return ends


def latest_failed(
    state: InstanceState, tasks: Iterable[Task], fresh: Collection[str]
) -> Mapping[str, Task]:
    """Return the latest failed task of each name, known or of these, without its user.

    `fresh` has the ids of the newly counted tasks.
    """
    latest = dict(state.failed)
    for task in sorted(tasks, key=lambda task: (_end(task) is None, task.id)):
        name = label_of(state, task)
        known = latest.get(name)
        if known is None or _is_later(task, known, is_fresh=task.id in fresh):
            latest[name] = replace(task, user_name="")
    return latest


def _is_later(task: Task, known: Task, *, is_fresh: bool) -> bool:
    """Whether a task failed after the known one, or is the same task, as it is listed now.

    If one of the two has no time, a newly counted task is the later one.
    """
    if task.id == known.id:
        return True
    end, last = _end(task), _end(known)
    if end is None or last is None:
        return is_fresh
    return (end, task.id) > (last, known.id)


def _end(task: Task) -> float | None:
    return task.created_at if task.updated_at is None else task.updated_at
