"""Discovery: new instances of a project appear by themselves, and deleted ones leave.

A listing is not trusted blindly. After a failed one the last list stays. An instance that is
missing from one listing stays until it is missing from a second: pages may have moved. A listing
without any instance, where some were known, counts as failed for an hour: an API in a bad moment,
or a key that lost a permission, answers like that. A search that succeeds but leaves nothing to
watch, or loses most of the instances, is reported: nothing watched is an outage.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import DiscoveryConfig
from dcs_task_exporter.errors import ApiError, InternalError, StoppedError
from dcs_task_exporter.logs.formats import log_unforeseen
from dcs_task_exporter.refresh.reader import log_fields
from dcs_task_exporter.refresh.workers import Job, WorkerPool
from dcs_task_exporter.tasks.models import Instance

TIME_LIMIT: Final = 60.0
"""Seconds after which no further page of instances is requested, unless the interval is longer: at
a low rate limit, each page waits behind the reads of instances."""

FIRST_INTERVAL: Final = 15.0
"""Seconds at most until the next search, while none has succeeded."""

EMPTY_DOUBTED: Final = 3600.0
"""Seconds of empty listings after which all instances count as deleted."""

LOSS_REPORTED: Final = 86_400.0
"""Seconds for which it is reported that most instances left at once, unless they return."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiscoveryStatus:
    """The result of the searches of one project; `last_success` is a Unix time.

    The `problem` is why the latest search failed; the `warning` is what is wrong with the list of
    the latest that succeeded.
    """

    project: str
    instances: int | None = None
    last_success: float | None = None
    problem: str = ""
    warning: str = ""

    @property
    def up(self) -> bool:
        """Whether the latest search succeeded."""
        return self.last_success is not None and not self.problem


class Discovery:
    """Searches one project, in a thread of its own.

    `listing` takes a deadline (monotonic) and raises `ApiError`; `found` gets each new list. The
    `status` is the result of the searches until now. A search that goes on where the one `before`
    it ended knows what that one knew, as far as its own rules admit it.
    """

    def __init__(
        self,
        project: str,
        rules: DiscoveryConfig,
        listing: Callable[[float], Sequence[Instance]],
        found: Callable[[Sequence[Instance]], None],
        clock: Clock,
        before: Discovery | None = None,
    ) -> None:
        self.project = project
        self._rules = rules
        self._listing = listing
        self._found = found
        self._clock = clock
        self._lock = threading.Lock()
        self._pool = WorkerPool(f"{project}-discovery", 1)
        self._known: Mapping[str, Instance] = {}
        self.status = DiscoveryStatus(project)
        if before is not None:
            self._known = {item.id: item for item in before.known if is_admitted(item, rules)}
            self.status = replace(before.status, warning="")
            if before.status.instances is not None:
                self.status = replace(self.status, instances=len(self._known))
        self._missing: Collection[str] = ()
        self._empty_since: float | None = None
        # The numbers before and after most instances left at once, and when they did.
        self._loss: tuple[int, int, float] | None = None
        self._next_at = clock.monotonic()
        self._in_flight: Future[None] | None = None

    @property
    def known(self) -> Sequence[Instance]:
        """The instances of the latest list."""
        return tuple(self._known.values())

    def search(self) -> Future[None] | None:
        """Search if that is due; return the future of the search that is under way, if any."""
        with self._lock:
            pending = self._in_flight
            begins = pending is None and self._clock.monotonic() >= self._next_at
            if begins:
                pending = self._in_flight = Future()
        if begins:
            self._pool.submit([Job(self._run, drop=self._finish)])
        return pending

    def stop(self) -> None:
        """Begin no more searches."""
        self._pool.stop()

    def _run(self) -> None:
        try:
            limit = max(TIME_LIMIT, self._rules.refresh_interval)
            listed = self._listing(self._clock.monotonic() + limit)
            if listed or not self._doubts_empty():
                self._take(listed)
        except StoppedError:
            pass
        except ApiError as error:
            self._fail(f"{error.reason}: {error.message}")
        except Exception as error:  # noqa: BLE001 - any error is logged, and fails only this search
            log_unforeseen(logger, "discovery broke", error, {"project": self.project})
            self._fail(f"{InternalError.reason}: {type(error).__name__}, see the log")
        finally:
            self._finish()

    def _finish(self) -> None:
        interval = self._rules.refresh_interval
        if self.status.last_success is None:
            interval = min(interval, FIRST_INTERVAL)
        with self._lock:
            done, self._in_flight = self._in_flight, None
            self._next_at = self._clock.monotonic() + interval
        if done is not None:
            done.set_result(None)

    def _doubts_empty(self) -> bool:
        """Whether a listing without any instance counts as failed.

        It does for a while where some are known, and once where it is the very first: a list of
        targets that is empty for a moment makes Prometheus drop them all.
        """
        number, now = len(self._known), self._clock.monotonic()
        is_first = self._empty_since is None and self.status.last_success is None
        if self._empty_since is None:
            self._empty_since = now
        if not is_first and (not number or now - self._empty_since >= EMPTY_DOUBTED):
            return False
        known = f"where {number} are known" if number else "and is asked for again"
        self._fail(f"the answer lists no instance at all, {known}")
        return True

    def _take(self, listed: Sequence[Instance]) -> None:
        before = self._known
        absent = before.keys() - {instance.id for instance in listed}
        kept = {key: before[key] for key in absent.difference(self._missing)}
        admitted = {item.id: item for item in listed if is_admitted(item, self._rules)}
        self._missing = kept.keys()
        if listed:
            self._empty_since = None
        self._known = known = {**kept, **admitted}
        warning = self._warning(len(before), len(known), len(listed))
        self._log_changes(before, known)
        if warning and warning != self.status.warning:
            numbers = {"project": self.project, "before": len(before), "now": len(known)}
            logger.warning("%s", warning, extra={"fields": numbers})
        # Publish the instances before the status, or /sd could briefly be empty.
        self._found(tuple(known.values()))
        self.status = DiscoveryStatus(self.project, len(known), self._clock.now(), warning=warning)

    def _warning(self, before: int, after: int, listed: int) -> str:
        """Return what is wrong with a list of instances although the search succeeded."""
        now = self._clock.monotonic()
        if after < before / 2:
            self._loss = (before, after, now)
        if not after and listed:
            return (
                f"discovery finds no instance to watch: of the {listed} that the cloud lists, its "
                f"rules admit none ({_text_of(self._rules)}): check the rules"
            )
        if not after:
            return (
                "discovery finds no instance to watch: the cloud lists none: check the project's "
                "id and region, and that its key may list instances (dcs:instance:list)"
            )
        if self._loss is None:
            return ""
        most, left, at = self._loss
        if after >= most / 2 or now - at >= LOSS_REPORTED:
            self._loss = None
            return ""
        return (
            f"{most - left} of {most} instances left at once: check whether they were deleted, and "
            "that the key may still list all"
        )

    def _log_changes(self, before: Mapping[str, Instance], known: Mapping[str, Instance]) -> None:
        came, left = known.keys() - before.keys(), before.keys() - known.keys()
        numbers = {"instances": len(known), "came": len(came), "left": len(left)}
        level = logging.INFO if came or left else logging.DEBUG
        fields = {"project": self.project, **numbers}
        logger.log(level, "discovery searched", extra={"fields": fields})
        for key in came:
            logger.debug("an instance is watched", extra={"fields": log_fields(known[key])})
        for key in left:
            logger.debug("an instance left", extra={"fields": log_fields(before[key])})

    def _fail(self, problem: str) -> None:
        before = self.status
        self.status = replace(before, problem=problem)
        if problem != before.problem:
            fields = {"project": self.project, "error": problem}
            stays = "the last list stays" if before.last_success else "none was found before"
            message = "discovery cannot list the instances: %s"
            logger.warning(message, stays, extra={"fields": fields})


def is_admitted(instance: Instance, rules: DiscoveryConfig) -> bool:
    """Whether the rules admit an instance: names by regular expression, found anywhere in them."""
    if rules.include and not re.search(rules.include, instance.name):
        return False
    if rules.exclude and re.search(rules.exclude, instance.name):
        return False
    if any(instance.tags.get(key) != value for key, value in rules.tags.items()):
        return False
    if rules.engines and instance.engine.lower() not in map(str.lower, rules.engines):
        return False
    return not rules.statuses or instance.status in map(str.upper, rules.statuses)


def _text_of(rules: DiscoveryConfig) -> str:
    """Return the rules that are set, with their values."""
    names = rules.model_dump(exclude={"enabled", "refresh_interval"})
    return ", ".join(f"{name} {value!r}" for name, value in names.items() if value)
