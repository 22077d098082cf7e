"""Durations as Prometheus writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

_UNITS: Final[Mapping[str, float]] = {
    "y": 31_536_000,
    "w": 604_800,
    "d": 86_400,
    "h": 3_600,
    "m": 60,
    "s": 1,
    "ms": 0.001,
}
DURATION_PATTERN: Final = r"(?=\d)" + "".join(rf"(?:(\d{{1,9}}){unit})?" for unit in _UNITS)
"""A regular expression for the durations of Prometheus, except the bare 0."""


def parse_duration(value: object) -> float:
    """Return the seconds of a duration as Prometheus writes it: ``30s``, ``1h30m``, ``500ms``, 0.

    Raises `ValueError` with a suggestion.
    """
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if text == "0":
        return 0.0
    if not isinstance(value, bool) and re.fullmatch(r"[-+]?[\d.]+(e\+?\d+)?", text, re.ASCII):
        # A number of more digits could be a secret in a wrong key.
        short = isinstance(value, int) and 0 < value < 1_000_000  # noqa: PLR2004 - six digits
        example = f": write {value}s for seconds, or as in" if short else ", as in 30s,"
        message = f"needs a unit{example} 500ms, 5m, 1h30m, 7d"
        raise ValueError(message)
    match = re.fullmatch(DURATION_PATTERN, text, re.ASCII)
    if match is None:
        message = "a duration is expected, such as 500ms, 30s, 5m, 1h30m or 7d"
        raise ValueError(message)
    pairs = zip(match.groups(), _UNITS.values(), strict=True)
    seconds = math.fsum(int(count) * unit for count, unit in pairs if count)
    if seconds > 10 * _UNITS["y"]:
        message = "must be at most 10y"
        raise ValueError(message)
    return seconds
