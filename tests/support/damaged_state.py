"""A state file that SQLite can open and finds damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

DAMAGE = "NULL value in instance_state.saved_at_age"
"""What SQLite says of it."""


def with_a_gap(path: Path) -> None:
    """Put a row without an age into a state file, where its table allows none."""
    for change in (("REAL NOT NULL", "REAL         "), ("REAL         ", "REAL NOT NULL")):
        with closing(sqlite3.connect(path)) as connection, connection:
            if change[0].endswith("NULL"):
                connection.execute("DELETE FROM instance_state")
            else:
                connection.execute("INSERT INTO instance_state VALUES ('i', NULL, NULL, '{}')")
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?)", change)
