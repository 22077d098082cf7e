"""One page: where it begins, how many rows it is asked for, and what a refusal changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import cast

import pytest

from dcs_task_exporter.cloud.calls import Call, Reply
from dcs_task_exporter.cloud.paging import Fetched, ListingMemory, Pager, Place, check_interval
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.errors import ApiError, BadRequestError, TooLargeError
from dcs_task_exporter.tasks.models import Task


def call_with(query: Mapping[str, str]) -> Call[str]:
    asked = {"start_time": "2025", **query}
    return Call("list_tasks", "https://dcs/tasks", 9.0, str, asked, subject="i0")


TOO_LARGE = TooLargeError("the answer is too large", status=200, request_id="r1")


class Caller:
    """A caller whose first answers are errors; it notes what it is asked."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)
        self.asked: list[Call[str]] = []

    def get(self, call: Call[str]) -> Reply[str]:
        self.asked.append(call)
        if self.errors:
            raise self.errors.pop(0)
        return Reply("page", 7.0)

    @property
    def limits(self) -> list[str]:
        """The limits that were asked for."""
        return [call.query["limit"] for call in self.asked]


def pager(caller: Caller, page_size: int = 100) -> Pager:
    return Pager(cast("ApiCaller", caller), "prod", page_size)


@pytest.mark.parametrize(
    ("instances", "interval"), [(0, 20), (100, 20), (104, 20), (105, 21), (500, 100), (900, 100)]
)
def test_the_interval_of_checks(instances: int, interval: int) -> None:
    """One in 20 listings is checked, or five in each sweep, and at least one in 100."""
    assert check_interval(instances) == interval


@pytest.mark.parametrize(
    ("place", "limit", "offset"),
    [
        (Place(5), 10, 5),
        (Place(5, overlaps=True), 10, 4),
        (Place(5, overlaps=True), 2, 4),
        (Place(5, overlaps=True), 1, 5),
    ],
)
def test_the_offset(place: Place, limit: int, offset: int) -> None:
    """A page begins one row earlier to overlap, unless it has a single row."""
    assert place.offset(limit) == offset


def test_a_memory_is_empty_at_first() -> None:
    """Before the first listing no rows are known, and full pages are asked for."""
    memory = ListingMemory[Task]()

    assert memory.rows is None
    assert memory.limit(100) == 100
    assert memory.is_exhaustive(20)


def test_rows_are_kept() -> None:
    """The rows of the latest listing are remembered."""
    memory, rows = ListingMemory[Task](), (Task("a", "EXTEND", "SUCCESS"),)
    memory.keep(rows)

    assert memory.rows is rows


def test_one_in_an_interval_is_exhaustive() -> None:
    """One listing in the interval is read to its end, counted from where the memory begins."""
    memory = ListingMemory[Task](2)
    found = []
    for _ in range(5):
        memory.begin()
        found.append(memory.is_exhaustive(4))

    assert found == [False, True, False, False, False]


@pytest.mark.parametrize(("limit", "next_limit"), [(100, 50), (3, 1), (2, 1), (1, 1)])
def test_half_the_rows(limit: int, next_limit: int) -> None:
    """After an answer that was too large, half the rows are asked for, and at least one."""
    memory = ListingMemory[Task]()
    memory.halve(limit)

    assert memory.limit(100) == next_limit


def test_never_more_than_a_page() -> None:
    """The remembered limit does not raise the page size."""
    memory = ListingMemory[Task]()
    memory.halve(100)

    assert memory.limit(10) == 10


def test_full_pages_are_tried_again() -> None:
    """Every twentieth listing is asked for full pages again."""
    memory = ListingMemory[Task](17)
    memory.halve(100)
    limits = []
    for _ in range(3):
        memory.begin()
        limits.append(memory.limit(100))

    assert limits == [50, 50, 100]


def test_a_page_is_asked_for() -> None:
    """A page is asked for by limit and offset, beside the rest of the query."""
    caller = Caller()
    found = pager(caller).fetch(call_with, Place(30, overlaps=True), ListingMemory[Task]())

    assert found == Fetched("page", 100, 7.0)
    (asked,) = caller.asked
    assert asked.query == {"start_time": "2025", "limit": "100", "offset": "29"}
    assert (asked.operation, asked.url, asked.subject) == ("list_tasks", "https://dcs/tasks", "i0")


def test_a_refused_limit() -> None:
    """A cloud that refuses the limit is asked for 10 rows, from then on."""
    caller = Caller(BadRequestError("Invalid LIMIT"))
    own = pager(caller)
    own.fetch(call_with, Place(0), ListingMemory[Task]())
    own.fetch(call_with, Place(0), ListingMemory[Task]())

    assert caller.limits == ["100", "10", "10"]


@pytest.mark.parametrize(
    ("size", "message"), [(10, "Invalid limit"), (100, "Invalid start_time"), (11, "no")]
)
def test_a_refusal_for_another_reason(size: int, message: str) -> None:
    """A refusal that is not of the limit, or of the smallest one, is an error."""
    caller = Caller(BadRequestError(message))
    with pytest.raises(BadRequestError, match=message):
        pager(caller, size).fetch(call_with, Place(0), ListingMemory[Task]())

    assert caller.limits == [str(size)]


def test_eleven_rows_are_refused() -> None:
    """Any limit above 10 is given up when it is refused."""
    caller = Caller(BadRequestError("limit"))
    pager(caller, 11).fetch(call_with, Place(0), ListingMemory[Task]())

    assert caller.limits == ["11", "10"]


def test_a_page_too_large() -> None:
    """A page that is too large is asked for in halves, and the memory keeps the size."""
    caller, memory = Caller(TOO_LARGE, TOO_LARGE), ListingMemory[Task]()
    found = pager(caller).fetch(call_with, Place(8, overlaps=True), memory)

    assert (caller.limits, found.limit, memory.limit(100)) == (["100", "50", "25"], 25, 25)
    assert [call.query["offset"] for call in caller.asked] == ["7"] * 3


def test_a_page_too_large_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log says which listing is asked for in parts, and why."""
    pager(Caller(TOO_LARGE)).fetch(call_with, Place(0), ListingMemory[Task]())

    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert vars(line)["fields"] == {
        "project": "prod",
        "operation": "list_tasks",
        "dcs_instance_id": "i0",
        "error": "the answer is too large",
    }


@pytest.mark.parametrize("errors", [[TOO_LARGE], [TOO_LARGE, TOO_LARGE]])
def test_one_row_too_large(errors: Sequence[ApiError]) -> None:
    """A single row that is too large is an error that names its request."""
    caller = Caller(*errors)
    with pytest.raises(TooLargeError, match="although it was asked for one row") as raised:
        pager(caller, len(errors)).fetch(call_with, Place(0), ListingMemory[Task]())

    assert (raised.value.status, raised.value.request_id) == (200, "r1")
    assert raised.value.message == "the answer is too large, although it was asked for one row"
