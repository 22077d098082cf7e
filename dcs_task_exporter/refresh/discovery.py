"""Finding the instances of a project, so that new ones appear and deleted ones leave by themselves.

A listing is not believed blindly. One that fails keeps the last list. An instance that one listing
lacks stays until a second one lacks it too: pages may have moved. And a listing without a single
instance, where some were known, counts as failed for an hour: an API in a bad moment, or a key
that lost a permission, answers like that. What succeeds, and leaves nothing to watch, or loses most
of the instances, is told as well: nothing watched is an outage.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, replace
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiError, InternalError, StoppedError
from dcs_task_exporter.logs.unforeseen import UnforeseenErrors
from dcs_task_exporter.refresh.workers import WorkerPool
from dcs_task_exporter.tasks.models import Instance

EMPTY_DOUBTED: Final = 3600.0
"""Seconds of nothing but empty listings after which all instances are believed to be gone."""

LOSS_TOLD: Final = 86_400.0
"""Seconds for which it is told that most instances left at once, unless they return."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiscoveryRules:
    """Which instances of a project are watched; what is empty lets all pass."""

    include: str = ""
    exclude: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    statuses: Sequence[str] = ()
    engines: Sequence[str] = ()

    def admit(self, instance: Instance) -> bool:
        """Whether an instance is watched: names by regular expression, found anywhere in them."""
        if self.include and not re.search(self.include, instance.name):
            return False
        if self.exclude and re.search(self.exclude, instance.name):
            return False
        if any(instance.tags.get(key) != value for key, value in self.tags.items()):
            return False
        if self.engines and instance.engine.lower() not in map(str.lower, self.engines):
            return False
        return not self.statuses or instance.status in map(str.upper, self.statuses)

    def __str__(self) -> str:
        """Name the rules that are set, with their values."""
        rules = {item.name: getattr(self, item.name) for item in fields(self)}
        return ", ".join(f"{name} {value!r}" for name, value in rules.items() if value)


@dataclass(frozen=True, slots=True)
class DiscoveryStatus:
    """What is known of the discovery of one project; `last_success` is a Unix time.

    The `problem` is why the latest search failed; the `warning` is what is wrong with the list of
    the latest one that succeeded.
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


@dataclass(frozen=True, slots=True)
class _Loss:
    """Most of the instances left at once: how many there were, how many remained, and when."""

    before: int
    after: int
    at: float


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """How one project is searched; in seconds."""

    project: str
    rules: DiscoveryRules
    interval: float = 300.0
    time_limit: float = 60.0


class Discovery:
    """Searches one project, in a thread of its own, when that is due.

    `listing` takes a deadline (monotonic) and raises `ApiError`; `found` is told of each new list.
    """

    def __init__(
        self,
        settings: DiscoverySettings,
        listing: Callable[[float], Sequence[Instance]],
        found: Callable[[Sequence[Instance]], None],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._listing = listing
        self._found = found
        self._clock = clock
        self._lock = threading.Lock()
        self._pool: WorkerPool[Callable[[], None]] = WorkerPool(f"{settings.project}-discovery", 1)
        self._known: dict[str, Instance] = {}
        self._missing: frozenset[str] = frozenset()
        self._empty_since: float | None = None
        self._loss: _Loss | None = None
        self._next_at: float | None = None
        self._in_flight: Future[None] | None = None
        self._status = DiscoveryStatus(settings.project)
        self._unforeseen = UnforeseenErrors()

    @property
    def project(self) -> str:
        """The project that is searched."""
        return self._settings.project

    @property
    def status(self) -> DiscoveryStatus:
        """What is known now."""
        with self._lock:
            return self._status

    def search(self) -> Future[None] | None:
        """Search if that is due; return what to wait for when nothing was ever found."""
        with self._lock:
            due = self._next_at is None or self._clock.monotonic() >= self._next_at
            begins = due and self._in_flight is None
            if begins:
                self._in_flight = Future()
            first = self._status.last_success is None
            waited_for = self._in_flight if first else None
        if begins and self._pool.submit([self._run]):
            self._finish()
        return waited_for

    def settle(self) -> None:
        """Wait for the search that is under way, if one is."""
        with self._lock:
            pending = self._in_flight
        if pending is not None:
            pending.result()

    def stop(self) -> None:
        """Search no more."""
        if self._pool.stop():
            self._finish()

    def _run(self) -> None:
        project = self._settings.project
        try:
            listed = self._listing(self._clock.monotonic() + self._settings.time_limit)
            if listed or not self._doubts_empty():
                self._take(listed)
        except StoppedError:
            pass
        except ApiError as error:
            self._fail(f"{error.reason}: {error.message}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and counts as failed
            self._unforeseen.tell("discovery broke", error, {"project": project})
            self._fail(f"{InternalError.reason}: {type(error).__name__}, see the log")
        finally:
            self._finish()

    def _doubts_empty(self) -> bool:
        """Whether a listing without any instance is a failure.

        It is one for a while where some are known, and once where it is the very first: a list
        of targets that is empty for a moment makes Prometheus drop them all.
        """
        with self._lock:
            number, now = len(self._known), self._clock.monotonic()
            first = self._empty_since is None and self._status.last_success is None
            if self._empty_since is None:
                self._empty_since = now
            doubted = first or (number > 0 and now - self._empty_since < EMPTY_DOUBTED)
        if doubted:
            known = f"where {number} are known" if number else "and is asked for again"
            self._fail(f"the answer lists no instance at all, {known}")
        return doubted

    def _take(self, listed: Sequence[Instance]) -> None:
        admitted = {item.id: item for item in listed if self._settings.rules.admit(item)}
        with self._lock:
            before = self._known
            absent = frozenset(before) - frozenset(item.id for item in listed)
            kept = {key: before[key] for key in absent - self._missing}
            self._missing = frozenset(kept)
            if listed:
                self._empty_since = None
            self._known = known = {**kept, **admitted}
            warning = self._warning(len(before), len(known), len(listed))
            is_new = bool(warning) and warning != self._status.warning
        self._tell(before, known)
        if is_new:
            numbers = {"project": self._settings.project, "before": len(before), "now": len(known)}
            logger.warning("%s", warning, extra={"fields": numbers})
        # First what is watched, then the word that it is: else a list would seem empty for a while.
        self._found(tuple(known.values()))
        with self._lock:
            self._status = DiscoveryStatus(
                self._settings.project, len(known), self._clock.now(), warning=warning
            )

    def _warning(self, before: int, after: int, listed: int) -> str:
        """Say what is wrong with a list of instances although the search succeeded."""
        now = self._clock.monotonic()
        if after < before / 2:
            self._loss = _Loss(before, after, now)
        loss = self._loss
        if loss is not None and (after >= loss.before / 2 or now - loss.at >= LOSS_TOLD):
            self._loss = loss = None
        if not after and listed:
            return (
                f"discovery finds no instance to watch: of the {listed} that the cloud lists, its "
                f"rules admit none ({self._settings.rules}): check the rules"
            )
        if not after:
            return (
                "discovery finds no instance to watch: the cloud lists none: check the project's "
                "id and region, and that its key may list instances (dcs:instance:list)"
            )
        if loss is None:
            return ""
        return (
            f"{loss.before - loss.after} of {loss.before} instances left at once: check whether "
            "they were deleted, and that the key may still list all"
        )

    def _tell(self, before: Mapping[str, Instance], known: Mapping[str, Instance]) -> None:
        came = [known[key] for key in known.keys() - before.keys()]
        left = [before[key] for key in before.keys() - known.keys()]
        project = {"project": self._settings.project}
        numbers = {"instances": len(known), "came": len(came), "left": len(left)}
        # A search that changes nothing is no news.
        level = logging.INFO if came or left else logging.DEBUG
        logger.log(level, "discovery searched", extra={"fields": {**project, **numbers}})
        for message, instances in (("an instance is watched", came), ("an instance left", left)):
            for instance in instances:
                fields = {"dcs_instance_id": instance.id, "dcs_instance_name": instance.name}
                logger.debug(message, extra={"fields": {**project, **fields}})

    def _fail(self, problem: str) -> None:
        with self._lock:
            before = self._status
            self._status = replace(before, problem=problem)
        if problem != before.problem:
            fields = {"project": before.project, "error": problem}
            stays = "the last list stays" if before.last_success else "none was found before"
            message = "discovery cannot list the instances: %s"
            logger.warning(message, stays, extra={"fields": fields})

    def _finish(self) -> None:
        with self._lock:
            done, self._in_flight = self._in_flight, None
            self._next_at = self._clock.monotonic() + self._settings.interval
            if self._status.last_success is None:
                self._next_at = self._clock.monotonic() + min(self._settings.interval, 15.0)
        if done is not None:
            done.set_result(None)
