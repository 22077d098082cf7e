"""Reading all pages of a listing, and finding out whether they are the whole listing.

The API promises neither an order, nor a largest page, nor the meaning of `task_count`, nor which
parameter begins the window (`dcs-api.md` section 2). So each of these is evidence (`evidence.py`).
A listing that contradicts itself, or that may lack the newest tasks, is an error and no listing.

Each page begins with the last row of the page before. A list that lost rows meanwhile shows another
row there. The page that ends the listing has just that row, and shows what `task_count` counts: 1
where it counts the page, all rows where it is a total.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic

from dcs_task_exporter.cloud.evidence import StartParameter, TotalEvidence
from dcs_task_exporter.cloud.paging import Fetched, Place
from dcs_task_exporter.cloud.parsing import Row, TaskPage
from dcs_task_exporter.cloud.reading import Reading
from dcs_task_exporter.errors import (
    ApiError,
    BadRequestError,
    IncompleteListingError,
    InvalidResponseError,
)
from dcs_task_exporter.tasks.models import EARLIEST_TIME, CenterTask, Task

READINGS: Final = 2
"""How often a listing is read that contradicts itself: a list may change while it is read."""

START_TOLERANCE: Final = 1.0
"""Seconds by which a row may be older than asked for: the parameter has whole seconds."""


@dataclass(frozen=True, slots=True)
class Window(Generic[Row]):
    """The rows that are asked for: those since a Unix time.

    `known` are those of the listing before, or None without one. An exhaustive listing is read to
    its end, whatever `task_count` says.
    """

    since: float
    known: tuple[Row, ...] | None = None
    exhaustive: bool = False


Fetch = Callable[[Place, tuple[str, ...]], Fetched[TaskPage[Row]]]
"""Fetches the page at a place, with these names of the start parameter."""


class ListingReader(Generic[Row]):
    """Reads listings of one kind in one cloud; safe to use from threads.

    `max_pages` bounds the pages of one reading; `failed` is called with the error of each listing
    that is not whole.
    """

    def __init__(
        self, start: StartParameter, max_pages: int, failed: Callable[[ApiError], None]
    ) -> None:
        self._total = TotalEvidence()
        self._start = start
        self._max_pages = max_pages
        self._failed = failed
        self._overlap = True

    def read(self, fetch: Fetch[Row], window: Window[Row]) -> Reading[Row]:
        """Read all pages, or up to the page cap if the rest is older.

        Raises `InvalidResponseError` when the listing contradicts itself twice, and
        `IncompleteListingError` when it was cut and may lack the newest rows.
        """
        problem, before = "", Reading[Row]()
        for _ in range(READINGS):
            reading = self._read_once(fetch, window)
            if _has_nothing_behind(before, reading):
                self._overlap = False
                reading.trust_single_page()
            problem, before = _problem(before, reading), reading
            if reading.ended and not reading.truncated and not reading.moved:
                self._total.judge(reading.pages, len(reading.rows))
                self._total.note_last(max(page.size for page in reading.pages))
            if not problem:
                return reading
        raise self._failure(InvalidResponseError(problem))

    def _read_once(self, fetch: Fetch[Row], window: Window[Row]) -> Reading[Row]:
        """Read until the end or the page cap."""
        names, reading = self._start.names, Reading[Row](self._overlap)
        while len(reading.pages) < self._max_pages:
            try:
                fetched = fetch(reading.place, names)
            except BadRequestError:
                if not self._start.refused(names):
                    raise
                names, reading = self._start.names, Reading[Row](self._overlap)
                continue
            if _is_older(fetched.page.tasks, window.since) and self._start.ignored(names):
                names, reading = self._start.names, Reading[Row](self._overlap)
                continue
            reading.add(fetched)
            if reading.moved or reading.ended:
                return reading
            if self._is_last(reading, window) and self._is_believed(reading, window):
                self._total.note_last(reading.pages[-1].size)
                return reading
            if len(reading.pages) == 1 and self._is_too_long(reading):
                return self._read_newest(fetch, names, reading)
        if not _is_sorted(reading.rows.values(), newest_first=True):
            raise self._incomplete()
        reading.truncate()
        return reading

    def _is_last(self, reading: Reading[Row], window: Window[Row]) -> bool:
        """Whether the latest `task_count` says that its page is the last one."""
        page, followed = reading.pages[-1], reading.largest_followed
        if followed is not None:
            self._total.note_followed(followed)
        if page.count is None:
            return False
        if page.count < reading.position:
            self._total.contradict()
        if page.count != reading.position:
            return False
        # A full page may be followed by others, if the count is that of the page.
        known = {row.id for row in window.known or ()}
        has_new = window.known is not None and not reading.rows.keys() <= known
        return page.count > page.size or not self._total.may_be_cut(page, has_new=has_new)

    def _is_believed(self, reading: Reading[Row], window: Window[Row]) -> bool:
        """Whether a total may end this listing: not where known rows are missing."""
        if not self._total.is_total or window.exhaustive:
            return False
        return all(
            row.id in reading.rows or (row.created_at or window.since) < window.since
            for row in window.known or ()
        )

    def _is_too_long(self, reading: Reading[Row]) -> bool:
        """Whether the rows are more than can be read, and begin with the oldest."""
        page = reading.pages[0]
        capacity = self._max_pages * max(1, page.size - 1)
        return (
            page.count is not None
            and page.count > capacity
            and _is_sorted(reading.rows.values(), newest_first=False)
        )

    def _read_newest(
        self, fetch: Fetch[Row], names: tuple[str, ...], first: Reading[Row]
    ) -> Reading[Row]:
        """Read the end of a list that begins with the oldest rows and is too long to be read."""
        page = first.pages[0]
        room = (self._max_pages - 2) * max(1, page.size - 1)
        reading = Reading[Row](self._overlap, max(page.size, (page.count or 0) - room))
        while len(reading.pages) < self._max_pages - 1 and not (reading.ended or reading.moved):
            reading.add(fetch(reading.place, names))
        reading.truncate()
        if reading.moved:
            return reading
        is_whole = reading.ended and bool(reading.rows)
        reading.prepend(first)
        if not (is_whole and _is_sorted(reading.rows.values(), newest_first=False)):
            raise self._incomplete()
        return reading

    def _incomplete(self) -> ApiError:
        message = (
            f"the listing has more than {self._max_pages} pages and may lack the newest tasks: "
            "raise collector.max_pages, or shorten collector.lookback"
        )
        return self._failure(IncompleteListingError(message))

    def _failure(self, error: ApiError) -> ApiError:
        self._failed(error)
        return error


def _has_nothing_behind(before: Reading[Row], reading: Reading[Row]) -> bool:
    """Whether this cloud twice had nothing behind its first page, which is not full."""
    return (
        before.has_single_page
        and reading.has_single_page
        and not reading.is_full
        and before.rows.keys() == reading.rows.keys()
    )


def _problem(before: Reading[Row], reading: Reading[Row]) -> str:
    """Return how a reading contradicts itself, or the one before; or the empty text."""
    if reading.moved or (reading.is_unproven and reading.rows.keys() != before.rows.keys()):
        return "the listing changes while its pages are read: rows may be missing"
    if reading.ended and not reading.truncated and reading.unlisted_count is not None:
        counted, listed = reading.unlisted_count, len(reading.rows)
        return f"the listing contradicts itself: it counts {counted}, and lists {listed}"
    return ""


def _is_older(rows: Iterable[Task | CenterTask], since: float) -> bool:
    """Whether a row began before the window: the cloud did not filter."""
    oldest = since - START_TOLERANCE
    return any(
        row.created_at is not None and EARLIEST_TIME <= row.created_at < oldest for row in rows
    )


def _is_sorted(rows: Iterable[Task | CenterTask], *, newest_first: bool) -> bool:
    """Whether the known starts are in order, and not all the same."""
    starts = [row.created_at for row in rows if row.created_at is not None]
    return len(set(starts)) > 1 and starts == sorted(starts, reverse=newest_first)
