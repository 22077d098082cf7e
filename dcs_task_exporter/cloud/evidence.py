"""Beliefs about a cloud where the API promises nothing (`dcs-api.md` section 2).

Each belief is tested again and again, and given up at the first contradiction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from dcs_task_exporter.cloud.reading import Page

START_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "start_time": ("start_time",),
    "begin_time": ("begin_time",),
    "both": ("start_time", "begin_time"),
}
"""The page's table says `start_time`, its example `begin_time`; which one is honored is open."""


class TotalEvidence:
    """Whether `task_count` is the number of all tasks (`is_total`); safe to use from threads.

    One listing that was read to its end is proof enough: 20,000 steps of simulated worlds broke no
    law with it. It is given up at the first contradiction.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_total = False
        self._largest = 0
        self._cap: int | None = None

    def judge(self, pages: Iterable[Page], rows: int) -> None:
        """Learn from the pages of a listing of `rows` that was read to its end."""
        counts = [(page.size, page.count) for page in pages if page.count is not None]
        if any(count != rows for _, count in counts):
            self.contradict()
        elif any(size < count for size, count in counts):
            self.is_total = True

    def contradict(self) -> None:
        """Give up the belief that `task_count` is a total."""
        self.is_total = False

    def may_be_cut(self, page: Page, *, has_new: bool) -> bool:
        """Whether a page may be followed by another.

        The cloud's own limit shows when a page is followed by another. Until then any page with new
        rows may have been cut, if no page was larger yet.
        """
        cap = min(page.limit, self._cap or page.limit)
        return page.size >= cap or (has_new and page.size >= self._largest)

    def note_last(self, size: int) -> None:
        """Note the size of the largest page of a listing that ended."""
        with self._lock:
            self._largest = max(self._largest, size)

    def note_followed(self, page: Page) -> None:
        """Note that a page was not the last one."""
        with self._lock:
            if page.size < page.limit:
                self._cap = page.size
            elif self._cap is not None:
                self._cap = max(self._cap, page.size)


class StartParameter:
    """The parameter that begins the window in this cloud; safe to use from threads.

    `names` are the names to send now; `warn` is called once with a sentence for each change.
    """

    def __init__(self, configured: str, warn: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._warn = warn
        self._configured = START_PARAMETERS[configured]
        others = () if configured == "both" else ("start_time", "begin_time", "both")
        self._untried = [name for name in others if name != configured]
        self._is_decided = False
        self.names = self._configured

    def ignored(self, names: tuple[str, ...]) -> bool:
        """Note that the cloud ignores `names`; return whether others are worth a try."""
        with self._lock:
            if self._is_decided or names != self.names:
                return names != self.names
            old = " and ".join(names)
            if self._untried:
                self.names = START_PARAMETERS[self._untried.pop(0)]
                new = " and ".join(self.names)
                message = f"the cloud ignores {old}: {new} is sent instead"
            else:
                self._decide()
                message = f"the cloud ignores {old}: it lists all tasks, which are filtered here"
        self._warn(message)
        return not self._is_decided

    def refused(self, names: tuple[str, ...]) -> bool:
        """Note that the cloud refuses `names`; return whether others are worth a try."""
        with self._lock:
            if names == self._configured or names != self.names:
                return names != self.names
            self._decide()
        new = " and ".join(self._configured)
        self._warn(f"the cloud refuses {' and '.join(names)}: {new} is sent instead")
        return True

    def _decide(self) -> None:
        self._is_decided, self.names = True, self._configured
