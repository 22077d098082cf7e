"""All benchmarks in one run, and the table of what must be reached: `make bench`.

Ratios, measured side by side on one machine; medians of interleaved runs. Absolute times are for
orientation only. Name a part to run only that one: `python bench/performance.py expositions`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import memory
import rendering
import sweeps
from sweeps import Row

from dcs_task_exporter.process import tune_garbage_collection

PARTS: Final[tuple[Callable[[Callable[[str], None]], Iterator[Row]], ...]] = (
    sweeps.warm_sweeps,
    sweeps.changing_sweep,
    sweeps.cold_sweep,
    sweeps.connection_cost,
    sweeps.limited_sweep,
    rendering.expositions,
    rendering.scrapes_beside_a_refresh,
    sweeps.spared,
    memory.memory,
    sweeps.growth,
)


def main(names: list[str]) -> int:
    """Run the parts with these names, or all, and print the table."""
    tune_garbage_collection()
    say(_machine())
    sweeps.capacity(say)
    rows = [row for part in PARTS if not names or part.__name__ in names for row in part(say)]
    say("")
    say("| what | must reach | ours | |")
    say("|---|---|---|---|")
    for what, wanted, bound, ours in rows:
        verdict = "" if _reached(wanted, bound, ours) else "falls short"
        say(f"| {what} | {wanted} | {ours:.3g} | {verdict} |")
    return 0


def _reached(wanted: str, bound: float, ours: float) -> bool:
    """Whether ours, as it is printed, is what is wanted."""
    shown = float(f"{ours:.3g}")
    return shown <= bound if wanted.startswith("<") else shown == bound


def _machine() -> str:
    models = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    today = datetime.now(tz=timezone.utc).date()
    processor = models[0] if models else "unknown processor"
    return f"{today}, {os.cpu_count()} x {processor}, Python {platform.python_version()}"


def say(text: str) -> None:
    """Print at once: a run takes minutes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
