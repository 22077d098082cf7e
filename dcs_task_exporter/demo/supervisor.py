"""Runs the programs beside the demo, and ends them with the demo, however that one ends.

A program of its own, with nothing but the standard library: a process that was killed can end no
other. Its standard input is a pipe whose other end only the demo has, so the input ends when the
demo does. The first line of it says what to run, in JSON. What the programs print goes to files in
a folder of their own, which is removed with them; one that ends by itself is told in one line.
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
from typing import Any, Final, TextIO

STOP_PATIENCE: Final = 5.0
"""Seconds that a program has to end in order."""

LONGEST_REASON: Final = 300
"""Characters of a program's last words that are told."""


def supervise(orders: TextIO, said: TextIO) -> None:
    """Run what the first line of `orders` says, until `orders` ends.

    The line is ``{"files": {NAME: TEXT}, "programs": {NAME: COMMAND}}``; the files are written to
    the folder in which the programs run.
    """
    line = orders.readline()
    if not line:
        return
    plan: Mapping[str, Mapping[str, Any]] = json.loads(line)
    with (
        tempfile.TemporaryDirectory(prefix="dcs-task-demo-", ignore_cleanup_errors=True) as name,
        ExitStack() as programs,
    ):
        folder, ending = Path(name), threading.Event()
        for file, text in plan["files"].items():
            (folder / file).write_text(text)
        for program, command in plan["programs"].items():
            try:
                programs.enter_context(_running(program, command, folder, ending, said))
            except OSError as error:
                _say(said, f"cannot start {program}: {error.strerror}")
        try:
            orders.read()
        finally:
            ending.set()


@contextmanager
def _running(
    program: str, command: Sequence[str], folder: Path, ending: threading.Event, said: TextIO
) -> Iterator[None]:
    log = folder / f"{program}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - what the demo found
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def watch() -> None:
        status = process.wait()
        if not ending.is_set():
            _say(said, f"{program} ended by itself with exit status {status}: {_last_line(log)}")

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
    return lines[-1][:LONGEST_REASON] if lines else "it said nothing"


def _say(said: TextIO, text: str) -> None:
    said.write(f"{text}\n")
    said.flush()


def main() -> None:
    """Supervise, and say in one line why that cannot be."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        supervise(sys.stdin, sys.stdout)
    except OSError as error:
        _say(sys.stdout, f"cannot run Prometheus beside the demo: {error}")


if __name__ == "__main__":
    main()
