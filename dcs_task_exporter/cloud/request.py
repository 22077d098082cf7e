"""One call to the API: signed, within the rate limit, past the gate, repeated where that helps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.admission import Verdict
from dcs_task_exporter.cloud.auth import RequestAuth
from dcs_task_exporter.cloud.calls import Call, Reply
from dcs_task_exporter.cloud.credential import Credential, CredentialSource
from dcs_task_exporter.cloud.gate import Gate
from dcs_task_exporter.cloud.keys import Keys
from dcs_task_exporter.cloud.observer import ApiObserver
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.responses import date_of, internal_error, make_safe
from dcs_task_exporter.cloud.transport import Answer, Transport
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    InvalidResponseError,
    OutdatedKeyError,
    StoppedError,
    ThrottledError,
)

MAX_BACKOFF: Final = 30.0
"""Longest pause before a retry that the cloud did not ask for, in seconds."""

MAX_THROTTLE_PAUSE: Final = 3600.0
"""Longest pause that the cloud may ask for, in seconds: a nonsense value must not stop us."""

Parsed = TypeVar("Parsed")

logger = logging.getLogger(__name__)


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
        self._keys = Keys(project, credentials, observer)
        self._rate_limit = rate_limit
        self._observer = observer
        self._retries = retries
        self._clock = clock
        self.gate = gate or Gate(clock.monotonic, partial(_obey, project, rate_limit))

    def close(self) -> None:
        """Refuse waiting requests, also for a new key, and close the idle connections."""
        self._keys.stop("the exporter is stopping")
        self.gate.close()
        self._transport.close()

    def make_way(self) -> None:
        """Send no more requests: another caller takes the place of this one."""
        self._keys.stop("the configuration has changed")

    def count_error(self, operation: str, error: ApiError) -> None:
        """Count an error that no single answer shows."""
        self._observer.error(self._project, operation, error.reason)

    def get(self, call: Call[Parsed]) -> Reply[Parsed]:
        """Make a call, repeat it where that can help, and return its answer.

        A request that was refused with an old key is sent again with the new one, once. Raises
        `ApiError`.
        """
        attempt, may_be_outdated = 0, call.key is None
        while True:
            try:
                return self._pass_gate(call, may_be_outdated=may_be_outdated)
            except OutdatedKeyError:
                may_be_outdated = False
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

    def _pass_gate(self, call: Call[Parsed], *, may_be_outdated: bool) -> Reply[Parsed]:
        """Send one request, past the gate and within the rate limit, and read its answer."""
        read, latest = partial(self._keys.key_of, call), partial(self._keys.latest, call)
        while True:
            with self.gate.passage(read, call.subject, call.deadline, latest) as passage:
                waited = self._rate_limit.take(call.deadline)
                if waited > 0:
                    self._observer.throttle_wait(self._project, waited)
                is_current = waited <= 0 or latest() == passage.credential
                if is_current and passage.start():
                    key = passage.credential
                    return self._obey_throttling(call, key, may_be_outdated=may_be_outdated)

    def _obey_throttling(
        self, call: Call[Parsed], credential: Credential, *, may_be_outdated: bool
    ) -> Reply[Parsed]:
        try:
            return self._send(call, credential, may_be_outdated=may_be_outdated)
        except ThrottledError as error:
            # Before another request passes; for the whole project, because the limit is shared.
            self._rate_limit.pause(_named_pause(error))
            raise

    def _send(
        self, call: Call[Parsed], credential: Credential, *, may_be_outdated: bool
    ) -> Reply[Parsed]:
        started, answer = time.perf_counter(), None
        try:
            auth = RequestAuth(credential, call.project_id, self._clock.now)
            answer = self._transport.send(call.full_url, auth, call.method, call.body, call.headers)
            reply = Reply(
                _parsed(answer, call, credential, self._clock.now()), date_of(answer.headers)
            )
        except ApiError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - any error must leave as an ApiError
            message = "an answer of the cloud broke the exporter"
            redact = credential.redactor.text
            fields = {"project": self._project, "operation": call.operation}
            failure = internal_error(logger, message, error, fields, redact, answer)
        else:
            self._keys.accepted()
            return reply
        finally:
            code = "error" if answer is None else str(answer.status)
            seconds = time.perf_counter() - started
            self._observer.request(self._project, call.operation, code, seconds)
        self.count_error(call.operation, failure)
        make_safe(failure, credential.redactor)
        if isinstance(failure, AuthError):
            failure = self._keys.judged(call, credential, failure, may_be_outdated=may_be_outdated)
        # Its cause may quote the answer, or hold the request with its headers.
        failure.__cause__ = failure.__context__ = None
        raise failure.with_traceback(None)


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
        parsed = call.parse(call.read(answer, credential.redactor, now))
    except InvalidResponseError as error:
        error.came_with(answer.status, answer.headers.get("X-Request-Id", ""))
        raise
    if memory is not None:
        memory.keep(answer.body, parsed)
    return parsed
