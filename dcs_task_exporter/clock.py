"""The clock of the exporter, as a parameter: tests set the time, and no module reads it itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Two ways to read the time, both in seconds.

    `now` returns Unix time and may jump; `monotonic` never goes back and has no fixed zero.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
