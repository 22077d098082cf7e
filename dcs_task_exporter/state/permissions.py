"""Who may read and change the state file, by its mode and that of its folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

MODE: Final = 0o600
"""The mode of a new state file, and of the files that SQLite keeps beside it."""


def create(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none.

    SQLite itself would make one that everybody may read; of an empty one it makes a database, and
    gives the files beside it the same mode. Raises `OSError`.
    """
    # Closing a file that exists would release the locks that this process has on it.
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, MODE))


def exposures(path: Path) -> tuple[str, ...]:
    """Return what every user of this machine may do with a state file, and how to end it.

    Its group may read and change it: a volume of Kubernetes needs that. A file that is not there
    has no exposure of its own. Raises `OSError`.
    """
    if os.name != "posix":  # there the mode says nothing
        return ()
    found = []
    mode = path.stat().st_mode if path.exists() else 0
    rights = {stat.S_IROTH: "read", stat.S_IWOTH: "change"}
    held = " and ".join(word for bit, word in rights.items() if mode & bit)
    if held:
        found.append(f"every user of this machine may {held} it: chmod o-rw {path}")
    folder = path.absolute().parent
    if folder.stat().st_mode & stat.S_IWOTH:
        found.append(
            f"every user of this machine may put files into its folder {folder}: "
            "give the state file a folder of its own"
        )
    return tuple(found)
