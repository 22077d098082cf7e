"""Counting's state on disk: one SQLite file, one transaction for each refresh.

What is saved is never behind what is shown: a state is committed before its counts appear. Where
that cannot be kept, because the disk is full, the file is removed, so that the next start begins
anew instead of showing counters that fall. `docs/counting.md` says what users may rely on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Protocol

from dcs_task_exporter.counting import InstanceState, handed_over
from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.state_schema import (
    age_of,
    clear,
    latest_refresh,
    prepare,
    read_state,
    write_changes,
)

RETRY_INTERVAL: Final = 10.0
"""Seconds after which a file that could not be used is tried again."""

REFRESH_TIME_INTERVAL: Final = 300.0
"""Seconds after which a state is saved though only the time of its refresh changed."""

KEPT_FOR: Final = 86_400.0
"""Seconds after which a state is saved in any case: who cannot be read is not forgotten."""

FORGET_AFTER: Final = 90 * 86_400.0
"""Seconds of running after which an instance that is not read any more is forgotten."""

SIDE_FILES: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""

_USE: Final = "cannot use the state file"
_SAVE: Final = "cannot save the state file"
_ASIDE: Final = "cannot use the state file, it was set aside"

logger = logging.getLogger(__name__)


class StateLockedError(ExporterError):
    """Another process uses the state file."""


@dataclass(frozen=True, slots=True)
class StateStatus:
    """Whether counts are saved; `last_save` is a Unix time, `problem` is empty when all is well."""

    path: str
    problem: str = ""
    last_save: float | None = None
    errors: int = 0


class Journal(Protocol):
    """Where the refresher keeps what was counted."""

    def load(self, instance_id: str) -> InstanceState:
        """Return what was saved of an instance, or an empty state."""
        ...

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Save the state of an instance; failing to is the journal's own affair."""
        ...


class NoJournal:
    """Keeps nothing: counts live as long as the process."""

    def latest_refresh(self) -> float | None:
        """Return nothing."""
        return None

    def load(self, instance_id: str) -> InstanceState:
        """Return an empty state."""
        del instance_id
        return InstanceState()

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Do nothing."""

    def hand_over(self, instance_id: str) -> None:
        """Do nothing."""


class StateFile:
    """The state of all instances in one file, which no other process may use meanwhile.

    Raises `StateLockedError` when another one does. A file that cannot be used otherwise costs
    durability only: `status` tells, the log too, and it is tried again.
    """

    def __init__(
        self, path: Path, *, now: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._path = path
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._saved: dict[str, InstanceState] = {}
        self._saved_at: dict[str, float] = {}
        self._born = monotonic()
        self._retry_at = monotonic() + RETRY_INTERVAL
        self._status = StateStatus(str(path))
        try:
            self._connection = self._opened()
        except StateLockedError:
            raise
        except (OSError, sqlite3.Error) as error:
            self._fail(_USE, "cannot be used; counts are kept in memory only", error)

    @property
    def status(self) -> StateStatus:
        """Whether counts are saved."""
        with self._lock:
            return self._status

    def latest_refresh(self) -> float | None:
        """Return the time of the latest refresh that was saved (Unix seconds), if one was."""
        with self._lock:
            try:
                return latest_refresh(self._connection) if self._connection is not None else None
            except sqlite3.Error as error:
                self._begin_anew(error)
                return None

    def load(self, instance_id: str) -> InstanceState:
        """Return what was saved of an instance, or an empty state."""
        with self._lock:
            if self._connection is None:
                return InstanceState()
            try:
                state = read_state(self._connection, instance_id)
            except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
                self._begin_anew(error)
                return InstanceState()
            if state is None:
                return InstanceState()
            self._saved[instance_id] = state
            return state

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Commit what changed of an instance since it was saved last; log it when that fails."""
        with self._lock:
            before = self._saved.get(instance_id)
            lasts = self._monotonic() - self._saved_at.get(instance_id, -math.inf) < KEPT_FOR
            if lasts and before is not None and not _worth_saving(before, state):
                return
            try:
                connection = self._connection or self._reopened()
                if connection is not None:
                    age = self._monotonic() - self._born
                    write_changes(connection, instance_id, before, state, age)
                    self._saved_at[instance_id] = self._monotonic()
                    self._succeed(instance_id, state)
            except (OSError, sqlite3.Error, StateLockedError) as error:
                self._give_up(error)

    def hand_over(self, instance_id: str) -> None:
        """Note that another exporter reads an instance, if anything is saved of it."""
        state = self.load(instance_id)
        if state.baseline_at is not None:
            self.save(instance_id, handed_over(state))

    def close(self) -> None:
        """Close the file; nothing is saved after that."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._retry_at = float("inf")

    def _opened(self) -> sqlite3.Connection:
        """Open the file; set one aside that is damaged, foreign, of a later version, unusable.

        A file that stays behind while counting goes on without it would make the counters jump
        when a later start finds it in order.
        """
        try:
            return self._connected()
        except sqlite3.Error as error:
            if not self._path.is_file():
                raise
            aside = self._set_aside()
            self._note(_ASIDE, f"{error}; it was set aside as {aside.name}, counting begins anew")
            return self._connected()

    def _begin_anew(self, error: Exception) -> None:
        """Set aside a file whose rows make no sense, although SQLite can read it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._saved.clear()
        try:
            aside = self._set_aside()
            self._note(_ASIDE, f"is damaged: {error}; it was set aside as {aside.name}")
            self._connection = self._connected()
        except (OSError, sqlite3.Error, StateLockedError) as problem:
            self._fail(_USE, "cannot be used; counts are kept in memory only", problem)

    def _connected(self) -> sqlite3.Connection:
        if self._path.exists() and not self._path.is_file():
            message = "it is no regular file"
            raise OSError(message)
        if not self._path.parent.is_dir():
            message = f"the folder {self._path.parent} does not exist"
            raise OSError(message)
        connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            prepare(connection, forget_after=FORGET_AFTER)
            self._born = self._monotonic() - age_of(connection)
        except sqlite3.Error as error:
            connection.close()
            if "locked" in str(error):
                message = (
                    f"the state file {self._path} is in use by another process: "
                    "stop that one, or set state.path to a file of its own"
                )
                raise StateLockedError(message) from None
            raise
        return connection

    def _reopened(self) -> sqlite3.Connection | None:
        """Try again to get a file, now and then; what it holds is not what was shown since."""
        if self._monotonic() < self._retry_at:
            return None
        self._retry_at = self._monotonic() + RETRY_INTERVAL
        self._connection = self._opened()
        clear(self._connection)
        return self._connection

    def _give_up(self, error: Exception) -> None:
        """Go on in memory, and leave no file behind that knows less than was shown."""
        what = "cannot be saved to; counts are kept in memory only"
        self._saved.clear()
        self._retry_at = self._monotonic() + RETRY_INTERVAL
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            try:
                for suffix in ("", *SIDE_FILES):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            except OSError:
                what += ", and the file must be removed before the next start: it is behind"
        self._fail(_SAVE, what, error)

    def _set_aside(self) -> Path:
        moment = datetime.fromtimestamp(self._now(), tz=timezone.utc)
        stem = f"{self._path.name}.set-aside-{moment:%Y%m%dT%H%M%SZ}"
        aside, number = self._path.with_name(stem), 1
        while aside.exists():
            number += 1
            aside = self._path.with_name(f"{stem}-{number}")
        self._path.rename(aside)
        for suffix in SIDE_FILES:
            side = self._path.with_name(self._path.name + suffix)
            if side.exists():
                side.rename(aside.with_name(aside.name + suffix))
        return aside

    def _succeed(self, instance_id: str, state: InstanceState) -> None:
        self._saved[instance_id] = state
        if self._status.problem:
            logger.info(
                "counts are saved to the state file again", extra={"fields": {"state": self._path}}
            )
        self._status = replace(self._status, problem="", last_save=self._now())

    def _fail(self, message: str, what: str, error: Exception) -> None:
        self._note(message, f"{what}: {getattr(error, 'strerror', None) or error}")

    def _note(self, message: str, problem: str) -> None:
        """Count a problem with the file, and log it when it is another than before."""
        if problem != self._status.problem:
            fields = {"state": self._path, "problem": problem}
            logger.error(message, extra={"fields": fields})
        self._status = replace(self._status, problem=problem, errors=self._status.errors + 1)


def _worth_saving(before: InstanceState, state: InstanceState) -> bool:
    if replace(before, refreshed_at=state.refreshed_at) != state:
        return True
    # A clock that went back counts as well: a time that is too late must not stay in the file.
    return abs((state.refreshed_at or 0.0) - (before.refreshed_at or 0.0)) >= REFRESH_TIME_INTERVAL
