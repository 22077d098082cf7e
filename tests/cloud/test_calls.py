"""One call to the API, as a value."""

from __future__ import annotations

import pytest

from dcs_task_exporter.cloud.calls import Call


@pytest.mark.parametrize(
    ("query", "url"),
    [
        ({}, "https://dcs/tasks"),
        ({"limit": "1"}, "https://dcs/tasks?limit=1"),
        ({"b": "2", "a": "x y/ä"}, "https://dcs/tasks?a=x%20y%2F%C3%A4&b=2"),
    ],
)
def test_the_url(query: dict[str, str], url: str) -> None:
    """The query is encoded and sorted, as it is signed."""
    assert Call("list_tasks", "https://dcs/tasks", 0.0, str, query).full_url == url


def test_the_defaults() -> None:
    """A call is a GET without a body, for no instance and no project."""
    call = Call("list_tasks", "https://dcs/tasks", 0.0, str)

    assert (call.method, call.body, call.project_id, call.subject) == ("GET", None, "", "")
    assert (call.key, call.memory, call.headers) == (None, None, {})


def test_no_secret_is_shown() -> None:
    """The repr of a call shows neither its body nor its headers."""
    call = Call(
        "list_tasks", "https://dcs/tasks", 0.0, str, body=b"hunter2", headers={"X": "hunter2"}
    )

    assert "hunter2" not in repr(call)
