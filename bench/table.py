"""The table of docs/performance.md: `make bench`.

Its rows are ratios, measured side by side on one machine, of medians of interleaved runs; absolute
times are for orientation only.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from bench import connections, memory, rendering, scrapes, sweeps
from bench.measuring import Row, Say
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection

Part = Callable[[Say], Iterator[Row]]
PARTS: Final[Mapping[str, Part]] = {
    part.__name__: part
    for part in (
        sweeps.warm_sweeps,
        sweeps.changed_sweeps,
        sweeps.serial_sweeps,
        connections.cold_sweep,
        connections.connection_cost,
        sweeps.limited_sweep,
        rendering.expositions,
        scrapes.scrapes_beside_a_refresh,
        sweeps.task_center_sweeps,
        memory.memory,
        memory.process_memory,
        memory.memory_growth,
        sweeps.growth,
        sweeps.saving_sweeps,
    )
}
HEAD: Final = "| what | must reach | ours | |\n|---|---|---|---|"


def main(parts: Sequence[str]) -> int:
    """Run these parts, or all; print each row at once, and the table at the end."""
    unknown = set(parts) - PARTS.keys()
    if unknown:
        say(f"No such part: {', '.join(sorted(unknown))}. There are: {', '.join(PARTS)}")
        return 2
    tune_garbage_collection()
    say(_machine())
    sweeps.capacity(say)
    rows: list[Row] = []
    try:
        for name in parts or PARTS:
            say("")
            for row in PARTS[name](say):
                rows.append(row)
                say(f"{row}")
    finally:
        say("")
        say(HEAD)
        for row in rows:
            say(f"{row}")
    return 0


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
