"""The tables of the state file, and an instance's state as their rows."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dcs_task_exporter.tasks.counting import InstanceState
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import Task

APPLICATION_ID: Final = 0x44435354
"""What SQLite's header says of the kind of file: "DCST"."""

MIGRATIONS: Final = (
    """
    CREATE TABLE instance (
        id TEXT PRIMARY KEY, baseline_at REAL, baseline_partial INTEGER NOT NULL,
        refreshed_at REAL, forgotten_until REAL, labels TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE counter (
        instance_id TEXT, task_name TEXT, status TEXT,
        counted INTEGER, shown INTEGER,
        PRIMARY KEY (instance_id, task_name, status)
    ) WITHOUT ROWID;
    CREATE TABLE counted (
        instance_id TEXT, task_id TEXT, started_at REAL, PRIMARY KEY (instance_id, task_id)
    ) WITHOUT ROWID;
    CREATE TABLE followed (
        instance_id TEXT, task_id TEXT, missing INTEGER, task_name TEXT, status TEXT,
        created_at REAL, updated_at REAL, PRIMARY KEY (instance_id, task_id)
    ) WITHOUT ROWID;
    CREATE TABLE latest_end (
        instance_id TEXT, task_name TEXT, outcome TEXT, ended_at REAL,
        PRIMARY KEY (instance_id, task_name, outcome)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE instance ADD COLUMN saved_at_age REAL NOT NULL DEFAULT 0;
    ALTER TABLE instance ADD COLUMN listed_since REAL;
    """,
    """
    CREATE TABLE last_failed (
        instance_id TEXT, label TEXT, task_id TEXT, task_name TEXT, status TEXT,
        created_at REAL, updated_at REAL, error_code TEXT, details TEXT,
        PRIMARY KEY (instance_id, label)
    ) WITHOUT ROWID;
    """,
)
"""What leads from each version of the schema to the next, the first from an empty file."""

TABLES: Final = ("counter", "counted", "followed", "latest_end", "last_failed")
"""The tables that hold rows of an instance, besides its own."""

Change = tuple[InstanceState | None, InstanceState]
"""The state of an instance as the file has it, and as it is to be."""

Row = tuple[object, ...]
Rows = dict[tuple[str, ...], Row]


class UnusableStateError(sqlite3.DatabaseError):
    """The file is damaged, of another program, or of a later version of this one."""


def prepare(connection: sqlite3.Connection, *, forget_after: float) -> None:
    """Lock the file for this process, check it, and bring its schema up to date.

    Instances that were not saved in the last `forget_after` seconds of the file's age are
    forgotten. Raises `UnusableStateError` when the file must be set aside, `sqlite3.Error` for all
    else.
    """
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        _migrate(connection)
        _forget_instances(connection, age_of(connection) - forget_after)
        connection.execute("COMMIT")
    except (sqlite3.OperationalError, UnusableStateError):
        raise
    except sqlite3.DatabaseError as error:
        message = f"is damaged: {error}"
        raise UnusableStateError(message) from error


def age_of(connection: sqlite3.Connection) -> float:
    """Return for how many seconds processes have used the file, up to its latest save.

    No wall clock is asked: one that is wrong must not make instances look old.
    """
    return float(connection.execute("SELECT max(saved_at_age) FROM instance").fetchone()[0] or 0.0)


def latest_refresh(connection: sqlite3.Connection) -> float | None:
    """Return the time of the latest refresh of all (Unix seconds), or None without any."""
    found: float | None = connection.execute("SELECT max(refreshed_at) FROM instance").fetchone()[0]
    return found


def instance_ids(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of all instances of which something is saved."""
    return [row[0] for row in connection.execute("SELECT id FROM instance").fetchall()]


def read_state(connection: sqlite3.Connection, instance_id: str) -> InstanceState | None:
    """Return what is saved of an instance, or None."""
    own = connection.execute(
        "SELECT baseline_at, baseline_partial, refreshed_at, forgotten_until, labels, listed_since "
        "FROM instance WHERE id = ?",
        (instance_id,),
    ).fetchone()
    if own is None:
        return None
    labels = json.loads(own[4])
    counters = _rows(connection, "task_name, status, counted, shown", "counter", instance_id)
    followed = _rows(
        connection,
        "task_id, missing, task_name, status, created_at, updated_at",
        "followed",
        instance_id,
    )
    ends = _rows(connection, "task_name, outcome, ended_at", "latest_end", instance_id)
    counted = _rows(connection, "task_id, started_at", "counted", instance_id)
    failed = _rows(
        connection,
        "label, task_id, task_name, status, created_at, updated_at, error_code, details",
        "last_failed",
        instance_id,
    )
    tasks = [(row[1], Task(row[0], row[2], row[3], row[4], row[5])) for row in followed]
    return InstanceState(
        baseline_at=own[0],
        baseline_partial=bool(own[1]),
        refreshed_at=own[2],
        forgotten_until=own[3],
        listed_since=own[5],
        names=tuple(labels["names"]),
        statuses=tuple(labels["statuses"]),
        counts={(row[0], row[1]): row[2] for row in counters if row[2] is not None},
        shown={(row[0], row[1]): row[3] for row in counters if row[3] is not None},
        counted={key: abs(at) for key, at in counted},
        unlisted=frozenset(key for key, at in counted if at == -math.inf),
        active={task.id: task for missing, task in tasks if not missing},
        missing={task.id: task for missing, task in tasks if missing},
        last_success={row[0]: row[2] for row in ends if row[1] == "success"},
        last_failure={row[0]: row[2] for row in ends if row[1] == "failure"},
        failed={row[0]: _failed_task(row) for row in failed},
    )


def write_changes(
    connection: sqlite3.Connection, changes: Mapping[str, Change], age: float
) -> None:
    """Commit, in one transaction, the rows that differ of some instances.

    A change is the state that the file has of an instance, None where that is not known, and the
    new one. `age` is that of the file, in seconds.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for instance_id, change in changes.items():
            _write_instance(connection, instance_id, change, age)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_instance(
    connection: sqlite3.Connection, instance_id: str, change: Change, age: float
) -> None:
    before, state = change
    if before is None:
        _delete_instance(connection, instance_id)
    labels = json.dumps({"names": state.names, "statuses": state.statuses})
    connection.execute(
        "INSERT OR REPLACE INTO instance VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            instance_id,
            state.baseline_at,
            state.baseline_partial,
            state.refreshed_at,
            state.forgotten_until,
            labels,
            age,
            state.listed_since,
        ),
    )
    old, new = _all_rows(before or InstanceState()), _all_rows(state)
    for table in TABLES:
        _write_table(connection, table, instance_id, old[table], new[table])


def _check(connection: sqlite3.Connection) -> None:
    """Read only: a file of another program must stay as it is."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and tables:
        message = "is a database of another program"
        raise UnusableStateError(message)
    if version > len(MIGRATIONS):
        message = f"is of a later version ({version}, this one knows {len(MIGRATIONS)})"
        raise UnusableStateError(message)
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        message = "is damaged"
        raise UnusableStateError(message)


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == len(MIGRATIONS):
        return
    for migration in MIGRATIONS[version:]:
        for statement in filter(None, map(str.strip, migration.split(";"))):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _forget_instances(connection: sqlite3.Connection, before: float) -> None:
    old = connection.execute("SELECT id FROM instance WHERE saved_at_age < ?", (before,))
    for (instance_id,) in old.fetchall():
        _delete_instance(connection, instance_id)


def _delete_instance(connection: sqlite3.Connection, instance_id: str) -> None:
    for table in TABLES:
        statement = f"DELETE FROM {table} WHERE instance_id = ?"  # noqa: S608 - our own names
        connection.execute(statement, (instance_id,))
    connection.execute("DELETE FROM instance WHERE id = ?", (instance_id,))


def _rows(
    connection: sqlite3.Connection, columns: str, table: str, instance_id: str
) -> list[tuple[Any, ...]]:
    statement = f"SELECT {columns} FROM {table} WHERE instance_id = ?"  # noqa: S608 - our own names
    return connection.execute(statement, (instance_id,)).fetchall()


def _all_rows(state: InstanceState) -> Mapping[str, Rows]:
    """Return the rows of each table, by the part of their key after the instance."""
    series = {**state.counts, **state.shown}
    tasks = [(0, task) for task in state.active.values()]
    tasks += [(1, task) for task in state.missing.values()]
    ends = {"success": state.last_success, "failure": state.last_failure}
    return {
        "counter": {key: (state.counts.get(key), state.shown.get(key)) for key in series},
        "counted": {
            (key,): (-start if key in state.unlisted else start,)
            for key, start in state.counted.items()
        },
        "followed": {
            (task.id,): (missing, task.name, task.status, task.created_at, task.updated_at)
            for missing, task in tasks
        },
        "latest_end": {
            (name, outcome): (ended_at,)
            for outcome, by_name in ends.items()
            for name, ended_at in by_name.items()
        },
        "last_failed": {(name,): _failed_row(task) for name, task in state.failed.items()},
    }


def _failed_row(task: Task) -> Row:
    details = json.dumps(task.details.to_json())
    times = (task.created_at, task.updated_at)
    return (task.id, task.name, task.status, *times, task.error_code, details)


def _failed_task(row: tuple[Any, ...]) -> Task:
    _label, task_id, name, status, began, ended, error_code, details = row
    known = TaskDetails.from_json(json.loads(details))
    return Task(task_id, name, status, began, ended, known, error_code=error_code)


KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("task_name", "status"),
    "counted": ("task_id",),
    "followed": ("task_id",),
    "latest_end": ("task_name", "outcome"),
    "last_failed": ("label",),
}


def _write_table(
    connection: sqlite3.Connection, table: str, instance_id: str, old: Rows, new: Rows
) -> None:
    changed: Iterable[Row] = [
        (instance_id, *key, *row) for key, row in new.items() if old.get(key) != row
    ]
    gone = [(instance_id, *key) for key in old if key not in new]
    if gone:
        where = " AND ".join(f"{column} = ?" for column in ("instance_id", *KEYS[table]))
        connection.executemany(f"DELETE FROM {table} WHERE {where}", gone)  # noqa: S608 - our own
    for row in changed:
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
