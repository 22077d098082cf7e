"""The errors that this package raises on purpose.

The tree, to see which one to catch::

    ExporterError
      ConfigError                 the configuration must be changed; holds every problem found
      MistakesError               several files must be changed; its message lists all
      StateLockedError            another process uses the state file
      CredentialsError            no usable key or token
      ApiError                    one call to the cloud failed; `reason` is its metric label
        AuthError                 401: the key or token is refused
          RefusedEarlierError     it was refused a moment ago; no request was sent
          OutdatedKeyError        it was refused, and there is another one now
        ForbiddenError            403: the key may not do this
        NotFoundError             404: no such instance, or no such API here
        BadRequestError           other 4xx: the API refuses the request
        ThrottledError            429: too many requests
          ThrottledEarlierError   it was throttled a moment ago; no request was sent
          NoSlotError             our own rate limit has no slot in time; no request was sent
        ServerError               5xx: the cloud has a problem
        ApiTimeoutError           no complete answer in time
        ApiConnectionError        no connection, or one that broke
        InvalidResponseError      not the answer that the API documents
          TooLargeError           more rows than are read at once: ask for fewer
        IncompleteListingError    a listing that may lack the newest tasks
        InternalError             a bug in the exporter, or an unforeseen answer
        StoppedError              the exporter is shutting down; no request was sent

`arguments.py`, commands, state and web add their own below `ExporterError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Final, TypeVar

from typing_extensions import Self

Told = TypeVar("Told", bound="ApiError")


class ExporterError(Exception):
    """Base of every error that this package raises on purpose.

    `is_misuse` says that the command, a flag or the configuration must be changed: the exit status
    is 2, not 1.
    """

    is_misuse: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: the path of the key, and what to change."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(ExporterError):
    """The configuration cannot be used; `problems` lists every mistake at once."""

    is_misuse = True

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        plural = "s" if len(problems) != 1 else ""
        super().__init__(f"{source}: {len(problems)} problem{plural}\n{lines}")


class MistakesError(ExporterError):
    """Files of the configuration cannot be used: the message lists all mistakes, file by file."""

    is_misuse = True


class StateLockedError(ExporterError):
    """Another process uses the state file."""

    is_misuse = True


class CredentialsError(ExporterError):
    """No usable key or token: the message names the missing one and where to put it."""


@dataclass(eq=False, repr=False)
class ApiError(ExporterError):
    """One call to the cloud failed.

    `reason` is the value of the metric label. `status`, `error_code`, `request_id` and
    `retry_after` (seconds) come from the cloud's answer.
    """

    reason: ClassVar[str]
    retryable = False

    message: str
    _: KW_ONLY
    status: int | None = None
    error_code: str = ""
    request_id: str = ""
    retry_after: float | None = None

    def not_retryable(self) -> Self:
        """Let no one send the request again at once; return the error."""
        self.retryable = False
        return self

    def came_with(self, status: int, request_id: str) -> None:
        """Note the answer that the error is about; a request id that is known stays."""
        self.status = status
        self.request_id = self.request_id or request_id

    def told_as(self, kind: type[Told], message: str) -> Told:
        """Return an error of another kind or with another message, and the same facts."""
        return kind(
            message,
            status=self.status,
            error_code=self.error_code,
            request_id=self.request_id,
        )

    def rewrite(self, message: Callable[[str], str], word: Callable[[str], str]) -> None:
        """Replace the texts of the error: the message by `message`, the code and id by `word`."""
        self.message = message(self.message)
        self.error_code = word(self.error_code)
        self.request_id = word(self.request_id)
        self.args = (self.message,)

    @property
    def fields(self) -> Mapping[str, object]:
        """The fields of the error in a log line."""
        return {
            "reason": self.reason,
            "status": self.status,
            "error_code": self.error_code,
            "request_id": self.request_id,
            "error": self.message,
        }

    def __str__(self) -> str:
        """Return the message with the facts that the cloud's support asks for."""
        facts = [
            f"HTTP {self.status}" if self.status is not None else "",
            self.error_code,
            f"request id {self.request_id}" if self.request_id else "",
        ]
        known = ", ".join(filter(None, facts))
        return f"{self.message} ({known})" if known else self.message


class AuthError(ApiError):
    """401: the key or token is refused."""

    reason = "auth"


class RefusedEarlierError(AuthError):
    """The key or token was refused a moment ago; no request was sent."""


class OutdatedKeyError(AuthError):
    """The key or token was refused, and there is, or will be, another one."""


class ForbiddenError(ApiError):
    """403: the key is known, and may not do this."""

    reason = "forbidden"


class NotFoundError(ApiError):
    """404: no such instance, or no such API at this endpoint."""

    reason = "not_found"


class BadRequestError(ApiError):
    """Another 4xx: the API refuses the request."""

    reason = "bad_request"


class ThrottledError(ApiError):
    """429: too many requests."""

    reason = "throttled"
    retryable = True


class ThrottledEarlierError(ThrottledError):
    """The instance or the project was throttled a moment ago; no request was sent."""

    retryable = False


class NoSlotError(ThrottledError):
    """Our own rate limit has no slot in time; no request was sent."""

    retryable = False


class ServerError(ApiError):
    """5xx: the cloud, or a gateway before it, has a problem."""

    reason = "server"
    retryable = True


class ApiTimeoutError(ApiError):
    """No complete answer came in time."""

    reason = "timeout"
    retryable = True


class ApiConnectionError(ApiError):
    """No connection to the cloud could be made, or it broke."""

    reason = "connection"
    retryable = True


class InvalidResponseError(ApiError):
    """The answer is not the one that the API documents."""

    reason = "invalid_response"
    retryable = True


class TooLargeError(InvalidResponseError):
    """The answer is larger than the limit; the same request would bring it again."""

    retryable = False


class IncompleteListingError(ApiError):
    """The page cap cut the listing, which may lack the newest tasks."""

    reason = "incomplete_listing"


class InternalError(ApiError):
    """A bug in the exporter, or an unforeseen answer; the log has its traceback."""

    reason = "internal"


class StoppedError(ApiError):
    """The exporter is shutting down; no request was sent."""

    reason = "stopped"


API_ERRORS: Final[tuple[type[ApiError], ...]] = tuple(
    kind for kind in ApiError.__subclasses__() if kind is not StoppedError
)
"""The errors that `dcs_api_errors_total` counts, one `reason` each."""
