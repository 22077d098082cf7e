"""The sizes of a process, and when they have grown by too much."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bench.process_size import Size, growth, line, size_of, summary

SIZE = Size(rss=100, threads=9, descriptors=20, database=100, log=400)


def test_size(tmp_path: Path) -> None:
    """A process has memory, threads, descriptors; a state file that is not there has no size."""
    (tmp_path / "state.db-wal").write_bytes(b"x" * 2048)

    size = size_of(os.getpid(), tmp_path / "state.db")

    assert min(size.rss, size.threads, size.descriptors) > 0
    assert (size.database, size.log, size.state) == (0, 2, 2)


def test_summary() -> None:
    """A moment's memory is the median, everything else is the most."""
    assert summary([SIZE, replace(SIZE, rss=1, log=500), replace(SIZE, rss=900, threads=3)]) == (
        replace(SIZE, log=500)
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, ""),
        ({"rss": 105, "log": 420, "threads": 11, "descriptors": 25}, ""),
        ({"rss": 105.1}, "rss: from 100.0 to 105.1, by more than 5%"),
        ({"log": 426}, "state: from 500.0 to 526.0, by more than 5%"),
        ({"threads": 12}, "threads: from 9 to 12, by more than 2"),
        ({"descriptors": 26}, "descriptors: from 20 to 26, by more than 5"),
    ],
)
def test_growth(more: dict[str, float], told: str) -> None:
    """Five percent of memory and files, two threads and five descriptors are no growth."""
    assert "".join(growth(SIZE, replace(SIZE, **more))) == told


def test_line() -> None:
    """A line of the table says all sizes."""
    assert line(5, SIZE) == "   5.0 min: 100.0 MB, 9 threads, 20 descriptors, state 100 + 400 KB"
