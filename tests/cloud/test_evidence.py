"""Beliefs about a cloud: what proves them, and what ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dcs_task_exporter.cloud.evidence import StartParameter, TotalEvidence
from dcs_task_exporter.cloud.reading import Page

START = ("start_time",)
BEGIN = ("begin_time",)
BOTH = ("start_time", "begin_time")


def test_nothing_is_believed_at_first() -> None:
    """A `task_count` is no total before a listing shows that it is."""
    assert TotalEvidence().is_total is False


def test_a_count_above_its_page_proves_a_total() -> None:
    """A `task_count` of all rows, on a page with fewer, is a total."""
    evidence = TotalEvidence()
    evidence.judge([Page(2, 3, 2), Page(2, 3, 2)], 3)

    assert evidence.is_total is True


@pytest.mark.parametrize("pages", [[Page(3, 3, 9)], [Page(3, None, 9)], []])
def test_a_count_of_one_page_proves_nothing(pages: Sequence[Page]) -> None:
    """A `task_count` of the rows of its own page may count the page, or all."""
    evidence = TotalEvidence()
    evidence.judge(pages, 3)

    assert evidence.is_total is False


@pytest.mark.parametrize("pages", [[Page(3, 3, 9)], [Page(3, None, 9)], []])
def test_a_count_of_one_page_disproves_nothing(pages: Sequence[Page]) -> None:
    """A total stays one while nothing contradicts it."""
    evidence = TotalEvidence()
    evidence.judge([Page(2, 3, 2)], 3)
    evidence.judge(pages, 3)

    assert evidence.is_total is True


@pytest.mark.parametrize("count", [2, 4])
def test_another_count_disproves_a_total(count: int) -> None:
    """One `task_count` that is not the number of rows ends the belief."""
    evidence = TotalEvidence()
    evidence.judge([Page(2, 3, 2)], 3)
    evidence.judge([Page(2, 3, 2), Page(1, count, 2)], 3)

    assert evidence.is_total is False


def test_a_contradiction_ends_the_belief() -> None:
    """A contradiction that a reader finds ends the belief, too."""
    evidence = TotalEvidence()
    evidence.judge([Page(2, 3, 2)], 3)
    evidence.contradict()

    assert evidence.is_total is False


@pytest.mark.parametrize(
    ("page", "has_new", "may"),
    [
        (Page(10, 10, 10), False, True),
        (Page(9, 9, 10), False, False),
        (Page(9, 9, 10), True, True),
        (Page(0, 0, 10), True, True),
    ],
)
def test_a_page_before_any_other(page: Page, *, has_new: bool, may: bool) -> None:
    """While no page was seen, a full page may be cut, and any with new rows."""
    assert TotalEvidence().may_be_cut(page, has_new=has_new) is may


@pytest.mark.parametrize(("size", "may"), [(4, False), (5, True), (6, True)])
def test_a_page_beside_the_largest(size: int, *, may: bool) -> None:
    """A page with new rows may be cut if no listing ended with a larger page."""
    evidence = TotalEvidence()
    evidence.note_last(5)
    evidence.note_last(3)

    assert evidence.may_be_cut(Page(size, size, 10), has_new=True) is may


@pytest.mark.parametrize(("size", "may"), [(3, False), (4, True), (5, True)])
def test_the_clouds_own_limit(size: int, *, may: bool) -> None:
    """A page that another followed, although it was not full, shows the cloud's own limit."""
    evidence = TotalEvidence()
    evidence.note_followed(Page(4, 4, 10))

    assert evidence.may_be_cut(Page(size, size, 10), has_new=False) is may


def test_the_clouds_limit_may_be_larger() -> None:
    """A full page that is larger raises the cloud's limit; a smaller one leaves it."""
    evidence = TotalEvidence()
    evidence.note_followed(Page(4, 4, 10))
    evidence.note_followed(Page(6, 6, 6))
    evidence.note_followed(Page(2, 2, 2))

    assert evidence.may_be_cut(Page(5, 5, 10), has_new=False) is False
    assert evidence.may_be_cut(Page(6, 6, 10), has_new=False) is True


def test_a_full_page_shows_no_limit_of_the_cloud() -> None:
    """A full page that another follows says nothing of the cloud's own limit."""
    evidence = TotalEvidence()
    evidence.note_followed(Page(4, 4, 4))

    assert evidence.may_be_cut(Page(5, 5, 10), has_new=False) is False


def test_a_limit_below_the_clouds() -> None:
    """A page with all rows that were asked for is full, whatever the cloud's limit is."""
    evidence = TotalEvidence()
    evidence.note_followed(Page(4, 4, 10))

    assert evidence.may_be_cut(Page(2, 2, 2), has_new=False) is True


class Told:
    """A start parameter, and what it said in the log."""

    def __init__(self, configured: str) -> None:
        self.lines: list[str] = []
        self.start = StartParameter(configured, self.lines.append)


@pytest.mark.parametrize(
    ("configured", "names"), [("start_time", START), ("begin_time", BEGIN), ("both", BOTH)]
)
def test_the_configured_names_come_first(configured: str, names: tuple[str, ...]) -> None:
    """The names of the configuration are sent until the cloud ignores them."""
    told = Told(configured)

    assert told.start.names == names
    assert told.lines == []


@pytest.mark.parametrize(
    ("configured", "tried"),
    [
        ("start_time", [START, BEGIN, BOTH, START]),
        ("begin_time", [BEGIN, START, BOTH, BEGIN]),
        ("both", [BOTH, BOTH]),
    ],
)
def test_other_names_are_tried_in_turn(configured: str, tried: list[tuple[str, ...]]) -> None:
    """Names that are ignored are replaced by others; after the last, the configured ones stay."""
    told = Told(configured)
    found = [told.start.names]
    worth = []
    for _ in tried[1:]:
        worth.append(told.start.ignored(told.start.names))
        found.append(told.start.names)

    assert found == tried
    assert worth == [True] * (len(tried) - 2) + [False]


def test_what_is_ignored_is_told() -> None:
    """Each change is said once, with the old and the new names, and so is the end."""
    told = Told("start_time")
    for _ in range(4):
        told.start.ignored(told.start.names)

    assert told.lines == [
        "the cloud ignores start_time: begin_time is sent instead",
        "the cloud ignores begin_time: start_time and begin_time is sent instead",
        "the cloud ignores start_time and begin_time: it lists all tasks, which are filtered here",
    ]


@pytest.mark.parametrize("note", [StartParameter.ignored, StartParameter.refused])
def test_news_of_names_that_are_not_sent_any_more(
    note: Callable[[StartParameter, tuple[str, ...]], bool],
) -> None:
    """What the cloud thought of names that were replaced meanwhile changes nothing."""
    told = Told("start_time")
    told.start.ignored(START)
    del told.lines[:]

    assert note(told.start, START) is True
    assert told.start.names == BEGIN
    assert told.lines == []


def test_the_configured_names_are_refused() -> None:
    """Where the cloud refuses the configured names, no others are worth a try."""
    told = Told("start_time")

    assert told.start.refused(START) is False
    assert told.start.names == START
    assert told.lines == []


def test_other_names_are_refused() -> None:
    """Where the cloud refuses other names, the configured ones are sent again, and for good."""
    told = Told("start_time")
    told.start.ignored(START)
    told.start.ignored(BEGIN)
    del told.lines[:]

    assert told.start.refused(BOTH) is True
    assert told.start.names == START
    assert told.start.ignored(START) is False
    assert told.lines == ["the cloud refuses start_time and begin_time: start_time is sent instead"]


def test_both_names_are_sent_again() -> None:
    """The message names both parameters where both are sent again."""
    told: Any = Told("both")
    told.start._untried = ["start_time"]  # noqa: SLF001 - else nothing beside both is ever tried
    told.start.ignored(BOTH)
    told.start.refused(START)

    assert told.lines[-1] == (
        "the cloud refuses start_time: start_time and begin_time is sent instead"
    )
