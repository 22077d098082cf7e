"""What is found in a state file, whoever uses it and whatever happened to it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dcs_task_exporter.state import inspection
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.state.inspection import Inspection, StateUnreadableError, inspect
from dcs_task_exporter.state.schema import VERSION
from dcs_task_exporter.tasks.instance_state import InstanceState
from tests.support.clouds import NOW, SettableClock
from tests.support.damaged_state import DAMAGE, with_a_gap
from tests.support.real_parts import TESTDATA

SOME = InstanceState(
    baseline_at=NOW, refreshed_at=NOW, counts={("EXTEND", "FAILED"): 2}, counted={"a": NOW}
)


def used(path: Path, instances: int = 1) -> StateFile:
    """Return a file with states, which a process uses."""
    file = StateFile(path, SettableClock().clock)
    for number in range(instances):
        file.save(f"i{number}", SOME)
    return file


def test_a_file_in_use(tmp_path: Path) -> None:
    """Beside the process that uses it, a file shows its latest commit."""
    file = used(tmp_path / "state.db")
    file.save("i0", replace(SOME, counts={("EXTEND", "FAILED"): 3}))

    found = inspect(tmp_path / "state.db")
    file.close()

    assert (found.version, found.problems) == (VERSION, ())
    assert {key: dict(state.counts) for key, state in found.states.items()} == {
        "i0": {("EXTEND", "FAILED"): 3}
    }


def test_a_file_that_is_closed(tmp_path: Path) -> None:
    """A file that nobody uses is the same after it was looked into, and nothing is beside it."""
    used(tmp_path / "state.db").close()
    before = (tmp_path / "state.db").read_bytes()

    assert inspect(tmp_path / "state.db").states.keys() == {"i0"}
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]
    assert (tmp_path / "state.db").read_bytes() == before


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    """A file of the third version is shown as this version would take it, and not migrated."""
    path = tmp_path / "state.db"
    shutil.copy(TESTDATA / "state" / "version-3.db", path)
    before = path.read_bytes()

    found = inspect(path)

    assert (found.version, found.problems, set(found.states)) == (3, (), {"full", "small"})
    assert path.read_bytes() == before


def test_a_new_file(tmp_path: Path) -> None:
    """An empty file, as a start leaves it that was cut short, is in order, and holds nothing."""
    (tmp_path / "state.db").touch()

    assert inspect(tmp_path / "state.db") == Inspection(0, {}, ())


def test_a_damaged_file(tmp_path: Path) -> None:
    """Of a file that lost its second half, the damage is named."""
    path = tmp_path / "state.db"
    used(path, instances=50).close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    found = inspect(path)

    assert (dict(found.states), bool(found.problems)) == ({}, True)
    assert "malformed" in found.problems[0] or "damaged" in found.problems[0]


def test_damage_that_sqlite_finds(tmp_path: Path) -> None:
    """What SQLite finds wrong is told in its words."""
    path = tmp_path / "state.db"
    used(path).close()
    with_a_gap(path)

    assert inspect(path) == Inspection(VERSION, {}, (f"is damaged: {DAMAGE}",))


def test_what_is_no_database(tmp_path: Path) -> None:
    """A file that is no database has no version."""
    path = tmp_path / "state.db"
    path.write_text("This is my diary.\n" * 100)

    found = inspect(path)

    assert (found.version, found.states) == (0, {})
    assert found.problems == ("cannot be used: file is not a database",)


def test_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    """A row without sense is named; the others are shown."""
    path = tmp_path / "state.db"
    used(path, instances=2).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE instance_state SET state = '{}' WHERE instance_id = 'i0'")

    found = inspect(path)

    assert (found.version, set(found.states)) == (VERSION, {"i1"})
    (problem,) = found.problems
    assert problem.startswith("the state of instance i0 cannot be read: baseline_at")


def test_no_file(tmp_path: Path) -> None:
    """A file that cannot be read is named, with the reason."""
    path = tmp_path / "state.db"
    with pytest.raises(StateUnreadableError) as raised:
        inspect(path)

    assert str(raised.value) == f"cannot read the state file {path}: No such file or directory"


def test_a_file_of_a_later_version(tmp_path: Path) -> None:
    """A file of a later version is told as that."""
    path = tmp_path / "state.db"
    used(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")

    problem = f"is of a later version ({VERSION + 1}, this one knows {VERSION})"
    assert inspect(path) == Inspection(VERSION + 1, {}, (problem,))


def test_a_file_that_changes_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit between two reads is seen: both parts of the copy are of one moment."""
    path = tmp_path / "state.db"
    file = used(path)
    reads: list[Path] = []

    def read_and_commit(path: Path) -> Mapping[str, bytes]:
        if len(reads) < 3:
            count = 3 + len(reads)
            file.save("i0", replace(SOME, counts={("EXTEND", "FAILED"): count}))
        reads.append(path)
        return read(path)

    read = inspection._read  # noqa: SLF001 - the moment between two reads is what is tested
    monkeypatch.setattr(inspection, "_read", read_and_commit)
    found = inspect(path)
    file.close()

    assert (len(reads), found.problems) == (4, ())
    assert found.states["i0"].counts == {("EXTEND", "FAILED"): 5}


def test_a_file_that_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is different each time is not guessed at."""
    numbers = iter(range(1000))
    monkeypatch.setattr(inspection, "_read", lambda _: {"": b"%d" % next(numbers)})

    with pytest.raises(StateUnreadableError, match="it changes all the time; try again"):
        inspect(tmp_path / "state.db")


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no copy can be made, that is said: it is not the file that is at fault."""
    path = tmp_path / "state.db"
    used(path).close()

    def refuse(**_: str) -> str:
        message = "no usable temporary directory"
        raise FileNotFoundError(2, message)

    monkeypatch.setattr(inspection, "TemporaryDirectory", refuse)
    with pytest.raises(StateUnreadableError, match="cannot copy the state file"):
        inspect(path)
