"""One call to the API: signed, within the rate limit, past the gate, repeated where that helps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.admission import Verdict
from dcs_task_exporter.cloud.auth import RequestAuth
from dcs_task_exporter.cloud.calls import Call, Reply
from dcs_task_exporter.cloud.credentials import Credential, CredentialSource
from dcs_task_exporter.cloud.gate import Gate
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.responses import class_of, date_of, make_safe, read_json
from dcs_task_exporter.cloud.transport import Answer, Transport
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    CredentialsError,
    InternalError,
    InvalidResponseError,
    StoppedError,
    ThrottledError,
)
from dcs_task_exporter.logs.formats import log_unforeseen

MAX_BACKOFF: Final = 30.0
"""Longest pause before a retry that the cloud did not ask for, in seconds."""

MAX_THROTTLE_PAUSE: Final = 3600.0
"""Longest pause that the cloud may ask for, in seconds: a nonsense value must not stop us."""

REFUSED: Final = (
    "the cloud refuses the credentials of this project, for all instances or for one: check them, "
    "and the clock; the next try is in five minutes, when they change, or at a reload"
)

Parsed = TypeVar("Parsed")

logger = logging.getLogger(__name__)


class ApiObserver(Protocol):
    """Counts requests for the exporter's own metrics."""

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Count one HTTP request; `code` is its status, or ``error`` where there was none."""

    def error(self, project: str, operation: str, reason: str) -> None:
        """Count one request that failed."""

    def retry(self, project: str) -> None:
        """Count one retry."""

    def throttle_wait(self, project: str, seconds: float) -> None:
        """Add the time that a request waited for the rate limit."""

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        """Note when the credentials in use expire (Unix seconds), or that they do not."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed request is repeated, and how to pause before.

    `wait` sleeps for some seconds and returns True when the exporter is stopping; `jitter`
    returns a random number from 0 up to 1.
    """

    number: int
    wait: Callable[[float], bool]
    jitter: Callable[[], float]


class ApiCaller:
    """Makes the calls of one project; safe to use from threads.

    A caller with other settings that takes the place of this one shares its `gate` and its rate
    limit: what the cloud thinks of the project does not change with our settings.
    """

    def __init__(
        self,
        project: str,
        transport: Transport,
        credentials: CredentialSource,
        rate_limit: RateLimit,
        observer: ApiObserver,
        retries: Retries,
        clock: Clock,
        gate: Gate | None = None,
    ) -> None:
        self._project = project
        self._transport = transport
        self._credentials = credentials
        self._rate_limit = rate_limit
        self._observer = observer
        self._retries = retries
        self._clock = clock
        self.gate = gate or Gate(clock.monotonic, partial(_obey, project, rate_limit))
        self._is_replaced = False
        self._log_lock = threading.Lock()
        self._logged_refusal: tuple[int | None, str, str] | None = None

    def close(self) -> None:
        """Refuse waiting requests, and close the idle connections."""
        self.gate.close()
        self._transport.close()

    def make_way(self) -> None:
        """Send no more requests: another caller takes the place of this one."""
        self._is_replaced = True

    def count_error(self, operation: str, error: ApiError) -> None:
        """Count an error that no single answer shows."""
        self._observer.error(self._project, operation, error.reason)

    def get(self, call: Call[Parsed]) -> Reply[Parsed]:
        """Make a call, repeat it where that can help, and return its answer.

        Raises `ApiError`.
        """
        attempt = 0
        while True:
            try:
                return self._pass_gate(call)
            except ApiError as error:
                pause = self._backoff(error, attempt)
                is_late = self._clock.monotonic() + pause >= call.deadline
                if not error.retryable or attempt >= self._retries.number or is_late:
                    raise
                self._pause_before_retry(call.operation, error, pause)
                attempt += 1

    def _pause_before_retry(self, operation: str, error: ApiError, pause: float) -> None:
        self._observer.retry(self._project)
        fields = {
            "project": self._project,
            "operation": operation,
            **error.fields,
            "pause_seconds": round(pause, 3),
        }
        logger.debug("a request failed and is sent again", extra={"fields": fields})
        if self._retries.wait(pause):
            message = "the exporter is stopping"
            raise StoppedError(message) from error

    def _backoff(self, error: ApiError, attempt: int) -> float:
        if isinstance(error, ThrottledError) and error.status is not None:
            return _named_pause(error) or min(MAX_BACKOFF, 2.0**attempt)
        own = min(MAX_BACKOFF, 0.25 * 2.0**attempt) * (0.5 + self._retries.jitter())
        return max(own, error.retry_after or 0.0)

    def _pass_gate(self, call: Call[Parsed]) -> Reply[Parsed]:
        """Send one request, past the gate and within the rate limit, and read its answer."""
        read = partial(self._credential, call.operation)
        while True:
            with self.gate.passage(read, call.subject, call.deadline) as passage:
                waited = self._rate_limit.take(call.deadline)
                if waited > 0:
                    self._observer.throttle_wait(self._project, waited)
                is_current = waited <= 0 or read() == passage.credential
                if is_current and passage.start():
                    return self._obey_throttling(call, passage.credential)

    def _obey_throttling(self, call: Call[Parsed], credential: Credential) -> Reply[Parsed]:
        try:
            return self._send(call, credential)
        except ThrottledError as error:
            # Before another request passes; for the whole project, because the limit is shared.
            self._rate_limit.pause(_named_pause(error))
            raise

    def _credential(self, operation: str) -> Credential:
        """Return the key; the gate asks for it before each request, under its lock where it counts.

        So no request with the key of a replaced caller follows one of its successor.
        """
        if self._is_replaced:
            message = "the configuration has changed"
            raise StoppedError(message)
        try:
            credential = self._credentials()
        except CredentialsError as error:
            refusal = AuthError(str(error))
            self.count_error(operation, refusal)
            self._log_refusal(refusal, "there is no usable key or token for this project")
            raise refusal from error
        except Exception as error:  # noqa: BLE001 - any error must leave as an ApiError
            # No secret is known yet that could be taken out of its text.
            message = "reading the key of a project broke"
            failure = self._internal_error(message, error, operation, lambda _: "[withheld]")
            self.count_error(operation, failure)
            raise failure from None
        self._observer.credentials_expiry(self._project, credential.expires_at)
        return credential

    def _log_refusal(self, error: AuthError, message: str = REFUSED) -> None:
        """Log a refused key once for the whole project, not once for each instance."""
        refusal = (error.status, error.error_code, error.message)
        with self._log_lock:
            if refusal == self._logged_refusal:
                return
            self._logged_refusal = refusal
        logger.error(message, extra={"fields": {"project": self._project, **error.fields}})

    def _send(self, call: Call[Parsed], credential: Credential) -> Reply[Parsed]:
        started, answer = time.perf_counter(), None
        try:
            auth = RequestAuth(credential, call.project_id, self._clock.now)
            answer = self._transport.get(call.full_url, auth)
            reply = Reply(
                _parsed(answer, call, credential, self._clock.now()), date_of(answer.headers)
            )
        except ApiError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - any error must leave as an ApiError
            message = "an answer of the cloud broke the exporter"
            redact = credential.redactor.text
            failure = self._internal_error(message, error, call.operation, redact, answer)
        else:
            self._logged_refusal = None
            return reply
        finally:
            code = "error" if answer is None else str(answer.status)
            seconds = time.perf_counter() - started
            self._observer.request(self._project, call.operation, code, seconds)
        self.count_error(call.operation, failure)
        make_safe(failure, credential.redactor)
        if isinstance(failure, AuthError):
            self._log_refusal(failure)
        # Its cause may quote the answer, or hold the request with its headers.
        failure.__cause__ = failure.__context__ = None
        raise failure.with_traceback(None)

    def _internal_error(
        self,
        message: str,
        error: Exception,
        operation: str,
        redact: Callable[[str], str],
        answer: Answer | None = None,
    ) -> ApiError:
        """Log an unforeseen error; return the error that its answer stands for even so."""
        fields = {"project": self._project, "operation": operation}
        log_unforeseen(logger, message, error, fields, redact)
        text = f"internal error ({type(error).__name__}): see the log"
        status = None if answer is None else answer.status
        if status is None or status < HTTPStatus.MULTIPLE_CHOICES:
            return InternalError(text, status=status)
        return class_of(status)(text, status=status)


def _obey(project: str, rate_limit: RateLimit, verdict: Verdict) -> None:
    """Hold a project back, or log which of its instances alone are refused."""
    if verdict.pause:
        rate_limit.pause(verdict.pause)
    for subject, refusal in verdict.own.items():
        fields = {"dcs_instance_id": subject, **refusal.error.fields}
        logger.warning(
            "the cloud refuses this instance and takes the same key for another: "
            "only this one waits until it is asked again",
            extra={"fields": {"project": project, **fields}},
        )


def _named_pause(error: ThrottledError) -> float:
    """Return the seconds that the cloud asks us to wait, 0 where it names none."""
    return min(MAX_THROTTLE_PAUSE, error.retry_after or 0.0)


def _parsed(answer: Answer, call: Call[Parsed], credential: Credential, now: float) -> Parsed:
    """Return the parsed answer; the error of a wrong shape names its status and request."""
    memory = call.memory if answer.status == HTTPStatus.OK else None
    known = None if memory is None else memory.recall(answer.body)
    if known is not None:
        return known
    try:
        parsed = call.parse(read_json(answer, credential.redactor, now))
    except InvalidResponseError as error:
        error.status = answer.status
        error.request_id = error.request_id or answer.headers.get("X-Request-Id", "")
        raise
    if memory is not None:
        memory.keep(answer.body, parsed)
    return parsed
