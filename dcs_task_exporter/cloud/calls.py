"""One call to the API and its reply, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dcs_task_exporter.cloud.responses import AnswerMemory
from dcs_task_exporter.cloud.signing import canonical_query

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Call(Generic[Parsed]):
    """One question to the API, and how to parse its answer.

    No request starts after `deadline` (monotonic). `subject` is the id of the instance that the
    call is for, or empty: a refusal may be its own. An answer that `memory` knows is not parsed
    again.
    """

    operation: str
    url: str
    deadline: float
    parse: Callable[[object], Parsed]
    query: Mapping[str, str] = field(default_factory=dict)
    project_id: str = ""
    subject: str = ""
    memory: AnswerMemory[Parsed] | None = None

    @property
    def full_url(self) -> str:
        """The URL with its query, encoded as it is signed."""
        return f"{self.url}?{canonical_query(self.query.items())}" if self.query else self.url


@dataclass(frozen=True, slots=True)
class Reply(Generic[Parsed]):
    """A parsed answer, and the cloud's time (Unix seconds) by its ``Date``, if it has one."""

    value: Parsed
    answered_at: float | None
