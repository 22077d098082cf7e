"""One call to the API: signed, within the budget, past the gate, asked again where that helps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Generic, Protocol, TypeVar

from dcs_task_exporter.cloud.auth import request_auth
from dcs_task_exporter.cloud.credentials import Credential, CredentialSource
from dcs_task_exporter.cloud.gate import Gate, Verdict
from dcs_task_exporter.cloud.rate_limit import RequestBudget
from dcs_task_exporter.cloud.responses import (
    AnswerMemory,
    class_of,
    date_of,
    read_json,
    tell_safely,
)
from dcs_task_exporter.cloud.signing import canonical_query
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
from dcs_task_exporter.logs.unforeseen import UnforeseenErrors

MAX_BACKOFF: Final = 30.0
"""Longest pause before a retry that the cloud did not ask for, in seconds."""

MAX_THROTTLE_PAUSE: Final = 3600.0
"""Longest pause that the cloud may ask for: a nonsense value must not stop us for good."""

REFUSED: Final = (
    "the cloud refuses the credentials of this project, for all instances or for one: check them, "
    "and the clock; what is refused is asked again after five minutes, or when they change"
)

Parsed = TypeVar("Parsed")

logger = logging.getLogger(__name__)


class ApiObserver(Protocol):
    """Is told of every request, for the exporter's own metrics."""

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Count one HTTP request; `code` is its status, or ``error`` where there was none."""

    def error(self, project: str, operation: str, reason: str) -> None:
        """Count one request that failed."""

    def retry(self, project: str) -> None:
        """Count one retry."""

    def throttle_wait(self, project: str, seconds: float) -> None:
        """Add the time that a request waited for the budget."""

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        """Note when the credentials in use expire (Unix seconds), or that they do not."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Clock, sleep and randomness, so that tests can hold them still.

    `wait` sleeps for some seconds and returns True when the exporter is stopping; `jitter`
    returns a number from 0 up to 1.
    """

    now: Callable[[], float]
    monotonic: Callable[[], float]
    wait: Callable[[float], bool]
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Request(Generic[Parsed]):
    operation: str
    url: str
    project_id: str
    parse: Callable[[Any], Parsed]
    memory: AnswerMemory[Parsed]
    subject: str
    heard: Callable[[float | None], None] | None = None


class ApiCaller:
    """Sends the requests of one project; safe to use from several threads."""

    def __init__(
        self,
        project: str,
        retries: int,
        transport: Transport,
        credentials: CredentialSource,
        budget: RequestBudget,
        observer: ApiObserver,
        surroundings: Surroundings,
    ) -> None:
        self._project = project
        self._retries = retries
        self._transport = transport
        self._credentials = credentials
        self._budget = budget
        self._observer = observer
        self._around = surroundings
        self._gate = Gate(surroundings.monotonic, self._obey)
        self._unforeseen = UnforeseenErrors()
        self._log_lock = threading.Lock()
        self._refusal_told: tuple[int | None, str, str] | None = None
        self._latest_date: tuple[str, float | None] = ("", None)

    def close(self) -> None:
        """Let no request wait, and close the idle connections."""
        self._gate.close()
        self._transport.close()

    def count_error(self, operation: str, error: ApiError) -> None:
        """Count an error that no single answer shows."""
        self._observer.error(self._project, operation, error.reason)

    def get(
        self,
        operation: str,
        url: str,
        query: Mapping[str, str],
        deadline: float,
        parse: Callable[[Any], Parsed],
        *,
        project_id: str = "",
        memory: AnswerMemory[Parsed] | None = None,
        subject: str = "",
        heard: Callable[[float | None], None] | None = None,
    ) -> Parsed:
        """Return what `parse` makes of the answer, asking again where that can help.

        `subject` is the id of the instance that the request is for, if it is for one: a refusal
        may be its own. No request starts after `deadline` (monotonic). An answer that `memory`
        knows is not parsed again. `heard` is told the cloud's time (Unix seconds) of each answer,
        where it has one. Raises `ApiError`.
        """
        where = f"{url}?{canonical_query(query.items())}" if query else url
        request = _Request(
            operation, where, project_id, parse, memory or AnswerMemory(), subject, heard
        )
        attempt = 0
        while True:
            try:
                return self._ask(request, deadline)
            except ApiError as error:
                pause = self._backoff(error, attempt)
                late = self._around.monotonic() + pause >= deadline
                if not error.retryable or attempt >= self._retries or late:
                    raise
                attempt += 1
                self._note_retry(operation, error, pause)
                if self._around.wait(pause):
                    message = "the exporter is stopping"
                    raise StoppedError(message) from error

    def _note_retry(self, operation: str, error: ApiError, pause: float) -> None:
        self._observer.retry(self._project)
        fields = {
            "project": self._project,
            "operation": operation,
            "reason": error.reason,
            "request_id": error.request_id,
            "pause_seconds": round(pause, 3),
        }
        logger.debug("a request failed and is sent again", extra={"fields": fields})

    def _backoff(self, error: ApiError, attempt: int) -> float:
        if isinstance(error, ThrottledError) and error.status is not None:
            return _named_pause(error) or min(MAX_BACKOFF, 2.0**attempt)
        own = min(MAX_BACKOFF, 0.25 * 2.0**attempt) * (0.5 + self._around.jitter())
        return max(own, error.retry_after or 0.0)

    def _ask(self, request: _Request[Parsed], deadline: float) -> Parsed:
        """Send one request, past the gate and within the budget, and read its answer."""
        read = partial(self._credential, request.operation)
        while True:
            with self._gate.passage(read, request.subject, deadline) as passage:
                waited = self._budget.take(deadline)
                if waited > 0:
                    self._observer.throttle_wait(self._project, waited)
                is_current = waited <= 0 or read() == passage.credential
                if is_current and passage.start():
                    return self._answered(request, passage.credential)

    def _answered(self, request: _Request[Parsed], credential: Credential) -> Parsed:
        try:
            return self._send(request, credential)
        except ThrottledError as error:
            # Before anybody else passes; for the whole project, because the limit is shared.
            self._budget.pause(_named_pause(error))
            raise

    def _obey(self, verdict: Verdict) -> None:
        """Hold the project back, or say which instances alone are refused."""
        if verdict.pause:
            self._budget.pause(verdict.pause)
        for subject, refusal in verdict.own.items():
            fields = {
                "project": self._project,
                "dcs_instance_id": subject,
                **refusal.error.fields,
            }
            logger.warning(
                "the cloud refuses this instance and takes the same key for another: "
                "only this one waits until it is asked again",
                extra={"fields": fields},
            )

    def _credential(self, operation: str) -> Credential:
        project = self._project
        try:
            credential = self._credentials.current()
        except CredentialsError as error:
            self._observer.error(project, operation, AuthError.reason)
            refusal = AuthError(str(error))
            self._report_refusal(refusal, "there is no usable key or token for this project")
            raise refusal from error
        except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as ours
            # No secret is known yet that could be taken out of its text.
            fields = {"project": project, "operation": operation}
            message = "reading the key of a project broke"
            self._unforeseen.tell(message, error, fields, lambda _: "[withheld]")
            self._observer.error(project, operation, InternalError.reason)
            message = f"internal error ({type(error).__name__}): see the log"
            raise InternalError(message) from None
        self._observer.credentials_expiry(project, credential.expires_at)
        return credential

    def _report_refusal(self, error: AuthError, message: str = REFUSED) -> None:
        """Log a refused key once for the whole project, not once for each instance."""
        told = (error.status, error.error_code, error.message)
        with self._log_lock:
            if told == self._refusal_told:
                return
            self._refusal_told = told
        fields = {"project": self._project, **error.fields}
        logger.error(message, extra={"fields": fields})

    def _send(self, request: _Request[Parsed], credential: Credential) -> Parsed:
        project, operation = self._project, request.operation
        started, answer = time.perf_counter(), None
        try:
            auth = request_auth(credential, request.project_id, self._around.now)
            answer = self._transport.get(request.url, auth)
            if request.heard is not None:
                request.heard(self._time_of(answer))
            parsed = _parsed(answer, request, credential, self._around.now())
        except ApiError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and leaves as ours
            failure = self._internal_error(error, operation, credential, answer)
        else:
            self._refusal_told = None
            return parsed
        finally:
            code = "error" if answer is None else str(answer.status)
            self._observer.request(project, operation, code, time.perf_counter() - started)
        self._observer.error(project, operation, failure.reason)
        tell_safely(failure, credential.redactor)
        if isinstance(failure, AuthError):
            self._report_refusal(failure)
        # What caused it may quote the answer, or hold the request with its headers.
        failure.__cause__ = failure.__context__ = None
        raise failure.with_traceback(None)

    def _time_of(self, answer: Answer) -> float | None:
        """Return the cloud's time; many answers have the same, and reading it takes 9 us."""
        date, known = answer.headers.get("Date", ""), self._latest_date
        if known[0] != date:
            known = self._latest_date = (date, date_of(answer.headers))
        return known[1]

    def _internal_error(
        self, error: Exception, operation: str, credential: Credential, answer: Answer | None
    ) -> ApiError:
        """Log an error that nobody foresaw, once; return what its answer stands for even so."""
        self._unforeseen.tell(
            "an answer of the cloud broke the exporter",
            error,
            {"project": self._project, "operation": operation},
            credential.redactor.text,
        )
        message = f"internal error ({type(error).__name__}): see the log"
        status = None if answer is None else answer.status
        if status is None or status < HTTPStatus.MULTIPLE_CHOICES:
            return InternalError(message, status=status)
        return class_of(status)(message, status=status)


def _named_pause(error: ThrottledError) -> float:
    """Return the seconds that the cloud asks us to wait, 0 where it names none."""
    return min(MAX_THROTTLE_PAUSE, error.retry_after or 0.0)


def _parsed(
    answer: Answer, request: _Request[Parsed], credential: Credential, now: float
) -> Parsed:
    """Return the parsed answer; one of the wrong shape is an error that names its request."""
    known = request.memory.recall(answer.body) if answer.status == HTTPStatus.OK else None
    if known is not None:
        return known
    try:
        parsed = request.parse(read_json(answer, credential.redactor, now))
    except InvalidResponseError as error:
        error.status = answer.status
        error.request_id = error.request_id or answer.headers.get("X-Request-Id", "")
        raise
    if answer.status == HTTPStatus.OK:
        request.memory.keep(answer.body, parsed)
    return parsed
