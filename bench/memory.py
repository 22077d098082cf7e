"""Memory: what the exporter holds of many tasks, against the SDK holding the same answers."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.measuring import CHANGED, INFORMATION, RUNS, Row, Say

INSTANCES: Final = 1000
TASKS: Final = 50
SCRAPES: Final = 1000
CHANGING: Final = 0.01

_SIZE: Final = (str(INSTANCES), str(TASKS))
SCRIPTS: Final[Mapping[str, Sequence[str]]] = {
    "SDK": ("memory_of_sdk", *_SIZE),
    "nothing changed": ("memory_of_exporter", "peak", *_SIZE, "0", "gzip"),
    "each listing changed": ("memory_of_exporter", "peak", *_SIZE, "1", "gzip"),
    "as text": ("memory_of_exporter", "peak", *_SIZE, "1", "text"),
}
"""What holds the answers; each is run by itself, so that nothing else weighs on it."""


def memory(say: Say) -> Iterator[Row]:
    """Measure the most that each ever held."""
    found: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    for _ in range(RUNS):
        for name, command in SCRIPTS.items():
            found[name].append(_printed_by(*command)[0])
    peaks = {name: statistics.median(peak) for name, peak in found.items()}
    told = ", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items())
    say(f"Peak memory, {INSTANCES} instances of {TASKS} tasks: {told}")
    what = "peak memory over the SDK's"
    yield Row(what, "<= 0.65", peaks["nothing changed"] / peaks["SDK"])
    yield Row(f"{what}{CHANGED}", "<= 0.65", peaks["each listing changed"] / peaks["SDK"])
    share = peaks["as text"] / peaks["SDK"]
    yield Row(f"{what}{CHANGED}, scraped as text without gzip", INFORMATION, share)


def memory_growth(say: Say) -> Iterator[Row]:
    """Measure how much more is held after many scrapes, before each of which a few changed."""
    words = (*_SIZE, str(CHANGING), str(SCRAPES))
    *held, took = _printed_by("memory_of_exporter", "growth", *words)
    say(
        f"Memory of {INSTANCES} instances of {TASKS} tasks, {CHANGING:.0%} changed at each scrape; "
        f"one run of {took:.0f} s; MB after each {SCRAPES // len(held)} scrapes: "
        f"{', '.join(f'{one:.1f}' for one in held)}"
    )
    what = f"growth of memory from the 100th to the {SCRAPES:,}th scrape"
    yield Row(what, "< 0.02", held[-1] / held[0] - 1)


def _printed_by(module: str, *words: str) -> list[float]:
    """Run a module of this folder, and return the numbers that it prints."""
    command = [sys.executable, "-m", f"bench.{module}", *words]
    done = subprocess.run(  # noqa: S603 - our own program
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    )
    return [float(word) for word in done.stdout.split()]
