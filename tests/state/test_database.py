"""The database of the state file: what is refused, what is written, and what is forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dcs_task_exporter.errors import StateLockedError
from dcs_task_exporter.state.database import (
    FORGET_AFTER,
    UnusableStateError,
    age_of,
    connect,
    instance_ids,
    latest_refresh,
    read_state,
    write_changes,
)
from dcs_task_exporter.state.schema import APPLICATION_ID, VERSION
from dcs_task_exporter.tasks.instance_state import InstanceState
from tests.support.damaged_state import with_a_gap

DAY = 86_400.0
STATE = InstanceState(baseline_at=1.0, refreshed_at=2.0, counted={"t1": 3.0, "t2": 4.0})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as connection:
        yield connection


def counted(connection: sqlite3.Connection) -> list[tuple[str, str, float]]:
    """Return the rows of the counted tasks."""
    return sorted(connection.execute("SELECT instance_id, task_id, started_at FROM counted"))


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_file(path: Path) -> None:
    """A new file is of this version, and empty."""
    with opened(path) as connection:
        found = pragma(connection, "application_id"), pragma(connection, "user_version")

        assert found == (APPLICATION_ID, VERSION)
        assert (instance_ids(connection), age_of(connection)) == ([], 0.0)
        assert latest_refresh(connection) is None
        assert read_state(connection, "i0") is None


def test_how_it_is_written(path: Path) -> None:
    """Commits go through a log that is synced each time, by one process that waits for none."""
    names = ("journal_mode", "synchronous", "locking_mode", "busy_timeout")
    with opened(path) as connection:
        found = [pragma(connection, it) for it in names]

    assert found == ["wal", 2, "exclusive", 0]


def test_one_process(path: Path) -> None:
    """A file that is open cannot be opened again; the error says what to change."""
    with opened(path), pytest.raises(StateLockedError) as raised:
        connect(path)

    assert str(raised.value) == (
        f"the state file {path} is in use by another process: "
        "stop that one, or set state.path to a file of its own"
    )


def test_a_folder_at_the_path(path: Path) -> None:
    """A folder is no state file."""
    path.mkdir()
    with pytest.raises(OSError, match=r"it is no regular file"):
        connect(path)


def test_no_folder(path: Path) -> None:
    """The folder of the file is not made: its path may be wrong."""
    with pytest.raises(OSError, match=r"the folder .*/a does not exist"):
        connect(path.parent / "a" / "state.db")


def test_another_program(path: Path) -> None:
    """A database of another program is refused, and not changed."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(UnusableStateError, match="is a database of another program"):
        connect(path)

    assert path.read_bytes() == before


def test_a_later_version(path: Path) -> None:
    """A file of a later version is refused."""
    with opened(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    told = rf"is of a later version \({VERSION + 1}, this one knows {VERSION}\)"
    with pytest.raises(UnusableStateError, match=told):
        connect(path)


def test_no_database(path: Path) -> None:
    """A file that is no database is told as damaged."""
    path.write_bytes(b"x" * 4096)
    with pytest.raises(UnusableStateError, match="is damaged: "):
        connect(path)


def test_states_come_back(path: Path) -> None:
    """What was committed is there when the file is opened again."""
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE), "i1": (None, InstanceState())}, 5.0)
    with opened(path) as connection:
        assert sorted(instance_ids(connection)) == ["i0", "i1"]
        assert read_state(connection, "i0") == STATE
        assert read_state(connection, "i1") == InstanceState()
        assert (age_of(connection), latest_refresh(connection)) == (5.0, 2.0)


def test_each_instance_has_its_own_ids(path: Path) -> None:
    """The ids of one instance are not those of another."""
    other = replace(STATE, counted={"t1": 9.0})
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE), "i1": (None, other)}, 0.0)
        write_changes(connection, {"i1": (other, replace(other, counted={}))}, 0.0)

        assert counted(connection) == [("i0", "t1", 3.0), ("i0", "t2", 4.0)]


def test_only_what_changed_is_written(path: Path) -> None:
    """Of the ids only those are written that came, left or have another time."""
    after = replace(STATE, counted={"t1": 3.0, "t2": 5.0, "t3": 6.0})
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE)}, 0.0)
        connection.execute("UPDATE counted SET started_at = 99.0 WHERE task_id = 't1'")
        write_changes(connection, {"i0": (STATE, after)}, 0.0)
        found = counted(connection)
        write_changes(connection, {"i0": (after, replace(after, counted={"t3": 6.0}))}, 0.0)

        assert found == [("i0", "t1", 99.0), ("i0", "t2", 5.0), ("i0", "t3", 6.0)]
        assert counted(connection) == [("i0", "t3", 6.0)]


def test_an_instance_that_is_written_anew(path: Path) -> None:
    """A state that is not known to be in the file replaces all that is there of its instance."""
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE), "i1": (None, STATE)}, 0.0)
        write_changes(connection, {"i0": (None, replace(STATE, counted={"t9": 1.0}))}, 0.0)

        assert counted(connection) == [("i0", "t9", 1.0), ("i1", "t1", 3.0), ("i1", "t2", 4.0)]


def test_all_or_nothing(path: Path) -> None:
    """Where one state cannot be written, none is."""
    broken = replace(STATE, counted={"t9": object()})  # type: ignore[dict-item]
    with opened(path) as connection:
        with pytest.raises(sqlite3.Error):
            write_changes(connection, {"i0": (None, STATE), "i1": (None, broken)}, 0.0)

        assert instance_ids(connection) == []


def test_the_age_is_that_of_the_latest_save(path: Path) -> None:
    """The age and the latest refresh are the largest of all instances."""
    early, late = replace(STATE, refreshed_at=2.0), replace(STATE, refreshed_at=9.0)
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, late)}, 5.0)
        write_changes(connection, {"i1": (None, early)}, 6.0)
        write_changes(connection, {"i1": (early, early)}, 7.0)

        assert (age_of(connection), latest_refresh(connection)) == (7.0, 9.0)


@pytest.mark.parametrize(("age", "known"), [(90 * DAY, ["i0", "i1"]), (90 * DAY + 1, ["i1"])])
def test_what_was_not_saved_for_90_days_is_forgotten(
    path: Path, age: float, known: list[str]
) -> None:
    """An instance that was not saved for 90 days of the file's age is forgotten with its ids."""
    assert FORGET_AFTER == 90 * DAY
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE)}, 0.0)
        write_changes(connection, {"i1": (None, STATE)}, age)
    with opened(path) as connection:
        assert sorted(instance_ids(connection)) == known
        assert sorted({row[0] for row in counted(connection)}) == known


@pytest.mark.parametrize("column", ["saved_at_age", "refreshed_at"])
@pytest.mark.parametrize("value", ["x", b"x", float("inf")])
def test_a_column_without_sense(path: Path, column: str, value: object) -> None:
    """A time that is no number is told with its column."""
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE)}, 0.0)
        connection.execute(f"UPDATE instance_state SET {column} = ?", (value,))  # noqa: S608
        read = age_of if column == "saved_at_age" else latest_refresh
        with pytest.raises(UnusableStateError, match=f"{column} is no number"):
            read(connection)


def test_a_row_without_sense(path: Path) -> None:
    """A row that no exporter wrote is refused when it is read."""
    with opened(path) as connection:
        write_changes(connection, {"i0": (None, STATE)}, 0.0)
        connection.execute("UPDATE instance_state SET state = '{}'")
        with pytest.raises(UnusableStateError, match="baseline_at: Field required"):
            read_state(connection, "i0")


def test_a_file_whose_content_cannot_be(path: Path) -> None:
    """A file that SQLite can open, but finds damaged, is refused."""
    with opened(path):
        pass
    with_a_gap(path)
    with pytest.raises(UnusableStateError, match=r"^is damaged$"):
        connect(path)
