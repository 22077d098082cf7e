"""Runs a command in this process: the start of another costs half a second of CPU."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from dcs_task_exporter.cli import main


def run_here(*arguments: str, folder: Path | None = None, **environ: str) -> CompletedProcess[str]:
    """Run a command that ends by itself; what it prints is also this process's output.

    There `tests/support/secret_watch.py` looks at it.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        if folder is not None:
            patch.chdir(folder)
        for name, text in environ.items():
            patch.setenv(name, text)
        status = main(arguments)
    sys.stdout.write(out.getvalue())
    sys.stderr.write(err.getvalue())
    return CompletedProcess(arguments, status, out.getvalue(), err.getvalue())
