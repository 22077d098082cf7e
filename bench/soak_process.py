"""The size of a process over time: its memory, threads, descriptors and state file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measuring import memory_now

SHARE: Final = 0.05
"""By how much memory and state file may grow."""

MORE_THREADS: Final = 2
MORE_DESCRIPTORS: Final = 5
"""How many more there may be: one leaked at each reload would be thirty."""


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes at one moment: memory in MB, files in KB."""

    rss: float
    threads: float
    descriptors: float
    database: float
    log: float

    @property
    def state(self) -> float:
        """The state file with its write-ahead log."""
        return self.database + self.log


def size_of(process: int, state: Path) -> Size:
    """Return the sizes of a process and of its state file now."""
    folder = Path(f"/proc/{process}")
    return Size(
        memory_now(process),
        len(os.listdir(folder / "task")),  # noqa: PTH208 - only counted
        len(os.listdir(folder / "fd")),  # noqa: PTH208 - likewise
        _kilobytes(state),
        _kilobytes(state.with_name(f"{state.name}-wal")),
    )


def _kilobytes(path: Path) -> float:
    return path.stat().st_size / 1024 if path.exists() else 0.0


def summary(sizes: Sequence[Size]) -> Size:
    """Return the median memory, and the most of everything else."""
    return Size(
        statistics.median(size.rss for size in sizes),
        max(size.threads for size in sizes),
        max(size.descriptors for size in sizes),
        max(size.database for size in sizes),
        max(size.log for size in sizes),
    )


def growth(early: Size, late: Size) -> Iterator[str]:
    """Yield what grew by more than it may."""
    for name, limit in (("rss", SHARE), ("state", SHARE)):
        before, after = getattr(early, name), getattr(late, name)
        if after > before * (1 + limit):
            yield f"{name}: from {before:.1f} to {after:.1f}, by more than {limit:.0%}"
    for name, more in (("threads", MORE_THREADS), ("descriptors", MORE_DESCRIPTORS)):
        before, after = getattr(early, name), getattr(late, name)
        if after > before + more:
            yield f"{name}: from {before:.0f} to {after:.0f}, by more than {more}"


def line(minute: float, size: Size) -> str:
    """Return the sizes at a minute as a line of a table."""
    return (
        f"{minute:>6.1f} min: {size.rss:.1f} MB, {size.threads:.0f} threads, "
        f"{size.descriptors:.0f} descriptors, state {size.database:.0f} + {size.log:.0f} KB"
    )
