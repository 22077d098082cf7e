"""What is set for the whole process of a server."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 20, 50)
"""Allocations before the young are collected; how often the older are, and the oldest."""


def tune_garbage_collection() -> None:
    """Spare what lives as long as the process, and look through the rest less often.

    Nearly all that is kept is immutable and without cycles. With the defaults a look through all of
    it stops every thread for 65 ms at 1,000 instances, every few refreshes (measured; see
    docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
