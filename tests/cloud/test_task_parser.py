"""A parser of tasks remembers details, and it shows nowhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.cloud.parsing import parse_task
from dcs_task_exporter.cloud.task_parser import (
    MAX_REMEMBERED_LENGTH,
    MAX_SHARED_DETAILS,
    TaskParser,
)
from dcs_task_exporter.tasks.details import TaskDetails

VALUES = st.none() | st.booleans() | st.sampled_from([0, 1, 2, 0.0, 1.0, "", "1", "true"])
DETAILS = st.dictionaries(
    st.sampled_from(["old_port", "enable_ssl", "old_capacity", "node_name", "rename_commands"]),
    VALUES | st.lists(st.text(max_size=2), max_size=2) | st.dictionaries(st.text(), st.text()),
)


def task_row(details: object) -> dict[str, object]:
    """Return a task of the API with these details."""
    return {"id": "a", "name": "EXTEND", "details": details}


@given(st.lists(DETAILS | st.none() | st.text(), max_size=8))
def test_shared_details(rows: list[object]) -> None:
    """Details of earlier tasks change nothing: 1, 1.0 and true stay as they are."""
    parser = TaskParser()

    assert [repr(parser.task(task_row(row))) for row in rows] == [
        repr(parse_task(task_row(row))) for row in rows
    ]


def test_details_are_held_once() -> None:
    """Tasks with the same details hold the same object."""
    parser = TaskParser()
    one, other = (parser.task(task_row({"node_name": "n", "old_port": 1})) for _ in range(2))

    assert one.details == TaskDetails(node_name="n", old_port=1)
    assert one.details is other.details


def test_details_that_never_come_again() -> None:
    """A parser does not grow for ever."""
    parser = TaskParser()
    numbers = []
    for number in range(3 * MAX_SHARED_DETAILS):
        parser.task(task_row({"node_name": f"n{number}"}))
        numbers.append(len(parser._known))  # noqa: SLF001 - what is held shows nowhere

    assert max(numbers) == MAX_SHARED_DETAILS


def test_nothing_personal_is_kept() -> None:
    """Unless it is wanted, neither the user nor an account nor an address is kept."""
    row = {
        "id": "a",
        "user_name": "alice",
        "details": {
            "account_name": "bob",
            "source_ip": "192.0.2.1",
            "target_ip": "192.0.2.2",
            "node_name": "node-192.0.2.3",
            "replica_ip": "192.0.2.4",
            "public_ip_address": "192.0.2.5",
            "new_port": 6380,
        },
    }
    kept = TaskParser(personal=False).task(row)

    assert not re.search(r"alice|bob|192\.0\.2", repr(kept))
    assert kept.details.new_port == 6380
    assert len(re.findall(r"192\.0\.2", repr(TaskParser().task(row)))) == 5


@pytest.mark.parametrize(("more", "is_held"), [(0, True), (1, False)])
def test_long_details_are_not_held(more: int, *, is_held: bool) -> None:
    """Details that are longer than may be are parsed each time."""
    parser = TaskParser()
    data = {"node_name": "n"}
    data["padding"] = "x" * (MAX_REMEMBERED_LENGTH - len(str({**data, "padding": ""})) + more)
    one, other = (parser.task(task_row(data)) for _ in range(2))

    assert (one.details is other.details) is is_held
