"""Counting's state on disk: one SQLite file, one transaction for each refresh.

A state is committed before its counts are exposed, so the file is never behind the metrics. Where
that cannot be kept, because the disk is full, the file is removed: the next start then begins anew
instead of exposing counters that fall. All that was saved is in memory as well, so a file that is
deleted, replaced or cut is written anew. `docs/counting.md` has the promises to users.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import StateLockedError
from dcs_task_exporter.state.database import (
    Change,
    age_of,
    connect,
    instance_ids,
    latest_refresh,
    read_state,
    write_changes,
)
from dcs_task_exporter.state.files import DatabaseFiles
from dcs_task_exporter.state.permissions import exposures
from dcs_task_exporter.tasks.instance_state import InstanceState, handed_over

RETRY_INTERVAL: Final = 10.0
"""Seconds after which a file that could not be used is tried again."""

REFRESH_TIME_INTERVAL: Final = 300.0
"""Seconds after which a state is saved though only the time of its refresh changed."""

KEPT_FOR: Final = 86_400.0
"""Seconds after which an unchanged state is saved too: an instance that fails is not forgotten."""

_USE: Final = "cannot use the state file"
_SAVE: Final = "cannot save the state file"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StateStatus:
    """Whether counts are saved; `last_save` is a Unix time, `problem` is empty when all is well."""

    path: str
    problem: str = ""
    last_save: float | None = None
    errors: int = 0


class Journal:
    """A place for the states of instances. This one keeps nothing: counts live with the process."""

    def latest_refresh(self) -> float | None:
        """Return the time of the latest saved refresh (Unix seconds), or None."""
        return None

    def load(self, instance_id: str) -> InstanceState:
        """Return the saved state of an instance, or an empty one."""
        del instance_id
        return InstanceState()

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Save the state of an instance; a journal handles its own failures."""

    def hand_over(self, instance_id: str) -> None:
        """Note that another exporter reads an instance from now on, if it has a saved state."""


class StateFile(Journal):
    """The states of all instances in one file, locked against other processes.

    Raises `StateLockedError` when another process has it. Any other failure costs durability only:
    it is logged and shown by `status`, and the file is tried again.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._files = DatabaseFiles(path)
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._known: dict[str, InstanceState] = {}
        self._saved_at: dict[str, float] = {}
        self._born = clock.monotonic()
        self._retry_at = clock.monotonic() + RETRY_INTERVAL
        self.status = StateStatus(str(path))
        try:
            self._take(self._open())
            self._warn_of_exposures()
        except (OSError, sqlite3.Error) as error:
            self._fail(_USE, "cannot be used", error)

    def latest_refresh(self) -> float | None:
        """Return the time of the latest refresh in the file (Unix seconds), or None."""
        with self._lock:
            try:
                return latest_refresh(self._connection) if self._connection else None
            except sqlite3.Error as error:
                self._replace_damaged(error)
                return None

    def load(self, instance_id: str) -> InstanceState:
        """Return the saved state of an instance, or an empty one."""
        with self._lock:
            try:
                if self._connection and (state := read_state(self._connection, instance_id)):
                    self._known[instance_id] = state
            except sqlite3.Error as error:
                self._replace_damaged(error)
            return self._known.get(instance_id, InstanceState())

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Commit the state of an instance if it changed; log a failure."""
        with self._lock:
            if self._is_ours() and not self._is_worth_saving(instance_id, state):
                return
            before = self._known.get(instance_id)
            self._known[instance_id] = state
            if self._connection is not None:
                self._commit(self._connection, {instance_id: (before, state)})
            elif self._clock.monotonic() >= self._retry_at:
                self._write_anew()

    def hand_over(self, instance_id: str) -> None:
        """Note that another exporter reads an instance from now on, if it has a saved state."""
        state = self.load(instance_id)
        if state.baseline_at is not None:
            self.save(instance_id, handed_over(state))

    def close(self) -> None:
        """Close the file; nothing is saved after that."""
        with self._lock:
            if self._connection is not None and not self._is_ours():
                self._write_anew()
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._retry_at = math.inf

    def _is_worth_saving(self, instance_id: str, state: InstanceState) -> bool:
        before = self._known.get(instance_id)
        saved_at = self._saved_at.get(instance_id, -math.inf)
        if before is None or self._clock.monotonic() - saved_at >= KEPT_FOR:
            return True
        if replace(before, refreshed_at=state.refreshed_at) != state:
            return True
        # A clock that went back counts as well: a time that is too late must not stay in the file.
        passed = (state.refreshed_at or 0.0) - (before.refreshed_at or 0.0)
        return abs(passed) >= REFRESH_TIME_INTERVAL

    def _open(self) -> sqlite3.Connection:
        """Open the file; set aside one that is damaged, foreign, of a later version, or unusable.

        If it stayed behind while counting goes on without it, the counters would jump when a later
        start finds it in order.
        """
        try:
            return connect(self._files.path)
        except sqlite3.Error as error:
            if not self._files.path.is_file():
                raise
            self._set_aside(str(error), ", counting begins anew")
            return connect(self._files.path)

    def _take(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._born = self._clock.monotonic() - age_of(connection)
        self._files.note()

    def _warn_of_exposures(self) -> None:
        for problem in exposures(self._files.path):
            fields = {"state": self._files.path, "problem": problem}
            logger.warning("the state file is open to other users", extra={"fields": fields})

    def _is_ours(self) -> bool:
        """Whether the file is as this process left it; if not, log that and close it."""
        if self._connection is None:
            return False
        change = self._files.change()
        if change:
            message = "the state file was changed by another program, it is written anew"
            self._note(message, f"{change} while it was in use")
            self._let_go(self._connection)
        return not change

    def _let_go(self, connection: sqlite3.Connection) -> None:
        """Close the file, after reading the states that were never asked for into memory."""
        with contextlib.suppress(sqlite3.Error):
            for instance_id in instance_ids(connection):
                if instance_id not in self._known:
                    state = read_state(connection, instance_id)
                    self._known[instance_id] = state or InstanceState()
        self._files.drop_stale_log()
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._connection = None
        self._retry_at = -math.inf

    def _replace_damaged(self, error: sqlite3.Error) -> None:
        """Set aside a file whose rows make no sense, although SQLite can open it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            self._set_aside(f"is damaged: {error}")
        except OSError as problem:
            self._fail(_USE, "cannot be used", problem)
        else:
            self._write_anew()

    def _write_anew(self) -> None:
        """Write all known states to a new file at the path; set aside the one that is there."""
        self._retry_at = self._clock.monotonic() + RETRY_INTERVAL
        try:
            connection = self._open()
            if instance_ids(connection):
                # Renamed while it is locked, so that no other process goes on counting in it.
                with contextlib.closing(connection):
                    self._set_aside("holds other counts")
                connection = self._open()
            self._take(connection)
        except (OSError, sqlite3.Error, StateLockedError) as error:
            self._fail(_SAVE, "cannot be saved to", error)
        else:
            self._commit(connection, {key: (None, state) for key, state in self._known.items()})

    def _commit(self, connection: sqlite3.Connection, changes: Mapping[str, Change]) -> None:
        now = self._clock.monotonic()
        try:
            write_changes(connection, changes, now - self._born)
        except (OSError, sqlite3.Error) as error:
            self._give_up(connection, error)
            return
        self._files.note()
        self._saved_at.update(dict.fromkeys(changes, now))
        if self.status.problem:
            fields = {"state": self._files.path}
            logger.info("counts are saved to the state file again", extra={"fields": fields})
        self.status = replace(self.status, problem="", last_save=self._clock.now())

    def _give_up(self, connection: sqlite3.Connection, error: Exception) -> None:
        """Go on in memory, and leave no file behind that is older than the exposed counts."""
        problem = "cannot be saved to"
        is_ours = self._files.is_noted()
        self._let_go(connection)
        try:
            if is_ours:
                self._files.remove()
        except OSError:
            problem += ", and must be removed before the next start because it is behind"
        self._retry_at = self._clock.monotonic() + RETRY_INTERVAL
        self._fail(_SAVE, problem, error)

    def _set_aside(self, problem: str, outcome: str = "") -> None:
        aside = self._files.set_aside(self._clock.now())
        told = f"{problem}; it was set aside as {aside.name}{outcome}"
        self._note("cannot use the state file, it was set aside", told)

    def _fail(self, message: str, problem: str, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        self._note(message, f"{problem}; counts are kept in memory only: {reason}")

    def _note(self, message: str, problem: str) -> None:
        """Count a problem with the file, and log it unless it is the one before."""
        if problem != self.status.problem:
            fields = {"state": self._files.path, "problem": problem}
            logger.error(message, extra={"fields": fields})
        self.status = replace(self.status, problem=problem, errors=self.status.errors + 1)
