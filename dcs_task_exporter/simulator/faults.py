"""The failures of the simulated cloud, and when they happen: scripted, counted, or by chance."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Manner = Literal["whole", "silence", "drip_body", "drip_head", "cut", "reset", "close"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and the manner in which it goes over the wire."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"


class RefusedError(Exception):
    """The cloud refuses a request, with this answer."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(reply.status)


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a reply whose body is JSON."""
    found = {"Content-Type": "application/json", **(headers or {})}
    return Reply(status, json.dumps(body, ensure_ascii=False).encode(), found)


def gateway_error(status: int, code: str, message: str, **headers: str) -> Reply:
    """Return an error in the form of the gateway."""
    request_id = "d4e8174b8df00840aef0c6907ec0e384"
    body = {"error_msg": message, "error_code": code, "request_id": request_id}
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return json_reply(status, body, {"X-Request-Id": request_id, **named})


def dcs_error(status: int, code: str, message: str) -> Reply:
    """Return an error in the form of the DCS API."""
    body = {"error_code": code, "error_msg": message, "error_ext_msg": None}
    return json_reply(status, body, {"X-Request-Id": "7d1c0f3a5e2b4c6d8f90a1b2c3d4e5f6"})


_HTML: Final = b"<html><body><h1>502 Bad Gateway</h1><hr>a proxy</body></html>"
_THROTTLED: Final = (
    "The throttling threshold has been reached: policy user over ratelimit,limit:200,time:5 minute"
)
_INVALID: Final = "Incorrect IAM authentication information: "

FAULTS: Final[Mapping[str, Reply]] = {
    "bad_signature": gateway_error(401, "APIGW.0301", f"{_INVALID}verify aksk signature fail"),
    "no_such_key": gateway_error(401, "APIGW.0301", f"{_INVALID}ak {{ak}} not exist"),
    "clock_skew": gateway_error(
        401,
        "APIGW.0301",
        f"{_INVALID}calc aksk signature fail:signature expired, signature "
        "time:20211217T064303Z,server time:20211217T065804Z",
    ),
    "locked_key": gateway_error(
        401, "APIGW.0301", f"{_INVALID}AK access failed to reach the limit,forbidden"
    ),
    "bad_token": gateway_error(401, "APIGW.0301", f"{_INVALID}decrypt token fail"),
    "expired_token": gateway_error(
        401, "APIGW.0301", f"{_INVALID}token expires, expires_at: 2021-12-17T06:58:04.000000Z"
    ),
    "old_token": gateway_error(401, "APIGW.0307", "The token must be updated."),
    "keystone_401": json_reply(
        401,
        {"error": {"message": "Authentication failed", "code": 401, "title": "Unauthorized"}},
    ),
    "dcs_401": dcs_error(401, "DCS.1002", "The token expired."),
    "forbidden": dcs_error(403, "DCS.2007", "Policy does not allow getBackgroundTask."),
    "gateway_403": gateway_error(403, "APIGW.0302", "The IAM user is not authorized."),
    "policy_403": gateway_error(403, "PAP5.0001", "access denied: no identity policy"),
    "no_such_api": gateway_error(404, "APIGW.0101", "The API does not exist."),
    "no_such_instance": dcs_error(404, "DCS.3022", "This DCS instance does not exist."),
    "bad_offset": dcs_error(400, "DCS.4800", "Invalid offset in the request."),
    "no_tasks_here": dcs_error(400, "DCS.4094", "the system is not support dcs job."),
    "old_nested": json_reply(
        400, {"error": {"code": "111400060", "message": "instance name exists."}}
    ),
    "old_flat": json_reply(
        400, {"code": "111400086", "message": "a lack of quota", "ext_message": None}
    ),
    "camel_case": json_reply(400, {"errorCode": "CCE.01400001", "errorMsg": "Invalid request"}),
    "throttled": gateway_error(429, "APIGW.0308", _THROTTLED),
    "throttled_for_2s": gateway_error(429, "APIGW.0308", _THROTTLED, Retry_After="2"),
    "iam_throttled": json_reply(
        429,
        {"error_code": "IAM.0012", "error_msg": "The throttling threshold has been reached"},
    ),
    "internal": dcs_error(500, "DCS.5000", "Internal service error."),
    "no_backend": gateway_error(502, "APIGW.0610", "No backend is available."),
    "unavailable": gateway_error(503, "APIGW.0613", "The IAM service is unavailable."),
    "gateway_timeout": gateway_error(504, "APIGW.0201", "Backend timeout."),
    "html_502": Reply(502, _HTML, {"Content-Type": "text/html"}),
    "html_200": Reply(200, _HTML, {"Content-Type": "text/html"}),
    "empty_200": Reply(200, b"", {"Content-Type": "application/json"}),
    "redirect": Reply(302, b"", {"Location": "http://127.0.0.1:9/login"}),
    "truncated_json": Reply(200, b'{"task_count": 1, "tasks": [{"id": "8abf6e1e'),
    "cut": Reply(200, b'{"task_count": 1, "tasks": [{"id": "8abf6e1e', manner="cut"),
    "a_list": json_reply(200, []),
    "a_number": json_reply(200, 7),
    "tasks_a_text": json_reply(200, {"task_count": 1, "tasks": "none"}),
    "task_without_id": json_reply(200, {"task_count": 1, "tasks": [{"name": "EXTEND"}]}),
    "silence": Reply(200, b"", manner="silence"),
    "drip_body": Reply(200, b'{"task_count": 0, "tasks": []}' * 100, manner="drip_body"),
    "drip_head": Reply(200, b'{"task_count": 0, "tasks": []}', manner="drip_head"),
    "reset": Reply(200, b"", manner="reset"),
    "close": Reply(200, b"", manner="close"),
}
"""Every failure by name."""


@dataclass(slots=True)
class _Fault:
    """A failure, how many times more it happens (None: always), to which requests, how likely."""

    reply: Reply
    times: int | None
    operation: str | None
    instance_id: str | None
    probability: float

    def happens(self, operation: str, instance_id: str, chance: random.Random) -> bool:
        """Return whether a request gets this failure; counts it then."""
        meant = self.operation in (None, operation) and self.instance_id in (None, instance_id)
        if not meant or self.times == 0 or chance.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The failures that are switched on; safe to use from threads.

    `released` ends the silence of all requests that hang.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults: list[_Fault] = []
        self.released = threading.Event()

    def add(
        self,
        failure: str | Reply,
        *,
        times: int | None = None,
        operation: str | None = None,
        instance_id: str | None = None,
        probability: float = 1.0,
    ) -> None:
        """Switch on a failure of `FAULTS`, or any answer."""
        reply = FAULTS[failure] if isinstance(failure, str) else failure
        with self._lock:
            self._faults.append(_Fault(reply, times, operation, instance_id, probability))

    def clear(self) -> None:
        """Switch all failures off, and close the connections of requests that hang."""
        with self._lock:
            self._faults.clear()
            self.released.set()
            self.released = threading.Event()

    def drawn(self, operation: str, instance_id: str) -> Reply | None:
        """Return the failure that this request gets, if any."""
        with self._lock:
            for fault in self._faults:
                if fault.happens(operation, instance_id, self._random):
                    return fault.reply
        return None
