"""How many connections there may be, how long each may take, and which one makes room for another.

uvicorn has no time limit for a client that never sends its request or never reads its answer, and
no limit of connections. With these limits, silent clients cannot shut the scraper out.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dcs_task_exporter.web.listen import BACKLOG

RESERVED_FILES: Final = 256
"""File descriptors kept for everything else: the connections to the cloud, the state file."""

Callback = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The number of connections, and the time that each may take, in seconds.

    `request` bounds the sending of a request, `answer` the reading of an answer, `idle` the pause
    between two requests, `stop` the answers still in flight when the server stops.
    """

    connections: int = 2048
    request: float = 30.0
    answer: float = 30.0
    idle: float = 90.0
    stop: float = 0.5


def most_connections(wanted: int) -> int:
    """Return how many connections the limit of open files leaves room for, at most `wanted`."""
    if sys.platform == "win32":
        return wanted
    import resource  # noqa: PLC0415 - not everywhere

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, max(files - RESERVED_FILES - BACKLOG, files // 4)))


class WaitingLine:
    """The connections that wait for a request, the longest waiting first.

    Each stands in it by the callback that cuts it.
    """

    def __init__(self, most_connections: int) -> None:
        self._most = most_connections
        self._line: dict[Callback, None] = {}

    def join(self, cut: Callback) -> None:
        """Wait, at the end of the line; a connection that waits already keeps its place."""
        self._line.setdefault(cut)

    def leave(self, cut: Callback) -> None:
        """Wait no longer."""
        self._line.pop(cut, None)

    def make_room(self, connections: int) -> None:
        """Cut the connection that has waited longest if there are too many `connections`."""
        if connections > self._most:
            # There is always one that waits: the newcomer, at the latest.
            next(iter(self._line))()


class TimeLimit:
    """A limit of `seconds` for one thing at a time; stop it before it begins again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, expired: Callback) -> None:
        """Call `expired` when the time is over; a limit that runs already goes on as it is."""
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, expired)

    def stop(self) -> None:
        """Let it not expire."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
