"""A program that runs beside a test or a benchmark, on a port of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30
"""Seconds that a program has to end in order."""


@contextmanager
def process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while the block lasts; its output goes to `log`."""
    with log.open("ab") as output:
        started = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603 - ours
    try:
        yield started
    finally:
        started.terminate()
        started.wait(PATIENCE)


def until_listening(log: Iterable[str]) -> tuple[str, list[str]]:
    """Read the log of an exporter until it listens; return its URL, and the lines up to there."""
    lines = []
    for line in log:
        lines.append(line)
        if found := re.search(r"msg=listening url=(\S+)", line):
            return found[1], lines
    message = "".join(lines)
    raise AssertionError(message)
