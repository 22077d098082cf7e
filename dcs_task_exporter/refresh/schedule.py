"""When one instance is read: the read that is due, waiting or under way, and the time of the last.

At most one thread reads an instance at a time: the one whose `begin` returned True, until it calls
`finish`. Whoever wants fresh data claims the read, and waits for its future.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Final

from dcs_task_exporter.clock import Clock

FRESHNESS_TOLERANCE: Final = 0.5
"""Seconds by which a scrape may come early and still find its instances due."""

HEAD_START: Final = 0.75
"""The share of a pass by which an instance is read earlier while something is under way."""


class ReadSchedule:
    """The reads of one instance; safe to use from several threads. Times are monotonic seconds."""

    def __init__(self, interval: float, clock: Clock) -> None:
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._tried_at: float | None = None
        self._change_expected_at: float | None = None
        self._pending: Future[None] | None = None
        self._is_reading = False

    def change(self, interval: float) -> None:
        """Make the instance due when it was last read `interval` seconds ago."""
        self._interval = interval

    def claim(self, *, urgent: bool) -> tuple[Future[None], bool] | None:
        """Return the future of the read that is due or under way, and whether to queue the read.

        Returns None while the data are fresh. An `urgent` read that waits in the queue already is
        to be queued again, before all others.
        """
        with self._lock:
            is_new = self._pending is None and self._is_due()
            if is_new:
                self._pending = Future()
            if self._pending is None:
                return None
            return self._pending, is_new or (urgent and not self._is_reading)

    def _is_due(self) -> bool:
        if self._tried_at is None:
            return True
        age = self._clock.monotonic() - self._tried_at
        return age >= self._interval - min(FRESHNESS_TOLERANCE, self._interval / 2)

    @property
    def is_claimed(self) -> bool:
        """Whether a read is waiting or under way."""
        return self._pending is not None

    def begin(self) -> bool:
        """Begin the claimed read; return False where another thread began or ended it."""
        with self._lock:
            if self._pending is None or self._is_reading:
                return False
            self._is_reading = True
            return True

    def finish(self) -> None:
        """End the read: those who wait for it go on."""
        with self._lock:
            done = self._take_pending()
        if done is not None:
            done.set_result(None)

    def abandon(self, claimed: Future[None], *, as_done: bool = False) -> bool:
        """End a claimed read without reading; return False if it is under way or has ended.

        `as_done` makes the next read due as late as if this one had been done, unless it was to
        show a change.
        """
        with self._lock:
            if self._is_reading or self._pending is not claimed:
                return False
            if as_done and not self.expects_change:
                self._tried_at = self._clock.monotonic()
            self._take_pending()
        claimed.set_result(None)
        return True

    def note(self, began: float, *, succeeded: bool) -> None:
        """Note the result of the read that began at this time."""
        with self._lock:
            self._tried_at = began
            expected = self._change_expected_at
            if succeeded and expected is not None and expected <= began:
                self._change_expected_at = None

    def reset(self) -> None:
        """Make a read due at once."""
        with self._lock:
            self._tried_at = None

    def expect_change(self) -> None:
        """Note that a read which begins now or later will show a change."""
        with self._lock:
            self._change_expected_at = self._clock.monotonic()

    @property
    def expects_change(self) -> bool:
        """Whether a change was announced that no read has shown yet."""
        return self._change_expected_at is not None

    def due_before(self, pass_time: float, *, is_active: bool) -> float:
        """Return the time by which reads are ordered, when one pass takes `pass_time` seconds.

        The instance read longest ago comes first. One that is active, or expects a change, counts
        as read three quarters of a pass earlier: it overtakes others, but starves none.
        """
        if self._tried_at is None:
            return -1e12  # before all others
        has_head_start = is_active or self.expects_change
        return self._tried_at - (HEAD_START * pass_time if has_head_start else 0.0)

    def _take_pending(self) -> Future[None] | None:
        done, self._pending = self._pending, None
        self._is_reading = False
        return done
