"""Reading all pages of a listing, and telling whether what came is whole.

The API promises neither an order, nor a largest page, nor what `task_count` counts, nor which
parameter begins the window (`dcs-api.md` section 2). So each of these is evidence: it is tested,
tested again, and given up at the first contradiction. A listing that contradicts itself, or that
may lack the newest tasks, is an error and no listing.

Each page begins with the last row of the one before. A list that lost rows meanwhile shows another
row there, and the page that ends the listing, which has just that row, tells what `task_count`
counts: 1 where it counts the page, all rows where it is a total.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Generic, Protocol, TypeVar

from dcs_task_exporter.errors import ApiError, IncompleteListingError, InvalidResponseError
from dcs_task_exporter.tasks.models import EARLIEST_TIME, TaskPage

CHECK_INTERVAL: Final = 20
"""One in so many listings of an instance is read to its end, whatever `task_count` says."""

LONGEST_CHECK_INTERVAL: Final = 100
"""The same of many instances: all of a project tell of the same cloud, and a check is a request."""

CHECKS_A_SWEEP: Final = 5
"""Listings that are read to their end each time that all instances are read, where they suffice."""

PROOF: Final = 4
"""What `task_count` must have shown before it is believed to be a total: two listings of many rows
that were read to their end, or four of few."""

MANY_ROWS: Final = 3
"""Rows from which on no record that was deleted between count and list makes a page's count pass
for a total: it is one too high at most."""

READINGS: Final = 2
"""How often a listing is read that contradicts itself: a list may change while it is read."""

START_TOLERANCE: Final = 1.0
"""Seconds by which a row may be older than asked for: the parameter has whole seconds."""

START_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "start_time": ("start_time",),
    "begin_time": ("begin_time",),
    "both": ("start_time", "begin_time"),
}
"""The page's table says `start_time`, its example `begin_time`; which one is honoured is open."""


class Listed(Protocol):
    """What a row of a listing tells of itself."""

    @property
    def id(self) -> str:
        """The id."""
        ...

    @property
    def created_at(self) -> float | None:
        """When it began (Unix seconds), where that is known."""
        ...


Row = TypeVar("Row", bound=Listed)


def check_interval(instances: int) -> int:
    """Return in how many listings one is read to its end, of each of so many instances."""
    return min(LONGEST_CHECK_INTERVAL, max(CHECK_INTERVAL, instances // CHECKS_A_SWEEP))


class PageSize:
    """How many rows one listing is asked for at once: fewer after an answer that was too large.

    The full number is tried again in one of `CHECK_INTERVAL` listings. Used by one thread at a
    time.
    """

    def __init__(self) -> None:
        self._most: int | None = None
        self._listings = 0

    def begin(self) -> None:
        """Note that a listing begins."""
        self._listings += 1
        if self._listings % CHECK_INTERVAL == 0:
            self._most = None

    def of(self, full: int) -> int:
        """Return how many rows to ask for, where `full` would be asked for otherwise."""
        return full if self._most is None else min(full, self._most)

    def halve(self, limit: int) -> None:
        """Note that an answer to `limit` rows was too large."""
        self._most = max(1, limit // 2)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind `position` rows, or with the last of them once more."""

    position: int
    overlaps: bool = False

    def offset(self, limit: int) -> int:
        """Return the offset of a page of `limit` rows: one alone has no room for an old one."""
        return self.position - 1 if self.overlaps and limit > 1 else self.position


class TotalEvidence:
    """What this cloud has shown of `task_count`; safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown = 0
        self._largest = 0
        self._cap: int | None = None

    def is_full(self, size: int, limit: int, *, grew: bool) -> bool:
        """Whether a page of `size` rows, asked with `limit`, may be cut by a limit.

        The cloud's own limit shows when a page is followed by another; until then, the largest page
        of all may have been cut where it `grew`.
        """
        return size >= min(limit, self._cap or limit) or (grew and size >= self._largest)

    def saw_page(self, size: int) -> None:
        """Note the size of a page that was the last one."""
        with self._lock:
            self._largest = max(self._largest, size)

    def went_on(self, size: int, limit: int) -> None:
        """Note that a page of `size` rows, asked with `limit`, was not the last one."""
        with self._lock:
            if size < limit:
                self._cap = size
            elif self._cap is not None:
                self._cap = max(self._cap, size)

    @property
    def believed(self) -> bool:
        """Whether `task_count` has shown to be the number of all rows."""
        return self._shown >= PROOF

    def contradict(self) -> None:
        """Give up what was believed."""
        with self._lock:
            self._shown = 0

    def judge(self, pages: Iterable[tuple[int, int | None]], rows: int) -> None:
        """Learn from a listing of `rows` that was read to its end.

        `pages` has for each page its number of rows and its `task_count`.
        """
        counts = [(size, count) for size, count in pages if count is not None]
        if any(count != rows for _, count in counts):
            self.contradict()
        elif any(size < count for size, count in counts):
            with self._lock:
                self._shown = min(PROOF, self._shown + (2 if rows >= MANY_ROWS else 1))


class StartParameter:
    """Which parameter begins the window in this cloud; safe to use from threads.

    `say` is told once of each change, in a sentence.
    """

    def __init__(self, configured: str, say: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._say = say
        self._configured = START_PARAMETERS[configured]
        others = () if configured == "both" else ("start_time", "begin_time", "both")
        self._untried = [name for name in others if name != configured]
        self._settled = False
        self.names = self._configured

    def ignored(self, names: tuple[str, ...]) -> bool:
        """Note that a cloud ignored these; return whether others are worth a try."""
        with self._lock:
            if self._settled or names != self.names:
                return names != self.names
            shown = " and ".join(names)
            if self._untried:
                self.names = START_PARAMETERS[self._untried.pop(0)]
                message = f"the cloud ignores {shown}: {' and '.join(self.names)} is sent instead"
            else:
                self._settle()
                message = f"the cloud ignores {shown}: it lists all tasks, which are filtered here"
        self._say(message)
        return not self._settled

    def refused(self, names: tuple[str, ...]) -> bool:
        """Note that a cloud refuses these; return whether the configured ones are sent instead."""
        with self._lock:
            if names == self._configured or names != self.names:
                return names != self.names
            self._settle()
        shown = " and ".join(names)
        self._say(f"the cloud refuses {shown}: {' and '.join(self._configured)} is sent instead")
        return True

    def _settle(self) -> None:
        self._settled, self.names = True, self._configured


@dataclass(frozen=True, slots=True)
class Window(Generic[Row]):
    """What is asked for: the rows since a Unix time; `known` are those of the listing before.

    It is None where there was none.
    """

    since: float
    known: tuple[Row, ...] | None = None
    exhaustive: bool = False


@dataclass(slots=True)
class _Reading(Generic[Row]):
    """The pages that have come; `rows` has each id once, in the order of the first page it was on.

    `position` is the offset behind the latest page; with `overlap`, the next one begins one before.
    `limits` are what the pages were asked with.
    """

    overlap: bool = True

    rows: dict[str, Row] = field(default_factory=dict)
    pages: list[tuple[int, int | None]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    position: int = 0
    ended: bool = False
    moved: bool = False
    full: bool = False

    @property
    def place(self) -> Place:
        """Where the next page begins: with the last row once more, where that tells something."""
        overlaps = self.overlap and bool(self.pages) and self.pages[-1][0] > 1
        return Place(self.position, overlaps)

    @property
    def is_guesswork(self) -> bool:
        """Whether it was asked for single rows, and no overlap told of rows between them."""
        return bool(self.rows) and 1 in self.limits

    @property
    def has_one_page(self) -> bool:
        """Whether there is nothing behind the first page, not even its last row once more."""
        return self.moved and len(self.pages) == 2 and self.pages[1] in ((0, None), (0, 0))  # noqa: PLR2004 - the first, and nothing

    def take(self, page: TaskPage[Row], limit: int) -> None:
        """Add a page; `ended` when it is the last one, `moved` when it does not go on from here.

        The last one has no new row, and ends where the page before did: of a list that grew, a page
        may have rows that came before, and others behind them.
        """
        rows, offset = page.tasks, self.place.offset(limit)
        new = [row for row in rows if row.id not in self.rows]
        again = len(rows) - len(new)
        if offset < self.position and (rows or page.task_count != len(self.rows)):
            # Rows that came before may come again, at the beginning: the list grew.
            self.moved = again == 0 or any(row.id not in self.rows for row in rows[:again])
        # All of a full page again: the cloud ignores the offset.
        self.moved |= bool(self.pages) and not new and len(rows) >= limit > 1
        self.full = self.full or len(rows) >= limit
        # A row alone that came before says that the list grew, not that it ended.
        self.ended = not new and (
            not rows or (limit > 1 and rows[-1].id == next(reversed(self.rows)))
        )
        self.rows.update((row.id, row) for row in rows)  # of two, the later is the truer
        self.pages.append((len(rows), page.task_count))
        self.limits.append(limit)
        self.position = offset + len(rows)

    @property
    def shortage(self) -> int | None:
        """The `task_count` that is above the rows which came, if one is."""
        counts = [count for _, count in self.pages if count is not None]
        most = max(counts, default=0)
        return most if most > len(self.rows) else None


class WholeListing(Generic[Row]):
    """Reads listings of one kind in one cloud; safe to use from threads.

    `max_pages` bounds the pages of one reading; `failed` is told of each listing that is none.
    """

    def __init__(
        self, start: StartParameter, max_pages: int, failed: Callable[[ApiError], None]
    ) -> None:
        self.total = TotalEvidence()
        self._start = start
        self._max_pages = max_pages
        self._failed = failed
        self._overlap = True

    def read(
        self,
        fetch: Callable[[Place, tuple[str, ...]], tuple[TaskPage[Row], int]],
        window: Window[Row],
    ) -> tuple[list[Row], bool]:
        """Return the rows, and whether the page cap cut them off behind the newest.

        `fetch` takes a place and the names of the start parameter, and returns a page and the limit
        that it was asked with. Raises `InvalidResponseError` when the listing contradicts
        itself twice, `IncompleteListingError` when it was cut and may lack the newest rows.
        """
        problem, before = "", _Reading[Row]()
        for _ in range(READINGS):
            reading, cut = self._one_reading(fetch, window)
            if self._never_repeats(before, reading):
                self._overlap, reading.moved = False, False
            problem, before = _problem(before, reading, cut=cut), reading
            if reading.ended and not cut and not reading.moved:
                self.total.judge(reading.pages, len(reading.rows))
                self.total.saw_page(max(size for size, _ in reading.pages))
            if not problem:
                return list(reading.rows.values()), cut
        raise self._failure(InvalidResponseError(problem))

    def _one_reading(
        self,
        fetch: Callable[[Place, tuple[str, ...]], tuple[TaskPage[Row], int]],
        window: Window[Row],
    ) -> tuple[_Reading[Row], bool]:
        """Read until the end, or the page cap; also say whether it cut."""
        names, reading = self._start.names, _Reading[Row](overlap=self._overlap)
        while len(reading.pages) < self._max_pages:
            page, limit = fetch(reading.place, names)
            if _is_older(page.tasks, window.since) and self._start.ignored(names):
                names, reading = self._start.names, _Reading[Row](overlap=self._overlap)
                continue
            reading.take(page, limit)
            if reading.moved or reading.ended:
                return reading, False
            if self._is_total(reading, limit, window) and self._is_believed(reading, window):
                self.total.saw_page(len(page.tasks))
                return reading, False
            if len(reading.pages) == 1 and self._outgrows(reading):
                return self._newest_end(fetch, names, reading), True
        if _is_descending(reading.rows.values()):
            return reading, True
        raise self._failure(_incomplete(self._max_pages))

    @staticmethod
    def _never_repeats(before: _Reading[Row], reading: _Reading[Row]) -> bool:
        """Whether this cloud has nothing behind its first page, which is not full: a stub."""
        have_one = before.has_one_page and reading.has_one_page
        return have_one and not reading.full and before.rows.keys() == reading.rows.keys()

    def _is_total(self, reading: _Reading[Row], limit: int, window: Window[Row]) -> bool:
        """Whether the latest `task_count` says that this was the last page, and may be believed."""
        size, count = reading.pages[-1]
        if len(reading.pages) > 1:
            sizes = (size for size, _ in reading.pages[:-1])
            self.total.went_on(*max(zip(sizes, reading.limits, strict=False)))
        if count is None:
            return False
        if count < reading.position:
            self.total.contradict()
        if count != reading.position:
            return False
        # A full page may be followed by others, if the count is that of the page.
        known = {row.id for row in window.known or ()}
        grew = window.known is not None and not reading.rows.keys() <= known
        return count > size or not self.total.is_full(size, limit, grew=grew)

    def _is_believed(self, reading: _Reading[Row], window: Window[Row]) -> bool:
        """Whether a total ends this listing: not where rows are gone, or now and then."""
        if not self.total.believed or window.exhaustive:
            return False
        return all(
            row.id in reading.rows or (row.created_at or window.since) < window.since
            for row in window.known or ()
        )

    def _outgrows(self, reading: _Reading[Row]) -> bool:
        """Whether the rows are more than can be read, and begin with the oldest."""
        size, count = reading.pages[0]
        capacity = self._max_pages * max(1, size - 1)
        return count is not None and count > capacity and _is_ascending(reading.rows.values())

    def _newest_end(
        self,
        fetch: Callable[[Place, tuple[str, ...]], tuple[TaskPage[Row], int]],
        names: tuple[str, ...],
        first: _Reading[Row],
    ) -> _Reading[Row]:
        """Read the end of a list that begins with the oldest rows and is too long to be read."""
        size, count = first.pages[0]
        room = (self._max_pages - 2) * max(1, size - 1)
        reading = _Reading[Row](self._overlap, position=max(size, (count or 0) - room))
        while len(reading.pages) < self._max_pages - 1 and not (reading.ended or reading.moved):
            reading.take(*fetch(reading.place, names))
        if reading.moved:
            return reading
        rows = [*first.rows.values(), *reading.rows.values()]
        if not (reading.ended and reading.rows and _is_ascending(rows)):
            raise self._failure(_incomplete(self._max_pages))
        reading.rows = {row.id: row for row in rows}
        return reading

    def _failure(self, error: ApiError) -> ApiError:
        self._failed(error)
        return error


def _problem(before: _Reading[Row], reading: _Reading[Row], *, cut: bool) -> str:
    """Say how a reading contradicts itself, or the one before; or return the empty text."""
    if reading.moved or (reading.is_guesswork and reading.rows.keys() != before.rows.keys()):
        return "the listing changes while its pages are read: rows may be missing"
    if reading.ended and not cut and reading.shortage is not None:
        listed = len(reading.rows)
        return f"the listing contradicts itself: it counts {reading.shortage}, and lists {listed}"
    return ""


def _incomplete(pages: int) -> IncompleteListingError:
    return IncompleteListingError(
        f"the listing has more than {pages} pages and may lack the newest tasks: "
        "raise collector.max_pages, or shorten collector.lookback"
    )


def _is_older(rows: Iterable[Listed], since: float) -> bool:
    """Whether a row began before the window: the cloud did not filter."""
    oldest = since - START_TOLERANCE
    return any(
        row.created_at is not None and EARLIEST_TIME <= row.created_at < oldest for row in rows
    )


def _is_descending(rows: Iterable[Listed]) -> bool:
    starts = [row.created_at for row in rows if row.created_at is not None]
    return _is_sorted([-start for start in starts])


def _is_ascending(rows: Iterable[Listed]) -> bool:
    return _is_sorted([row.created_at for row in rows if row.created_at is not None])


def _is_sorted(values: list[float]) -> bool:
    """Whether the values never fall, and rise at least once."""
    pairs = list(pairwise(values))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
