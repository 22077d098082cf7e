"""Times as the API and the configuration write them."""

from __future__ import annotations

import pytest

from dcs_task_exporter.text.times import parse_time, time_text


@pytest.mark.parametrize("value", [None, "", "soon", [], {}, "2020-13-45T99:99:99Z", True])
def test_odd_times(value: object) -> None:
    """A time that cannot be read is none, and breaks nothing."""
    assert parse_time(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2020-06-17T08:18:06.597Z", 1592381886.597),
        ("2020-06-17T08:18:06Z", 1592381886.0),
        ("2020-06-17T16:18:06+08:00", 1592381886.0),
        ("1592381886597", 1592381886.597),
    ],
)
def test_times(value: str, expected: float) -> None:
    """Times are read with any fraction, any offset, or as milliseconds."""
    assert parse_time(value) == expected


@pytest.mark.parametrize(("digits", "is_read"), [(43, True), (44, False)])
def test_the_longest_time(digits: int, *, is_read: bool) -> None:
    """A text of more than 64 characters is no time, whatever it begins with."""
    assert (parse_time(f"2020-06-17T08:18:06.{'5' * digits}Z") is not None) is is_read


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [(1592381886.597, "2020-06-17 08:18"), (None, "unknown"), (1e18, "unknown")],
)
def test_written_times(timestamp: float | None, text: str) -> None:
    """A time is written in UTC; none, or one outside the calendar, is unknown."""
    assert time_text(timestamp, "%Y-%m-%d %H:%M") == text
