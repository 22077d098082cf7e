"""Reading the cloud's answers: JSON bodies, and the many shapes of its errors.

The shapes are those of `dcs-api.md` section 3.1: the DCS API's own, the gateway's, the identity
service's two, older nested ones, and pages of proxies that are no JSON at all.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    ForbiddenError,
    InternalError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
    ThrottledError,
    TooLargeError,
)
from dcs_task_exporter.logs.formats import log_unforeseen
from dcs_task_exporter.tasks.models import EARLIEST_TIME
from dcs_task_exporter.text.display import shown
from dcs_task_exporter.text.redaction import Redactor

Parsed = TypeVar("Parsed")

MAX_SEPARATORS: Final = 100_000
"""Most commas, colons and opening brackets of an answer: they bound its values, and so the time
and memory of decoding. A page of 1,000 tasks with all documented fields has 84,000."""

MAX_MESSAGE_LENGTH: Final = 300
"""Longest message of the cloud in characters; longer ones are cut."""

MAX_WORD_LENGTH: Final = 80
"""Longest error code or request id in characters; longer ones are cut."""

MAX_SECONDS: Final = 999_999_999
"""Longest wait that is read from an answer; a number with more digits is taken for this one."""

LATEST_TIME: Final = 7_258_118_400.0
"""2200-01-01 as Unix time: a later date is no server's."""

_MAX_DATE_LENGTH: Final = 64

_SEPARATORS: Final = (b",", b":", b"[", b"{")

_CLASSES: Final[Mapping[int, type[ApiError]]] = {
    401: AuthError,
    403: ForbiddenError,
    404: NotFoundError,
    429: ThrottledError,
    494: ServerError,
}
_THROTTLING: Final = re.compile(r"limit:\d+,time:(\d+) ?(second|minute|hour|day)", re.ASCII)
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_KEY_PAIRS: Final = (
    ("error_code", "error_msg"),
    ("errorCode", "errorMsg"),
    ("code", "message"),
)


class AnswerMemory(Generic[Parsed]):
    """The latest answer to one question: the same bytes are not parsed again.

    They are recognized by their length and a 64-bit keyed hash, which two answers share by chance
    once in a hundred billion years of scrapes. Without it a warm sweep takes 1.4 times the
    processor time. Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._latest: tuple[int, int, Parsed] | None = None

    def recall(self, body: bytes) -> Parsed | None:
        """Return the parsed answer if these bytes are those of the latest one, or None."""
        latest = self._latest
        if latest is None or latest[:2] != (len(body), hash(body)):
            return None
        return latest[2]

    def keep(self, body: bytes, parsed: Parsed) -> None:
        """Remember an answer and the value that it was parsed to."""
        self._latest = (len(body), hash(body), parsed)


def read_json(answer: Answer, redactor: Redactor, now: float) -> object:
    """Return the decoded body of a good answer, without secrets.

    Raises the `ApiError` that any other answer stands for; its texts are the cloud's own, for
    `make_safe`. `now` (Unix seconds) is compared with a Retry-After that is a date.
    """
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise error_of(answer, now)
    try:
        data = _decoded(answer)
        return redactor.json(data) if redactor.may_be_in(answer.body) else data
    except (ValueError, RecursionError):
        kind = answer.headers.get("Content-Type", "no content type")
        message = f"the answer is not JSON ({kind}, {len(answer.body)} bytes)"
        raise InvalidResponseError(
            message, status=answer.status, request_id=_request_id(answer, {})
        ) from None


def error_of(answer: Answer, now: float) -> ApiError:
    """Return the error that an answer with a bad status stands for, with the cloud's own texts."""
    body = _body(answer)
    code, text = _code_and_message(body)
    kind = class_of(answer.status)
    return kind(
        text if text.strip() else _explanation(answer.status),
        status=answer.status,
        error_code=code,
        request_id=_request_id(answer, body),
        retry_after=_retry_after(answer, text, now) if kind.retryable else None,
    )


def make_safe(error: ApiError, redactor: Redactor) -> None:
    """Rewrite an error's texts without secrets, bounded, and printable.

    Secrets are taken out first: one that is cut, or has lost its blanks, would not be found.
    """
    error.rewrite(
        lambda text: shown(" ".join(redactor.text(text).split()), MAX_MESSAGE_LENGTH),
        lambda text: shown(redactor.text(text).replace(" ", ""), MAX_WORD_LENGTH),
    )


def internal_error(
    logger: logging.Logger,
    message: str,
    error: Exception,
    fields: Mapping[str, object],
    redact: Callable[[str], str],
    answer: Answer | None = None,
) -> ApiError:
    """Log an unforeseen error; return the error that its answer stands for even so."""
    log_unforeseen(logger, message, error, fields, redact)
    text = f"internal error ({type(error).__name__}): see the log"
    status = None if answer is None else answer.status
    if status is None or status < HTTPStatus.MULTIPLE_CHOICES:
        return InternalError(text, status=status)
    return class_of(status)(text, status=status)


def date_of(headers: Mapping[str, str]) -> float | None:
    """Return the ``Date`` of an answer in Unix seconds, or None without a plausible one."""
    moment = _moment(headers.get("Date", ""))
    return moment if moment is not None and EARLIEST_TIME <= moment < LATEST_TIME else None


def _moment(text: str) -> float | None:
    """Return the Unix seconds of a date as HTTP writes it, or None."""
    if len(text) > _MAX_DATE_LENGTH:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (ValueError, ArithmeticError, TypeError, LookupError):
        return None


def _explanation(status: int) -> str:
    if status < HTTPStatus.OK:
        name = http.client.responses.get(status, "unknown")
        return f"an informational answer ({status} {name}), which no API here sends: is it a proxy?"
    if status < HTTPStatus.BAD_REQUEST:
        return "a redirect, which a signed request cannot follow: check the endpoint"
    return f"HTTP {status} without an explanation"


def class_of(status: int) -> type[ApiError]:
    """Return the kind of error that a bad status stands for."""
    if status in _CLASSES:
        return _CLASSES[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError
    return BadRequestError if status >= HTTPStatus.BAD_REQUEST else InvalidResponseError


def _decoded(answer: Answer) -> object:
    """Return the decoded body; raise `TooLargeError` instead of decoding too many values."""
    if sum(map(answer.body.count, _SEPARATORS)) > MAX_SEPARATORS:
        message = f"the answer holds more than {MAX_SEPARATORS:,} values"
        raise TooLargeError(message, status=answer.status)
    decoded: object = json.loads(answer.body)
    return decoded


def _body(answer: Answer) -> Mapping[str, Any]:
    try:
        data = _decoded(answer)
    except (ValueError, RecursionError, TooLargeError):
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
    """Return the seconds to wait by the header, or else by the window in the message."""
    header = answer.headers.get("Retry-After", "").strip()
    if header.isascii() and header.isdigit():
        return float(_bounded(header))
    if header:
        moment = _moment(header)
        return None if moment is None else max(0.0, moment - now)
    window = _THROTTLING.search(message)
    # The window's length is the longest possible wait; most of it has often passed already.
    return _bounded(window[1]) * _SECONDS[window[2]] / 4 if window else None


def _bounded(digits: str) -> int:
    return int(digits) if len(digits) <= len(str(MAX_SECONDS)) else MAX_SECONDS
