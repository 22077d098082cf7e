"""The commands `state show` and `state verify`, as a person has them."""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dcs_task_exporter.arguments import UsageError
from dcs_task_exporter.cli import main
from dcs_task_exporter.commands.state import state_path
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Task
from tests.support.clouds import NOW, SettableClock
from tests.support.real_parts import ROOT

SOME = InstanceState(
    baseline_at=NOW,
    refreshed_at=NOW,
    counts={("EXTEND", "FAILED"): 2, ("modify", "SUCCESS"): 0},
    shown={("EXTEND", "FAILED"): 1},
    counted={"a": NOW, "b": NOW},
    active={"c": Task("c", "DeleteAcl", "EXECUTING", NOW + 50)},
    last_failure={"EXTEND": NOW},
)
REFRESHED = "2025-06-15T15:06:40Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "state.db"


@pytest.fixture
def used(path: Path) -> Iterator[StateFile]:
    """A file that an exporter uses while the test runs."""
    file = StateFile(path, SettableClock().clock)
    file.save("i0", SOME)
    file.save("i1", replace(SOME, counts={}))
    yield file
    file.close()


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - a test's own
        [sys.executable, "-m", "dcs_task_exporter", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )


@pytest.mark.usefixtures("used")
def test_show(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`state show` prints each count beside the value that is shown, and who has none."""
    assert main(["state", "show", f"--state.file={path}"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "INSTANCE  TASK    STATUS  COUNTED  SHOWN  REFRESHED",
        f"i0        EXTEND  FAILED  2        1      {REFRESHED}",
        f"i1 has no counted task; it was refreshed at {REFRESHED}",
    ]


@pytest.mark.usefixtures("used")
def test_show_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`state show --json` prints an object for each instance, with the tasks that it follows."""
    assert main(["state", "show", "--json", f"--state.file={path}"]) == 0

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "dcs_instance_id": "i0",
        "baseline_at": NOW,
        "refreshed_at": NOW,
        "counts": [
            {"task_name": "EXTEND", "status": "FAILED", "counted": 2, "shown": 1},
            {"task_name": "modify", "status": "SUCCESS", "counted": 0, "shown": 0},
        ],
        "active": [
            {
                "task_id": "c",
                "task_name": "DeleteAcl",
                "status": "EXECUTING",
                "created_at": NOW + 50,
            }
        ],
        "remembered_tasks": 2,
        "last_success": {},
        "last_failure": {"EXTEND": NOW},
    }
    assert second["dcs_instance_id"] == "i1"


@pytest.mark.usefixtures("used")
def test_verify(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`state verify` says that the file is in order, and what is in it."""
    assert main(["state", "verify", f"--state.file={path}"]) == 0

    shown = capsys.readouterr()
    assert shown.out == (
        f"{path}: in order: 2 instances, 2 counted tasks, refreshed at {REFRESHED}\n"
    )
    assert shown.err == ""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("show", "the file has no instance yet\n"),
        ("verify", "{path}: in order: 0 instances, 0 counted tasks, not refreshed yet\n"),
    ],
)
def test_an_empty_file(
    command: str, told: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that no exporter has used yet, both say that nothing is in it."""
    path.touch(mode=0o600)

    assert main(["state", command, f"--state.file={path}"]) == 0

    assert capsys.readouterr() == (told.format(path=path), "")


def test_beside_an_exporter_in_another_process(path: Path, used: StateFile) -> None:
    """Another process sees the latest commit of a running exporter, and takes nothing from it."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    done = run("state", "verify", f"--state.file={path}")

    assert (done.returncode, "2 instances, 2 counted tasks" in done.stdout) == (0, True)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    used.save("i0", replace(SOME, counts={("EXTEND", "FAILED"): 3}))
    assert used.status.errors == 0


def test_verify_of_a_damaged_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file that is damaged, `state verify` says what is wrong, with exit status 1."""
    path.write_text("This is my diary.\n")
    path.chmod(0o600)

    assert main(["state", "verify", f"--state.file={path}"]) == 1
    assert capsys.readouterr() == ("", f"{path}: cannot be used: file is not a database\n")


def test_show_of_a_row_without_sense(
    path: Path, used: StateFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """`state show` shows what can be read, names the instance that cannot, and exits with 1."""
    used.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE instance_state SET state = '{' WHERE instance_id = 'i1'")
        connection.commit()

    assert main(["state", "show", f"--state.file={path}"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].startswith("i0 ")
    assert shown.err.startswith(f"{path}: the state of instance i1 cannot be read: ")


def test_a_file_that_is_not_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is told in one line, with exit status 1, and none is made."""
    assert main(["state", "verify", f"--state.file={path}"]) == 1

    told = f"dcs-task-exporter: cannot read the state file {path}: No such file or directory\n"
    assert (capsys.readouterr().err, path.exists()) == (told, False)


def test_verify_warns_of_an_open_file(
    path: Path, used: StateFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that every user may read is in order, and `state verify` warns of it."""
    used.close()
    path.chmod(0o644)

    assert main(["state", "verify", f"--state.file={path}"]) == 0
    assert capsys.readouterr().err == (
        f"warning: {path}: every user of this machine may read it: chmod o-rw {path}\n"
    )


CONFIG = """
projects:
  - name: prod
    region: cn-north-4
    credentials: {type: access_key, access_key: key, secret_key: secret}
    instances: [{id: i0}]
"""


def test_check_warns_of_an_open_file(
    path: Path, used: StateFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` warns of a state file that every user may read; the configuration is valid."""
    used.close()
    path.chmod(0o644)
    config = tmp_path / "config.yml"
    config.write_text(f"{CONFIG}state: {{path: {path}}}\n")

    assert main(["check", f"--config.file={config}"]) == 0
    assert capsys.readouterr().err == (
        f"warning: state.path: every user of this machine may read it: chmod o-rw {path}\n"
    )


def test_the_path_of_the_configuration(path: Path, tmp_path: Path) -> None:
    """Without --state.file, the file is that of the configuration."""
    config, text = tmp_path / "config.yml", CONFIG
    config.write_text(f"{text}state: {{path: {path}}}\n")
    assert state_path(argparse.Namespace(state_file=None, config_file=config)) == path

    config.write_text(text)
    with pytest.raises(UsageError, match=r"no state\.path: name the file with --state\.file"):
        state_path(argparse.Namespace(state_file=None, config_file=config))


# Moving to another host: what docs/operations.md says.

MOVE = re.search(
    r"## Move to another host.*?```sh\n(.*?)```",
    (ROOT / "docs" / "operations.md").read_text(),
    re.DOTALL,
)
HOLD = """
import sys
from dataclasses import replace
from pathlib import Path
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.tasks.instance_state import InstanceState

file = StateFile(Path(sys.argv[1]), Clock())
for number in range(1, 8):
    file.save("i0", InstanceState(baseline_at=1.0, counts={("EXTEND", "FAILED"): number}))
print("saved", flush=True)
sys.stdin.read()
file.close()
"""


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_the_documented_copy(path: Path, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of the document bring all counts to the other host, also after a kill."""
    assert MOVE
    stop, copy = MOVE[1].splitlines()
    assert stop == "systemctl stop dcs-task-exporter"
    there = path.parent / "new-host"
    there.mkdir(mode=0o700)
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"saved\n"
    if end == "killed":
        process.kill()
    process.communicate(timeout=60)
    was_killed = path.with_name("state.db-wal").exists()
    copy = copy.replace("/var/lib/dcs-task-exporter/state.db", str(path))
    copy = copy.replace("new-host:/var/lib/dcs-task-exporter", str(there))
    subprocess.run(["bash", "-ec", f'scp() {{ cp "$@"; }}\n{copy}'], check=True)  # noqa: S603, S607 - likewise

    moved = StateFile(there / "state.db", SettableClock().clock)
    found = moved.load("i0").counts
    moved.close()
    assert (dict(found), was_killed) == ({("EXTEND", "FAILED"): 7}, end == "killed")
    assert main(["state", "verify", f"--state.file={there}/state.db"]) == 0
    assert "1 instance, 7 counted tasks" in capsys.readouterr().out
