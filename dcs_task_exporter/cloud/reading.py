"""The pages of one reading of a listing, put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic

from dcs_task_exporter.cloud.paging import Fetched, Place
from dcs_task_exporter.cloud.parsing import Row, TaskPage


@dataclass(frozen=True, slots=True)
class Page:
    """The size of a page, its `task_count` if it is a number, and its limit."""

    size: int
    count: int | None
    limit: int


@dataclass(slots=True)
class Reading(Generic[Row]):
    """The pages so far; `rows` has each id once, in the order of the first page it was on.

    `position` is the offset behind the latest page; with `overlap`, the next one begins one before.
    `ended` says that the latest page is the last one, `moved` that the list changed meanwhile,
    `truncated` that the page cap cut the listing behind the newest rows. `answered_at` is the
    cloud's time (Unix seconds) by the latest page, or None.
    """

    overlap: bool = True
    position: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    pages: list[Page] = field(default_factory=list)
    ended: bool = False
    moved: bool = False
    truncated: bool = False
    answered_at: float | None = None

    @property
    def place(self) -> Place:
        """Where the next page begins: with the last row again, if the page before has two rows."""
        return Place(self.position, self.overlap and bool(self.pages) and self.pages[-1].size > 1)

    def add(self, fetched: Fetched[TaskPage[Row]]) -> None:
        """Add a page, and find out whether it ends the listing or shows a change.

        The last page has no new row, and ends where the page before did. The page of a list that
        grew may have old rows, and new rows behind them.
        """
        rows, count, limit = fetched.page.tasks, fetched.page.task_count, fetched.limit
        offset = self.place.offset(limit)
        new = [row for row in rows if row.id not in self.rows]
        old = len(rows) - len(new)
        if offset < self.position and (rows or count != len(self.rows)):
            # Old rows may come again at the beginning: the list grew.
            self.moved = old == 0 or any(row.id not in self.rows for row in rows[:old])
        # A full page without a new row: the cloud ignores the offset.
        self.moved |= bool(self.pages) and not new and len(rows) >= limit > 1
        # An old row alone shows that the list grew, not that it ended.
        self.ended = not new and (
            not rows or (limit > 1 and rows[-1].id == next(reversed(self.rows)))
        )
        self.rows.update((row.id, row) for row in rows)  # of two, the later one is right
        self.pages.append(Page(len(rows), count, limit))
        self.position = offset + len(rows)
        self.answered_at = fetched.answered_at

    def truncate(self) -> None:
        """Note that the page cap cut the listing."""
        self.truncated = True

    def trust_single_page(self) -> None:
        """Take the reading for unchanged: this cloud has nothing behind its first page."""
        self.moved = False

    def prepend(self, first: Reading[Row]) -> None:
        """Put the rows of an earlier page before those of this reading."""
        self.rows = {**first.rows, **self.rows}

    @property
    def is_unproven(self) -> bool:
        """Whether single rows were asked for: no overlap shows the rows lost between them."""
        return bool(self.rows) and any(page.limit == 1 for page in self.pages)

    @property
    def has_single_page(self) -> bool:
        """Whether nothing is behind the first page, not even its last row again."""
        return self.moved and [(page.size, page.count or 0) for page in self.pages[1:]] == [(0, 0)]

    @property
    def is_full(self) -> bool:
        """Whether any page has as many rows as were asked for."""
        return any(page.size >= page.limit for page in self.pages)

    @property
    def largest_followed(self) -> Page | None:
        """The largest page that another page follows."""
        return max(self.pages[:-1], key=lambda page: (page.size, page.limit), default=None)

    @property
    def unlisted_count(self) -> int | None:
        """The largest `task_count`, if it is above the number of rows."""
        most = max((page.count for page in self.pages if page.count is not None), default=0)
        return most if most > len(self.rows) else None
