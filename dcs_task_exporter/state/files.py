"""The files of a SQLite database, and whether somebody else touched them while it is open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

_LOG: Final = "-wal"
"""The suffix of the file that holds the latest commits of a database."""

_SUFFIXES: Final = ("", _LOG, "-shm", "-journal")
"""The suffixes of a database and of the files that SQLite keeps beside it."""


@dataclass(frozen=True, slots=True)
class _Trace:
    """The identity (device and inode) and the size of a file."""

    file: tuple[int, int]
    size: int

    @classmethod
    def of(cls, path: Path) -> _Trace | None:
        """Return the trace of the file at a path, or None where there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116 - for every save; a Path takes twice as long
        except OSError:
            return None
        return cls((found.st_dev, found.st_ino), found.st_size)

    def is_of(self, other: _Trace | None) -> bool:
        """Whether both are traces of one file."""
        return other is not None and self.file == other.file


class DatabaseFiles:
    """A database at a path, and the files that SQLite keeps beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = self._beside(_LOG)
        self._noted: tuple[_Trace | None, _Trace | None] = (None, None)

    def note(self) -> None:
        """Remember the files as they are now, after a commit of our own."""
        self._noted = self._traces()

    def change(self) -> str:
        """Return how the files changed since they were noted, or the empty text."""
        names = ("", "its latest part, the -wal file, ")
        for name, before, now in zip(names, self._noted, self._traces(), strict=True):
            if before == now or before is None:
                continue
            if now is None:
                return f"{name}was deleted"
            if not now.is_of(before):
                return f"{name}was replaced"
            return (
                f"{name}was cut" if now.size < before.size else f"{name}was written to by another"
            )
        return ""

    def is_noted(self) -> bool:
        """Whether the database at the path is still the file that was noted."""
        noted = self._noted[0]
        return noted is not None and noted.is_of(_Trace.of(self.path))

    def drop_stale_log(self) -> None:
        """Remove the noted log from beside a database that is another file by now.

        SQLite would apply it to that one.
        """
        log = self._noted[1]
        if log is not None and log.is_of(_Trace.of(self._log)) and not self.is_noted():
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
        """Delete the files."""
        for suffix in _SUFFIXES:
            self._beside(suffix).unlink(missing_ok=True)

    def _traces(self) -> tuple[_Trace | None, _Trace | None]:
        return _Trace.of(self.path), _Trace.of(self._log)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)
