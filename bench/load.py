"""The load of a benchmark: its cloud's project, its tasks, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Final

PROJECT: Final = "a4d31cb63d724fdc8ec96e3a41e47f71"


@dataclass(frozen=True, slots=True)
class Load:
    """The tasks of every instance, and the answers; `latency` in seconds, `limit` in requests/s.

    `changing` is the share of the instances, from 0 to 1, whose listing changes between two
    requests: the error code of the newest task, or with `finishing` the newest task itself, which
    has just finished. With `active`, one instance in a hundred has a task that never ends.
    """

    latency: float = 0.0
    tasks: int = 10
    limit: int | None = None
    changing: float = 0.0
    finishing: bool = False
    active: bool = False


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of the cloud's process, shared with the process that measures."""

    served: Synchronized[int]
    refused: Synchronized[int]
    opened: Synchronized[int]
    closed: Synchronized[int]
