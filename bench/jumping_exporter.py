"""The exporter on a machine whose clock jumps; the chaos run starts it as a process.

Its first word is a file with the seconds that the wall clock is ahead, as after `date --set`; the
others are the exporter's. The clock is replaced before anything else is imported.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def set_clock(offset: Path, ahead: float) -> None:
    """Write how far the clock is ahead, atomically."""
    new = offset.with_suffix(".new")
    new.write_text(str(ahead))
    new.replace(offset)


if __name__ == "__main__":
    true, ahead = time.time, Path(sys.argv[1])
    time.time = lambda: true() + float(ahead.read_text())

    from dcs_task_exporter.cli import main

    sys.exit(main(sys.argv[2:]))
