"""A service that makes credentials, whose answers a test chooses."""

from __future__ import annotations

import json
from typing import Any, cast

from dcs_task_exporter.cloud.calls import Call, Reply
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.credentials.identity import Service
from dcs_task_exporter.text.redaction import Redactor

NOW = 1_750_000_000.0

KEYS = {
    "credential": {
        "access": "AK",
        "secret": "SK",
        "securitytoken": "ST",
        "expires_at": "2025-06-15T16:06:40Z",
    }
}
"""Keys that live for an hour from `NOW` on."""


class AskedService:
    """It notes each call, and gives its answers in turn; an error is raised."""

    def __init__(self, *answers: Answer | Exception, url: str = "https://service") -> None:
        self.calls: list[Call[Any]] = []
        self.answers = list(answers)
        self.service = Service(url, cast("ApiCaller", self), lambda: NOW, ("other",))

    def get(self, call: Call[Any]) -> Reply[Any]:
        """Answer a call, as an `ApiCaller` does."""
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Reply(call.parse(call.read(answer, Redactor.of(()), NOW)), None)

    @property
    def body(self) -> Any:
        """The body of the latest call."""
        return json.loads(self.calls[-1].body or b"null")


def made(data: object = KEYS, **headers: str) -> Answer:
    """Return an answer with new credentials."""
    return Answer(201, headers, json.dumps(data).encode())
