"""The files of a database: how a change by somebody else shows, and how they are set aside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dcs_task_exporter.state.files import DatabaseFiles

NOW = 1_750_000_000.0
SUFFIXES = ("", "-wal", "-shm", "-journal")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database with a log beside it."""
    path = tmp_path / "state.db"
    path.write_text("database")
    beside(path, "-wal").write_text("log")
    return path


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def noted(path: Path) -> DatabaseFiles:
    files = DatabaseFiles(path)
    files.note()
    return files


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def test_unchanged(path: Path) -> None:
    """Files that nobody touched are as they were noted."""
    files = noted(path)

    assert files.change() == ""
    assert files.is_noted()


def test_nothing_is_noted_at_first(path: Path) -> None:
    """Before files are noted no change can be seen."""
    files = DatabaseFiles(path)

    assert files.change() == ""
    assert not files.is_noted()


@pytest.mark.parametrize(
    ("do", "told"),
    [
        (lambda file: file.unlink(), "was deleted"),
        (replace, "was replaced"),
        (lambda file: file.write_text("x"), "was cut"),
        (lambda file: file.write_text("much more of it"), "was written to by another"),
    ],
)
@pytest.mark.parametrize(
    ("suffix", "name"), [("", ""), ("-wal", "its latest part, the -wal file, ")]
)
def test_a_change(
    path: Path, do: Callable[[Path], object], told: str, suffix: str, name: str
) -> None:
    """A file that was deleted, replaced, cut or written to is told as that, and which it is."""
    files = noted(path)
    do(beside(path, suffix))

    assert files.change() == f"{name}{told}"


def test_a_file_that_came(tmp_path: Path) -> None:
    """A log that was not there when the files were noted is no change."""
    path = tmp_path / "state.db"
    path.write_text("database")
    files = noted(path)
    beside(path, "-wal").write_text("log")

    assert files.change() == ""


def test_a_change_is_noted(path: Path) -> None:
    """After a commit of our own the files are noted as they are then."""
    files = noted(path)
    path.write_text("after our own commit")
    files.note()

    assert files.change() == ""


@pytest.mark.parametrize("other", [True, False])
def test_a_log_beside_another_database(path: Path, *, other: bool) -> None:
    """The noted log is removed from beside another database, and only from there."""
    files = noted(path)
    if other:
        replace(path)
    files.drop_stale_log()

    assert beside(path, "-wal").exists() is not other


def test_the_log_of_another_database_stays(path: Path) -> None:
    """A log that was not noted belongs to the other database."""
    files = noted(path)
    replace(path)
    replace(beside(path, "-wal"))
    files.drop_stale_log()

    assert beside(path, "-wal").exists()


def test_set_aside(path: Path) -> None:
    """The files are renamed together, with the moment in their names."""
    beside(path, "-shm").write_text("shm")
    aside = DatabaseFiles(path).set_aside(NOW)

    assert aside == path.with_name("state.db.set-aside-20250615T150640Z")
    assert sorted(it.name.removeprefix(aside.name) for it in path.parent.iterdir()) == [
        "",
        "-shm",
        "-wal",
    ]


def test_set_aside_again(path: Path) -> None:
    """Files that were set aside at the same moment stay."""
    names = []
    for _ in range(3):
        path.write_text("database")
        names.append(DatabaseFiles(path).set_aside(NOW).name)

    stem = "state.db.set-aside-20250615T150640Z"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_nothing_to_set_aside(tmp_path: Path) -> None:
    """A database that is not there cannot be set aside."""
    with pytest.raises(FileNotFoundError):
        DatabaseFiles(tmp_path / "state.db").set_aside(NOW)


def test_remove(path: Path) -> None:
    """All files of a database are deleted, and no others."""
    for suffix in (*SUFFIXES, "-other"):
        beside(path, suffix).write_text("x")
    DatabaseFiles(path).remove()
    DatabaseFiles(path).remove()

    assert [it.name for it in path.parent.iterdir()] == ["state.db-other"]


def test_the_moment_is_in_utc(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment in the name of a file that is set aside is the same in every time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        aside = DatabaseFiles(path).set_aside(NOW)
    time.tzset()

    assert aside.name.endswith("20250615T150640Z")
