"""The pages of one reading: where the next one begins, what ends it, and what shows a change."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dcs_task_exporter.cloud.paging import Fetched, Place
from dcs_task_exporter.cloud.parsing import TaskPage
from dcs_task_exporter.cloud.reading import Page, Reading
from dcs_task_exporter.tasks.models import Task


def page(
    ids: str, count: int | None = None, limit: int = 3, at: float | None = None
) -> Fetched[TaskPage[Task]]:
    """Return a page of tasks with these ids, one letter each."""
    tasks = tuple(Task(key, "EXTEND", "SUCCESS") for key in ids)
    return Fetched(TaskPage(tasks, count), limit, at)


def reading(*pages: Fetched[TaskPage[Task]], overlap: bool = True) -> Reading[Task]:
    """Return a reading of these pages."""
    made = Reading[Task](overlap)
    for one in pages:
        made.add(one)
    return made


def test_nothing_is_read_at_first() -> None:
    """A reading begins at the first row, and has not ended."""
    new = Reading[Task]()

    assert new.place == Place(0, overlaps=False)
    assert (new.ended, new.moved, new.truncated, new.answered_at) == (False, False, False, None)


@pytest.mark.parametrize(
    ("pages", "place"),
    [
        ([page("abc")], Place(3, overlaps=True)),
        ([page("abc"), page("cde")], Place(5, overlaps=True)),
        ([page("a", limit=1)], Place(1, overlaps=False)),
        ([page("ab", limit=2)], Place(2, overlaps=True)),
    ],
)
def test_the_next_place(pages: Sequence[Fetched[TaskPage[Task]]], place: Place) -> None:
    """The next page begins behind the rows so far, with the last of them if two came together."""
    assert reading(*pages).place == place


def test_without_overlap() -> None:
    """A cloud with one page is asked for what is behind it."""
    assert reading(page("abc"), overlap=False).place == Place(3, overlaps=False)


def test_the_last_page() -> None:
    """A page with nothing but the last row again ends the listing unchanged."""
    whole = reading(page("abc"), page("c"))

    assert (whole.ended, whole.moved) == (True, False)
    assert list(whole.rows) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("second", "ended", "moved"),
    [
        (page("cde"), False, False),
        (page("de"), False, True),  # the last row is not there again: rows were lost
        (page("bcd"), False, False),  # two old rows: the list grew
        (page("cdb"), False, True),  # an old row behind a new one
        (page("dc"), False, True),
        (page("b"), False, False),  # an old row that is not the last
        (page(""), True, True),
        (page("", count=3), True, False),
        (page("", count=2), True, True),
        (page("bca"), False, True),  # a full page without a new row
        (page("abc"), True, True),
        (page("bc"), True, False),
    ],
)
def test_the_second_page(second: Fetched[TaskPage[Task]], *, ended: bool, moved: bool) -> None:
    """What a page behind the first shows of the list."""
    found = reading(page("abc"), second)

    assert (found.ended, found.moved) == (ended, moved)


def test_a_first_page_never_shows_a_change() -> None:
    """The first page is compared with nothing; without a row it is the last."""
    assert (reading(page("")).ended, reading(page("")).moved) == (True, False)
    assert (reading(page("abc")).ended, reading(page("abc")).moved) == (False, False)


def test_single_rows_end_without_a_row() -> None:
    """With one row a page, the same row again is no end: the cloud may ignore the offset."""
    single = reading(page("a", limit=1), page("a", limit=1))

    assert (single.ended, single.moved) == (False, False)
    assert reading(page("a", limit=1), page("", limit=1)).ended


def test_a_change_stays_a_change() -> None:
    """What a later page shows does not undo a full page without new rows."""
    assert reading(page("abc"), page("cba")).moved


def test_the_later_row_is_right() -> None:
    """Of two rows with one id the later one is kept, in the place of the first."""
    made = reading(page("ab", limit=2))
    later = Task("b", "EXTEND", "FAILED")
    made.add(Fetched(TaskPage((later, Task("c", "EXTEND", "INIT")), 3), 2, 9.0))

    assert made.rows["b"] is later
    assert list(made.rows) == ["a", "b", "c"]


def test_pages_are_noted() -> None:
    """Each page is noted with its size, count and limit."""
    noted = reading(page("abc", 4), page("cd", None, 2)).pages

    assert noted == [Page(3, 4, 3), Page(2, None, 2)]


def test_the_time_is_that_of_the_latest_page() -> None:
    """The cloud's time is taken from the latest page, also where it has none."""
    assert reading(page("abc", at=1.0), page("cd", at=2.0)).answered_at == 2.0
    assert reading(page("abc", at=1.0), page("cd")).answered_at is None


def test_cut_and_trusted() -> None:
    """A reading can be noted as cut, and a change as none."""
    made = reading(page("abc"), page(""))
    made.truncate()
    made.trust_single_page()

    assert (made.truncated, made.moved) == (True, False)


def test_an_earlier_page_comes_before() -> None:
    """The rows of an earlier page come first; of a row in both, the later form is kept."""
    late = reading(page("cd"))
    late.prepend(reading(page("abc")))

    assert list(late.rows) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("pages", "unproven"),
    [
        ([page("a", limit=1)], True),
        ([page("ab", limit=2)], False),
        ([page("ab", limit=2), page("c", limit=1)], True),
        ([page("", limit=1)], False),
    ],
)
def test_single_rows_prove_nothing(
    pages: Sequence[Fetched[TaskPage[Task]]], *, unproven: bool
) -> None:
    """A reading with a page of one row may lack rows that left meanwhile."""
    assert reading(*pages).is_unproven is unproven


@pytest.mark.parametrize(
    ("second", "single"),
    [
        (page(""), True),
        (page("", 0), True),
        (page("", 1), False),
        (page("", 3), False),
        (page("c"), False),
        (page("d"), False),
    ],
)
def test_a_single_page(second: Fetched[TaskPage[Task]], *, single: bool) -> None:
    """A cloud with one page has nothing behind it, and counts nothing there."""
    assert reading(page("abc"), second).has_single_page is single


@pytest.mark.parametrize(
    ("pages", "full"),
    [
        ([page("ab")], False),
        ([page("abc")], True),
        ([page("ab"), page("bcd")], True),
        ([page("abcd")], True),
        ([], False),
    ],
)
def test_a_full_page(pages: Sequence[Fetched[TaskPage[Task]]], *, full: bool) -> None:
    """A reading is full if any page has as many rows as were asked for."""
    assert reading(*pages).is_full is full


def test_the_largest_page_that_is_followed() -> None:
    """Of the pages that another follows, the largest shows the most: of two, the higher limit."""
    assert reading(page("abc")).largest_followed is None
    assert reading(page("ab"), page("bcd")).largest_followed == Page(2, None, 3)
    three = reading(page("ab", limit=2), page("bc", limit=4), page("d"), page("defg"))
    assert three.largest_followed == Page(2, None, 4)


@pytest.mark.parametrize(
    ("pages", "count"),
    [
        ([page("abc", 3)], None),
        ([page("abc", 4)], 4),
        ([page("abc", 2)], None),
        ([page("abc", 5), page("c", 4)], 5),
        ([page("abc", None), page("c", 4)], 4),
        ([page("abc")], None),
        ([], None),
    ],
)
def test_a_count_above_the_rows(
    pages: Sequence[Fetched[TaskPage[Task]]], count: int | None
) -> None:
    """The largest `task_count` is told if it is above the number of rows."""
    assert reading(*pages).unlisted_count == count


def test_an_old_row_alone() -> None:
    """An old row alone ends nothing: neither one that is not the last, nor a page of one row."""
    assert reading(page("abc"), page("b")).ended is False
    assert reading(page("a", limit=1), page("a", limit=1)).ended is False
    assert reading(page("abc"), page("c")).ended is True


def test_a_small_full_page_that_comes_again() -> None:
    """A full page of two old rows, too, shows that the cloud ignores the offset."""
    assert reading(page("ab", limit=2), page("ab", limit=2)).moved is True
