"""The watch for secrets: what it must find, in a test run of its own."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.real_parts import ROOT
from tests.support.secrets import MARK, secret, spellings

LEAKS = {
    "a message": "LOG.warning('with %s', SECRET)",
    "a field": "LOG.warning('with', extra={'fields': {'key': SECRET}})",
    "a traceback": """
        try:
            raise ValueError(SECRET)
        except ValueError:
            LOG.exception("broken")
        """,
    "a child of an error": """
        with pytest.raises(ExporterError):
            try:
                raise ValueError(SECRET)
            except ValueError as error:
                raise ExporterError("broken") from error
        """,
    "base64": "LOG.warning(base64.b64encode(f'user:{SECRET}'.encode()).decode())",
    "lower case": "LOG.warning(SECRET.lower())",
    "without the mark": """
        Redactor.of(["correct-horse-battery"])
        LOG.warning("correct-horse-battery")
        """,
    "standard output": "print(SECRET)",
    "a command": """
        print(SECRET)
        capsys.readouterr()
        """,
    "a process": """
        program = [sys.executable, "-c", f"print('{SECRET}')"]
        subprocess.run(program, stdout=subprocess.PIPE, check=True)
        """,
    "a line of a process": """
        program = [sys.executable, "-c", f"print('{SECRET}')"]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
        """,
    "the metrics": """
        with world(0) as here:
            here.cloud.add_instance(PROJECT, "i0", SECRET)
            with here.exporter() as exporter:
                scrape(exporter)
        """,
    "an answer": """
        with world(0) as here:
            here.cloud.add_instance(PROJECT, "i0", SECRET)
            with served(here) as url:
                get(url + "/")
        """,
    "a temporary folder": """
        with TemporaryDirectory() as folder:
            Path(folder, "state.db").write_text(SECRET)
        """,
}

HEAD = """
    from __future__ import annotations

    import base64
    import logging
    import subprocess
    import sys
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import pytest

    from dcs_task_exporter.errors import ExporterError
    from dcs_task_exporter.text.redaction import Redactor
    from tests.support.clouds import PROJECT, scrape, world
    from tests.support.secrets import secret
    from tests.support.served import get, served

    LOG = logging.getLogger("dcs_task_exporter")
    SECRET = secret("a-secret-")
    """

CLEAN = """
    with world(1) as here, served(here) as url:
        LOG.warning("with %s", "no secret")
        get(url + "/metrics")
    """

CONFTEST = """
    from tests.support import secret_watch

    def pytest_configure(config):
        config.pluginmanager.register(secret_watch)
    """


def function(name: str) -> str:
    """Return the name of the test of a leak."""
    return f"test_{re.sub('[^a-z0-9]', '_', name)}"


def run(folder: Path, tests: dict[str, str], *flags: str) -> tuple[int, dict[str, str]]:
    """Run tests under the watch; return the exit status, and the errors by test."""
    (folder / "conftest.py").write_text(dedent(CONFTEST))
    parts = [dedent(HEAD)]
    for name, body in tests.items():
        lines = dedent(body).strip().replace("\n", "\n    ")
        parts.append(f"def {function(name)}(capsys, tmp_path):\n    {lines}\n")
    (folder / "test_leaks.py").write_text("\n\n".join(parts))
    done = subprocess.run(  # noqa: S603 - a test's own
        [sys.executable, "-m", "pytest", "-rE", "--tb=no", f"--rootdir={folder}",
         f"--basetemp={folder / 'tmp'}", "-p", "no:cacheprovider", "-p", "no:cloudcoil",
         "--import-mode=importlib", *flags, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
    )  # fmt: skip
    assert "test session starts" in done.stdout, done.stderr + done.stdout
    shutil.rmtree(folder / "tmp")  # else the watch over this run finds them too
    found = re.findall(r"^ERROR test_leaks\.py::(\w+) - (.*)$", done.stdout, re.MULTILINE)
    return done.returncode, dict(found)


def test_every_leak_fails_its_test(tmp_path: Path) -> None:
    """A test in which a secret leaks fails, whatever the outlet, and one without does not."""
    status, errors = run(tmp_path, {"clean": CLEAN, **LEAKS})

    assert status == 1
    assert set(errors) == set(map(function, LEAKS))


@pytest.mark.parametrize("flags", [(), ("-n", "2")], ids=["one process", "workers"])
def test_a_state_file_that_is_left(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """A secret in a file that a test has left fails the run, also one of several processes."""
    body = "(tmp_path / 'state.db').write_text(SECRET)"
    status, errors = run(tmp_path, {"leaves a file": body, "clean": "pass"}, *flags)

    assert status == 1
    assert len(errors) == 1
    assert "a secret leaked: the file " in "".join(errors.values())


@pytest.mark.parametrize("shift", range(3))
def test_spellings_in_base64(shift: int) -> None:
    """Wherever a secret stands in what base64 encodes, one of its spellings is found."""
    text = base64.b64encode(b"x" * shift + secret("a").encode() + b"yz").decode()

    assert any(spelled in text for spelled in spellings(MARK))
