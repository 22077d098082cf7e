"""Counts the logins that failed, and logs them without what was tried."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

LOG_INTERVAL: Final = 1.0
"""Seconds in which one line at most is logged."""

logger = logging.getLogger(__name__)


class FailedLogins:
    """The logins that failed since the start; `monotonic` returns seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._silent_until = monotonic()
        self._logged = 0
        self.total = 0

    def note(self, user: str | None, address: str) -> None:
        """Note one; `user` is None for a name that is not known: it may be a password."""
        self.total += 1
        now = self._monotonic()
        if now < self._silent_until:
            return
        fields = {
            "user": "unknown" if user is None else user,
            "address": address,
            "failed_logins": self.total - self._logged,
        }
        logger.warning("a login failed", extra={"fields": fields})
        self._silent_until, self._logged = now + LOG_INTERVAL, self.total
