"""The request budget of one project: how fast we ask, whatever the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dcs_task_exporter.errors import BudgetExhaustedError, StoppedError


class RequestBudget:
    """Gives out one slot after the other, evenly spaced at `rate` per second.

    An even pace never exceeds a limit that the cloud measures over any window. `wait` sleeps for
    some seconds and returns True when the exporter is stopping.
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
        self._next_slot = monotonic()

    def take(self, deadline: float) -> float:
        """Wait for a slot and return how many seconds that took.

        Raises `BudgetExhaustedError` at once when no slot comes before `deadline` (monotonic), and
        `StoppedError` when the exporter stops meanwhile.
        """
        with self._lock:
            now = self._monotonic()
            slot = max(now, self._next_slot)
            if slot > deadline:
                message = f"the request budget has no slot for another {slot - now:.0f} s"
                raise BudgetExhaustedError(message)
            self._next_slot = slot + self._interval
        delay = slot - now
        if delay > 0 and self._wait(delay):
            message = "the exporter is stopping"
            raise StoppedError(message)
        return delay

    def pause(self, seconds: float) -> None:
        """Give out no slot for `seconds`: the cloud asked for it."""
        with self._lock:
            self._next_slot = max(self._next_slot, self._monotonic() + seconds)
