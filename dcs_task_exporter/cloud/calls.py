"""One call to the API and its reply, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from dcs_task_exporter.cloud.credential import Credential
from dcs_task_exporter.cloud.responses import AnswerMemory, read_json
from dcs_task_exporter.cloud.signing import canonical_query
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.text.redaction import Redactor

Parsed = TypeVar("Parsed")

JSON_BODY: Final[Mapping[str, str]] = {"Content-Type": "application/json"}
"""The header of a request whose body is JSON."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Parsed]):
    """One question to the API, and how to parse its answer.

    No request starts after `deadline` (monotonic). `subject` is the id of the instance that the
    call is for, or empty: a refusal may be its own. An answer that `memory` knows is not parsed
    again. `key` is sent in place of the caller's own. `read` makes of an answer what `parse` takes,
    or raises the `ApiError` that it stands for.
    """

    operation: str
    url: str
    deadline: float
    parse: Callable[[object], Parsed]
    query: Mapping[str, str] = field(default_factory=dict)
    project_id: str = ""
    subject: str = ""
    memory: AnswerMemory[Parsed] | None = None
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: Credential | None = None
    read: Callable[[Answer, Redactor, float], object] = read_json

    @property
    def full_url(self) -> str:
        """The URL with its query, encoded as it is signed."""
        return f"{self.url}?{canonical_query(self.query.items())}" if self.query else self.url


@dataclass(frozen=True, slots=True)
class Reply(Generic[Parsed]):
    """A parsed answer, and the cloud's time (Unix seconds) by its ``Date``, if it has one."""

    value: Parsed
    answered_at: float | None
