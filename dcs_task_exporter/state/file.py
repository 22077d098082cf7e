"""Counting's state on disk: one SQLite file, one transaction for each refresh.

What is saved is never behind what is shown: a state is committed before its counts appear. Where
that cannot be kept, because the disk is full, the file is removed, so that the next start begins
anew instead of showing counters that fall. What was saved is in memory as well: a file that is
deleted, replaced or cut is written anew. `docs/counting.md` says what users may rely on.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Protocol

from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.state.schema import (
    Change,
    age_of,
    instance_ids,
    latest_refresh,
    prepare,
    read_state,
    write_changes,
)
from dcs_task_exporter.tasks.counting import InstanceState, handed_over

RETRY_INTERVAL: Final = 10.0
"""Seconds after which a file that could not be used is tried again."""

REFRESH_TIME_INTERVAL: Final = 300.0
"""Seconds after which a state is saved though only the time of its refresh changed."""

KEPT_FOR: Final = 86_400.0
"""Seconds after which a state is saved in any case: who cannot be read is not forgotten."""

FORGET_AFTER: Final = 90 * 86_400.0
"""Seconds of running after which an instance that is not read any more is forgotten."""

LOG_FILE: Final = "-wal"
"""What is added to the name of a database for the file that has its latest commits."""

SIDE_FILES: Final = (LOG_FILE, "-shm", "-journal")
"""What SQLite keeps beside a database."""

_USE: Final = "cannot use the state file"
_SAVE: Final = "cannot save the state file"
_ASIDE: Final = "cannot use the state file, it was set aside"
_CHANGED: Final = "the state file was changed by another program, it is written anew"

MEMORY_ONLY: Final = "cannot be used; counts are kept in memory only"

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


@dataclass(frozen=True, slots=True)
class _Trace:
    """What tells a file from another at the same path, or from itself with less in it."""

    file: tuple[int, int]
    size: int

    @classmethod
    def of(cls, path: Path) -> _Trace | None:
        """Return that of the file at a path, None where there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116 - for every save; a Path takes twice as long
        except OSError:
            return None
        return cls((found.st_dev, found.st_ino), found.st_size)


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
        self._known: dict[str, InstanceState] = {}
        self._saved_at: dict[str, float] = {}
        self._left: tuple[_Trace | None, _Trace | None] = (None, None)
        self._born = monotonic()
        self._retry_at = monotonic() + RETRY_INTERVAL
        self._status = StateStatus(str(path))
        try:
            self._connection = self._opened()
            self._left = self._traces()
        except StateLockedError:
            raise
        except (OSError, sqlite3.Error) as error:
            self._fail(_USE, MEMORY_ONLY, error)

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
                return self._known.get(instance_id, InstanceState())
            try:
                state = read_state(self._connection, instance_id)
            except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
                self._begin_anew(error)
                return self._known.get(instance_id, InstanceState())
            if state is None:
                return InstanceState()
            self._known[instance_id] = state
            return state

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Commit what changed of an instance since it was saved last; log it when that fails."""
        with self._lock:
            before = self._known.get(instance_id)
            if self._is_ours():
                lasts = self._monotonic() - self._saved_at.get(instance_id, -math.inf) < KEPT_FOR
                if lasts and before is not None and not _worth_saving(before, state):
                    return
            self._known[instance_id] = state
            try:
                if self._connection is not None:
                    self._commit(self._connection, {instance_id: (before, state)})
                elif self._monotonic() >= self._retry_at:
                    self._write_anew()
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
            if self._connection is not None and not self._is_ours():
                try:
                    self._write_anew()
                except (OSError, sqlite3.Error, StateLockedError) as error:
                    self._give_up(error)
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
        try:
            aside = self._set_aside()
            self._note(_ASIDE, f"is damaged: {error}; it was set aside as {aside.name}")
            self._write_anew()
        except (OSError, sqlite3.Error, StateLockedError) as problem:
            self._fail(_USE, MEMORY_ONLY, problem)

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

    def _is_ours(self) -> bool:
        """Whether the file is as this process left it; if not, let go of it, and say so."""
        if self._connection is None:
            return False
        problem = _difference(self._left, self._traces())
        if not problem:
            return True
        self._note(_CHANGED, f"{problem} while it was in use")
        self._let_go(self._connection)
        return False

    def _let_go(self, connection: sqlite3.Connection) -> None:
        """Close what was the file, and keep in memory what it has of instances not asked for."""
        with contextlib.suppress(sqlite3.Error, LookupError, TypeError, ValueError):
            for instance_id in instance_ids(connection):
                if instance_id not in self._known:
                    state = read_state(connection, instance_id)
                    self._known[instance_id] = state or InstanceState()
        (file, log), (file_now, log_now) = self._left, self._traces()
        if not _is_same(file, file_now) and _is_same(log, log_now):
            # SQLite would take our latest commits for those of what is at the path now.
            self._beside(LOG_FILE).unlink(missing_ok=True)
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._connection = None
        self._retry_at = -math.inf

    def _write_anew(self) -> None:
        """Put a file at the path that has all that is known, and set aside what is there."""
        self._retry_at = self._monotonic() + RETRY_INTERVAL
        connection = self._opened()
        try:
            if instance_ids(connection):
                # Locked as it is, so that no other process counts on in it.
                aside = self._set_aside()
                self._note(_ASIDE, f"holds other counts; it was set aside as {aside.name}")
                connection.close()
                connection = self._connected()
            self._commit(connection, {key: (None, state) for key, state in self._known.items()})
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _commit(self, connection: sqlite3.Connection, changes: Mapping[str, Change]) -> None:
        write_changes(connection, changes, self._monotonic() - self._born)
        self._left = self._traces()
        self._saved_at.update(dict.fromkeys(changes, self._monotonic()))
        if self._status.problem:
            fields = {"state": self._path}
            logger.info("counts are saved to the state file again", extra={"fields": fields})
        self._status = replace(self._status, problem="", last_save=self._now())

    def _give_up(self, error: Exception) -> None:
        """Go on in memory, and leave no file behind that knows less than was shown."""
        what = "cannot be saved to; counts are kept in memory only"
        if self._connection is not None:
            is_ours = _is_same(self._left[0], _Trace.of(self._path))
            self._let_go(self._connection)
            try:
                if is_ours:
                    for suffix in ("", *SIDE_FILES):
                        self._beside(suffix).unlink(missing_ok=True)
            except OSError:
                what += ", and the file must be removed before the next start: it is behind"
        self._retry_at = self._monotonic() + RETRY_INTERVAL
        self._fail(_SAVE, what, error)

    def _traces(self) -> tuple[_Trace | None, _Trace | None]:
        """Return those of the file and of its log."""
        return _Trace.of(self._path), _Trace.of(self._beside(LOG_FILE))

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _set_aside(self) -> Path:
        moment = datetime.fromtimestamp(self._now(), tz=timezone.utc)
        stem = f"{self._path.name}.set-aside-{moment:%Y%m%dT%H%M%SZ}"
        aside, number = self._path.with_name(stem), 1
        while aside.exists():
            number += 1
            aside = self._path.with_name(f"{stem}-{number}")
        self._path.rename(aside)
        for suffix in SIDE_FILES:
            side = self._beside(suffix)
            if side.exists():
                side.rename(aside.with_name(aside.name + suffix))
        return aside

    def _fail(self, message: str, what: str, error: Exception) -> None:
        self._note(message, f"{what}: {getattr(error, 'strerror', None) or error}")

    def _note(self, message: str, problem: str) -> None:
        """Count a problem with the file, and log it when it is another than before."""
        if problem != self._status.problem:
            fields = {"state": self._path, "problem": problem}
            logger.error(message, extra={"fields": fields})
        self._status = replace(self._status, problem=problem, errors=self._status.errors + 1)


def _difference(
    left: tuple[_Trace | None, _Trace | None], found: tuple[_Trace | None, _Trace | None]
) -> str:
    """Say what happened to a file and its log since they were left, or nothing."""
    names = ("", "its latest part, the -wal file, ")
    for name, before, now in zip(names, left, found, strict=True):
        if before == now or before is None:
            continue
        if now is None:
            return f"{name}was deleted"
        if now.file != before.file:
            return f"{name}was replaced"
        return f"{name}was cut" if now.size < before.size else f"{name}was written to by another"
    return ""


def _is_same(left: _Trace | None, found: _Trace | None) -> bool:
    """Whether there is a file now that is the one that was left."""
    return left is not None and found is not None and left.file == found.file


def _worth_saving(before: InstanceState, state: InstanceState) -> bool:
    if replace(before, refreshed_at=state.refreshed_at) != state:
        return True
    # A clock that went back counts as well: a time that is too late must not stay in the file.
    return abs((state.refreshed_at or 0.0) - (before.refreshed_at or 0.0)) >= REFRESH_TIME_INTERVAL
