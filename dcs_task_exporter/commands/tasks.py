"""The command `tasks`: read every instance once and list its latest tasks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import Final

from dcs_task_exporter.commands.one_pass import read_once
from dcs_task_exporter.commands.output import TIME_FORMAT, table
from dcs_task_exporter.tasks.models import Task
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.tasks.statuses import StatusTable
from dcs_task_exporter.text.times import time_text

COLUMNS: Final = ("INSTANCE", "TASK", "STATUS", "STARTED", "ENDED", "TOOK", "WHAT CHANGED")


def tasks(arguments: argparse.Namespace) -> bool:
    """Print the latest tasks of all instances: a table for people, or JSON for programs."""
    report = tasks_json if arguments.json else tasks_table
    return read_once(
        arguments,
        lambda exporter, config: report(
            exporter.refresher.snapshots(), config.status_words.table()
        ),
    )


def tasks_table(snapshots: Sequence[Snapshot], statuses: StatusTable) -> str:
    """Return the latest tasks of each instance, newest first, and a note for each without any."""
    rows: list[tuple[str, ...]] = []
    notes = []
    for snapshot in snapshots:
        instance, failure = snapshot.instance, snapshot.failure
        if snapshot.metrics is None:
            reason = f"{failure.reason}: {failure.message}" if failure else "not in time"
            notes.append(f"{instance.name} ({instance.id}) could not be read: {reason}")
            continue
        rows += [_row(instance.name, task, statuses) for task in snapshot.metrics.tasks]
        if not snapshot.metrics.tasks:
            notes.append(f"{instance.name} ({instance.id}) has no task in the look-back window")
    return table(COLUMNS, rows, notes)


def tasks_json(snapshots: Iterable[Snapshot], statuses: StatusTable) -> str:
    """Return one JSON object per line: an instance with its latest tasks."""
    return "".join(f"{json.dumps(_document(item, statuses))}\n" for item in snapshots)


def _row(name: str, task: Task, statuses: StatusTable) -> tuple[str, ...]:
    outcome = statuses.outcome(task.status)
    ended = outcome.finished
    took = task.duration if ended else None
    return (
        name,
        task.name,
        f"{task.status} {task.error_code}".rstrip(),
        time_text(task.created_at, TIME_FORMAT),
        time_text(task.updated_at, TIME_FORMAT) if ended else "-",
        "-" if took is None else f"{took:.1f}s",
        task.summary(outcome) or "-",
    )


def _document(snapshot: Snapshot, statuses: StatusTable) -> dict[str, object]:
    instance, failure, metrics = snapshot.instance, snapshot.failure, snapshot.metrics
    return {
        "project": instance.project,
        "dcs_instance_id": instance.id,
        "dcs_instance_name": instance.name,
        "up": snapshot.up,
        "error": failure and {"reason": failure.reason, "message": failure.message},
        "truncated": snapshot.truncated,
        "tasks": None if metrics is None else [_task(task, statuses) for task in metrics.tasks],
    }


def _task(task: Task, statuses: StatusTable) -> dict[str, object]:
    outcome = statuses.outcome(task.status)
    return {
        "task_id": task.id,
        "task_name": task.name,
        "status": task.status,
        "outcome": outcome.value,
        "created_at": task.created_at,
        "updated_at": task.updated_at,
        "duration_seconds": task.duration if outcome.finished else None,
        "error_code": task.error_code,
        "summary": task.summary(outcome),
    }
