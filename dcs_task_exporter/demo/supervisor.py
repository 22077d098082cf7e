"""Runs the programs beside the demo, and ends them however the demo ends.

A process of its own, because a demo that is killed cannot end the others. Standard input is a pipe
from the demo alone, so it ends with the demo. Its first line is JSON:
``{"files": {NAME: TEXT}, "programs": {NAME: COMMAND}}``. The files are written to a temporary
folder; the programs run there, and write their output there. A line on standard output reports each
program that ends by itself. Imports only the standard library: ``python -I`` runs it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

STOP_PATIENCE: Final = 5.0
"""Seconds that a program has to end after SIGTERM, before it is killed."""


def supervise(plan: Mapping[str, Mapping[str, Any]]) -> None:
    """Run the programs of a plan until standard input ends."""
    with (
        tempfile.TemporaryDirectory(prefix="dcs-task-demo-", ignore_cleanup_errors=True) as name,
        ExitStack() as running,
    ):
        folder, ending = Path(name), threading.Event()
        for file, text in plan["files"].items():
            (folder / file).write_text(text)
        for program, command in plan["programs"].items():
            try:
                running.enter_context(_running(program, command, folder, ending))
            except OSError as error:
                _say(f"cannot start {program}: {error.strerror}")
        try:
            sys.stdin.read()
        finally:
            ending.set()


@contextmanager
def _running(
    program: str, command: Sequence[str], folder: Path, ending: threading.Event
) -> Iterator[None]:
    log = folder / f"{program}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - what the demo found
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def watch() -> None:
        status = process.wait()
        if not ending.is_set():
            _say(f"{program} ended by itself with exit status {status}: {_last_line(log)}")

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").split("\n") if line.strip()]
    return lines[-1][:300] if lines else "no output"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Supervise; report in one line where that fails."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    line = sys.stdin.readline()
    try:
        if line:
            supervise(json.loads(line))
    except OSError as error:
        _say(f"cannot run Prometheus beside the demo: {error}")


if __name__ == "__main__":
    main()
