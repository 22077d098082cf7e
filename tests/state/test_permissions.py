"""Who may read the state file: its mode, and the words about a mode that is too wide."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.state.permissions import exposures
from dcs_task_exporter.tasks.instance_state import InstanceState
from tests.support.clouds import NOW, SettableClock

SOME = InstanceState(baseline_at=NOW, refreshed_at=NOW, counts={("EXTEND", "FAILED"): 2})
OPEN = "the state file is open to other users"


@pytest.fixture(autouse=True)
def wide_mask() -> Iterator[None]:
    """Run with a mask that takes no right away, as some services do."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "state.db"


def use(path: Path) -> StateFile:
    """Return a file that a process uses, with a commit in it."""
    file = StateFile(path, SettableClock().clock)
    file.save("i0", SOME)
    return file


def modes(folder: Path) -> dict[str, str]:
    """Return the modes of the files in a folder."""
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


def test_a_new_file_is_its_owners(path: Path) -> None:
    """A new state file, and the file of its latest commits, can be read by their owner alone."""
    file = use(path)
    found = modes(path.parent)
    file.close()

    assert found == {"state.db": "0o600", "state.db-wal": "0o600"}


def test_a_file_that_is_written_anew_is_its_owners(path: Path) -> None:
    """The file that takes the place of one that was deleted is as closed as the first."""
    file = use(path)
    path.unlink()
    file.save("i0", SOME)
    found = modes(path.parent)
    file.close()

    assert found["state.db"] == "0o600"


def test_a_closed_file_is_not_mentioned(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that only its owner may read is used without a word."""
    use(path).close()

    assert (exposures(path), caplog.records) == ((), [])


@pytest.mark.parametrize(
    ("mode", "held"), [(0o644, "read"), (0o602, "change"), (0o666, "read and change")]
)
def test_an_open_file(path: Path, mode: int, held: str) -> None:
    """A file that every user may read or change is named, with the command that closes it."""
    path.touch()
    path.chmod(mode)

    assert exposures(path) == (f"every user of this machine may {held} it: chmod o-rw {path}",)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_an_open_folder(path: Path, mode: int) -> None:
    """A folder into which every user may put files is named, also one like /tmp."""
    path.parent.chmod(mode)

    (told,) = exposures(path)
    assert told.startswith(
        f"every user of this machine may put files into its folder {path.parent}"
    )


def test_the_group_is_trusted(path: Path) -> None:
    """The group may read and change a file: a volume of Kubernetes is made so."""
    path.touch()
    path.chmod(0o660)
    path.parent.chmod(0o2775)

    assert exposures(path) == ()


def test_an_open_file_is_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An exporter starts with a file that every user may read, and the log warns of it once."""
    use(path).close()
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        file = use(path)
    file.close()

    (told,) = [record for record in caplog.records if record.getMessage() == OPEN]
    assert "may read it" in told.fields["problem"]  # type: ignore[attr-defined]
    assert (file.status.errors, oct(path.stat().st_mode)[-3:]) == (0, "644")
