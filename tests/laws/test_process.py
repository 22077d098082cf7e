"""What the process needs of its machine, and what its machine sees of it."""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import requests
from starlette.types import Receive, Scope, Send

import dcs_task_exporter
from dcs_task_exporter.logs.formats import JsonFormatter, LogfmtFormatter, log_unforeseen
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import ACCESS_KEY, SECRET_KEY, World, samples, value, world_of_today
from tests.support.confined import USER, confinement, need_confinement, open_folder
from tests.support.log_stream import log_to
from tests.support.real_parts import ROOT
from tests.support.real_process import until_listening

PATIENCE = 30
SERVE = [sys.executable, "-m", "dcs_task_exporter", "--web.listen-address=127.0.0.1:0"]


@contextmanager
def serving(config: Path, command: Sequence[str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an exporter while the block lasts; yields its URL and its process."""
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*command, *SERVE, f"--config.file={config}"],
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        url, lines = until_listening(process.stderr or ())
        assert [told for told in lines if "level=error" in told] == []
        yield url, process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def here() -> Iterator[World]:
    with world_of_today(2) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.mark.real
def test_nobody_on_a_read_only_file_system(here: World, folder: Path) -> None:
    """Without any right, and without a file that it may write but its state, it does all its work.

    So it runs in a container with a read-only root, and under systemd's `ProtectSystem=strict`.
    """
    need_confinement()
    own = folder / "state"
    own.mkdir()
    config = folder / "config.yml"
    config.write_text(f"{here.config_text()}state: {{path: {own}/state.db}}\n")
    with serving(config, confinement(own)) as (url, process):
        found = samples(requests.get(f"{url}/metrics", timeout=PATIENCE).text)
        page = requests.get(url, timeout=PATIENCE)
        status = Path(f"/proc/{process.pid}/status").read_text()
        mounts = Path(f"/proc/{process.pid}/mounts").read_text()
        file = Path(f"/proc/{process.pid}/root{own}/state.db").stat()

    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1
    assert value(found, "dcs_task_exporter_state_errors_total") == 0
    assert page.ok
    assert (file.st_uid, stat.S_IMODE(file.st_mode)) == (USER, 0o600)
    assert re.findall(r"^Uid:\s+(.*)$", status, re.MULTILINE) == ["\t".join([str(USER)] * 4)]
    assert re.findall(r"^Cap(?:Eff|Bnd):\s+(.*)$", status, re.MULTILINE) == ["0" * 16] * 2
    assert re.search(r"^\S+ / \S+ ro[, ]", mounts, re.MULTILINE)


def test_what_other_users_see(here: World, folder: Path) -> None:
    """The command line that every user can read has no secret; no other process is started."""
    config = folder / "config.yml"
    config.write_text(here.config_text())
    with serving(config, []) as (url, process):
        assert requests.get(f"{url}/metrics", timeout=PATIENCE).ok
        line = Path(f"/proc/{process.pid}/cmdline").read_text()
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        children = [(thread / "children").read_text() for thread in threads]

    assert (ACCESS_KEY in line, SECRET_KEY in line, str(config) in line) == (False, False, True)
    assert "".join(children) == ""


# Tracebacks: where the error was, and not what the variables held.


def sign(name: str) -> None:
    """Break, with a secret in a variable."""
    secret = f"{name}-secret"
    message = f"unforeseen, with {len(secret)} letters"
    raise RuntimeError(message)


@pytest.mark.parametrize("formatter", [LogfmtFormatter(), JsonFormatter()], ids=["logfmt", "json"])
def test_the_log_shows_no_variable(formatter: logging.Formatter) -> None:
    """A traceback in the log has the places of an error, and no value of a variable."""
    stream, logger = StringIO(), logging.getLogger("dcs_task_exporter.test")
    with log_to(stream) as queue:
        queue.setFormatter(formatter)
        try:
            sign("local")
        except RuntimeError as error:
            logger.exception("broken")
            log_unforeseen(logger, "broken too", error, {})

    text = stream.getvalue()
    assert (text.count("in sign"), text.count("unforeseen, with 12 letters")) == (2, 2)
    assert "local-secret" not in text


def test_an_answer_shows_no_variable() -> None:
    """A request that breaks is answered with an error that says nothing of the code."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        sign("local")

    stream = StringIO()
    server = WebServer(app, [("127.0.0.1", 0)])
    with log_to(stream):
        server.start()
        answer = requests.get(server.url, timeout=PATIENCE)
        server.stop()

    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert "in sign" in stream.getvalue()
    assert "local-secret" not in stream.getvalue()


BROKEN = """
import sys, threading
from dcs_task_exporter import cli

def sign(name):
    secret = f"{name}-secret"
    raise RuntimeError(f"unforeseen, with {len(secret)} letters")

def command(arguments):
    thread = threading.Thread(target=sign, args=("local",))
    thread.start()
    thread.join()
    sign("local")

cli.COMMANDS = {"serve": "__main__:command"}
sys.exit(cli.main([]))
"""


def test_a_process_that_breaks_shows_no_variable() -> None:
    """Errors that nothing catches, in a thread and in the command itself, show no variable."""
    done = subprocess.run(  # noqa: S603 - a test's own
        [sys.executable, "-c", textwrap.dedent(BROKEN)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stderr.count("in sign")) == (1, 2)
    assert "local-secret" not in done.stdout + done.stderr


def test_nothing_shows_variables() -> None:
    """No module of the package uses a library, or a switch, that shows variables."""
    package = Path(dcs_task_exporter.__file__).parent
    showing = re.compile(r"cgitb|capture_locals=True|import rich|from rich|f_locals|debug=True")

    assert [path for path in package.rglob("*.py") if showing.search(path.read_text())] == []
