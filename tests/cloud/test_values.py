"""Single values of the API's JSON: anything may come, and each becomes a value of its type."""

from __future__ import annotations

from typing import Any

import pytest

from dcs_task_exporter.cloud.values import (
    MAX_LISTED,
    MAX_NUMBER,
    boolean_of,
    id_of,
    integer_of,
    number_of,
    object_of,
    required,
    tags_of,
    text_of,
    texts_of,
)
from dcs_task_exporter.errors import InvalidResponseError

ENDLESS = [
    float("inf"),
    float("-inf"),
    float("nan"),
    "inf",
    "-Infinity",
    "NaN",
    "1e999",
    "1e400",
    10**400,
    MAX_NUMBER * 10,
    -MAX_NUMBER * 10,
]


@pytest.mark.parametrize("value", ENDLESS, ids=lambda value: str(value)[:12])
def test_infinity_is_no_number(value: Any) -> None:
    """What is no number of a sensible size is none: infinity, no number, a thousand digits."""
    assert number_of(value) is None
    assert integer_of(value) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0.0),
        (-3, -3.0),
        ("0.125", 0.125),
        (" 7 ", 7.0),
        (MAX_NUMBER, MAX_NUMBER),
        (-MAX_NUMBER, -MAX_NUMBER),
        ("", None),
        ("many", None),
        (None, None),
        (True, None),
        ([], None),
        ({}, None),
    ],
)
def test_numbers(value: Any, number: float | None) -> None:
    """A number may come as text; all else is none."""
    assert number_of(value) == number


@pytest.mark.parametrize(
    ("value", "number"), [(5, 5), ("5", 5), (5.9, 5), ("-5.9", -5), (True, None), ("x", None)]
)
def test_integers(value: Any, number: int | None) -> None:
    """A whole number may come as text or with a fraction, which is cut off."""
    assert integer_of(value) == number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (False, False),
        ("TRUE", True),
        (" false ", False),
        ("yes", None),
        (1, None),
        (None, None),
    ],
)
def test_booleans(value: Any, expected: bool | None) -> None:  # noqa: FBT001 - a case
    """A boolean may come as a word; all else is none."""
    assert boolean_of(value) is expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(" a b ", "a b"), (1, "1"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, "")],
)
def test_texts(value: Any, text: str) -> None:
    """A number and a boolean are texts as JSON writes them; null is empty."""
    assert text_of(value) == text


def test_long_ids_stay_different() -> None:
    """Two ids that differ only behind the longest label still differ."""
    assert id_of("a" * 1000 + "b") != id_of("a" * 1000 + "c")


def test_lists_are_bounded() -> None:
    """Of a list that never ends the beginning is read."""
    texts = [str(at) for at in range(MAX_LISTED + 5)]

    assert texts_of(texts) == tuple(texts[:MAX_LISTED])
    assert texts_of("abc") == ()
    rows = [{"key": text, "value": at} for at, text in enumerate(texts)]
    assert tags_of(rows) == {text: text for text in texts[:MAX_LISTED]}


def test_odd_tags_are_left_out() -> None:
    """A tag without a key is none, and one without a value is empty."""
    rows = [{"key": "a"}, {"value": "b"}, {"key": "", "value": "c"}, "d", None]

    assert tags_of(rows) == {"a": ""}
    assert tags_of(None) == {}


@pytest.mark.parametrize("row", [{}, {"id": ""}, {"id": None}, {"id": []}])
def test_an_id_is_required(row: dict[str, Any]) -> None:
    """A row without its id is refused, by the names of both."""
    with pytest.raises(InvalidResponseError, match="a task has no id"):
        required(row, "id", "a task")


def test_an_id_may_be_a_number() -> None:
    """An id that is a number is one."""
    assert required({"id": 7}, "id", "a task") == "7"


@pytest.mark.parametrize("data", [[], "text", 1, None])
def test_an_object_is_required(data: Any) -> None:
    """What is no JSON object is refused, by its type."""
    with pytest.raises(InvalidResponseError, match=f"the answer is {type(data).__name__}, not an"):
        object_of(data, "the answer")
    assert object_of({"a": 1}, "the answer") == {"a": 1}
