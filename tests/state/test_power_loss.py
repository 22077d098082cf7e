"""The power goes between any two writes of the state file, or in the middle of one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dcs_task_exporter.state import file as state_file
from dcs_task_exporter.state.database import connect
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.state.files import DatabaseFiles
from dcs_task_exporter.tasks.instance_state import InstanceState
from tests.support.clouds import NOW, SettableClock
from tests.support.fast_folder import fast_folder
from tests.support.real_parts import TESTDATA
from tests.support.recorded_disk import (
    Files,
    RecordedDisk,
    Sync,
    Write,
    all_written,
    last_write_torn,
    unsynced_lost,
)

SERIES = ("EXTEND", "FAILED")
NAME = "state.db"
IDS = 60
"""Ids of each save: a few pages, so that a commit is several writes."""

PAGES_UNTIL_CHECKPOINT = 12
"""The log is moved into the database after so many pages, not after the usual thousand."""

LIVES, SAVES, KILLED = 3, 9, 1


def state_of(number: int) -> InstanceState:
    """Return the state that the save of this number makes; 0 is that before the first."""
    if not number:
        return InstanceState()
    ids = {f"{number:032x}-{at:032x}": NOW for at in range(IDS)}
    return InstanceState(
        baseline_at=NOW,
        refreshed_at=NOW,
        counts={SERIES: number},
        shown={SERIES: number - 1},
        counted=ids,
    )


@pytest.fixture(scope="module")
def story() -> tuple[RecordedDisk, list[int]]:
    """Play some lives of an exporter; return what reached the disk, and when saves were done.

    The second life is killed, so the third begins with what the log has. The number at each place
    says how many calls had reached the disk when the save of that number returned: from then on a
    scrape may have shown it.
    """
    disk, done = RecordedDisk(), [0]
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(dir=fast_folder()) as name:
        patch.setattr(state_file, "connect", connect_with_checkpoints)
        folders = [Path(name) / str(life) for life in range(LIVES)]
        with disk.recording(), ExitStack() as killed:
            for life, folder in enumerate(folders):
                shutil.copytree(folders[life - 1], folder) if life else folder.mkdir()
                file = StateFile(folder / NAME, SettableClock().clock)
                for _ in range(SAVES):
                    file.save("i0", state_of(len(done)))
                    done.append(len(disk.calls))
                assert file.status.problem == ""
                killed.callback(file.close) if life == KILLED else file.close()
            played = list(disk.calls)
    disk.calls[:] = played
    return disk, done


def connect_with_checkpoints(path: Path) -> sqlite3.Connection:
    """Open the file, and let its log be short."""
    connection = connect(path)
    connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES_UNTIL_CHECKPOINT}")
    return connection


def found(files: Files, folder: Path, instance_id: str = "i0") -> tuple[InstanceState, int]:
    """Start from what is on the disk; return the state, and the number of errors."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    file = StateFile(folder / NAME, SettableClock().clock)
    state, errors = file.load(instance_id), file.status.errors
    file.close()
    shutil.rmtree(folder)
    return state, errors


def outcomes(
    cut: Callable[[int], Iterator[Files]], disk: RecordedDisk, done: list[int]
) -> list[str]:
    """Cut the power after each call; return where the next start finds something wrong."""
    wrong = []
    with TemporaryDirectory(dir=fast_folder()) as folder:
        for at in range(len(disk.calls) + 1):
            shown = max(number for number, calls in enumerate(done) if calls <= at)
            allowed = [state_of(shown), state_of(min(shown + 1, len(done) - 1))]
            for files in cut(at):
                state, errors = found(files, Path(folder) / "disk")
                known = replace(state, refreshed_at=NOW if state.counts else None)
                if errors or known not in allowed:
                    wrong.append(f"call {at}: {dict(state.counts)}, not {shown}; {errors} errors")
    return wrong


def test_the_story_has_checkpoints(story: tuple[RecordedDisk, list[int]]) -> None:
    """What is cut in these tests are commits of several pages, and checkpoints amid a life."""
    disk, done = story
    pages = [call for call in disk.calls if isinstance(call, Write) and call.file == NAME]
    synced = [at for at, call in enumerate(disk.calls) if call == Sync(NAME)]

    assert (len(pages) > 50, len(synced) > 3 * LIVES) == (True, True)
    assert min(later - earlier for earlier, later in pairwise(done[2:])) > 3


def test_every_commit_is_flushed(story: tuple[RecordedDisk, list[int]]) -> None:
    """When a save returns, the disk has it: nothing was written since the last flush of the log."""
    disk, done = story

    assert {type(disk.calls[at - 1]).__name__ for at in done[1:]} == {"Sync"}


def test_power_loss_between_two_writes(story: tuple[RecordedDisk, list[int]]) -> None:
    """After any call that reached the disk, the next start knows all that was shown."""
    disk, done = story

    assert outcomes(lambda at: iter([all_written(disk.calls[:at])]), disk, done) == []


def test_power_loss_in_a_write(story: tuple[RecordedDisk, list[int]]) -> None:
    """A page that is torn, at its beginning or its end, costs nothing that was shown."""
    disk, done = story

    assert outcomes(lambda at: last_write_torn(disk.calls[:at]), disk, done) == []


WRITTEN: Mapping[str, Callable[[int, str], bool]] = {
    "none": lambda _at, _file: False,
    "every other": lambda at, _file: at % 2 == 0,
    "the others": lambda at, _file: at % 2 == 1,
    "those of the database": lambda _at, file: file == NAME,
    "those of the log": lambda _at, file: file != NAME,
}
"""Which of the writes that were not flushed reach the disk, by their number and file."""


@pytest.mark.parametrize("chosen", WRITTEN.values(), ids=WRITTEN)
def test_power_loss_before_a_flush(
    story: tuple[RecordedDisk, list[int]], chosen: Callable[[int, str], bool]
) -> None:
    """Writes that were not flushed may be lost, in any order: what was shown is not."""
    disk, done = story

    def cut(at: int) -> Iterator[Files]:
        yield unsynced_lost(disk.calls[:at], chosen)

    assert outcomes(cut, disk, done) == []


def test_power_loss_in_a_migration(tmp_path: Path) -> None:
    """A power loss in the migration of a file costs nothing: the next start migrates it."""
    content, disk = (TESTDATA / "state" / "version-3.db").read_bytes(), RecordedDisk()
    whole = found({NAME: content}, tmp_path / "disk", "full")
    (tmp_path / NAME).write_bytes(content)
    with disk.recording():
        StateFile(tmp_path / NAME, SettableClock().clock).close()
    calls = [Write(NAME, 0, content), Sync(NAME), *disk.calls]
    cuts = [calls[:at] for at in range(2, len(calls) + 1)]
    left = [(len(cut), all_written(cut)) for cut in cuts]
    left += [(len(cut), files) for cut in cuts for files in last_write_torn(cut)]
    left += [(len(cut), unsynced_lost(cut, one)) for cut in cuts for one in WRITTEN.values()]
    wrong = [at for at, files in left if found(files, tmp_path / "disk", "full") != whole]

    assert (len(calls) > 10, wrong) == (True, [])


def test_a_removed_file_stays_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that knows less than was shown is deleted, and its folder flushed after that.

    Otherwise a power loss may bring it back, and the counters would fall.
    """
    files = DatabaseFiles(tmp_path / NAME)
    files.path.touch()
    flushed = []

    def note(folder: int) -> None:
        flushed.append((os.fstat(folder), list(tmp_path.iterdir())))

    monkeypatch.setattr(os, "fsync", note)
    files.remove()

    ((folder, left),) = flushed
    assert (os.path.samestat(folder, tmp_path.stat()), left) == (True, [])
