"""The exporter on a machine whose clock somebody sets: by a file that says how far it is ahead.

    python -m bench.jumping_exporter clock-offset --config.file=config.yml

Only the wall clock is set, as `date --set` would, and before anything else is imported.
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
    """Write how far the clock is ahead, so that nobody reads half of it."""
    new = offset.with_suffix(".new")
    new.write_text(str(ahead))
    new.replace(offset)


if __name__ == "__main__":
    time.time = jumping(Path(sys.argv[1]))

    from dcs_task_exporter.cli import main

    sys.exit(main(sys.argv[2:]))
