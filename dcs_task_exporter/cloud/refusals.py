"""What the cloud refused: a refusal, and the tries of one access key that were refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    RefusedEarlierError,
    ThrottledEarlierError,
)

REFUSAL_PAUSE: Final = 310.0
"""Seconds without a request after a refused key: 6 bad signatures lock it for 5 minutes."""

MOST_TRIES: Final = 3
"""Refused tries of one access key in a row within a pause: two requests at once are one try."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal by the cloud: it stands until `until`; `repeats` counts those before it in a row.

    Times are monotonic.
    """

    error: ApiError
    found_at: float
    until: float
    pause: float
    repeats: int = 0

    def earlier_error(self, refused: str, now: float) -> ApiError:
        """Return the error of a request that is not sent because of this refusal."""
        kind = RefusedEarlierError if isinstance(self.error, AuthError) else ThrottledEarlierError
        wait = max(0, round(self.until - now))
        return self.error.told_as(
            kind, f"not asked: {refused} was refused, next try in {wait} s: {self.error.message}"
        )

    def ended(self, now: float) -> Refusal:
        """Return the refusal of a key as one whose pause is over; another one as it is."""
        is_key = isinstance(self.error, AuthError)
        return replace(self, until=min(self.until, now)) if is_key else self


class RefusedTries:
    """The latest tries of one access key that were refused, whatever its secret was.

    The cloud counts the bad signatures of an access key. Who changes its secret, or asks for
    another try, again and again must not lock it. Times are monotonic.
    """

    def __init__(self) -> None:
        self._tries: deque[Refusal] = deque(maxlen=MOST_TRIES)

    def add(self, refusal: Refusal) -> None:
        """Note a refused try."""
        self._tries.append(refusal)

    def clear(self) -> None:
        """Forget them: the key was accepted."""
        self._tries.clear()

    def left(self, now: float) -> int:
        """Return how many tries are left now."""
        return MOST_TRIES - sum(now < one.until for one in self._tries)

    def standing(self) -> Refusal:
        """Return the latest refusal, as it stands until there is another try."""
        return replace(self._tries[-1], until=self._tries[0].until)
