"""What a state file holds and what is wrong with it, also while an exporter uses it.

The exporter locks its file for as long as it runs. So the file is copied without asking for the
lock, and SQLite opens the copy: whatever it finds there, the file itself stays as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.state.database import (
    UnusableStateError,
    instance_ids,
    prepare,
    read_state,
)
from dcs_task_exporter.tasks.instance_state import InstanceState

ATTEMPTS: Final = 100
"""Copies that may be spoilt by the exporter, which writes meanwhile."""

BESIDE: Final = ("-wal", "-journal")
"""The suffixes of the files that hold commits beside a database."""

MAX_PROBLEMS: Final = 20
"""Most places of a damaged database that are named."""


class StateUnreadableError(ExporterError):
    """The state file cannot be copied: the message names it, and the reason."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The states in a file by instance, the version of its schema, and what is wrong with it.

    The version is 0 for a file that no exporter has used yet.
    """

    version: int
    states: Mapping[str, InstanceState]
    problems: tuple[str, ...]


def inspect(path: Path) -> Inspection:
    """Return what is in a state file, and leave the file as it is.

    Raises `StateUnreadableError` for a file that cannot be read at all.
    """
    version = 0
    with _copy_of(path) as copy, closing(sqlite3.connect(copy)) as connection:
        try:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if damage := _damage(connection):
                return Inspection(version, {}, damage)
            prepare(connection)
            return _inspected(connection, version)
        except UnusableStateError as error:
            return Inspection(version, {}, (str(error),))
        except sqlite3.Error as error:
            return Inspection(version, {}, (f"cannot be used: {error}",))


def _damage(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})").fetchall()
    return tuple(f"is damaged: {row[0]}" for row in rows if row[0] != "ok")


def _inspected(connection: sqlite3.Connection, version: int) -> Inspection:
    states, problems = {}, []
    for instance_id in sorted(instance_ids(connection)):
        try:
            states[instance_id] = read_state(connection, instance_id) or InstanceState()
        except sqlite3.Error as error:
            problems.append(f"the state of instance {instance_id} cannot be read: {error}")
    return Inspection(version, states, tuple(problems))


@contextmanager
def _copy_of(path: Path) -> Iterator[Path]:
    """Yield the path of a copy, which is deleted afterwards."""
    contents = _contents(path)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="dcs-task-exporter-"))
            copy = Path(folder) / path.name
            for suffix, content in contents.items():
                copy.with_name(copy.name + suffix).write_bytes(content)
        except OSError as error:
            message = f"cannot copy the state file {path} to look into it: {error.strerror}"
            raise StateUnreadableError(message) from error
        yield copy


def _contents(path: Path) -> Mapping[str, bytes]:
    """Return the content of each file of a database, all as they are at one moment."""
    try:
        before: Mapping[str, bytes] | None = None
        for _ in range(ATTEMPTS):
            now = _read(path)
            if now == before:
                return now
            before = now
    except OSError as error:
        message = f"cannot read the state file {path}: {error.strerror}"
        raise StateUnreadableError(message) from error
    message = f"cannot read the state file {path}: it changes all the time; try again"
    raise StateUnreadableError(message)


def _read(path: Path) -> Mapping[str, bytes]:
    found = {"": path.read_bytes()}
    for suffix in BESIDE:
        # The exporter deletes them when it stops.
        with suppress(FileNotFoundError):
            found[suffix] = path.with_name(path.name + suffix).read_bytes()
    return found
