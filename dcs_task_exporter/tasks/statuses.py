"""The meaning of the status words: the one table of them.

The public documents contradict each other, so a status stays a string, and an unforeseen word is
`Outcome.UNKNOWN`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

NO_STATUS: Final = "UNKNOWN"
"""The `status` of a task that the API lists without a status."""


class Outcome(enum.Enum):
    """The meaning of a status word for counting."""

    SUCCESS = "success"
    FAILURE = "failure"
    ENDED = "ended"
    ACTIVE = "active"
    UNKNOWN = "unknown"

    @property
    def finished(self) -> bool:
        """Whether a task with such a status will not change any more."""
        return self in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ENDED)


STATUS_WORDS: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "SUCCESS": Outcome.SUCCESS,
        "FAILED": Outcome.FAILURE,
        "FAIL": Outcome.FAILURE,
        "ERROR": Outcome.FAILURE,
        "CANCELLED": Outcome.ENDED,
        "CANCELED": Outcome.ENDED,
        "DELETED": Outcome.ENDED,
        "CREATED": Outcome.ACTIVE,
        "WAITING": Outcome.ACTIVE,
        "EXECUTING": Outcome.ACTIVE,
        "RUNNING": Outcome.ACTIVE,
        "INIT": Outcome.ACTIVE,
    }
)
"""The known status words; the configuration can add others."""


@dataclass(frozen=True, slots=True)
class StatusTable:
    """The known status words, and those that the configuration adds."""

    extra: Mapping[str, Outcome] = field(default_factory=dict)

    def outcome(self, status: str) -> Outcome:
        """Return the meaning of `status`; an unforeseen word is `Outcome.UNKNOWN`."""
        word = status.upper()
        return STATUS_WORDS.get(word) or self.extra.get(word, Outcome.UNKNOWN)
