"""The time, although clocks can be wrong: ours may jump, and the cloud need not send its own.

The cloud's time is the `Date` of its latest answer plus the monotonic seconds since: too early
where the machine was suspended, never too late. Without a `Date`, our clock is compared with the
monotonic clock, and with the latest refresh in the state file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.tasks.counting import SKEW_MARGIN
from dcs_task_exporter.tasks.models import EARLIEST_TIME

MAX_GAP: Final = 90 * 86_400.0
"""Seconds since the latest refresh after which our clock, not a long pause, is suspected."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, in Unix seconds.

    `at` is the cloud's time, to compare with the times of tasks. Where it is unknown, `at` is the
    earliest time by our clocks: a look-back window from there misses nothing. `doubt` says what is
    wrong with our clock; it is empty if nothing is.
    """

    at: float
    doubt: str = ""


class Timekeeper:
    """Compares the clocks, and logs once when ours is wrong; safe to use from several threads.

    `latest_refresh` is the time of the latest refresh in the state file (Unix seconds).
    """

    def __init__(self, clock: Clock, latest_refresh: float | None = None) -> None:
        self._clock = clock
        self._latest_refresh = latest_refresh
        self._started_at = clock.now()
        self._ahead = self._started_at - clock.monotonic()
        self._lock = threading.Lock()
        self._heard: dict[str, float] = {}
        self._doubted: frozenset[str] = frozenset()

    def hear(self, project: str, date: float | None) -> Moment:
        """Note the `Date` of an answer of a project's cloud, if it has one; return the time now."""
        if date is not None and date >= EARLIEST_TIME:
            self._heard[project] = date - self._clock.monotonic()
        moment = self.moment(project)
        self._log_change(project, moment.doubt)
        return moment

    def keep_only(self, projects: Iterable[str]) -> None:
        """Forget the clouds of all other projects."""
        with self._lock:
            kept = frozenset(projects)
            self._heard = {name: at for name, at in self._heard.items() if name in kept}
            self._doubted &= kept

    def moment(self, project: str) -> Moment:
        """Return the time now, by the cloud of a project where it is known."""
        wall, steady, heard = self._clock.now(), self._clock.monotonic(), self._heard.get(project)
        if heard is None:
            by_start = steady + self._ahead
            return Moment(min(wall, by_start), self._own_doubt(wall, wall - by_start))
        by_cloud = steady + heard
        return Moment(by_cloud, _doubt(wall - by_cloud, "the cloud's"))

    def latest(self) -> float:
        """Return the latest time that it may be now: a task cannot be a day later still."""
        by_start = self._clock.monotonic() + self._ahead
        return max(self._clock.now(), by_start, self._latest_refresh or 0.0)

    def _own_doubt(self, wall: float, jump: float) -> str:
        """Return what is wrong with our clock, where the cloud's time is unknown."""
        known = self._latest_refresh
        if known is not None and wall < known - SKEW_MARGIN:
            return f"{_span(known - wall)} behind the latest refresh in the state file"
        if known is not None and self._started_at > known + MAX_GAP:
            return f"{_span(self._started_at - known)} ahead of the latest refresh before the start"
        return _doubt(jump, "the monotonic clock since the start")

    def _log_change(self, project: str, doubt: str) -> None:
        with self._lock:
            if bool(doubt) == (project in self._doubted):
                return
            self._doubted ^= {project}
        fields = {"project": project}
        if doubt:
            message = "this machine's clock is in doubt: nothing is forgotten until it is right"
            logger.warning(message, extra={"fields": {**fields, "clock": doubt}})
        else:
            logger.info("this machine's clock is right again", extra={"fields": fields})


def _doubt(ahead: float, of: str) -> str:
    if abs(ahead) <= SKEW_MARGIN:
        return ""
    return f"{_span(ahead)} {'ahead of' if ahead > 0 else 'behind'} {of}"


def _span(seconds: float) -> str:
    for unit, name in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if abs(seconds) >= 2 * unit:
            return f"{abs(seconds) / unit:.0f} {name}"
    return f"{abs(seconds):.0f} seconds"
