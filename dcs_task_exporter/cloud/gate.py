"""Who may ask after a refusal: the key's fault is everybody's pause, an instance's is its own.

A refusal is a 401, or a 429 that does not say how long. It closes the gate for all but one
request, of another instance, that starts when all that was under way is back. If that one is let
in, the refusal was the first instance's own: only this one waits. If it is refused too, or if
several instances were refused meanwhile, the key (or the project) is refused, and all wait.

`Admission` decides, without a clock and without waiting; `Gate` waits, for threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from dcs_task_exporter.cloud.credentials import Credential
from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    AuthError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RefusedEarlierError,
    StoppedError,
    ThrottledEarlierError,
    ThrottledError,
)

REFUSAL_PAUSE: Final = 310.0
"""Seconds of silence after a refused key: more than 5 bad signatures lock it for 5 minutes."""

MAX_THROTTLE_BACKOFF: Final = 30.0
"""Longest pause after a 429 that does not say how long, in seconds."""

UNPROVEN_IN_FLIGHT: Final = 2
"""Requests that may be under way before a key has been accepted once: well under the 5."""

MAX_OWN_REFUSALS: Final = 2
"""Instances that may be found refused on their own within a pause; with one more it is the key."""

Outcome = ApiError | Literal["accepted", "unsaid"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The right to send one request; `subject` is the instance that it is for, or nothing."""

    subject: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the cloud said, until when it stands, and how often in a row it was said."""

    error: ApiError
    found_at: float
    until: float
    pause: float
    repeats: int = 0

    def still(self, who: str, now: float) -> ApiError:
        """Return the error of a request that is not sent because of this one."""
        kind = RefusedEarlierError if isinstance(self.error, AuthError) else ThrottledEarlierError
        wait = max(0, round(self.until - now))
        return kind(
            f"not asked: {who} was refused, next try in {wait} s: {self.error.message}",
            status=self.error.status,
            error_code=self.error.error_code,
            request_id=self.error.request_id,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whose fault a refusal was found to be.

    `own` are instances that alone are refused; `pause` is for how many seconds the whole project
    must be held back, because it is throttled.
    """

    own: Mapping[str, Refusal]
    pause: float = 0.0


NO_VERDICT: Final = Verdict({})


class Admission:
    """Decides which request may be sent; `now` is monotonic, and nothing here waits.

    A request enters, starts when its turn in the budget has come, and leaves with its outcome.
    Whoever is told to wait must ask again when another request has left: there is one under way.
    """

    def __init__(self, pause: float = REFUSAL_PAUSE) -> None:
        self._pause = pause
        self._credential: Credential | None = None
        self._forget()

    def adopt(self, credential: Credential) -> None:
        """Use `credential` from now on: what another one was told does not count."""
        if credential != self._credential:
            self._credential = credential
            self._forget()

    def enter(self, subject: str, now: float) -> Place | None:
        """Return a place, or None: wait. Raises the `ApiError` of a refusal that still stands."""
        if (error := self._standing(subject, now)) is not None:
            raise error
        if not self._has_room():
            return None
        place = Place(subject)
        self._admitted.add(place)
        return place

    def start(self, place: Place) -> bool:
        """Whether the request may leave now; if not, it must enter again."""
        if place not in self._admitted:
            return False
        self._admitted.remove(place)
        self._sent.add(place)
        return True

    def leave(self, place: Place, outcome: Outcome, now: float) -> Verdict:
        """Take a place back, and learn from the outcome of its request."""
        is_recent, is_older = place in self._sent, place in self._older
        for places in (self._admitted, self._sent, self._older):
            places.discard(place)
        if isinstance(outcome, ApiError):
            return self._learn(place.subject, outcome, now, is_recent=is_recent, is_older=is_older)
        if outcome == "accepted" and is_recent:
            return self._accept(place.subject)
        return NO_VERDICT

    def _forget(self) -> None:
        self._is_proven = self._is_accepted = False
        self._admitted: set[Place] = set()
        self._sent: set[Place] = set()
        self._older: set[Place] = set()  # sent before the latest refusal: no proof of anything
        self._suspects: dict[str, Refusal] = {}
        self._own: dict[str, Refusal] = {}
        self._everyones: Refusal | None = None
        self._tried: set[str] = set()  # that tried first after a pause, in vain
        self._others_asked = False

    def _has_room(self) -> bool:
        under_way = len(self._admitted) + len(self._sent) + len(self._older)
        if self._suspects:
            return not under_way
        return self._is_proven or under_way < UNPROVEN_IN_FLIGHT

    def _standing(self, subject: str, now: float) -> ApiError | None:
        """Return the error of a refusal that still stands for this request."""
        known, everyones = self._known(subject), self._everyones
        if everyones is not None:
            self._others_asked |= subject not in self._tried
            if now < everyones.until:
                return everyones.still("the key", now)
        if known is not None and now < self._may_ask_at(subject, known):
            return known.still("this instance" if subject else "the key", now)
        return None

    def _known(self, subject: str) -> Refusal | None:
        return self._suspects.get(subject) or self._own.get(subject)

    def _may_ask_at(self, subject: str, known: Refusal) -> float:
        """Return when a refused instance may ask: others first, for they say more."""
        everyones = self._everyones
        if everyones is not None and subject in self._tried and self._others_asked:
            return everyones.until + everyones.pause
        if subject in self._own:
            return max(one.until for one in (known, *self._suspects.values()))
        return known.until

    def _accept(self, subject: str) -> Verdict:
        found = {key: refusal for key, refusal in self._suspects.items() if key != subject}
        self._own.update(found)
        self._own.pop(subject, None)
        self._suspects, self._everyones = {}, None
        self._tried, self._others_asked = set(), False
        self._is_proven = self._is_accepted = True
        return Verdict(found) if found else NO_VERDICT

    def _learn(
        self, subject: str, error: ApiError, now: float, *, is_recent: bool, is_older: bool
    ) -> Verdict:
        if not (is_recent or is_older):
            return NO_VERDICT
        refusal = self._refusal(subject, error, now)
        is_known = subject in self._own and not self._suspects and self._is_accepted
        self._is_accepted = False
        if is_known:
            self._own[subject] = refusal
            return NO_VERDICT
        was_alone = is_recent and bool(self._suspects)
        self._suspect(subject, refusal, was_alone=was_alone)
        if not self._is_everyones(subject, refusal, was_alone=was_alone):
            return NO_VERDICT
        return self._pause_all(refusal, is_new=is_recent)

    def _refusal(self, subject: str, error: ApiError, now: float) -> Refusal:
        before = self._known(subject)
        repeats = before.repeats + 1 if before else 0
        pause = self._pause_after(error, repeats)
        found_at = before.found_at if before else now
        return Refusal(error, found_at, now + pause, pause, repeats)

    def _suspect(self, subject: str, refusal: Refusal, *, was_alone: bool) -> None:
        if was_alone and self._everyones is not None:
            # When all tried in turn, they begin again.
            self._tried = {subject} | (self._tried if self._others_asked else set())
        self._own.pop(subject, None)
        self._suspects[subject] = refusal
        self._admitted.clear()
        self._older |= self._sent
        self._sent.clear()

    def _is_everyones(self, subject: str, refusal: Refusal, *, was_alone: bool) -> bool:
        alike = [one for one in self._suspects.values() if _alike(one, refusal)]
        now = refusal.until - refusal.pause
        found = [
            one
            for one in self._own.values()
            if _alike(one, refusal) and now - one.found_at < self._pause
        ]
        before = self._everyones
        return (
            not subject
            or (before is not None and _alike(before, refusal))
            or (was_alone and len(alike) > 1)
            or len(alike) + len(found) > (MAX_OWN_REFUSALS if self._is_proven else 1)
        )

    def _pause_all(self, refusal: Refusal, *, is_new: bool) -> Verdict:
        before = self._everyones
        repeats = before.repeats + is_new if before and _alike(before, refusal) else 0
        pause = self._pause_after(refusal.error, repeats)
        asked_at = refusal.until - refusal.pause
        is_key = isinstance(refusal.error, AuthError)
        # A throttled project waits in its budget, and one request tries first after that.
        until = asked_at + pause if is_key else asked_at
        self._everyones = Refusal(refusal.error, asked_at, until, pause, repeats)
        self._is_proven = self._others_asked = False
        return Verdict({}, 0.0 if is_key else pause)

    def _pause_after(self, error: ApiError, repeats: int) -> float:
        if isinstance(error, AuthError):
            return self._pause
        return min(MAX_THROTTLE_BACKOFF, 2.0 ** min(repeats, 10))


def _alike(one: Refusal, other: Refusal) -> bool:
    return isinstance(one.error, AuthError) == isinstance(other.error, AuthError)


def _outcome_of(error: ApiError) -> Outcome:
    """Return what an error says of the key: a gateway's own troubles say nothing."""
    if isinstance(error, AuthError):
        return error
    if isinstance(error, ThrottledError) and error.status is not None and not error.retry_after:
        return error
    return (
        "accepted"
        if isinstance(error, ForbiddenError | NotFoundError | BadRequestError)
        else "unsaid"
    )


@dataclass(frozen=True, slots=True)
class Passage:
    """One request on its way through the gate, and the key that it is sent with."""

    credential: Credential
    start: Callable[[], bool]


class Gate:
    """Lets the requests of one project pass as its `Admission` decides; for several threads.

    `obey` is told of a verdict before anybody else may pass.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        obey: Callable[[Verdict], None],
        pause: float = REFUSAL_PAUSE,
    ) -> None:
        self._monotonic = monotonic
        self._obey = obey
        self._changed = threading.Condition()
        self._admission = Admission(pause)
        self._credential: Credential | None = None
        self._is_closed = False

    def close(self) -> None:
        """Let nobody pass or wait any longer: the exporter stops."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @contextmanager
    def passage(
        self, read: Callable[[], Credential], subject: str, deadline: float
    ) -> Iterator[Passage]:
        """Hold a place for one request for `subject`, waiting until `deadline` at most.

        `read` returns the key as it is now. The request is sent only if the passage's `start`
        says so; if not, another one was refused meanwhile, and it must enter again. What the body
        raises, or that it raises nothing, tells the gate whether the key was accepted. Raises
        `ApiError` without a request while a refusal stands.
        """
        credential, place = self._enter(read, subject, deadline)
        outcome: Outcome = "unsaid"
        try:
            yield Passage(credential, partial(self._start, place))
            outcome = "accepted"
        except ApiError as error:
            outcome = _outcome_of(error)
            raise
        finally:
            self._leave(place, outcome)

    def _enter(
        self, read: Callable[[], Credential], subject: str, deadline: float
    ) -> tuple[Credential, Place]:
        while True:
            credential = read()
            with self._changed:
                if credential != self._credential:
                    # Read again where nobody else reads: of two that differ, this is the later.
                    credential = self._credential = read()
                    self._admission.adopt(credential)
                    self._changed.notify_all()
                place = self._place(subject, deadline)
                if place is not None:
                    # The same object while the key is the same: it keeps its redactor.
                    return self._credential, place

    def _place(self, subject: str, deadline: float) -> Place | None:
        """Return a place, or None when it is time to ask again; called under the lock."""
        if self._is_closed:
            message = "the exporter is stopping"
            raise StoppedError(message)
        now = self._monotonic()
        place = self._admission.enter(subject, now)
        if place is None and not self._changed.wait(max(0.0, deadline - now)):
            message = "the key was not accepted yet, and the requests that try it have no answer"
            raise ApiTimeoutError(message)
        return place

    def _start(self, place: Place) -> bool:
        with self._changed:
            return self._admission.start(place)

    def _leave(self, place: Place, outcome: Outcome) -> None:
        with self._changed:
            verdict = self._admission.leave(place, outcome, self._monotonic())
            try:
                if verdict is not NO_VERDICT:
                    self._obey(verdict)
            finally:
                self._changed.notify_all()
