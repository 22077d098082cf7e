"""One page of a listing: where it begins, and how many rows it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from dcs_task_exporter.cloud.calls import Call
from dcs_task_exporter.cloud.parsing import Row, TaskPage
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.cloud.responses import AnswerMemory
from dcs_task_exporter.errors import BadRequestError, TooLargeError

CHECK_INTERVAL: Final = 20
"""One in so many listings of an instance is read to its end, whatever `task_count` says."""

LONGEST_CHECK_INTERVAL: Final = 100
"""The largest interval for many instances: they all test the same cloud, and a check costs a
request."""

CHECKS_A_SWEEP: Final = 5
"""Listings that are read to their end in each sweep over many instances."""

SAFE_PAGE_SIZE: Final = 10
"""The API's default page size, for clouds that refuse a larger one."""

logger = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")


def check_interval(instances: int) -> int:
    """Return the number of listings of each instance of which one is read to its end."""
    return min(LONGEST_CHECK_INTERVAL, max(CHECK_INTERVAL, instances // CHECKS_A_SWEEP))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind `position` rows, or with the last of them again (`overlaps`)."""

    position: int
    overlaps: bool = False

    def offset(self, limit: int) -> int:
        """Return the offset of a page of `limit` rows: a single row has no room for an overlap."""
        return self.position - 1 if self.overlaps and limit > 1 else self.position


class ListingMemory(Generic[Row]):
    """The results of earlier listings of one instance; used by one thread at a time.

    `rows` are those of the latest listing, also of one that was cut, or None before the first.
    `count` begins
    anywhere, so that instances are checked at different times.
    """

    def __init__(self, count: int = 0) -> None:
        self.first_page: AnswerMemory[TaskPage[Row]] = AnswerMemory()
        self.rows: tuple[Row, ...] | None = None
        self._count = count
        self._most: int | None = None

    def begin(self) -> None:
        """Count a listing; one in `CHECK_INTERVAL` is asked for full pages again."""
        self._count += 1
        if self._count % CHECK_INTERVAL == 0:
            self._most = None

    def is_exhaustive(self, interval: int) -> bool:
        """Whether this listing is read to its end: one in `interval` is."""
        return self._count % interval == 0

    def keep(self, rows: tuple[Row, ...]) -> None:
        """Remember the rows of a listing."""
        self.rows = rows

    def limit(self, full: int) -> int:
        """Return the number of rows to ask for: `full`, or fewer after an answer too large."""
        return full if self._most is None else min(full, self._most)

    def halve(self, limit: int) -> None:
        """Note that an answer to `limit` rows was too large."""
        self._most = max(1, limit // 2)


@dataclass(frozen=True, slots=True)
class Fetched(Generic[Parsed]):
    """A parsed page, the limit that it was asked for with, and the cloud's time (Unix seconds)."""

    page: Parsed
    limit: int
    answered_at: float | None


class Pager:
    """Fetches pages of the size that the cloud takes and we can read; safe to use from threads."""

    def __init__(self, caller: ApiCaller, project: str, page_size: int) -> None:
        self._caller = caller
        self._project = project
        self._page_size = page_size

    def fetch(
        self,
        call_with: Callable[[Mapping[str, str]], Call[Parsed]],
        place: Place,
        memory: ListingMemory[Row],
    ) -> Fetched[Parsed]:
        """Fetch one page of a listing. Raises `ApiError`.

        `call_with` returns the call with a limit and an offset in its query.
        """
        while True:
            limit = memory.limit(self._page_size)
            call = call_with({"limit": str(limit), "offset": str(place.offset(limit))})
            try:
                reply = self._caller.get(call)
            except BadRequestError as error:
                if limit <= SAFE_PAGE_SIZE or "limit" not in error.message.lower():
                    raise
                # The largest page of older regions is not published.
                self._page_size = SAFE_PAGE_SIZE
            except TooLargeError as error:
                self._ask_for_fewer(error, call, limit)
                memory.halve(limit)
            else:
                return Fetched(reply.value, limit, reply.answered_at)

    def _ask_for_fewer(self, error: TooLargeError, call: Call[Any], limit: int) -> None:
        """Log that a page is too large; raise `TooLargeError` if it has a single row."""
        if limit == 1:
            message = f"{error.message}, although it was asked for one row"
            raise TooLargeError(message, status=error.status, request_id=error.request_id) from None
        fields = {
            "project": self._project,
            "operation": call.operation,
            "dcs_instance_id": call.subject,
            "error": error.message,
        }
        logger.warning("an answer is too large: fewer rows are asked for", extra={"fields": fields})
