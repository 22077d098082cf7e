"""The rate limit of one project: how fast it is asked, whatever the number of threads."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import NoSlotError, StoppedError


class RateLimit:
    """Hands out slots for requests, evenly spaced at `rate` per second.

    An even pace never exceeds a limit that the cloud measures over any window. `wait` sleeps for
    some seconds and returns True when the exporter is stopping. It may sleep longer: threads that
    wake late and together still send at most `rate` requests in any second.
    """

    def __init__(self, rate: float, clock: Clock, wait: Callable[[float], bool]) -> None:
        self._interval = 1 / rate
        self._monotonic = clock.monotonic
        self._wait = wait
        self._lock = threading.Lock()
        self._next_slot = self._paused_until = clock.monotonic()
        self._sent: deque[float] = deque(maxlen=max(1, math.floor(rate)))

    def take(self, deadline: float) -> float:
        """Wait for a slot and return the seconds waited.

        Raises `NoSlotError` at once when no slot comes before `deadline` (monotonic), and
        `StoppedError` when the exporter stops meanwhile.
        """
        with self._lock:
            now = self._monotonic()
            slot = max(now, self._next_slot)
            self._check(slot - now, deadline - now)
            self._next_slot = slot + self._interval
        delay = slot - now
        waited = 0.0
        while delay > 0 or (delay := self._delay(deadline)) > 0:
            if self._wait(delay):
                message = "the exporter is stopping"
                raise StoppedError(message)
            waited, delay = waited + delay, 0.0
        return waited

    def change(self, rate: float) -> None:
        """Hand out `rate` slots per second from now on."""
        with self._lock:
            self._interval = 1 / rate
            self._sent = deque(self._sent, maxlen=max(1, math.floor(rate)))
            # Slots that were given away at another pace count where they come soon, or are used.
            soon = self._monotonic() + self._interval
            self._next_slot = max(self._paused_until, min(self._next_slot, soon))

    def pause(self, seconds: float) -> None:
        """Hold back every request for `seconds`, because the cloud asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._monotonic() + seconds)
            self._next_slot = max(self._next_slot, self._paused_until)

    def _delay(self, deadline: float) -> float:
        """Return the seconds that a request with a slot must still wait; 0 if it is sent now.

        It waits for a pause that began meanwhile, and for requests that were sent late. Raises
        `NoSlotError` when that takes until after `deadline`.
        """
        with self._lock:
            now, sent = self._monotonic(), self._sent
            wait = self._paused_until - now
            if len(sent) == sent.maxlen:
                wait = max(wait, sent[0] + len(sent) * self._interval - now)
            # Rounding must not hold back a request that keeps the even pace.
            if wait > self._interval / 1000:
                self._check(wait, deadline - now)
                return wait
            sent.append(now)
            return 0.0

    @staticmethod
    def _check(wait: float, patience: float) -> None:
        if wait > patience:
            message = f"the rate limit has no slot for another {wait:.0f} s"
            raise NoSlotError(message)
