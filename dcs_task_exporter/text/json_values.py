"""Single values of the API's JSON, whose types nothing guarantees.

The page and the samples contradict each other: numbers come as text, text as numbers, and
anything may be null or absent (`dcs-api.md` section 2).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.text.display import MAX_LABEL, identifier, label

MAX_NUMBER: Final = 1e15
"""Largest number that is one: what is beyond, infinity too, is no capacity, port or progress."""

MAX_LISTED: Final = 100
"""Most texts and tags that one list has."""

_USUAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):?(\d\d))?"
)


def parse_time(value: object) -> float | None:
    """Return a Unix time in seconds for ``2020-06-17T07:38:42.503Z``, or None.

    Also takes other fractions, offsets, and milliseconds since the epoch as the job API has them.
    """
    text = text_of(value)
    if _USUAL_TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(f"{text[:-1]}+00:00").timestamp()
        except ValueError:
            return None
    if text.isascii() and text.isdigit() and len(text) in (10, 13):
        return int(text) / (1000 if len(text) == len("1592381886597") else 1)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    fraction, sign, hours, minutes = match.groups()[6:]
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    whole = int(moment.timestamp()) - offset
    return float(f"{whole}.{fraction}") if fraction and whole >= 0 else float(whole)


def object_of(data: object, what: str) -> Mapping[str, Any]:
    """Return a JSON object; raise `InvalidResponseError` for anything else."""
    if type(data) is dict:  # nearly always, and far quicker to ask
        return data
    if not isinstance(data, Mapping):
        message = f"{what} is {type(data).__name__}, not an object"
        raise InvalidResponseError(message)
    return data


def required(row: Mapping[str, Any], key: str, what: str) -> str:
    """Return the id under a key; raise `InvalidResponseError` when there is none."""
    value = id_of(row.get(key))
    if not value:
        message = f"{what} has no {key}"
        raise InvalidResponseError(message)
    return value


def text_of(value: object) -> str:
    """Return a text, a number or a boolean as a label may be, and anything else as empty."""
    if type(value) is str and len(value) <= MAX_LABEL and value.isprintable():
        return value.strip()  # nearly always
    return label(_raw_text_of(value))


def id_of(value: object) -> str:
    """Return an id as a label may be; ids that differ still differ."""
    if type(value) is str and len(value) <= MAX_LABEL and value.isprintable():
        return value.strip()
    return identifier(_raw_text_of(value))


def _raw_text_of(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float):
        return str(value)
    return ""


def word_of(value: object) -> str:
    """Return a text that many tasks have in common, so that they hold one together."""
    return sys.intern(text_of(value))


def number_of(value: object) -> float | None:
    """Return a number of a sensible size, also one that is written as text, or None."""
    try:
        number = float(text_of(value))
    except ValueError:
        return None
    return number if abs(number) <= MAX_NUMBER else None


def integer_of(value: object) -> int | None:
    """Return a whole number of a sensible size, also one that is written as text, or None."""
    if type(value) is int and abs(value) <= MAX_NUMBER:
        return value
    number = number_of(value)
    return None if number is None else int(number)


def boolean_of(value: object) -> bool | None:
    """Return a boolean, also one that is written as text, or None."""
    if isinstance(value, bool):
        return value
    word = text_of(value).lower()
    return word == "true" if word in ("true", "false") else None


def texts_of(value: object) -> tuple[str, ...]:
    """Return the texts of a list, or none."""
    return tuple(map(text_of, value[:MAX_LISTED])) if isinstance(value, list) else ()


def tags_of(value: object) -> Mapping[str, str]:
    """Return the tags of a list of objects with ``key`` and ``value``."""
    if not isinstance(value, list):
        return {}
    pairs = [tag for tag in value[:MAX_LISTED] if isinstance(tag, Mapping)]
    return {
        text_of(tag.get("key")): text_of(tag.get("value"))
        for tag in pairs
        if text_of(tag.get("key"))
    }
