"""A program that runs beside a test or a benchmark, on a port of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
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
