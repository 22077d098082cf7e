"""How much memory a process holds."""

from __future__ import annotations

from pathlib import Path


def memory_peak(process: int | str = "self") -> float:
    """Return the most memory, in MB, that this process ever held, or the one with this id."""
    # Not by getrusage: a process inherits the peak of the one that started it.
    return _memory("VmHWM", process)


def memory_now() -> float:
    """Return the memory that this process holds, in MB."""
    return _memory("VmRSS", "self")


def _memory(key: str, process: int | str) -> float:
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(text.partition(f"{key}:")[2].split()[0]) / 1024
