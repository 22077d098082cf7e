"""Single values of the API's JSON, whose types nothing guarantees.

The page and the samples contradict each other: numbers come as text, text as numbers, and
anything may be null or absent (`dcs-api.md` section 2).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.text.display import MAX_LABEL, identifier, label

MAX_NUMBER: Final = 1e15
"""Largest number that is read: beyond it, infinity too, is no capacity, port or progress."""

MAX_LISTED: Final = 100
"""Most texts and tags that are read from one list."""


def object_of(data: object, subject: str) -> Mapping[str, Any]:
    """Return a JSON object; raise `InvalidResponseError` for anything else."""
    if not isinstance(data, dict):
        message = f"{subject} is {type(data).__name__}, not an object"
        raise InvalidResponseError(message)
    return data


def required(row: Mapping[str, Any], key: str, subject: str) -> str:
    """Return the id under a key; raise `InvalidResponseError` when there is none."""
    value = id_of(row.get(key))
    if not value:
        message = f"{subject} has no {key}"
        raise InvalidResponseError(message)
    return value


def text_of(value: object) -> str:
    """Return a text, a number or a boolean as a label, and anything else as the empty text."""
    if type(value) is str and len(value) <= MAX_LABEL and value.isprintable():
        return value.strip()  # nearly always
    return label(_plain(value))


def id_of(value: object) -> str:
    """Return an id as a label; ids that differ still differ."""
    return identifier(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else ""


def word_of(value: object) -> str:
    """Return a text that many tasks have in common, held once for all of them."""
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
    rows = value[:MAX_LISTED] if isinstance(value, list) else []
    pairs = [(text_of(row.get("key")), row.get("value")) for row in rows if isinstance(row, dict)]
    return {key: text_of(text) for key, text in pairs if key}
