"""The database of the state file: opened, checked, migrated, read and written."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dcs_task_exporter.errors import StateLockedError
from dcs_task_exporter.state.encoding import decode, encode
from dcs_task_exporter.state.permissions import create
from dcs_task_exporter.state.schema import APPLICATION_ID, CREATE, MIGRATIONS, VERSION
from dcs_task_exporter.tasks.instance_state import InstanceState

FORGET_AFTER: Final = 90 * 86_400.0
"""Seconds of the file's age after which an instance that was not saved is forgotten."""

_SAVE: Final = """
INSERT INTO instance_state VALUES (?, ?, ?, ?) ON CONFLICT (instance_id) DO UPDATE SET
    saved_at_age = excluded.saved_at_age, refreshed_at = excluded.refreshed_at,
    state = excluded.state
"""

Change = tuple[InstanceState | None, InstanceState]
"""The state of an instance in the file, None where it is not known, and the one to save."""


class UnusableStateError(sqlite3.DatabaseError):
    """The file is damaged, of another program, or of a later version of this one."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, lock it for this process, check it, and migrate it to this version.

    Forgets the instances that were not saved for long. Raises `UnusableStateError` for a file that
    must be set aside, `StateLockedError`, and `OSError` or `sqlite3.Error` for all else.
    """
    if path.exists() and not path.is_file():
        message = "it is no regular file"
        raise OSError(message)
    if not path.parent.is_dir():
        message = f"the folder {path.parent} does not exist"
        raise OSError(message)
    create(path)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        prepare(connection)
    except sqlite3.Error as error:
        connection.close()
        if "locked" in str(error):
            message = (
                f"the state file {path} is in use by another process: "
                "stop that one, or set state.path to a file of its own"
            )
            raise StateLockedError(message) from None
        raise
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Lock, check and migrate the database of a connection, as `connect` does."""
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = _checked_version(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute("BEGIN EXCLUSIVE")
            _migrate(connection, version)
            _forget_instances(connection)
    except (sqlite3.OperationalError, UnusableStateError):
        raise
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # The second where SQLite quotes damaged text, which is not UTF-8 any more.
        message = f"is damaged: {error}"
        raise UnusableStateError(message) from error


def age_of(connection: sqlite3.Connection) -> float:
    """Return for how many seconds processes have used the file, up to its latest save.

    No wall clock is asked: one that is wrong must not make instances look old.
    """
    return _latest(connection, "saved_at_age") or 0.0


def latest_refresh(connection: sqlite3.Connection) -> float | None:
    """Return the time of the latest refresh of any instance (Unix seconds), or None."""
    return _latest(connection, "refreshed_at")


def instance_ids(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of the instances that have a state in the file."""
    return [row[0] for row in connection.execute("SELECT instance_id FROM instance_state")]


def read_state(connection: sqlite3.Connection, instance_id: str) -> InstanceState | None:
    """Return the state of an instance, or None if the file has none.

    Raises `UnusableStateError` for a row that no exporter wrote.
    """
    try:
        own = connection.execute(
            "SELECT state, refreshed_at FROM instance_state WHERE instance_id = ?", (instance_id,)
        ).fetchone()
        ids = connection.execute(
            "SELECT task_id, started_at FROM counted WHERE instance_id = ?", (instance_id,)
        )
        return own and decode(own[0], refreshed_at=own[1], counted=dict(ids))
    except (LookupError, TypeError, ValueError) as error:
        raise UnusableStateError(str(error)) from error


def write_changes(
    connection: sqlite3.Connection, changes: Mapping[str, Change], age: float
) -> None:
    """Commit the states of instances in one transaction; `age` is that of the file, in seconds."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for instance_id, (before, state) in changes.items():
            connection.execute(_SAVE, (instance_id, age, state.refreshed_at, encode(state)))
            if before is None:
                connection.execute("DELETE FROM counted WHERE instance_id = ?", (instance_id,))
            old, new = before.counted if before else {}, state.counted
            connection.executemany(
                "DELETE FROM counted WHERE instance_id = ? AND task_id = ?",
                [(instance_id, task_id) for task_id in old if task_id not in new],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO counted VALUES (?, ?, ?)",
                [(instance_id, *item) for item in new.items() if old.get(item[0]) != item[1]],
            )


def _latest(connection: sqlite3.Connection, column: str) -> float | None:
    """Return the largest number of a column; raise `UnusableStateError` if it holds others."""
    query = f"SELECT max({column}) FROM instance_state"  # noqa: S608 - a name of ours
    (found,) = connection.execute(query).fetchone()
    if found is None:
        return None
    if not isinstance(found, float) or not math.isfinite(found):
        message = f"{column} is no number"
        raise UnusableStateError(message)
    return found


def _checked_version(connection: sqlite3.Connection) -> int:
    """Return the version of the file, 0 for a new one; only read: it may be another program's."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and tables:
        message = "is a database of another program"
        raise UnusableStateError(message)
    if version > VERSION:
        message = f"is of a later version ({version}, this one knows {VERSION})"
        raise UnusableStateError(message)
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        message = "is damaged"
        raise UnusableStateError(message)
    return version


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    if version == VERSION:
        return
    scripts = MIGRATIONS[version - 1 :] if version else (CREATE,)
    for statement in ";".join(scripts).split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _forget_instances(connection: sqlite3.Connection) -> None:
    oldest = age_of(connection) - FORGET_AFTER
    connection.execute("DELETE FROM instance_state WHERE saved_at_age < ?", (oldest,))
    connection.execute(
        "DELETE FROM counted WHERE instance_id NOT IN (SELECT instance_id FROM instance_state)"
    )
