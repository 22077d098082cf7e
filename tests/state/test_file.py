"""The state file: what comes back after a restart, and what a broken disk costs."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.errors import StateLockedError
from dcs_task_exporter.state.database import connect
from dcs_task_exporter.state.encoding import encode
from dcs_task_exporter.state.file import RETRY_INTERVAL, StateFile
from dcs_task_exporter.state.schema import APPLICATION_ID, VERSION
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState, handed_over
from dcs_task_exporter.tasks.models import KNOWN_TASK_NAMES, Listing, Task
from tests.support.clouds import NOW, SettableClock, exporter_of, scrape, value, world
from tests.support.counting import count
from tests.support.fault_rows import FaultRow, fault
from tests.support.real_parts import TESTDATA

VERSION_1 = TESTDATA / "state" / "version-1.db"
VERSION_2 = TESTDATA / "state" / "version-2.db"
VERSION_3 = TESTDATA / "state" / "version-3.db"
"""Files that the code of an earlier version wrote.

In the second are two EXTEND that failed, and what was listed since; in the third are `FULL` and a
small instance.
"""

FULL_SYNC = 2
"""SQLite's number for a commit that waits for the disk."""

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
TIMES = st.floats(0, 4e9)
SERIES = st.dictionaries(st.tuples(TEXT, TEXT), st.integers(0, 2**53), max_size=4)
ENDS = st.dictionaries(TEXT, TIMES, max_size=3)
TASKS = st.lists(
    st.builds(Task, TEXT, TEXT, TEXT, created_at=st.none() | TIMES, updated_at=st.none() | TIMES),
    unique_by=lambda task: task.id,
    max_size=6,
)
DETAILS = st.builds(
    TaskDetails,
    old_capacity=st.none() | st.floats(-1e15, 1e15),
    new_replica_num=st.none() | st.integers(-1000, 1000),
    enable_ssl=st.none() | st.booleans(),
    new_cache_mode=st.text("abc ", max_size=3).map(str.strip),
    rename_commands=st.lists(st.text("KEYS", min_size=1), max_size=3).map(tuple),
)
FAILED = st.builds(
    Task,
    TEXT,
    TEXT,
    TEXT,
    created_at=st.none() | TIMES,
    updated_at=st.none() | TIMES,
    details=DETAILS,
    error_code=TEXT,
)


@st.composite
def states(draw: st.DrawFn) -> InstanceState:
    """Draw any state."""
    tasks = draw(TASKS)
    half = len(tasks) // 2
    unlisted = dict.fromkeys(draw(st.lists(TEXT, max_size=3)), inf)
    return InstanceState(
        baseline_at=draw(TIMES),
        baseline_partial=draw(st.booleans()),
        refreshed_at=draw(TIMES),
        forgotten_until=draw(st.none() | TIMES),
        names=tuple(draw(st.lists(TEXT, max_size=3))),
        statuses=tuple(draw(st.lists(TEXT, max_size=3))),
        counts=draw(SERIES),
        shown=draw(SERIES),
        counted={**draw(st.dictionaries(TEXT, TIMES | st.just(inf), max_size=6)), **unlisted},
        unlisted=frozenset(unlisted),
        active={task.id: task for task in tasks[:half]},
        missing={task.id: task for task in tasks[half:]},
        last_success=draw(ENDS),
        last_failure=draw(ENDS),
        failed=draw(st.dictionaries(TEXT, FAILED, max_size=3)),
    )


@dataclass
class Disk:
    """A path for a state file, and the clock of the processes that use it."""

    path: Path
    clock: SettableClock
    opened: list[StateFile] = field(default_factory=list)

    def open(self) -> StateFile:
        """Start a process."""
        made = StateFile(self.path, self.clock.clock)
        self.opened.append(made)
        return made

    def keep(self, instance_id: str, state: InstanceState) -> None:
        """Save a state in a process that ends after that."""
        file = self.open()
        file.save(instance_id, state)
        file.close()

    def close(self) -> None:
        """End all processes: SQLite's files are closed by hand, not by chance."""
        for file in self.opened:
            file.close()

    def aside(self) -> list[str]:
        """Return what was set aside."""
        return sorted(path.name for path in self.path.parent.glob("*.set-aside-*"))


def execute(path: Path, statement: str, *values: str | bytes) -> list[tuple[object, ...]]:
    """Run a statement in the database at a path, and return its rows."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "state.db", SettableClock())
    yield made
    made.close()


SOME = InstanceState(
    baseline_at=NOW, refreshed_at=NOW, counts={("EXTEND", "FAILED"): 2}, counted={"a": NOW}
)


FULL = InstanceState(
    baseline_at=NOW - 86400.123,
    baseline_partial=True,
    refreshed_at=NOW + 60.25,
    forgotten_until=NOW - 604800.5,
    listed_since=NOW - 3600,
    names=("EXTEND", "modify", "DeleteAcl", "任务"),
    statuses=("SUCCESS", "FAILED", "EXECUTING"),
    counts={("EXTEND", "FAILED"): 3, ("modify", "SUCCESS"): 2, ("任务", "FAILED"): 1},
    shown={
        ("EXTEND", "FAILED"): 2,
        ("modify", "SUCCESS"): 2,
        ("任务", "FAILED"): 0,
        ("EXTEND", "SUCCESS"): 0,
    },
    counted={"a": NOW - 50.125, "b": NOW - 40, "timeless": inf, "unlisted": inf},
    unlisted=frozenset({"unlisted"}),
    active={
        "c": Task("c", "DeleteAcl", "EXECUTING", NOW + 50),
        "d": Task("d", "EXTEND", "RUNNING", None),
    },
    missing={"m": Task("m", "modify", "WAITING", NOW + 10, NOW + 20)},
    last_success={"modify": NOW - 500.5},
    last_failure={"EXTEND": NOW + 40, "任务": NOW + 41},
    failed={
        "EXTEND": Task(
            "a",
            "EXTEND",
            "FAILED",
            NOW - 50.125,
            NOW + 40,
            TaskDetails(old_capacity=0.125, new_capacity=0.25),
            error_code="DCS.4003",
        ),
        "other": Task("z", "任务", "FAIL", None, NOW + 41),
    },
)


@given(st.lists(states(), min_size=1, max_size=4))
def test_what_is_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, lives: object) -> None:
    """Whatever state follows whatever other, a restart finds the last one."""
    assert isinstance(lives, list)
    disk = Disk(tmp_path_factory.mktemp("state") / "state.db", SettableClock(wall=0))
    file = disk.open()
    for state in lives:
        file.save("i0", state)
    file.save("i1", SOME)
    file.close()

    found = disk.open().load("i0")
    disk.close()

    assert replace(found, refreshed_at=0) == replace(lives[-1], refreshed_at=0)


def test_unknown_instance(disk: Disk) -> None:
    """An instance that was never saved begins empty."""
    assert disk.open().load("nobody") == InstanceState()


def test_a_quiet_refresh_writes_nothing(disk: Disk) -> None:
    """A refresh that changed nothing but its time is not written, until five minutes passed."""
    file = disk.open()
    file.save("i0", SOME)
    disk.clock.advance(60)
    file.save("i0", replace(SOME, refreshed_at=NOW + 60))
    quiet = file.status.last_save
    disk.clock.advance(300)
    file.save("i0", replace(SOME, refreshed_at=NOW + 360))

    assert (quiet, file.status.last_save) == (NOW, NOW + 360)


def test_instances_of_long_ago_are_forgotten(disk: Disk) -> None:
    """An instance that was not read while the exporter ran for 90 days leaves the file."""
    file = disk.open()
    file.save("i0", SOME)
    for number in range(10):
        disk.clock.steady += 10 * 86_400
        file.save("i1", replace(SOME, refreshed_at=NOW + number * 86_400))
        file.close()
        disk.clock.steady = 0  # the machine starts again
        file = disk.open()
    file.close()

    again = disk.open()

    assert (again.load("i0").counts, again.load("i1").counts) == ({}, SOME.counts)


def test_an_instance_that_cannot_be_read_is_not_forgotten(disk: Disk) -> None:
    """An instance that is watched, and fails for longer than 90 days, keeps its counts."""
    file = disk.open()
    for day in range(200):
        file.save("i0", SOME)
        file.save("i1", replace(SOME, refreshed_at=NOW + day * 86_400))
        disk.clock.advance(86_400)
    file.close()

    assert disk.open().load("i0").counts == SOME.counts


@pytest.mark.parametrize("days", [-400, 100, 400])
def test_no_clock_makes_an_instance_old(disk: Disk, days: int) -> None:
    """A start by a clock that is far ahead, or behind, forgets nothing."""
    disk.keep("i0", SOME)
    disk.clock.wall += days * 86_400

    assert disk.open().load("i0").counts == SOME.counts


def test_a_clock_that_went_back_is_saved(disk: Disk) -> None:
    """A refresh by a clock that was put back is saved, so that no later time stays in the file."""
    file = disk.open()
    file.save("i0", replace(SOME, refreshed_at=NOW + 400 * 86_400))
    file.save("i0", SOME)

    assert file.latest_refresh() == NOW


def test_file_of_the_first_version(disk: Disk) -> None:
    """A file of the first version of the schema goes on, and nothing in it is old."""
    shutil.copy(VERSION_1, disk.path)

    assert disk.open().load("i0").counts == SOME.counts


def test_file_of_the_second_version(disk: Disk) -> None:
    """A file that the second version wrote goes on with all that it knew, and no failed task."""
    shutil.copy(VERSION_2, disk.path)

    found = disk.open().load("i0")

    assert (found.baseline_at, found.refreshed_at) == (NOW, NOW + 60)
    assert dict(found.counts) == {("EXTEND", "FAILED"): 2}
    assert set(found.counted) == {"old", "a", "b"}
    assert found.active == {"c": Task("c", "DeleteAcl", "EXECUTING", NOW + 50)}
    assert dict(found.last_success) == {"modify": NOW - 500}
    assert dict(found.last_failure) == {"EXTEND": NOW + 40}
    assert dict(found.failed) == {}


def test_file_of_the_second_version_is_added_to(disk: Disk) -> None:
    """After it was brought up to date, the latest failed task is kept in it, too."""
    shutil.copy(VERSION_2, disk.path)
    failed = Task("d", "EXTEND", "FAILED", NOW + 80, NOW + 90, error_code="DCS.4003")
    file = disk.open()
    before = file.load("i0")
    file.save("i0", replace(before, failed={"EXTEND": failed}))
    file.close()

    assert disk.open().load("i0") == replace(before, failed={"EXTEND": failed})


def test_file_of_the_third_version(disk: Disk) -> None:
    """A file that the third version wrote goes on with everything in it, of each instance."""
    shutil.copy(VERSION_3, disk.path)
    file = disk.open()

    assert file.load("full") == FULL
    assert file.load("small") == replace(
        SOME, shown=SOME.counts, counted={"x": NOW}, names=KNOWN_TASK_NAMES
    )
    assert file.latest_refresh() == NOW + 60.25


def test_a_migrated_file_is_of_this_version(disk: Disk) -> None:
    """A file is migrated once: the next start finds this version, and the same states."""
    shutil.copy(VERSION_3, disk.path)
    disk.open().close()
    tables = execute(disk.path, "SELECT name FROM sqlite_master WHERE type = 'table'")

    assert set(tables) == {("instance_state",), ("counted",)}
    assert execute(disk.path, "PRAGMA user_version") == [(VERSION,)]
    assert disk.open().load("full") == FULL


def test_the_age_of_an_instance_survives_the_migration(disk: Disk) -> None:
    """Of a file of the third version, the instance that is not read for 90 days is forgotten."""
    shutil.copy(VERSION_3, disk.path)
    file = disk.open()
    disk.clock.steady += 90 * 86_400 - 1800  # `full` was saved an hour before `small`
    file.save("new", SOME)
    file.close()
    again = disk.open()

    assert (again.load("full"), again.load("small").counts) == (InstanceState(), SOME.counts)


KILLED_IN_A_MIGRATION = """
    import os, sqlite3, sys

    from dcs_task_exporter.state.database import prepare

    def die(statement):
        if statement.lstrip().startswith(sys.argv[2]):
            os._exit(9)

    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.set_trace_callback(die)
    prepare(connection)
"""


@pytest.mark.parametrize(
    "statement", ["INSERT", "UPDATE", "DROP", "PRAGMA user_version =", "COMMIT"]
)
def test_killed_in_a_migration(disk: Disk, statement: str) -> None:
    """A process that is killed while it migrates a file loses nothing: the next one does it."""
    shutil.copy(VERSION_3, disk.path)
    script = textwrap.dedent(KILLED_IN_A_MIGRATION)
    command = [sys.executable, "-c", script, str(disk.path), statement]
    done = subprocess.run(command, check=False)  # noqa: S603 - a test's own

    assert done.returncode == 9
    assert execute(disk.path, "PRAGMA user_version") == [(3,)]
    assert disk.open().load("full") == FULL


def test_a_file_that_cannot_be_migrated(disk: Disk) -> None:
    """A file of the third version whose rows make no sense is set aside, as it was."""
    shutil.copy(VERSION_3, disk.path)
    execute(disk.path, "UPDATE instance SET labels = '[' WHERE id = 'small'")
    file = disk.open()

    assert file.load("full") == InstanceState()
    (aside,) = [name for name in disk.aside() if not name.endswith(("-wal", "-shm"))]
    assert execute(disk.path.with_name(aside), "SELECT count(*) FROM instance") == [(2,)]


def test_text_of_a_state() -> None:
    """The text of a state is what the files of this version hold: another text is a new version."""
    assert encode(FULL) == (TESTDATA / "state" / "version-4.json").read_text().strip()


def test_no_address_is_saved(disk: Disk) -> None:
    """Of a failed task the file keeps neither who nor from which address."""
    details = TaskDetails(source_ip="192.0.2.7", account_name="alice", old_port=1, new_port=2)
    failed = Task("a", "modify", "FAILED", NOW, NOW, details, user_name="bob")
    state = count(InstanceState(), Listing((failed,), NOW - 60), NOW, CountingRules(3600))
    disk.keep("i0", state)
    written = disk.path.read_bytes()

    words = (b"new_port", b"192.0.2.7", b"alice", b"bob")
    assert [word for word in words if word in written] == [b"new_port"]


def test_one_process_only(disk: Disk) -> None:
    """A second process that wants the same file is told so."""
    first = disk.open()
    with pytest.raises(StateLockedError, match=r"in use by another process.*state\.path"):
        disk.open()
    first.close()

    disk.open()


@fault(
    "Another process uses the state file",
    where="state file",
    log=(
        (
            "the exit status is 2: the state file PATH is in use by another process: stop that "
            "one, or set state.path to a file of its own"
        ),
    ),
    metrics=("up = 0",),
    page=("no answer",),
    alerts=("DCSProjectNotWatched", "DCSTaskExporterDown"),
    recovers="nothing: it does not start; its supervisor may try again",
)
def test_the_second_process_exits_with_2(disk: Disk, tmp_path: Path, row: FaultRow) -> None:
    """The command line says in one line that the file is in use, and exits with 2."""
    first = disk.open()
    config = tmp_path / "config.yml"
    config.write_text(
        "projects: [{name: prod, region: r, credentials: {type: environment}, "
        f"instances: [{{id: i0}}]}}]\nstate: {{path: {disk.path}}}\n"
    )
    done = subprocess.run(  # noqa: S603 - a test's own
        [sys.executable, "-m", "dcs_task_exporter", f"--config.file={config}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first.close()

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert row.log[0].partition(": ")[2].replace("PATH", str(disk.path)) in done.stderr


# What a broken file costs: each starts, answers scrapes, and says what is wrong.


def truncated(disk: Disk) -> None:
    """Cut a file in its middle."""
    file = disk.open()
    for number in range(50):
        file.save(f"i{number}", SOME)
    file.close()
    os.truncate(disk.path, disk.path.stat().st_size // 2)


def text(disk: Disk) -> None:
    """Put a text file in its place."""
    disk.path.write_text("This is my diary.\n" * 100)


def later(disk: Disk) -> None:
    """Put a file of a later version in its place."""
    disk.open().close()
    execute(disk.path, f"PRAGMA user_version = {VERSION + 1}")


def foreign(disk: Disk) -> None:
    """Put another program's database in its place."""
    execute(disk.path, "CREATE TABLE dashboards (id INTEGER)")


def garbled(disk: Disk) -> None:
    """Spoil a statement of the schema: SQLite quotes it in its error."""
    disk.keep("i0", SOME)
    before = disk.path.read_bytes()
    disk.path.write_bytes(
        before.replace(b"instance_id TEXT PRIMARY", b"instance_id %s %d %     ", 1)
    )


def no_text(disk: Disk) -> None:
    """Spoil the schema with bytes that are no text, which the error quotes too."""
    disk.keep("i0", SOME)
    before = disk.path.read_bytes()
    disk.path.write_bytes(before.replace(b"instance_state (", b"instance_state \xff", 1))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "malformed"),
        (garbled, "is damaged"),
        (no_text, "is damaged"),
        (text, "file is not a database"),
        (later, f"is of a later version ({VERSION + 1}, this one knows {VERSION})"),
        (foreign, "is a database of another program"),
    ],
)
def test_unusable_file(
    disk: Disk, caplog: pytest.LogCaptureFixture, spoil: object, reason: str
) -> None:
    """A file that cannot be used is set aside with one error, and a new one begun."""
    spoil(disk)  # type: ignore[operator]
    before = disk.path.read_bytes()
    with caplog.at_level(logging.ERROR):
        file = disk.open()
    file.save("i0", SOME)

    (aside,) = [name for name in disk.aside() if not name.endswith(("-wal", "-shm"))]
    assert aside == "state.db.set-aside-20250615T150640Z"
    assert disk.path.with_name(aside).read_bytes() == before
    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert reason in told.fields["problem"]  # type: ignore[attr-defined]
    assert file.status.errors == 1
    file.close()
    assert disk.open().load("i0").counts == SOME.counts


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", encode(SOME).replace('"statuses":[', '"statuses":3,"x":['), b"\xff"],
)
def test_rows_without_sense(disk: Disk, text: str | bytes) -> None:
    """A file that SQLite can read, but whose rows make no sense, is set aside as well."""
    disk.keep("i0", SOME)
    execute(disk.path, "UPDATE instance_state SET state = ?", text)

    again = disk.open()
    found = again.load("i0")
    again.save("i0", SOME)
    again.close()

    assert (found, len(disk.aside())) == (InstanceState(), 1)
    assert disk.open().load("i0").counts == SOME.counts


@pytest.mark.parametrize("column", ["saved_at_age", "refreshed_at"])
def test_columns_without_sense(disk: Disk, column: str) -> None:
    """So is a file in which a time is a text: the exporter starts."""
    disk.keep("i0", SOME)
    execute(disk.path, f"UPDATE instance_state SET {column} = 'x'")  # noqa: S608 - ours

    again = disk.open()
    again.latest_refresh()

    assert (again.load("i0"), len(disk.aside())) == (InstanceState(), 1)


def test_missing_folder(disk: Disk) -> None:
    """A folder that does not exist is named, and the file is made when it does."""
    disk.path = disk.path.parent / "later" / "state.db"
    file = disk.open()
    file.save("i0", SOME)
    assert file.status.problem.endswith(f"the folder {disk.path.parent} does not exist")

    disk.path.parent.mkdir()
    disk.clock.advance(RETRY_INTERVAL)
    file.save("i0", SOME)
    file.close()

    assert file.status.problem == ""
    assert disk.open().load("i0").counts == SOME.counts


def test_no_try_within_the_interval(disk: Disk) -> None:
    """A file that cannot be used is not tried again before its time."""
    disk.path = disk.path.parent / "later" / "state.db"
    file = disk.open()
    disk.path.parent.mkdir()
    disk.clock.advance(RETRY_INTERVAL - 1)
    file.save("i0", SOME)
    before = disk.path.exists()
    disk.clock.advance(1)
    file.save("i0", SOME)

    assert (before, disk.path.exists()) == (False, True)


def test_nothing_is_saved_after_the_end(disk: Disk) -> None:
    """A refresh that ends after the file was closed leaves it to the next process."""
    file = disk.open()
    file.save("i0", SOME)
    file.close()
    disk.clock.advance(RETRY_INTERVAL)
    file.save("i0", FULL)

    assert disk.open().load("i0") == SOME


def test_only_the_own_file_is_removed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """If saving fails while another file is put at the path, that one stays."""
    file = disk.open()
    file.save("i0", SOME)
    other = disk.path.with_name("other.db")
    other.write_bytes(b"of somebody else")

    def fail(*_: object) -> None:
        other.rename(disk.path)
        message = "disk I/O error"
        raise sqlite3.OperationalError(message)

    monkeypatch.setattr("dcs_task_exporter.state.file.write_changes", fail)
    file.save("i0", FULL)

    assert disk.path.read_bytes() == b"of somebody else"


def test_handing_over(disk: Disk) -> None:
    """An instance that another exporter reads keeps its counters, and begins with a baseline."""
    disk.keep("i0", SOME)
    file = disk.open()
    file.hand_over("i0")
    file.close()

    found = disk.open().load("i0")

    assert (found.baseline_at, found.counted, found.counts) == (None, {}, SOME.counts)


def test_handing_over_the_unknown(disk: Disk) -> None:
    """An instance without a state gets none by being handed over."""
    file = disk.open()
    file.hand_over("i0")
    file.close()

    assert execute(disk.path, "SELECT * FROM instance_state") == []


def test_the_log_names_the_state_file(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """A log line says that it is about the state file, and what cannot be done with it."""
    disk.path = disk.path.parent / "later" / "state.db"
    file = disk.open()
    disk.clock.advance(RETRY_INTERVAL)
    file.save("i0", SOME)

    assert [record.getMessage() for record in caplog.records] == [
        "cannot use the state file",
        "cannot save the state file",
    ]
    assert {record.fields["state"] for record in caplog.records} == {disk.path}  # type: ignore[attr-defined]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: S603 - a test's
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607 - a test's own


def scraped_errors(path: Path) -> tuple[float | None, float | None, str]:
    """Run an exporter with this state file; return a count, the errors and the problem."""
    with world(1) as here:
        text = f"{here.config_text()}state: {{path: {path}}}\n"
        with exporter_of(here, text) as exporter:
            scrape(exporter, here.clock)
            here.cloud.start_task("i0", "EXTEND", "FAILED")
            found = scrape(exporter, here.clock)
            status = exporter.status().state
    assert status is not None
    return (
        value(found, "dcs_tasks_finished_total", task_name="EXTEND", status="FAILED"),
        value(found, "dcs_task_exporter_state_errors_total"),
        status.problem,
    )


def fill(path: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while os.write(descriptor, b"x" * 4096):
            pass
    os.close(descriptor)


@pytest.mark.real
def test_full_disk(small_disk: Path) -> None:
    """A full disk costs durability, not a scrape; metrics and status say so."""
    fill(small_disk / "ballast")

    counted, errors, problem = scraped_errors(small_disk / "state.db")

    assert (counted, bool(errors)) == (1, True)
    assert "full" in problem or "unable to open" in problem


@pytest.mark.real
def test_disk_that_fills_up(small_disk: Path) -> None:
    """A disk that fills up later leaves no file behind that knows less than was shown."""
    disk = Disk(small_disk / "state.db", SettableClock())
    file = disk.open()
    file.save("i0", SOME)
    many = replace(SOME, counted={f"{number:032x}": NOW for number in range(20_000)})
    file.save("i0", many)
    assert "full" in file.status.problem
    assert not disk.path.exists()

    disk.clock.advance(RETRY_INTERVAL)
    file.save("i0", SOME)
    file.close()

    assert disk.open().load("i0").counts == SOME.counts
    disk.close()


@pytest.mark.real
def test_read_only_disk(small_disk: Path) -> None:
    """A folder that cannot be written to costs durability, not a scrape."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)  # noqa: S603, S607

    counted, errors, problem = scraped_errors(small_disk / "state.db")

    assert (counted, bool(errors)) == (1, True)
    assert "counts are kept in memory only" in problem


@pytest.mark.parametrize("spoil", [truncated, text, later, foreign])
def test_scrapes_beside_an_unusable_file(disk: Disk, spoil: object) -> None:
    """With each unusable file the exporter starts and counts, and the error is a metric."""
    spoil(disk)  # type: ignore[operator]

    assert scraped_errors(disk.path) == (1, 1, "")


# The file is the one that was opened: what becomes of it while the exporter runs.


def deleted(disk: Disk) -> None:
    """Delete the file and what is beside it."""
    for path in disk.path.parent.glob("state.db*"):
        path.unlink()


def deleted_alone(disk: Disk) -> None:
    """Delete the file, and leave what is beside it."""
    disk.path.unlink()


def deleted_beside(disk: Disk) -> None:
    """Delete what is beside the file: its latest commits."""
    disk.path.with_name("state.db-wal").unlink()


def replaced(disk: Disk) -> None:
    """Put an earlier copy in its place, as a restored backup does."""
    earlier = Disk(disk.path.with_name("earlier.db"), disk.clock)
    earlier.keep("i0", replace(SOME, counts={("EXTEND", "FAILED"): 1}))
    earlier.path.rename(disk.path)


def replaced_by_a_text(disk: Disk) -> None:
    """Put a text file in its place."""
    disk.path.with_name("diary").write_text("This is my diary.\n")
    disk.path.with_name("diary").rename(disk.path)


def overwritten(disk: Disk) -> None:
    """Write something else into it."""
    disk.path.write_text("This is my diary.\n" * 1000)


def emptied(disk: Disk) -> None:
    """Cut the file to nothing."""
    os.truncate(disk.path, 0)


def cut_beside(disk: Disk) -> None:
    """Cut what is beside the file."""
    os.truncate(disk.path.with_name("state.db-wal"), 100)


FATES = (
    (deleted, "was deleted"),
    (deleted_alone, "was deleted"),
    (deleted_beside, "its latest part, the -wal file, was deleted"),
    (replaced, "was replaced"),
    (replaced_by_a_text, "was replaced"),
    (overwritten, "was written to by another"),
    (emptied, "was cut"),
    (cut_beside, "its latest part, the -wal file, was cut"),
)


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log said of the file."""
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return [record.fields["problem"] for record in records]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fate", [fate for fate, _ in FATES])
def test_a_file_that_is_lost_while_it_is_used(disk: Disk, fate: object) -> None:
    """Whatever becomes of the file, the next save of one instance brings back all that were saved.

    So a restart, also after a kill, goes on where the counters were.
    """
    file = disk.open()
    for number in range(50):
        file.save(f"i{number}", SOME)
    fate(disk)  # type: ignore[operator]
    file.save("i7", replace(SOME, counts={("EXTEND", "FAILED"): 3}))
    found = copied(disk)

    assert [found.load(f"i{number}").counts for number in range(50) if number != 7] == [
        SOME.counts
    ] * 49
    assert found.load("i7").counts == {("EXTEND", "FAILED"): 3}


def copied(disk: Disk) -> StateFile:
    """Open a copy of the file as it is now: what a process finds after a kill."""
    there = disk.path.parent / "killed"
    there.mkdir()
    for name in ("state.db", "state.db-wal"):
        if disk.path.with_name(name).exists():
            shutil.copy(disk.path.with_name(name), there)
    return Disk(there / "state.db", disk.clock, disk.opened).open()


@pytest.mark.parametrize(("fate", "problem"), FATES)
def test_a_lost_file_is_said_once(
    disk: Disk, caplog: pytest.LogCaptureFixture, fate: object, problem: str
) -> None:
    """What became of the file is in the log and counted; after it is written anew all is well."""
    file = disk.open()
    file.save("i0", SOME)
    disk.clock.advance(60)
    fate(disk)  # type: ignore[operator]
    for _ in range(3):
        file.save("i0", SOME)

    assert problems(caplog)[0] == f"{problem} while it was in use"
    assert len(problems(caplog)) == file.status.errors <= 2
    assert (file.status.problem, file.status.last_save) == ("", NOW + 60)


@pytest.mark.parametrize("fate", [fate for fate, _ in FATES])
def test_no_second_process_takes_a_lost_file(disk: Disk, fate: object) -> None:
    """Once the loss was noticed, a second process that wants the path is told so, as ever."""
    file = disk.open()
    file.save("i0", SOME)
    fate(disk)  # type: ignore[operator]
    file.save("i0", SOME)

    with pytest.raises(StateLockedError):
        disk.open()


@pytest.mark.parametrize("fate", [fate for fate, _ in FATES])
def test_a_lost_file_is_written_at_the_end(disk: Disk, fate: object) -> None:
    """A file that is lost after the last save is written anew when the exporter stops."""
    file = disk.open()
    file.save("i0", SOME)
    fate(disk)  # type: ignore[operator]
    file.close()

    assert disk.open().load("i0").counts == SOME.counts


@pytest.mark.parametrize("fate", [deleted, deleted_alone, replaced])
def test_instances_that_nobody_asked_for_are_not_lost(disk: Disk, fate: object) -> None:
    """Counts of an instance that is not watched in this life come back with the others."""
    disk.keep("gone", SOME)
    file = disk.open()
    file.save("i0", SOME)
    fate(disk)  # type: ignore[operator]
    file.save("i0", SOME)
    file.close()

    assert disk.open().load("gone").counts == SOME.counts


def test_a_file_that_was_put_there_is_kept(disk: Disk) -> None:
    """What somebody put in the place of the file is set aside, whole."""
    file = disk.open()
    file.save("i0", SOME)
    replaced(disk)
    file.save("i0", SOME)

    (name,) = [name for name in disk.aside() if not name.endswith("-wal")]
    found = Disk(disk.path.with_name(name), disk.clock, disk.opened).open().load("i0")
    assert found.counts == {("EXTEND", "FAILED"): 1}


def test_a_file_of_another_exporter_is_left_alone(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleted, and made again by a second exporter: the first keeps its counts in memory, says so.

    It does not write to the other's file.
    """
    first = disk.open()
    first.save("i0", SOME)
    deleted(disk)
    second = disk.open()
    theirs = replace(SOME, counts={("EXTEND", "FAILED"): 7})
    second.save("i0", theirs)
    for _ in range(5):
        disk.clock.advance(RETRY_INTERVAL)
        first.save("i0", SOME)
        second.save("i0", theirs)

    assert "in use by another process" in first.status.problem
    assert (second.status.problem, second.status.errors) == ("", 0)
    assert len(problems(caplog)) == 2
    first.close()
    second.close()
    assert (disk.open().load("i0"), disk.aside()) == (theirs, [])


def test_a_path_that_the_other_exporter_left(disk: Disk) -> None:
    """When the second exporter ends, the first takes the path back and sets the other's aside."""
    first = disk.open()
    first.save("i0", SOME)
    first.save("i1", SOME)
    deleted(disk)
    second = disk.open()
    theirs = replace(SOME, counts={("EXTEND", "FAILED"): 7})
    second.save("i0", theirs)
    first.save("i0", SOME)
    second.close()
    disk.clock.advance(RETRY_INTERVAL)
    first.save("i0", SOME)
    first.close()

    again = disk.open()
    assert (again.load("i0").counts, again.load("i1").counts) == (SOME.counts, SOME.counts)
    (aside,) = [name for name in disk.aside() if not name.endswith("-wal")]
    assert Disk(disk.path.with_name(aside), disk.clock, disk.opened).open().load("i0") == theirs


def test_a_lost_folder(disk: Disk) -> None:
    """A folder that goes with the file is named; when it is back, so are the counts."""
    disk.path = disk.path.parent / "volume" / "state.db"
    disk.path.parent.mkdir()
    file = disk.open()
    file.save("i0", SOME)
    file.save("i1", SOME)
    shutil.rmtree(disk.path.parent)
    file.save("i0", SOME)
    assert file.status.problem.endswith(f"the folder {disk.path.parent} does not exist")

    disk.path.parent.mkdir()
    disk.clock.advance(RETRY_INTERVAL)
    file.save("i0", SOME)
    file.close()

    assert disk.open().load("i1").counts == SOME.counts


@pytest.mark.parametrize("fate", [fate for fate, _ in FATES])
def test_counts_survive_a_lost_file_and_a_restart(fate: object, tmp_path: Path) -> None:
    """The file is lost between two scrapes; after a restart the counters go on all the same.

    As ever, the first scrape of a life shows what the last one did.
    """
    failed = {"task_name": "EXTEND", "status": "FAILED"}
    found = []
    disk = Disk(tmp_path / "state.db", SettableClock())
    with world(1) as here:
        text = f"{here.config_text()}state: {{path: {disk.path}}}\n"
        for life in range(2):
            with exporter_of(here, text) as exporter:
                for _ in range(3):
                    here.cloud.start_task("i0", "EXTEND", "FAILED")
                    found.append(scrape(exporter, here.clock))
                if not life:
                    fate(disk)  # type: ignore[operator]
                    found.append(scrape(exporter, here.clock))

    counts = [value(one, "dcs_tasks_finished_total", **failed) for one in found]
    errors = value(found[3], "dcs_task_exporter_state_errors_total")
    assert (counts, bool(errors)) == ([0, 1, 2, 2, 2, 4, 5], True)


def test_counts_survive_a_restart() -> None:
    """After a restart the counters go on, and what ended meanwhile is counted, once."""
    failed = {"task_name": "EXTEND", "status": "FAILED"}
    found = []
    with world(1) as here, TemporaryDirectory() as folder:
        text = f"{here.config_text()}state: {{path: {folder}/state.db}}\n"
        for _ in range(3):
            with exporter_of(here, text) as exporter:
                last = [scrape(exporter, here.clock) for _ in range(3)][-1]
            found.append(value(last, "dcs_tasks_finished_total", **failed))
            here.cloud.start_task("i0", "EXTEND", "FAILED")

    assert found == [0, 1, 2]


def test_removed_and_put_back() -> None:
    """An instance that leaves the configuration and returns neither loses nor doubles counts."""
    failed = {"task_name": "EXTEND", "status": "FAILED", "dcs_instance_id": "i0"}
    found = []
    with world(2) as here, TemporaryDirectory() as folder:
        text = f"{here.config_text()}state: {{path: {folder}/state.db}}\n"
        without = text.replace("      - {id: i0, name: cache-0}\n", "")
        for chosen in (text, without, text):
            with exporter_of(here, chosen) as exporter:
                last = [scrape(exporter, here.clock) for _ in range(3)][-1]
            found.append(value(last, "dcs_tasks_finished_total", **failed))
            here.cloud.start_task("i0", "EXTEND", "FAILED")

    assert found == [0, None, 2]


def test_two_instances_of_one_name() -> None:
    """Two instances with the same name have series of their own, by their ids."""
    with world(2) as here:
        text = here.config_text().replace("cache-1", "cache-0")
        with exporter_of(here, text) as exporter:
            found = scrape(exporter, here.clock)

    up = [dict(pairs) for (name, pairs) in found if name == "dcs_instance_up"]
    assert sorted(labels["dcs_instance_id"] for labels in up) == ["i0", "i1"]


KILLED = """
    import sys, time
    from dataclasses import replace
    from pathlib import Path
    from dcs_task_exporter.clock import Clock
    from dcs_task_exporter.state.file import StateFile
    from dcs_task_exporter.tasks.instance_state import InstanceState

    file = StateFile(Path(sys.argv[1]), Clock())
    state = InstanceState(baseline_at=1.0, refreshed_at=time.time())
    number = file.load("i0").counts.get(("EXTEND", "FAILED"), 0)
    while True:
        number += 1
        ids = {f"{number}-{at}": 1.0 for at in range(200)}
        file.save("i0", replace(state, counts={("EXTEND", "FAILED"): number}, counted=ids))
        print(number, flush=True)
"""


@pytest.mark.parametrize("_round", range(5))
def test_killed_in_a_commit(disk: Disk, _round: int) -> None:
    """A process killed while it commits leaves a file in order: all of a refresh, or none."""
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [sys.executable, "-c", textwrap.dedent(KILLED), str(disk.path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 20:
            break
    process.send_signal(signal.SIGKILL)
    told = [20, *map(int, process.stdout.read().split())]
    process.wait()
    process.stdout.close()

    assert execute(disk.path, "PRAGMA integrity_check") == [("ok",)]
    state = disk.open().load("i0")
    number = state.counts["EXTEND", "FAILED"]
    assert number in (told[-1], told[-1] + 1)
    assert set(state.counted) == {f"{number}-{at}" for at in range(200)}


def test_a_save_is_on_the_disk(disk: Disk) -> None:
    """A save ends when its bytes are on the disk: no shown count is lost with the power."""
    with contextlib.closing(connect(disk.path)) as connection:
        (level,) = connection.execute("PRAGMA synchronous").fetchone()

    assert level == FULL_SYNC


def test_bytes_of_a_save(disk: Disk) -> None:
    """One new task among 5,000 takes a few pages of the file, not all of them."""
    ids = {f"{number:032x}": NOW for number in range(5000)}
    disk.keep("i0", replace(SOME, counted=ids))
    file = disk.open()
    before = file.load("i0")
    file.save("i0", replace(before, counted={**ids, "new": NOW}))

    assert disk.path.with_name("state.db-wal").stat().st_size < 50_000


def test_header(disk: Disk) -> None:
    """The file says what it is, for `file` and for the next version."""
    disk.open().close()

    assert execute(disk.path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert execute(disk.path, "PRAGMA integrity_check") == [("ok",)]


# When a state is saved, and what a failed save costs: single steps.


@pytest.mark.parametrize(("seconds", "saved"), [(86_399.5, False), (86_400.0, True)])
def test_an_unchanged_state_is_saved_once_a_day(disk: Disk, seconds: float, *, saved: bool) -> None:
    """A state that does not change is saved when it was not for a day."""
    file = disk.open()
    file.save("i0", SOME)
    disk.clock.advance(seconds)
    file.save("i0", SOME)

    assert file.status.last_save == NOW + (seconds if saved else 0)


def test_the_first_save_of_a_life(disk: Disk) -> None:
    """A process saves a state that it found once, so that its age goes on."""
    disk.keep("i0", SOME)
    file = disk.open()
    file.load("i0")
    file.save("i0", SOME)

    assert file.status.last_save == NOW


@pytest.mark.parametrize(
    ("before", "after", "saved"),
    [
        (NOW, NOW + 299.5, False),
        (NOW, NOW + 300, True),
        (NOW, NOW - 299.5, False),
        (NOW, NOW - 300, True),
        (None, 300.0, True),
        (300.0, None, True),
    ],
)
def test_the_time_of_a_refresh_is_saved_now_and_then(
    disk: Disk, before: float | None, after: float | None, *, saved: bool
) -> None:
    """A state of which only the time changed is saved if that moved by five minutes."""
    file = disk.open()
    file.save("i0", replace(SOME, refreshed_at=before))
    disk.clock.advance(1)
    file.save("i0", replace(SOME, refreshed_at=after))

    assert file.status.last_save == NOW + saved


def test_what_is_handed_over(disk: Disk) -> None:
    """An instance with a state is saved as one that another reads; one without is not saved."""
    disk.keep("i0", SOME)
    file = disk.open()
    file.hand_over("i0")
    file.hand_over("i1")
    file.close()

    assert execute(disk.path, "SELECT instance_id FROM instance_state") == [("i0",)]
    assert disk.open().load("i0") == handed_over(SOME)


def test_what_was_set_aside_is_told(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is set aside is named; at the start that means that counting begins anew."""
    foreign(disk)
    disk.keep("i0", SOME)
    execute(disk.path, "UPDATE instance_state SET state = '[]'")
    disk.open().load("i0")

    first, second = problems(caplog)
    told = "; it was set aside as state.db.set-aside-20250615T150640Z"
    assert first == f"is a database of another program{told}, counting begins anew"
    assert second.startswith("is damaged: ")
    assert second.endswith(f"{told}-2")


def test_a_file_that_cannot_be_written_anew(disk: Disk) -> None:
    """It is tried again after ten seconds, and each try is counted."""
    disk.path = disk.path.parent / "later" / "state.db"
    file = disk.open()
    errors = []
    for seconds in (9.5, 0.5, 9.5, 0.5):
        disk.clock.advance(seconds)
        file.save("i0", SOME)
        errors.append(file.status.errors)

    assert errors == [1, 2, 2, 3]


FULL_DISK = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL_DISK, "No space left on device"),
        (sqlite3.OperationalError("disk is full"), "disk is full"),
    ],
)
def test_a_save_that_fails(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """The file is removed, because it is behind; a new one is written ten seconds later."""
    file = disk.open()
    file.save("i0", SOME)
    more = replace(SOME, counts={("EXTEND", "FAILED"): 3})
    with monkeypatch.context() as patch:
        patch.setattr("dcs_task_exporter.state.file.write_changes", raising(error))
        file.save("i0", more)
    kept = "cannot be saved to; counts are kept in memory only: "
    assert (file.status.problem, disk.path.exists()) == (f"{kept}{reason}", False)
    disk.clock.advance(RETRY_INTERVAL - 0.5)
    file.save("i0", more)
    assert not disk.path.exists()
    disk.clock.advance(0.5)
    file.save("i0", more)
    file.close()

    assert (file.status.problem, file.status.errors) == ("", 1)
    assert disk.open().load("i0").counts == more.counts


def raising(error: Exception) -> Callable[..., None]:
    """Return a function that raises an error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_file_that_is_behind_and_stays(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is behind, and cannot be removed, is told: somebody must do it."""
    file = disk.open()
    file.save("i0", SOME)
    with monkeypatch.context() as patch:
        patch.setattr("dcs_task_exporter.state.file.write_changes", raising(FULL_DISK))
        patch.setattr(Path, "unlink", raising(FULL_DISK))
        file.save("i0", replace(SOME, counts={}))

    assert file.status.problem == (
        "cannot be saved to, and must be removed before the next start because it is behind; "
        "counts are kept in memory only: No space left on device"
    )
