"""The exporter on a machine whose clock jumps; the chaos run starts it as a process.

Its first word is a file with the seconds that the wall clock is ahead, as after `date --set`; the
others are the exporter's. The clock is replaced before anything else is imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path


def jumping(offset: Path, true: Callable[[], float] = time.time) -> Callable[[], float]:
    """Return a clock that is ahead of the true one by the seconds in a file."""
    return lambda: true() + float(offset.read_text())


def set_clock(offset: Path, ahead: float) -> None:
    """Write how far the clock is ahead, atomically."""
    new = offset.with_suffix(".new")
    new.write_text(str(ahead))
    new.replace(offset)


if __name__ == "__main__":
    time.time = jumping(Path(sys.argv[1]))

    from dcs_task_exporter.cli import main

    sys.exit(main(sys.argv[2:]))
