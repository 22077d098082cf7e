"""An instance's state as the JSON text of its row in the state file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dcs_task_exporter.state.row_shape import check_row
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Task
from dcs_task_exporter.tasks.naming import Naming, Series


def encode(state: InstanceState) -> str:
    """Return all of a state but `refreshed_at` and `counted`, which are saved beside it."""
    row: dict[str, object] = {
        "baseline_at": state.baseline_at,
        "baseline_partial": state.baseline_partial,
        "forgotten_until": state.forgotten_until,
        "listed_since": state.listed_since,
        "names": state.names,
        "statuses": state.statuses,
        "counts": _rows(state.counts),
        "shown": _rows(state.shown),
        "unlisted": sorted(state.unlisted),
        "active": [_followed(task) for task in state.active.values()],
        "missing": [_followed(task) for task in state.missing.values()],
        "last_success": state.last_success,
        "last_failure": state.last_failure,
        "failed": {label: _failed(task) for label, task in state.failed.items()},
    }
    if state.naming.name:  # a key that earlier exporters of this version pass over
        row["naming"] = {
            "name": state.naming.name,
            "elsewhere": _rows(state.naming.elsewhere),
            "former": {name: _rows(values) for name, values in state.naming.former.items()},
        }
    return json.dumps(row, separators=(",", ":"))


def decode(text: str, *, refreshed_at: float | None, counted: Mapping[str, float]) -> InstanceState:
    """Return the state that `encode` turned into text.

    Raises `LookupError`, `TypeError` or `ValueError` for any other text.
    """
    check_row(text, refreshed_at=refreshed_at, counted=counted)
    row = json.loads(text)
    return InstanceState(
        baseline_at=row["baseline_at"],
        baseline_partial=bool(row["baseline_partial"]),
        refreshed_at=refreshed_at,
        forgotten_until=row["forgotten_until"],
        listed_since=row["listed_since"],
        names=tuple(row["names"]),
        statuses=tuple(row["statuses"]),
        counts=_values(row["counts"]),
        shown=_values(row["shown"]),
        counted=counted,
        unlisted=frozenset(row["unlisted"]),
        active={item[0]: Task(*item) for item in row["active"]},
        missing={item[0]: Task(*item) for item in row["missing"]},
        last_success={name: float(at) for name, at in row["last_success"].items()},
        last_failure={name: float(at) for name, at in row["last_failure"].items()},
        failed={label: _failed_task(item) for label, item in row["failed"].items()},
        naming=_naming(row["naming"]) if "naming" in row else Naming(),  # older files have none
    )


def _rows(values: Mapping[Series, int]) -> list[list[object]]:
    return [[*series, number] for series, number in values.items()]


def _values(rows: Iterable[tuple[str, str, int]]) -> Mapping[Series, int]:
    return {(name, status): number for name, status, number in rows}


def _naming(row: Mapping[str, Any]) -> Naming:
    former = {name: _values(rows) for name, rows in row["former"].items()}
    return Naming(row["name"], _values(row["elsewhere"]), former)


def _followed(task: Task) -> list[object]:
    return [task.id, task.name, task.status, task.created_at, task.updated_at]


def _failed(task: Task) -> list[object]:
    return [*_followed(task), task.error_code, task.details.to_json()]


def _failed_task(row: list[Any]) -> Task:
    *own, error_code, details = row
    known: dict[str, Any] = {
        key: tuple(it) if isinstance(it, list) else it for key, it in details.items()
    }
    return replace(Task(*own), details=TaskDetails(**known), error_code=error_code)
