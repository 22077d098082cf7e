"""How much memory this process holds."""

from __future__ import annotations

from pathlib import Path


def memory_peak() -> float:
    """Return the most memory that this process ever held, in MB."""
    # Not by getrusage: a process inherits the peak of the one that started it.
    return _memory("VmHWM")


def memory_now() -> float:
    """Return the memory that this process holds, in MB."""
    return _memory("VmRSS")


def _memory(key: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{key}:")[2].split()[0]) / 1024
