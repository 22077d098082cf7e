"""Which request may be sent after a refusal: a refused key holds back all, an instance itself.

A refusal is a 401, or a 429 that does not say how long to wait. After it only one request is sent,
for another instance, once all earlier requests are answered. If that one is accepted, the first
instance alone is refused, and only this one waits. If it is refused too, or if several instances
were refused meanwhile, the key (or the project) is refused, and all wait.

Nothing here waits or reads a clock: `gate.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from dcs_task_exporter.cloud.refusals import REFUSAL_PAUSE, Refusal, RefusedTries
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    OutdatedKeyError,
    ThrottledError,
)

MAX_THROTTLE_BACKOFF: Final = 30.0
"""Longest pause after a 429 that does not say how long, in seconds."""

UNPROVEN_IN_FLIGHT: Final = 2
"""Requests that may be unanswered before a key has been accepted once: well under the 5."""

MAX_OWN_REFUSALS: Final = 2
"""Instances that may be refused alone within a pause; with one more, the key is refused."""

Result = ApiError | Literal["accepted", "unknown"]
"""What an answer says of the key: a refusal, that it was accepted, or nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """The right to send one request; `subject` is its instance's id, or empty without one."""

    subject: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The consequence of an answer.

    `own` holds the instances that alone are refused; `pause` is the number of seconds for which the
    whole project must be held back, because it is throttled.
    """

    own: Mapping[str, Refusal]
    pause: float = 0.0


NO_VERDICT: Final = Verdict({})


class Admission:
    """Decides which request with one key may be sent; `now` is monotonic.

    `tries` are those of its access key, which keys with another secret share.

    A request enters, starts when the rate limit gives it a slot, and leaves with its result. One
    that must wait enters again when another has left: at least one is unanswered then.
    """

    def __init__(self, tries: RefusedTries | None = None) -> None:
        self.tries = tries or RefusedTries()
        self._is_proven = self._is_accepted = False
        self._admitted: set[Ticket] = set()
        self._sent: set[Ticket] = set()
        self._older: set[Ticket] = set()  # sent before the latest refusal: they prove nothing
        self._undecided: dict[str, Refusal] = {}
        self._own: dict[str, Refusal] = {}
        self._common: Refusal | None = None
        self._tried: set[str] = set()  # the first after a pause, and refused again
        self._others_entered = False

    def enter(self, subject: str, now: float) -> Ticket | None:
        """Return a ticket, or None to wait; raise the `ApiError` of a refusal that stands."""
        if (error := self._standing(subject, now)) is not None:
            raise error
        if not self._has_room(now):
            return None
        ticket = Ticket(subject)
        self._admitted.add(ticket)
        return ticket

    def start(self, ticket: Ticket) -> bool:
        """Return whether the request may be sent now; if not, it must enter again."""
        if ticket not in self._admitted:
            return False
        self._admitted.remove(ticket)
        self._sent.add(ticket)
        return True

    def leave(self, ticket: Ticket, result: Result, now: float) -> Verdict:
        """Take a ticket back, and learn from the result of its request."""
        is_recent = ticket in self._sent
        was_sent = is_recent or ticket in self._older
        for tickets in (self._admitted, self._sent, self._older):
            tickets.discard(ticket)
        if isinstance(result, ApiError) and was_sent:
            return self._learn(ticket.subject, result, now, is_recent=is_recent)
        if result == "accepted" and is_recent:
            return self._accept(ticket.subject)
        return NO_VERDICT

    def try_again(self, now: float) -> None:
        """Let one request try a refused key although its pause is not over, if tries are left."""
        if self._common is not None:
            self._common = self._common.ended(now)
        self._undecided = {key: one.ended(now) for key, one in self._undecided.items()}

    def _has_room(self, now: float) -> bool:
        unanswered = len(self._admitted) + len(self._sent) + len(self._older)
        if self._undecided:
            return not unanswered
        return self._is_proven or unanswered < min(UNPROVEN_IN_FLIGHT, self.tries.left(now))

    def _standing(self, subject: str, now: float) -> ApiError | None:
        """Return the error of a refusal that still stands for this request."""
        known, common = self._known(subject), self._common
        if not (self._is_proven or self.tries.left(now)):
            return self.tries.standing().earlier_error("the key", now)
        if common is not None:
            self._others_entered |= subject not in self._tried
            if now < common.until:
                return common.earlier_error("the key", now)
        if known is not None and now < self._may_ask_at(subject, known):
            return known.earlier_error("this instance" if subject else "the key", now)
        return None

    def _known(self, subject: str) -> Refusal | None:
        return self._undecided.get(subject) or self._own.get(subject)

    def _may_ask_at(self, subject: str, known: Refusal) -> float:
        """Return when a refused instance may be asked for: others first, they prove more."""
        common = self._common
        if common is not None and subject in self._tried and self._others_entered:
            return common.until + common.pause
        if subject in self._own:
            return max(one.until for one in (known, *self._undecided.values()))
        return known.until

    def _accept(self, subject: str) -> Verdict:
        found = {key: refusal for key, refusal in self._undecided.items() if key != subject}
        self._own.update(found)
        self._own.pop(subject, None)
        self._undecided, self._common = {}, None
        self._tried, self._others_entered = set(), False
        self._is_proven = self._is_accepted = True
        self.tries.clear()
        return Verdict(found) if found else NO_VERDICT

    def _learn(self, subject: str, error: ApiError, now: float, *, is_recent: bool) -> Verdict:
        refusal = self._next_refusal(subject, error, now)
        if is_recent and isinstance(error, AuthError):
            self.tries.add(refusal)
        is_known = subject in self._own and not self._undecided and self._is_accepted
        self._is_accepted = False
        if is_known:
            self._own[subject] = refusal
            return NO_VERDICT
        was_alone = is_recent and bool(self._undecided)
        self._hold(subject, refusal, was_alone=was_alone)
        if not self._is_common(subject, refusal, was_alone=was_alone):
            return NO_VERDICT
        return self._pause_all(refusal, is_new=is_recent)

    def _next_refusal(self, subject: str, error: ApiError, now: float) -> Refusal:
        before = self._known(subject)
        repeats = before.repeats + 1 if before else 0
        pause = _pause_after(error, repeats)
        found_at = before.found_at if before else now
        return Refusal(error, found_at, now + pause, pause, repeats)

    def _hold(self, subject: str, refusal: Refusal, *, was_alone: bool) -> None:
        if was_alone and self._common is not None:
            # When all were tried in turn, they begin again.
            self._tried = {subject} | (self._tried if self._others_entered else set())
        self._own.pop(subject, None)
        self._undecided[subject] = refusal
        self._admitted.clear()
        self._older |= self._sent
        self._sent.clear()

    def _is_common(self, subject: str, refusal: Refusal, *, was_alone: bool) -> bool:
        alike = [one for one in self._undecided.values() if _alike(one, refusal)]
        now = refusal.until - refusal.pause
        found = [
            one
            for one in self._own.values()
            if _alike(one, refusal) and now - one.found_at < REFUSAL_PAUSE
        ]
        before = self._common
        return (
            not subject
            or (before is not None and _alike(before, refusal))
            or (was_alone and len(alike) > 1)
            or len(alike) + len(found) > (MAX_OWN_REFUSALS if self._is_proven else 1)
        )

    def _pause_all(self, refusal: Refusal, *, is_new: bool) -> Verdict:
        before = self._common
        repeats = before.repeats + is_new if before and _alike(before, refusal) else 0
        pause = _pause_after(refusal.error, repeats)
        asked_at = refusal.until - refusal.pause
        is_key = isinstance(refusal.error, AuthError)
        # A throttled project is held back by its rate limit; one request is sent first after that.
        until = asked_at + pause if is_key else asked_at
        self._common = Refusal(refusal.error, asked_at, until, pause, repeats)
        self._is_proven = self._others_entered = False
        return Verdict({}, 0.0 if is_key else pause)


def _pause_after(error: ApiError, repeats: int) -> float:
    if isinstance(error, AuthError):
        return REFUSAL_PAUSE
    return min(MAX_THROTTLE_BACKOFF, 2.0 ** min(repeats, 10))


def _alike(one: Refusal, other: Refusal) -> bool:
    return isinstance(one.error, AuthError) == isinstance(other.error, AuthError)


def result_of(error: ApiError) -> Result:
    """Return what an error says of the key: a gateway's own failure says nothing."""
    if isinstance(error, OutdatedKeyError):
        return "unknown"  # it tells nothing of the key that is there now
    if isinstance(error, AuthError):
        return error
    if isinstance(error, ThrottledError) and error.status is not None and not error.retry_after:
        return error
    is_of_request = isinstance(error, ForbiddenError | NotFoundError | BadRequestError)
    return "accepted" if is_of_request else "unknown"
