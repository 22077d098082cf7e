"""Reading the cloud's answers: JSON bodies, and the many shapes of its errors.

The shapes are those of `dcs-api.md` section 3.1: the DCS API's own, the gateway's, the identity
service's two, older nested ones, and pages of proxies that are no JSON at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    ForbiddenError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
    ThrottledError,
)
from dcs_task_exporter.transport import Answer

Parsed = TypeVar("Parsed")

MAX_MESSAGE_LENGTH: Final = 300
"""The cloud's messages are cut to this many characters."""

_CLASSES: Final[Mapping[int, type[ApiError]]] = {
    401: AuthError,
    403: ForbiddenError,
    404: NotFoundError,
    429: ThrottledError,
    494: ServerError,
}
_THROTTLING: Final = re.compile(r"limit:\d+,time:(\d+) ?(second|minute|hour|day)")
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_KEY_PAIRS: Final = (
    ("error_code", "error_msg"),
    ("errorCode", "errorMsg"),
    ("code", "message"),
)


class AnswerMemory(Generic[Parsed]):
    """The latest answer to one question: the same bytes are not parsed again.

    They are recognized by their length and a 64-bit keyed hash, which two answers share by chance
    once in a hundred billion years of scrapes. Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._latest: tuple[int, int, Parsed] | None = None

    @property
    def latest(self) -> Parsed | None:
        """What the latest answer was parsed to."""
        return None if self._latest is None else self._latest[2]

    def recall(self, body: bytes) -> Parsed | None:
        """Return what these bytes were parsed to, if they are those of the latest answer."""
        latest = self._latest
        if latest is None or latest[:2] != (len(body), hash(body)):
            return None
        return latest[2]

    def keep(self, body: bytes, parsed: Parsed) -> None:
        """Remember what these bytes were parsed to."""
        self._latest = (len(body), hash(body), parsed)


def read_json(answer: Answer, redact: Callable[[str], str], now: float) -> object:
    """Return the parsed body of a good answer.

    Raises the `ApiError` that the answer stands for otherwise. `redact` takes secrets out of
    text; `now` (Unix seconds) dates a Retry-After that is a date.
    """
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise error_of(answer, redact, now)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        kind = answer.headers.get("Content-Type", "no content type")
        message = f"the answer is not JSON ({kind}, {len(answer.body)} bytes)"
        raise InvalidResponseError(
            redact(message), status=answer.status, request_id=_request_id(answer, {})
        ) from None


def error_of(answer: Answer, redact: Callable[[str], str], now: float) -> ApiError:
    """Return the error that an answer with a bad status stands for."""
    body = _body(answer)
    code, text = _code_and_message(body)
    kind = _class_of(answer.status)
    if answer.status < HTTPStatus.BAD_REQUEST:
        text = text or "a redirect, which a signed request cannot follow: check the endpoint"
    message = redact(" ".join(text.split()))[:MAX_MESSAGE_LENGTH]
    return kind(
        message or f"HTTP {answer.status} without an explanation",
        status=answer.status,
        error_code=redact(code.replace(" ", ""))[:40],
        request_id=redact(_request_id(answer, body))[:80],
        retry_after=_retry_after(answer, text, now) if kind.retryable else None,
    )


def _class_of(status: int) -> type[ApiError]:
    if status in _CLASSES:
        return _CLASSES[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError
    return BadRequestError if status >= HTTPStatus.BAD_REQUEST else InvalidResponseError


def _body(answer: Answer) -> Mapping[str, Any]:
    try:
        data = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, Mapping) else {}


def _code_and_message(body: Mapping[str, Any], depth: int = 3) -> tuple[str, str]:
    for code_key, message_key in _KEY_PAIRS:
        if message_key in body:
            return _plain(body.get(code_key)), _plain(body.get(message_key))
    for value in body.values():
        if isinstance(value, Mapping) and depth:
            found = _code_and_message(value, depth - 1)
            if any(found):
                return found
    return _plain(body.get("error_code")), ""


def _plain(value: object) -> str:
    return "" if value is None or isinstance(value, Mapping | list) else str(value)


def _request_id(answer: Answer, body: Mapping[str, Any]) -> str:
    headers = answer.headers
    return (
        headers.get("X-Request-Id")
        or _plain(body.get("request_id"))
        or headers.get("X-IAM-Trace-Id", "")
    )


def _retry_after(answer: Answer, message: str, now: float) -> float | None:
    """Return the seconds to wait that the header names, or else the window of the message."""
    header = answer.headers.get("Retry-After", "").strip()
    if header.isascii() and header.isdigit():
        return float(header)
    if header:
        try:
            moment = parsedate_to_datetime(header)
        except (ValueError, OverflowError, TypeError):
            return None
        return max(0.0, moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() - now)
    window = _THROTTLING.search(message)
    # The window's full length is the longest that it can take; most of it has often passed.
    return int(window[1]) * _SECONDS[window[2]] / 4 if window else None


def date_of(headers: Mapping[str, str]) -> float | None:
    """Return the ``Date`` of an answer as Unix seconds, where it has one."""
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
