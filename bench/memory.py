"""Memory: what the exporter holds of many tasks, against the SDK holding the same answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

INSTANCES: Final = 1000
TASKS: Final = 50
SCRAPES: Final = 1000


def memory(say: Callable[[str], None]) -> Iterator[tuple[str, str, float, float]]:
    """Measure the peak of each in a process of its own, and the growth over many scrapes."""
    ours, refreshed = _printed_by("memory_of_exporter.py", "peak", INSTANCES, TASKS)
    (theirs,) = _printed_by("memory_of_sdk.py", INSTANCES, TASKS)
    say(
        f"Memory with {INSTANCES} instances of {TASKS} tasks: ours {ours:.0f} MB "
        f"({refreshed:.0f} before the first scrape), SDK {theirs:.0f} MB"
    )
    yield "peak memory over the SDK's", "<= 0.65", 0.65, ours / theirs
    early, late = _printed_by("memory_of_exporter.py", "growth", 100, SCRAPES)
    say(f"Memory of 100 instances after 100 and {SCRAPES} scrapes: {early:.1f} and {late:.1f} MB")
    yield f"growth of memory over {SCRAPES} scrapes", "< 0.02", 0.02, late / early - 1


def _printed_by(script: str, *words: object) -> list[float]:
    """Run a script by itself, so that nothing else weighs, and return the numbers it prints."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return [float(word) for word in done.stdout.split()]
