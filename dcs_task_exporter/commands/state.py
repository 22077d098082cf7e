"""The commands `state show` and `state verify`: look into the state file and leave it as it is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dcs_task_exporter.arguments import UsageError
from dcs_task_exporter.commands.check_online import counted
from dcs_task_exporter.commands.configuration import configuration
from dcs_task_exporter.commands.output import TIME_FORMAT, printable, say, table, warn, write
from dcs_task_exporter.state.inspection import Inspection, inspect
from dcs_task_exporter.state.permissions import exposures
from dcs_task_exporter.state.schema import VERSION
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.text.times import time_text

COLUMNS: Final = ("INSTANCE", "TASK", "STATUS", "COUNTED", "SHOWN", "REFRESHED")


def state_show(arguments: argparse.Namespace) -> bool:
    """Print the counts of each instance: a table for people, or JSON for programs."""
    path = state_path(arguments)
    found = inspect(path)
    write((state_json if arguments.json else state_table)(found.states))
    if not (arguments.json or found.states or found.problems):
        say("the file has no instance yet")
    _warn(path, found.problems)
    return not found.problems


def state_verify(arguments: argparse.Namespace) -> bool:
    """Print whether an exporter would go on from the file, and if not, what is wrong with it."""
    path = state_path(arguments)
    found = inspect(path)
    if not found.problems:
        say(f"{path}: in order: {', '.join(_facts(found))}")
    _warn(path, found.problems)
    _warn(path, exposures(path), "warning: ")
    return not found.problems


def state_path(arguments: argparse.Namespace) -> Path:
    """Return the path of the file: that of the flag, or else of the configuration."""
    path: Path | None = arguments.state_file or configuration(arguments).state.path
    if path is None:
        message = "the configuration has no state.path: name the file with --state.file"
        raise UsageError(message)
    return path


def state_table(states: Mapping[str, InstanceState]) -> str:
    """Return the counts of each instance, and a note for each without any."""
    rows, notes = [], []
    for instance_id, state in states.items():
        refreshed = time_text(state.refreshed_at, TIME_FORMAT)
        counts = [
            (instance_id, *series, str(number), str(state.shown.get(series, 0)), refreshed)
            for series, number in sorted(state.counts.items())
            if number
        ]
        rows += counts
        if not counts:
            notes.append(f"{instance_id} has no counted task; it was refreshed at {refreshed}")
    return table(COLUMNS, rows, notes)


def state_json(states: Mapping[str, InstanceState]) -> str:
    """Return one JSON object per line: an instance with its counts and the tasks it follows."""
    return "".join(f"{json.dumps(_document(*item))}\n" for item in states.items())


def _document(instance_id: str, state: InstanceState) -> dict[str, object]:
    return {
        "dcs_instance_id": instance_id,
        "baseline_at": state.baseline_at,
        "refreshed_at": state.refreshed_at,
        "counts": [
            {
                "task_name": name,
                "status": status,
                "counted": number,
                "shown": state.shown.get((name, status), 0),
            }
            for (name, status), number in sorted(state.counts.items())
        ],
        "active": [
            {
                "task_id": task.id,
                "task_name": task.name,
                "status": task.status,
                "created_at": task.created_at,
            }
            for task in state.active.values()
        ],
        "remembered_tasks": len(state.counted),
        "last_success": dict(state.last_success),
        "last_failure": dict(state.last_failure),
    }


def _facts(found: Inspection) -> Iterator[str]:
    states = found.states.values()
    yield counted(len(states), "instance")
    yield counted(sum(sum(state.counts.values()) for state in states), "counted task")
    if found.version not in (0, VERSION):
        yield f"version {found.version}, which the next start migrates to {VERSION}"
    refreshes = [state.refreshed_at for state in states if state.refreshed_at is not None]
    latest = time_text(max(refreshes, default=None), TIME_FORMAT)
    yield f"refreshed at {latest}" if refreshes else "not refreshed yet"


def _warn(path: Path, sentences: tuple[str, ...], before: str = "") -> None:
    for sentence in sentences:
        warn(printable(f"{before}{path}: {sentence}"))
