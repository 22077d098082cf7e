"""The request budget of one project: how fast we ask, whatever the number of threads."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

from dcs_task_exporter.errors import BudgetExhaustedError, StoppedError


class RequestBudget:
    """Gives out one slot after the other, evenly spaced at `rate` per second.

    An even pace never exceeds a limit that the cloud measures over any window. `wait` sleeps for
    some seconds and returns True when the exporter is stopping. It may sleep longer: threads that
    wake late and together still go on at no more than `rate` in any second.
    """

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float],
        wait: Callable[[float], bool],
    ) -> None:
        self._interval = 1 / rate
        self._monotonic = monotonic
        self._wait = wait
        self._lock = threading.Lock()
        self._next_slot = self._paused_until = monotonic()
        self._left: deque[float] = deque(maxlen=max(1, math.floor(rate)))

    def take(self, deadline: float) -> float:
        """Wait for a slot and return how many seconds that took.

        Raises `BudgetExhaustedError` at once when no slot comes before `deadline` (monotonic), and
        `StoppedError` when the exporter stops meanwhile.
        """
        with self._lock:
            now = self._monotonic()
            slot = max(now, self._next_slot)
            self._check(slot - now, deadline - now)
            self._next_slot = slot + self._interval
        delay = slot - now
        waited = 0.0
        while delay > 0 or (delay := self._held_back(deadline)) > 0:
            if self._wait(delay):
                message = "the exporter is stopping"
                raise StoppedError(message)
            waited, delay = waited + delay, 0.0
        return waited

    def pause(self, seconds: float) -> None:
        """Let no request leave for `seconds`, also none that has a slot: the cloud asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._monotonic() + seconds)
            self._next_slot = max(self._next_slot, self._paused_until)

    def _held_back(self, deadline: float) -> float:
        """Return for how long this request must wait still; 0 if it leaves now.

        It waits for a pause that began meanwhile, and for those that left late. Raises
        `BudgetExhaustedError` when that is longer than it may.
        """
        with self._lock:
            now, left = self._monotonic(), self._left
            wait = self._paused_until - now
            if len(left) == left.maxlen:
                wait = max(wait, left[0] + len(left) * self._interval - now)
            # Rounding must not hold back a request that keeps the even pace.
            if wait > self._interval / 1000:
                self._check(wait, deadline - now)
                return wait
            left.append(now)
            return 0.0

    @staticmethod
    def _check(wait: float, patience: float) -> None:
        if wait > patience:
            message = f"the request budget has no slot for another {wait:.0f} s"
            raise BudgetExhaustedError(message)
