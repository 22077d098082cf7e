"""What a process uses: memory, processor time, threads, descriptors, and its state file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
    return f"{minute:>6.1f} min: {told(size)}"


def told(size: Size) -> str:
    """Return the sizes in words."""
    return (
        f"{size.rss:.1f} MB, {size.threads:.0f} threads, "
        f"{size.descriptors:.0f} descriptors, state {size.database:.0f} + {size.log:.0f} KB"
    )


def memory_peak(process: int | str = "self") -> float:
    """Return the peak memory of this process, or of the one with this id, in MB."""
    # Not by getrusage: a process inherits the peak of the one that started it.
    return _memory("VmHWM", process)


def memory_now(process: int | str = "self") -> float:
    """Return the memory of this process, or of the one with this id, in MB."""
    return _memory("VmRSS", process)


def cpu_seconds(process: int) -> float:
    """Return the processor time that the process with this id has used, in seconds."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    fields = stat.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(key: str, process: int | str) -> float:
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(text.partition(f"{key}:")[2].split()[0]) / 1024
