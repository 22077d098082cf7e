"""The files of a SQLite database, and whether somebody else touched them while it is open."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

_LOG: Final = "-wal"
"""The suffix of the file that holds the latest commits of a database."""

_SUFFIXES: Final = ("", _LOG, "-shm", "-journal")
"""The suffixes of a database and of the files that SQLite keeps beside it."""


class DatabaseFiles:
    """A database at a path, and the files that SQLite keeps beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = self._beside(_LOG)
        self._noted: tuple[os.stat_result | None, os.stat_result | None] = (None, None)

    def note(self) -> None:
        """Remember the files as they are now, after a commit of our own."""
        self._noted = _found(self.path), _found(self._log)

    def change(self) -> str:
        """Return how the files changed since they were noted, or the empty text."""
        database, log = self._noted
        change = _change(database, self.path)
        if change or not (log_change := _change(log, self._log)):
            return change
        return f"its latest part, the -wal file, {log_change}"

    def is_noted(self) -> bool:
        """Whether the database at the path is still the file that was noted."""
        return _is_same(self._noted[0], _found(self.path))

    def drop_stale_log(self) -> None:
        """Remove the noted log from beside a database that is another file by now.

        SQLite would apply it to that one.
        """
        if _is_same(self._noted[1], _found(self._log)) and not self.is_noted():
            self._log.unlink(missing_ok=True)

    def set_aside(self, at: float) -> Path:
        """Rename the files at a moment (Unix seconds), and return the new path of the database."""
        moment = datetime.fromtimestamp(at, tz=timezone.utc)
        stem = f"{self.path.name}.set-aside-{moment:%Y%m%dT%H%M%SZ}"
        aside, number = self.path.with_name(stem), 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{stem}-{number}")
        for suffix in _SUFFIXES:
            if not suffix or self._beside(suffix).exists():
                self._beside(suffix).rename(aside.with_name(aside.name + suffix))
        return aside

    def remove(self) -> None:
        """Delete the files, so that no power loss brings them back."""
        for suffix in _SUFFIXES:
            self._beside(suffix).unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder cannot be flushed
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _found(path: Path) -> os.stat_result | None:
    """Return the status of the file at a path, or None where there is none."""
    try:
        return os.stat(path)  # noqa: PTH116 - for every save; a Path takes twice as long
    except OSError:
        return None


def _change(before: os.stat_result | None, path: Path) -> str:
    """Return how a file changed since it was noted, or the empty text."""
    now = _found(path)
    if before is None:
        return ""
    if now is None:
        return "was deleted"
    if not os.path.samestat(before, now):
        return "was replaced"
    if now.st_size < before.st_size:
        return "was cut"
    return "was written to by another" if now.st_size > before.st_size else ""


def _is_same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is not None and other is not None and os.path.samestat(one, other)
