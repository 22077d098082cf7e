"""Asking the task centre whether anything changed, so that quiet instances need not be read.

One call lists the tasks of a whole project, but does not promise to say whose they are
(`dcs-api.md` 6.2). So it only decides what must be read at all; what is shown and counted comes
from the instances' own listings. A wrong assumption costs delay, until the next full pass, and
never truth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import (
    ApiError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    StoppedError,
)
from dcs_task_exporter.tasks.counting import SKEW_MARGIN
from dcs_task_exporter.tasks.models import CenterTask

logger = logging.getLogger(__name__)

TIME_LIMIT: Final = 30.0
"""Seconds after which no further page of the task centre is asked for."""

CenterListing = Callable[[float, float], tuple[Sequence[CenterTask], bool]]


@dataclass(frozen=True, slots=True)
class Changes:
    """What may have changed: everything, or these tasks, each with its instance where known."""

    everything: bool = False
    tasks: Mapping[str, str] | None = None


EVERYTHING: Final = Changes(everything=True)


class ChangeDetector:
    """Compares what the task centre lists with what it listed before.

    Used by one thread at a time. `listing` takes a start (Unix seconds) and a deadline
    (monotonic), and returns the tasks and whether they were cut.
    """

    def __init__(
        self,
        project: str,
        listing: CenterListing,
        full_pass_interval: float,
        clock: Clock,
    ) -> None:
        self.full_pass_interval = full_pass_interval
        self._project = project
        self._listing = listing
        self._clock = clock
        self._since = clock.now() - SKEW_MARGIN
        self._seen: Mapping[str, CenterTask] = {}
        self._silent_until = clock.monotonic()
        self._told = False

    def changes(self) -> Changes:
        """Return what changed since the last call; everything, when the centre does not say."""
        began = self._clock.now()
        if self._clock.monotonic() < self._silent_until:
            return EVERYTHING
        try:
            since = min(self._since, began - SKEW_MARGIN)  # the clock may have been ahead before
            tasks, truncated = self._listing(since, self._clock.monotonic() + TIME_LIMIT)
        except (NotFoundError, ForbiddenError, BadRequestError) as error:
            self._fall_back(error)
            return EVERYTHING
        except StoppedError:
            raise
        except ApiError as error:
            logger.debug("the task centre did not answer", extra={"fields": self._fields(error)})
            return EVERYTHING
        self._told = False
        before, self._seen = self._seen, {task.id: task for task in tasks}
        self._since = began - SKEW_MARGIN
        if truncated:
            return EVERYTHING
        changed = [task for task in self._seen.values() if before.get(task.id) != task]
        return Changes(tasks={task.id: task.instance_id for task in changed})

    def _fall_back(self, error: ApiError) -> None:
        """Ask again when the next full pass is due, and say so once."""
        self._silent_until = self._clock.monotonic() + self.full_pass_interval
        if not self._told:
            self._told = True
            logger.warning(
                "the task centre cannot be used here: every instance is read at each refresh",
                extra={"fields": self._fields(error)},
            )

    def _fields(self, error: ApiError) -> Mapping[str, object]:
        return {
            "project": self._project,
            "reason": error.reason,
            "status": error.status,
            "error_code": error.error_code,
            "error": error.message,
        }
