"""Credentials that end: held while they live, renewed before they die, once for all who wait.

A renewal is due when a tenth of their life is left, and 40 minutes at most. One request renews;
the others go on with the old credentials while these live, and wait for the new ones after that.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.credential import Credential
from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    AuthError,
    CredentialsError,
    InternalError,
    InvalidResponseError,
    NoSlotError,
    StoppedError,
    ThrottledEarlierError,
)

RENEWED_AT: Final = 0.1
"""The part of their life that credentials have left when they are renewed."""

EARLIEST_RENEWAL: Final = 2400.0
"""Seconds before their end from which on credentials may be renewed, however long they live."""

SPREAD: Final = 0.25
"""The part of that time by which a renewal may be later: not all exporters renew at once."""

FIRST_PAUSE: Final = 5.0
"""Pause after a renewal that failed, in seconds; it doubles with each further failure."""

LONGEST_PAUSE: Final = 60.0
"""Longest pause between two renewals that failed, in seconds."""

MIN_AGE: Final = 60.0
"""Age in seconds below which credentials that the cloud calls outdated are not renewed again."""

_OUTDATED: Final = re.compile("must be updated|token (?:has |is )?expire[sd]", re.IGNORECASE)

_UNPAUSED: Final = (AuthError, NoSlotError, StoppedError, ThrottledEarlierError)
"""Failed renewals after which the next one may be tried at once.

No request was sent, or the gate of the identity service holds back those with the refused secret.
"""

Failed = ApiError | CredentialsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fresh:
    """New credentials, and the seconds that they live from now on."""

    credential: Credential
    life: float


@dataclass(frozen=True, slots=True)
class _Held:
    """Credentials with the times at which they came, and the life that is left when renewed.

    `is_refused` says that the cloud refuses them: they are dead.
    """

    fresh: Fresh
    came_at: float
    came_on: float
    renewed_with: float
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class _Failure:
    """A renewal that failed: the next may not begin before `until` (monotonic)."""

    error: Failed
    until: float
    pause: float


class Renewal:
    """The credentials of one source, for many threads.

    `fetch` asks for new ones: no request of it starts after the time (monotonic) that it gets. It
    raises `ApiError` and `CredentialsError`. `jitter` returns a random number from 0 up to 1. `end`
    stops the requests of `fetch`. A clock that is set anew costs one renewal at most: the age is
    the longer of the two that the wall clock and the monotonic clock tell.
    """

    def __init__(
        self,
        project: str,
        fetch: Callable[[float], Fresh],
        clock: Clock,
        jitter: Callable[[], float],
        end: Callable[[], None],
    ) -> None:
        self._project = project
        self._fetch = fetch
        self._clock = clock
        self._jitter = jitter
        self._end = end
        self._changed = threading.Condition()
        self._held: _Held | None = None
        self._failure: _Failure | None = None
        self._is_fetching = self._is_closed = False
        self._logged: tuple[object, ...] | None = None

    def current(self) -> Credential:
        """Return the latest credentials, without waiting.

        Raises `CredentialsError` while there were none yet.
        """
        held = self._held
        if held is None:
            message = "no credentials were obtained yet"
            raise CredentialsError(message)
        return held.fresh.credential

    def renewed(self, deadline: float) -> Credential:
        """Return living credentials, renewed before if that is due; wait until `deadline` at most.

        Raises the `ApiError` or `CredentialsError` of the renewal if none live.
        """
        with self._changed:
            found = self._take_turn(deadline)
        return self._renew(deadline) if found is None else found

    def refuse(self, credential: Credential, error: AuthError) -> bool:
        """Learn that the cloud refuses credentials; return whether others can be had for them.

        Only those that the cloud calls outdated are renewed, and not if they just came.
        """
        with self._changed:
            held = self._held
            if held is None or held.fresh.credential != credential or held.is_refused:
                return True
            if not _OUTDATED.search(error.message) or self._age(held) < MIN_AGE:
                return False
            self._held = replace(held, is_refused=True)
            return True

    def close(self) -> None:
        """Let no thread wait any longer, and start no more requests."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._end()

    def _take_turn(self, deadline: float) -> Credential | None:
        """Return the credentials to use, or None if the caller must renew them; under the lock."""
        while True:
            if self._is_closed:
                message = "the exporter is stopping"
                raise StoppedError(message)
            held, now = self._held, self._clock.monotonic()
            left = self._left()
            if held is not None and left > held.renewed_with:
                return held.fresh.credential
            failure = self._failure
            is_paused = failure is not None and now < failure.until
            if not self._is_fetching and not is_paused:
                self._is_fetching = True
                return None
            if held is not None and left > 0:
                return held.fresh.credential
            if failure is not None and not self._is_fetching:
                why = "no credentials could be obtained, and the next try is within a minute"
                raise _unavailable(failure.error, why)
            if not self._changed.wait(max(0.0, deadline - now)):
                message = "the credentials are being renewed, and no answer came in time"
                raise ApiTimeoutError(message).not_retryable()

    def _renew(self, deadline: float) -> Credential:
        """Return new credentials, or the old ones if there are no new ones and these still live."""
        failed: Failed | None = None
        fresh: Fresh | None = None
        try:
            fresh = self._fetch(deadline)
        except (ApiError, CredentialsError) as error:
            failed = error.with_traceback(None)  # its frames hold the secrets of the request
        finally:
            with self._changed:
                self._is_fetching = False
                if fresh is not None:
                    self._hold(fresh)
                else:
                    self._note(failed or InternalError("an unforeseen error: see the log"))
                is_alive = self._left() > 0
                self._changed.notify_all()
        if failed is not None:
            self._log(failed, is_alive=is_alive)
            if not is_alive:
                raise _unavailable(failed, "no credentials can be obtained")
        elif self._logged is not None:
            self._logged = None
            logger.info(
                "the credentials of a project are renewed again",
                extra={"fields": {"project": self._project}},
            )
        return self.current()

    def _hold(self, fresh: Fresh) -> None:
        """Keep new credentials, or the old ones if the service has no others yet."""
        held = self._held
        if held is not None and held.fresh.credential == fresh.credential and not held.is_refused:
            # A metadata service gives the same until they are nearly dead.
            self._note(InvalidResponseError("the service gives the old credentials again"))
            return
        margin = min(fresh.life * RENEWED_AT, EARLIEST_RENEWAL) * (1 - SPREAD * self._jitter())
        self._held = _Held(fresh, self._clock.monotonic(), self._clock.now(), margin)
        self._failure = None

    def _note(self, error: Failed) -> None:
        """Let no renewal begin for a while, unless none was tried."""
        before = self._failure
        self._failure = None
        if not isinstance(error, _UNPAUSED):
            pause = FIRST_PAUSE if before is None else min(2 * before.pause, LONGEST_PAUSE)
            until = self._clock.monotonic() + pause * (1 + SPREAD * self._jitter())
            self._failure = _Failure(error, until, pause)

    def _left(self) -> float:
        """Return the seconds for which the credentials live, at most 0 if there are none."""
        held = self._held
        if held is None or held.is_refused:
            return 0.0
        return held.fresh.life - self._age(held)

    def _age(self, held: _Held) -> float:
        # The monotonic clock stands still while the machine sleeps; the other one may be set back.
        clock = self._clock
        return max(clock.monotonic() - held.came_at, clock.now() - held.came_on)

    def _log(self, error: Failed, *, is_alive: bool) -> None:
        """Log a failed renewal, once for each kind of failure in a row.

        Who asks for the first credentials says himself why there are none.
        """
        facts = error.fields if isinstance(error, ApiError) else {"error": str(error)}
        kind = (is_alive, facts.get("reason"), facts.get("status"), facts.get("error_code"))
        is_first = self._held is None
        if is_first or kind == self._logged or isinstance(error, StoppedError | NoSlotError):
            return
        self._logged = kind
        consequence = (
            "the old ones are used while they live"
            if is_alive
            else "no request is sent without new ones"
        )
        logger.log(
            logging.WARNING if is_alive else logging.ERROR,
            "the credentials of a project cannot be renewed: %s",
            consequence,
            extra={"fields": {"project": self._project, **facts}},
        )


def _unavailable(error: Failed, why: str) -> Failed:
    """Return a failure as the error of a request that is not sent because of it."""
    if isinstance(error, CredentialsError):
        return CredentialsError(f"{why}: {error}")
    return error.told_as(type(error), f"{why}: {error.message}").not_retryable()
