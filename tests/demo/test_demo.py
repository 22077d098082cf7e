"""The demo as a person has it: what it starts, what it says, and what it leaves when it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import pytest
import requests

from dcs_task_exporter.demo.monitoring import INHERITED, free_port, monitoring
from dcs_task_exporter.simulator.story import DEMO_KEY
from tests.support.clouds import samples, value
from tests.support.command_line import run_here
from tests.support.real_parts import ROOT

NOT_IGNORING = ["/usr/bin/env", "--default-signal"]
"""What the tests ignore, under nohup or in the background, their programs do not."""

COMMAND = [*NOT_IGNORING, sys.executable, "-W", "ignore", "-m", "dcs_task_exporter"]
ANY_PORT = ["--web.listen-address=127.0.0.1:0"]
PATIENCE = 30
PROGRAM = """#!/bin/sh
echo noise of a program; echo noise of its errors >&2
echo "$PPID $$" >"$STARTED"
exec sleep 1000
"""
"""Stands in for Prometheus: says who runs it and who it is, and runs until it is told to end."""


@dataclass(frozen=True)
class Place:
    """A folder for a demo, with a `prometheus` on its path and a folder for temporary files."""

    folder: Path
    tools: Path
    temporary: Path
    started: Path

    def install(self, program: str, name: str = "prometheus") -> None:
        """Put a program on the path."""
        path = self.tools / name
        path.write_text(program.replace("$STARTED", str(self.started)))
        path.chmod(0o755)

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment of the demo."""
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "TMPDIR": str(self.temporary),
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(*(tmp_path / name for name in ("here", "tools", "temporary", "started")))
    for folder in (made.folder, made.tools, made.temporary):
        folder.mkdir()
    os.mkfifo(made.started)
    return made


@pytest.fixture
def demos() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def demo(demos: list[subprocess.Popen[str]], place: Place, *flags: str) -> subprocess.Popen[str]:
    """Start a demo; both its outputs are one pipe."""
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*COMMAND, "demo", *(flags or ANY_PORT)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=place.folder,
        env=place.environ,
    )
    demos.append(process)
    return process


def refused(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a demo that ends by itself."""
    return subprocess.run(  # noqa: S603 - a test's own
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=place.folder,
        env=place.environ,
    )


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """Return what a demo says of this, once it does."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(pattern, line):
            return found[1]
    message = "".join(lines)
    raise AssertionError(message)


@contextlib.contextmanager
def ends_of(place: Place) -> Iterator[list[int]]:
    """Yield what can be waited on: the ends of the stand-in for Prometheus, and of its parent."""
    ids = [int(number) for number in place.started.read_text().split()]
    ends = [os.pidfd_open(number) for number in ids]
    try:
        yield ends
    finally:
        for number, end in zip(ids, ends, strict=True):
            if not select.select([end], [], [], 0)[0]:
                os.kill(number, signal.SIGTERM)  # so that the one ends what else it runs
        assert ended(ends)
        for end in ends:
            os.close(end)


def ended(ends: list[int]) -> bool:
    """Wait until processes have ended; return whether all have."""
    return all(select.select([end], [], [], PATIENCE)[0] for end in ends)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_what_the_demo_started_ends_with_it(
    demos: list[subprocess.Popen[str]], place: Place, number: signal.Signals
) -> None:
    """However the demo is ended, so is its Prometheus, and no temporary file stays."""
    place.install(PROGRAM)
    process = demo(demos, place)
    with ends_of(place) as ends:
        said(process, "msg=(listening)")

        process.send_signal(number)

        assert ended(ends)
    assert list(place.temporary.iterdir()) == []


def test_what_the_demo_started_ends_with_its_terminal(
    demos: list[subprocess.Popen[str]], place: Place
) -> None:
    """When the terminal is closed, the demo ends, and its Prometheus too."""
    place.install(PROGRAM)
    terminal, other_end = pty.openpty()
    name = os.ttyname(other_end)
    in_terminal = ["sh", "-c", 'terminal=$1; shift; exec "$@" <"$terminal" >"$terminal" 2>&1']
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*NOT_IGNORING, *in_terminal, "sh", name, *COMMAND, "demo", *ANY_PORT],
        text=True,
        cwd=place.folder,
        env=place.environ,
        start_new_session=True,  # whose first terminal becomes its own
    )
    demos.append(process)
    shown = b""
    while b"msg=listening" not in shown:  # earlier, its own handler of the signal is not set yet
        shown += os.read(terminal, 4096)
    os.close(other_end)
    with ends_of(place) as ends:
        os.close(terminal)

        assert process.wait(PATIENCE) == 0
        assert ended(ends)
    assert list(place.temporary.iterdir()) == []


def test_a_killed_demo_leaves_its_output_free(
    demos: list[subprocess.Popen[str]], place: Place
) -> None:
    """Nothing that the demo started holds its output, or writes there."""
    place.install(PROGRAM)
    process = demo(demos, place)
    with ends_of(place) as ends:
        said(process, "msg=(listening)")
        process.kill()
        output, _ = process.communicate(timeout=PATIENCE)

        assert ended(ends)
    assert "noise" not in output


def test_what_the_demo_started_gets_no_secret(
    demos: list[subprocess.Popen[str]], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its Prometheus nor what runs that one has the key of the demo's environment."""
    monkeypatch.setenv("HUAWEICLOUD_SDK_SK", "sk-of-a-real-account")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    place.install(PROGRAM)
    process = demo(demos, place)
    ids = place.started.read_text().split()
    environs = [Path(f"/proc/{number}/environ").read_bytes() for number in ids]
    process.terminate()
    process.communicate(timeout=PATIENCE)
    names = {part.partition(b"=")[0].decode() for text in environs for part in text.split(b"\0")}

    # A shell adds the folder it is in.
    assert names <= {*INHERITED, "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", ""}
    assert not [text for text in environs if b"sk-of-a-real-account" in text or b"hunter2" in text]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            "#!/bin/sh\necho starting; echo level=error no such flag >&2; exit 2\n",
            "Prometheus ended by itself with exit status 2: level=error no such flag",
        ),
        ("#!/bin/sh\n", "Prometheus ended by itself with exit status 0: no output"),
        ("no program", "cannot start Prometheus: Exec format error"),
    ],
)
def test_a_program_that_fails(
    monkeypatch: pytest.MonkeyPatch, place: Place, program: str, told: str
) -> None:
    """A Prometheus that does not run is told in one line, with its own last one."""
    place.install(program)
    for name in ("PATH", "TMPDIR"):
        monkeypatch.setenv(name, place.environ[name])
    lines: Queue[str] = Queue()

    with monitoring("127.0.0.1:1", "/metrics", place.folder, lines.put):
        first = lines.get(timeout=PATIENCE)

    assert (first, lines.empty()) == (told, True)
    assert list(place.temporary.iterdir()) == []


def test_a_busy_port(place: Place) -> None:
    """A taken port is told in one line; nothing else is said, and nothing is made."""
    place.install(PROGRAM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = refused(place, "demo", f"--web.listen-address=127.0.0.1:{port}")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"dcs-task-exporter: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another with --web.listen-address\n"
    )
    assert list(place.folder.iterdir()) == []


def test_a_second_demo(demos: list[subprocess.Popen[str]], place: Place) -> None:
    """A second demo in the same folder is refused in one line that says what to do."""
    said(demo(demos, place), "msg=(listening)")

    done = refused(place, "demo", "--web.listen-address=127.0.0.1:0")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "dcs-task-exporter: another demo runs in this folder and uses ./dcs-task-exporter-demo.db: "
        "end that one, or start this one in another folder\n"
    )


def test_port_0(demos: list[subprocess.Popen[str]], place: Place) -> None:
    """With port 0 the demo says the address that it got, and Prometheus scrapes it there."""
    place.install(PROGRAM)
    process = demo(
        demos, place, "--web.listen-address=127.0.0.1:0", "--web.telemetry-path=/elsewhere"
    )
    with ends_of(place):
        target, path = said(process, r"Scrape http://(\S+)").split("/")
        (folder,) = place.temporary.iterdir()
        config = (folder / "prometheus.yml").read_text()
        found = samples(requests.get(f"http://{target}/{path}", timeout=PATIENCE).text)

    assert value(found, "dcs_instance_up", dcs_instance_name="orders-cache") == 1
    assert f"metrics_path: '/{path}', static_configs: [{{targets: ['{target}']}}]" in config


def test_ports_of_the_programs() -> None:
    """A port that is chosen for a program is none that the system gives to a connection."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()

    assert free_port() < int(given[0])


@pytest.mark.parametrize(
    "flag",
    ["--config.file=x.yml", "--web.config.file=x.yml", "--shard=0", "--total-shards=2"],
)
@pytest.mark.parametrize("position", ["before", "after"])
def test_flags_that_the_demo_has_no_use_for(place: Place, flag: str, position: str) -> None:
    """A flag that the demo cannot honour is refused by its name, before the command or after."""
    words = [flag, "demo"] if position == "before" else ["demo", flag]

    done = run_here(*words, folder=place.folder)

    assert (done.returncode, done.stdout) == (2, "")
    assert flag.partition("=")[0] in done.stderr.splitlines()[-1]
    assert list(place.folder.iterdir()) == []


def test_the_key_of_the_demo_is_no_secret() -> None:
    """The demo's --help and its page in the docs give the key of its cloud."""
    help_text = run_here("demo", "--help").stdout

    assert [part for part in DEMO_KEY if part in help_text and f"`{part}`" in PAGE] == [*DEMO_KEY]


PAGE = (ROOT / "docs" / "demo.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("block", "instances"), [(BLOCKS[0], "1 instance"), (BLOCKS[1], "6 instances")]
)
def test_the_documented_commands_work(
    demos: list[subprocess.Popen[str]], place: Place, block: str, instances: str
) -> None:
    """What the docs tell to try against the demo's cloud works as it stands there."""
    cloud = said(demo(demos, place), r"The simulated cloud is at (\S+);")
    command = shlex.join(COMMAND)
    served = "dcs-task-exporter --web.listen-address=127.0.0.1:39328\n"
    assert block.endswith(served)
    script = f'dcs-task-exporter() {{ {command} "$@"; }}\n' + block.removesuffix(served)
    script = script.replace("http://127.0.0.1:12345", cloud)
    shutil.copy(ROOT / "config.example.yaml", place.folder)

    done = subprocess.run(  # noqa: S603 - a test's own
        ["bash", "-ec", script],  # noqa: S607 - likewise
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=place.folder,
        env=place.environ,
    )

    assert done.returncode == 0, done.stderr
    assert f"\nOK: {instances} of 1 project\n" in done.stdout
