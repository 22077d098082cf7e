"""The state file: unusable, unwritable, lost. tests/state/ has what becomes of the counts."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.state.schema import VERSION
from tests.support.fault_rows import fault
from tests.support.fault_scene import Scene


def saving_to(path: Path) -> Callable[[str], str]:
    """Return what makes a configuration save its counts."""
    return lambda text: f"{text}state: {{path: {path}}}\n"


def spoil(path: Path, cause: str) -> None:
    """Put in the place of a state file what no exporter can use."""
    path.unlink()
    if cause == "a text":
        path.write_text("This is my diary.\n" * 100)
        return
    statement = {
        "another program's": "CREATE TABLE dashboards (id INTEGER)",
        "of a later version": f"PRAGMA user_version = {VERSION + 1}",
    }[cause]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)


@fault(
    "The state file is damaged, another program's, or of a later version",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total rises", "dcs_instance_up = 1"),
    log=("error: cannot use the state file, it was set aside",),
    recovers="at once: it is set aside, and a new one begun; counters begin anew",
    causes=("a text", "another program's", "of a later version"),
)
def test_an_unusable_file(scene: Scene) -> None:
    """A file that cannot be used is set aside, with one error."""
    path = scene.folder / "state.db"
    scene.begin(edit=saving_to(path))
    scene.restart(lambda: spoil(path, scene.cause))
    scene.shows(counts=False)


@fault(
    "The state file cannot be written when the exporter starts",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total rises", "dcs_instance_up = 1"),
    log=("error: cannot use the state file", "error: cannot save the state file"),
    page=("Counts are not saved", "counts are kept in memory only"),
    alerts=("DCSTaskExporterStateNotSaved",),
    recovers="the first refresh 10 s after the last try",
    within=15,
)
def test_a_file_that_cannot_be_made(scene: Scene) -> None:
    """Without a file counts are kept in memory, and it is tried again every 10 s."""
    path = scene.folder / "later" / "state.db"
    scene.begin(edit=saving_to(path), is_well=False)
    scene.shows(counts=False)
    path.parent.mkdir()
    scene.recovers(counts=False)


@fault(
    "The exporter may not read the state file, or may not change it (another user's, or its mode)",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total rises", "dcs_instance_up = 1"),
    log=("error: cannot use the state file, it was set aside",),
    recovers=(
        "at once: it is set aside, and a new one begun; counters begin anew. To go on from the old "
        "one, stop the exporter, set its owner and mode right, and move it back"
    ),
    causes=("not readable", "read-only"),
)
def test_a_file_of_another_user(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user may not use is set aside, with one error; no mode stops root."""
    path = scene.folder / "state.db"
    scene.begin(edit=saving_to(path))
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def checked(name: Path, **options: Any) -> sqlite3.Connection:
        mode = name.stat().st_mode
        if not mode & stat.S_IRUSR:
            message = "unable to open database file"
            raise sqlite3.OperationalError(message)
        if not mode & stat.S_IWUSR:
            return connect(f"file:{name}?mode=ro", uri=True, **options)
        return connect(name, **options)

    monkeypatch.setattr("dcs_task_exporter.state.database.sqlite3.connect", checked)
    mode = 0o000 if scene.cause == "not readable" else 0o400
    scene.restart(lambda: path.chmod(mode))
    scene.shows(counts=False)


@fault(
    "Every user of the machine may read or change the state file, or put files into its folder",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total = 0", "dcs_instance_up = 1"),
    log=("warning: the state file is open to other users",),
    recovers="counts are saved all the same; the log says what to change, at each start",
    causes=("file", "folder"),
)
def test_an_open_file(scene: Scene) -> None:
    """A state file that is open to other users is used, with a warning at each start."""
    folder = scene.folder / "state"
    folder.mkdir(mode=0o755)
    path = folder / "state.db"
    scene.begin(edit=saving_to(path))
    scene.restart(lambda: path.chmod(0o644) if scene.cause == "file" else folder.chmod(0o777))
    scene.shows()


@fault(
    "The disk is full, or read-only, when counts are saved",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total rises", "dcs_instance_up = 1"),
    log=("error: cannot save the state file",),
    page=("Counts are not saved", "disk is full"),
    alerts=("DCSTaskExporterStateNotSaved",),
    recovers="the first refresh 10 s after the last try",
    within=15,
)
def test_a_full_disk(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs durability, not a scrape; tests/state/test_file.py mounts one."""

    def full(*_: object) -> None:
        message = "database or disk is full"
        raise sqlite3.OperationalError(message)

    scene.begin(edit=saving_to(scene.folder / "state.db"))
    with monkeypatch.context() as patch:
        patch.setattr("dcs_task_exporter.state.file.write_changes", full)
        scene.cloud.start_task("i0", "AddReplica")
        scene.shows()
    scene.recovers()


@fault(
    "The state file is deleted while the exporter runs",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total rises", "dcs_instance_up = 1"),
    log=("error: the state file was changed by another program, it is written anew",),
    recovers="at once: all counts are in memory, and written anew",
)
def test_a_deleted_file(scene: Scene) -> None:
    """A file that is deleted is written anew, with all counts."""
    path = scene.folder / "state.db"
    scene.begin(edit=saving_to(path))
    path.unlink()
    scene.cloud.start_task("i0", "AddReplica")
    scene.shows()


@fault(
    "The state file is replaced, or cut, while the exporter runs",
    where="state file",
    metrics=("dcs_task_exporter_state_errors_total rises", "dcs_instance_up = 1"),
    log=(
        "error: the state file was changed by another program, it is written anew",
        "error: cannot use the state file, it was set aside",
    ),
    recovers="at once: what is there is set aside, and all counts are written anew",
    causes=("replaced", "cut"),
)
def test_a_replaced_file(scene: Scene) -> None:
    """What was put in the place of the file is set aside, and all counts are written anew."""
    path = scene.folder / "state.db"
    scene.begin(edit=saving_to(path))
    if scene.cause == "cut":
        os.truncate(path, 0)
    else:
        other = path.with_name("other")
        other.write_text("This is my diary.\n")
        other.rename(path)
    scene.cloud.start_task("i0", "AddReplica")
    scene.shows()
