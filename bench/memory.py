"""Memory of the exporter with many tasks, over that of the SDK with the same answers."""

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

MANY: Final = ("5000", "10")
"""Instances, and tasks of each."""

PROCESS_RUNS: Final = 3
"""Fewer than of the others: a run takes a minute, and the peaks are alike."""

_SIZE: Final = (str(INSTANCES), str(TASKS))
SUBJECTS: Final[Mapping[str, Sequence[str]]] = {
    "SDK": ("memory_of_sdk", *_SIZE),
    "nothing changed": ("memory_of_exporter", "peak", *_SIZE, "0", "gzip"),
    "each listing changed": ("memory_of_exporter", "peak", *_SIZE, "1", "gzip"),
    "as text": ("memory_of_exporter", "peak", *_SIZE, "1", "text"),
}
"""The script and its words, by the subject of the measurement."""


def memory(say: Say) -> Iterator[Row]:
    """Measure the peak of each subject."""
    found: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    for _ in range(RUNS):
        for name, command in SUBJECTS.items():
            found[name].append(_printed_by(*command)[0])
    peaks = {name: statistics.median(peak) for name, peak in found.items()}
    told = ", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks.items())
    say(f"Peak memory, {INSTANCES} instances of {TASKS} tasks: {told}")
    what = "peak memory over the SDK's"
    yield Row(what, "<= 0.65", peaks["nothing changed"] / peaks["SDK"])
    yield Row(f"{what}{CHANGED}", "<= 0.65", peaks["each listing changed"] / peaks["SDK"])
    share = peaks["as text"] / peaks["SDK"]
    yield Row(f"{what}{CHANGED}, scraped as text without gzip", INFORMATION, share)


def process_memory(say: Say) -> Iterator[Row]:
    """Measure the peak of the whole process with many instances, scraped with and without gzip."""
    what = f"peak memory in MB of the process, {MANY[0]} instances of {MANY[1]} tasks"
    for changing, ending, wanted in (
        (str(CHANGING), f", {CHANGING:.0%} changed", "<= 300"),
        ("1", CHANGED, INFORMATION),
    ):
        peaks = [_printed_by("memory_of_process", *MANY, changing)[0] for _ in range(PROCESS_RUNS)]
        say(f"{what}{ending}: {', '.join(f'{peak:.0f}' for peak in peaks)}")
        yield Row(f"{what}{ending}", wanted, statistics.median(peaks))


def memory_growth(say: Say) -> Iterator[Row]:
    """Measure the growth over many scrapes; a few listings change before each."""
    words = (*_SIZE, str(CHANGING), str(SCRAPES))
    *held, took = _printed_by("memory_of_exporter", "growth", *words)
    say(
        f"Memory of {INSTANCES} instances of {TASKS} tasks, {CHANGING:.0%} changed at each scrape; "
        f"one run of {took:.0f} s; MB after each {SCRAPES // len(held)} scrapes: "
        f"{', '.join(f'{one:.1f}' for one in held)}"
    )
    what = f"growth of memory from the 100th to the {SCRAPES:,}th scrape"
    yield Row(what, "< 0.02", held[-1] / held[0] - 1)


def _printed_by(script: str, *words: str) -> list[float]:
    """Run a script of this folder, and return the numbers that it prints."""
    command = [sys.executable, "-m", f"bench.{script}", *words]
    done = subprocess.run(  # noqa: S603 - our own program
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    )
    return [float(word) for word in done.stdout.split()]
