"""The task center: one request that says whether any instance of a project must be read.

The center lists the tasks of a whole project, but need not say to which instance a task belongs
(`dcs-api.md` 6.2). So it only decides which instances are read; their own listings are counted and
shown. If the center is wrong, a task appears later, at the next full pass, and is never lost.

A task that the center shows and no instance has shown yet is searched for in all instances, or in
the one that the center names: the two services need not agree at every moment.
"""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import (
    ApiError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
)
from dcs_task_exporter.refresh.instance import Claim, WatchedInstance
from dcs_task_exporter.tasks.counting import SKEW_MARGIN
from dcs_task_exporter.tasks.instance_state import InstanceState, has_pending
from dcs_task_exporter.tasks.models import CenterTask

logger = logging.getLogger(__name__)

TIME_LIMIT: Final = 30.0
"""Seconds after which no further page of the task center is requested."""

SEARCH_TIME: Final = 60.0
"""Seconds for which a task is searched for in the instances: it may belong to none of them."""

CenterListing = Callable[[float, float], tuple[Sequence[CenterTask], bool]]
"""Takes a start (Unix seconds) and a deadline (monotonic); returns tasks, and whether some lack."""


class TaskCenter:
    """Chooses which instances of one project must be read; safe to use from several threads.

    The `now` of its clock is the cloud's time. Every instance is read at least once in
    `full_pass_interval` seconds; `skipped` is the number of reads that were not necessary.
    """

    def __init__(
        self, project: str, listing: CenterListing, full_pass_interval: float, clock: Clock
    ) -> None:
        self._project = project
        self._listing = listing
        self._interval = full_pass_interval
        self._clock = clock
        self._lock = threading.Lock()
        self.skipped = 0
        self._since = clock.now() - SKEW_MARGIN
        self._listed: Mapping[str, CenterTask] = {}
        self._searched: Mapping[str, tuple[str, float]] = {}
        self._silent_until = clock.monotonic()
        self._is_reported = False

    def change(self, listing: CenterListing, full_pass_interval: float) -> None:
        """Ask another client, or rely on its answers for another time, from now on."""
        self._listing, self._interval = listing, full_pass_interval

    def may_skip(self, watched: WatchedInstance) -> bool:
        """Whether an instance need not be read unless the center shows a change.

        It must be read after a failed refresh, while tasks are followed or counts wait to be shown,
        while a change is expected, and when its full pass is due.
        """
        now = self._clock.monotonic()
        shown, read = watched.snapshot(now), watched.refreshed_at
        is_quiet = shown.up and not watched.reads.expects_change and not has_pending(watched.state)
        return is_quiet and not full_pass_is_due(watched.instance.id, read, now, self._interval)

    def changed(
        self, claims: Sequence[Claim], watched: Callable[[], Sequence[WatchedInstance]]
    ) -> Sequence[Claim]:
        """Ask the center; return the claims that must be read, and abandon the others.

        `watched` returns all instances of the project: also those that are not claimed are read
        next time if they may have changed. Blocks until the center has answered.
        """
        unread: Collection[Claim] = claims
        try:
            with self._lock:
                self._expect(self._changes(), watched())
                changed = [claim for claim in claims if claim.watched.reads.expects_change]
                unread = set(claims).difference(changed)
                self.skipped += sum(claim.abandon(as_done=True) for claim in unread)
        finally:
            for claim in unread:
                claim.abandon()
        return changed

    def _changes(self) -> Mapping[str, str] | None:
        """Return the ids of new and changed tasks, each with its instance's where it is known.

        Returns None when the center does not answer: everything may have changed.
        """
        if self._clock.monotonic() < self._silent_until:
            return None
        try:
            return self._compare()
        except ApiError as error:
            self._note_failure(error)
        except Exception:
            message = "cannot ask the task center: every instance of the project is read"
            logger.exception(message, extra={"fields": {"project": self._project}})
        return None

    def _note_failure(self, error: ApiError) -> None:
        level, message = logging.DEBUG, "the task center did not answer"
        if isinstance(error, NotFoundError | ForbiddenError | BadRequestError):
            # Refused here: ask again when the next full pass is due.
            self._silent_until = self._clock.monotonic() + self._interval
            level = logging.DEBUG if self._is_reported else logging.WARNING
            self._is_reported = True
            message = "the task center cannot be used here: every instance is read at each refresh"
        logger.log(level, message, extra={"fields": {"project": self._project, **error.fields}})

    def _compare(self) -> Mapping[str, str] | None:
        began = self._clock.now()
        since = min(self._since, began - SKEW_MARGIN)  # the clock may have been ahead before
        tasks, truncated = self._listing(since, self._clock.monotonic() + TIME_LIMIT)
        self._is_reported = False
        before, self._listed = self._listed, {task.id: task for task in tasks}
        self._since = began - SKEW_MARGIN
        if truncated:
            return None
        changed = [task for task in self._listed.values() if before.get(task.id) != task]
        return {task.id: task.instance_id for task in changed}

    def _expect(
        self, changes: Mapping[str, str] | None, watched: Sequence[WatchedInstance]
    ) -> None:
        """Mark the instances that must be read, now or when they are due."""
        now, announced = self._clock.monotonic(), changes or {}
        new = {key: (owner, now) for key, owner in announced.items() if key not in self._searched}
        searched = {**self._searched, **new}
        known = [_shown(one.state, searched) for one in watched]
        found = frozenset[str]().union(*known)
        self._searched = {
            key: (owner, since)
            for key, (owner, since) in searched.items()
            if key not in found and now - since < SEARCH_TIME
        }
        owners = {owner for owner, _ in self._searched.values()}
        for one, ids in zip(watched, known, strict=True):
            is_searched = "" in owners or one.instance.id in owners
            if changes is None or is_searched or not ids.isdisjoint(announced):
                one.reads.expect_change()


def _shown(state: InstanceState, task_ids: Iterable[str]) -> frozenset[str]:
    """Return those of the tasks that an instance has shown."""
    return frozenset(
        key
        for key in task_ids
        if key in state.counted or key in state.active or key in state.missing
    )


def full_pass_is_due(instance_id: str, read: float | None, now: float, interval: float) -> bool:
    """Whether an instance that was read at `read` must be read, as `interval` seconds are over.

    Each instance has its own moments, so that not all are read at once. They are twice an interval
    apart: as many as there are intervals.
    """
    if read is None:
        return True
    phase = interval * zlib.crc32(instance_id.encode()) / 2**32
    return math.floor((now + phase) / interval) > math.floor((read + phase) / interval)
