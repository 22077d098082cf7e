"""Proving who asks: authentication for keys and tokens, and the pause after a refusal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Final

from requests import PreparedRequest
from requests.auth import AuthBase

from dcs_task_exporter.credentials import AccessKey, Credential
from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    AuthError,
    RefusedEarlierError,
)
from dcs_task_exporter.signing import (
    DATE_FORMAT,
    authorization,
    canonical_request,
    signature,
)

REFUSAL_PAUSE: Final = 310.0
"""Seconds of silence after a refused key: more than 5 bad signatures lock it for 5 minutes."""

UNPROVEN_IN_FLIGHT: Final = 2
"""Requests that may be under way before a key has been accepted once: well under the 5."""


class AccessKeyAuth(AuthBase):
    """Sign a request with an access key (SDK-HMAC-SHA256).

    Signed are the host, the date, and the project and security token where there are any; not
    the headers that a proxy may rewrite.
    """

    def __init__(self, key: AccessKey, project_id: str, now: Callable[[], float]) -> None:
        self._key = key
        self._project_id = project_id
        self._now = now

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the headers that prove the key, dated now."""
        host, _, rest = str(request.url).partition("://")[2].partition("/")
        path, _, query = rest.partition("?")
        moment = datetime.fromtimestamp(self._now(), tz=timezone.utc)
        headers = {"Host": host, "X-Sdk-Date": moment.strftime(DATE_FORMAT)}
        if self._project_id:
            headers["X-Project-Id"] = self._project_id
        if self._key.security_token:
            headers["X-Security-Token"] = self._key.security_token
        body = request.body or b""
        canonical = canonical_request(
            str(request.method),
            f"/{path}",
            query,
            headers,
            body.encode() if isinstance(body, str) else bytes(body),  # type: ignore[arg-type]
        )
        signed = signature(self._key.secret_key, headers["X-Sdk-Date"], canonical)
        request.headers.update(headers)
        request.headers["Authorization"] = authorization(self._key.access_key, headers, signed)
        return request


class TokenAuth(AuthBase):
    """Send a token of the identity service."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the token's header."""
        request.headers["X-Auth-Token"] = self._token
        return request


def request_auth(credential: Credential, project_id: str, now: Callable[[], float]) -> AuthBase:
    """Return what signs one request with `credential`."""
    if isinstance(credential, AccessKey):
        return AccessKeyAuth(credential, project_id, now)
    return TokenAuth(credential.token)


class AuthGate:
    """Lets requests of one project pass until its key is refused, then one at a time, rarely.

    Until a key has been accepted once, only `UNPROVEN_IN_FLIGHT` requests are under way; after a
    refusal none leaves for `REFUSAL_PAUSE` seconds, and then a single one tries. A changed key is
    tried at once.
    """

    def __init__(self, monotonic: Callable[[], float], pause: float = REFUSAL_PAUSE) -> None:
        self._monotonic = monotonic
        self._pause = pause
        self._changed = threading.Condition()
        self._credential: Credential | None = None
        self._proven = False
        self._in_flight = 0
        self._refusal: AuthError | None = None
        self._reopens_at = 0.0

    @contextmanager
    def passage(self, credential: Credential, patience: float) -> Iterator[None]:
        """Hold a place for one request with `credential`, waiting at most `patience` seconds.

        Raises `RefusedEarlierError` without a request while the pause lasts. What the body
        raises, or that it raises nothing, tells the gate whether the key was accepted.
        """
        self._enter(credential, patience)
        outcome: ApiError | None = ApiError("no answer came")
        try:
            yield
            outcome = None
        except ApiError as error:
            outcome = error
            raise
        finally:
            self._leave(credential, outcome)

    def check(self) -> None:
        """Raise `RefusedEarlierError` when the key was refused since the passage began."""
        with self._changed:
            if self._closed():
                raise self._refused_earlier()

    def _enter(self, credential: Credential, patience: float) -> None:
        with self._changed:
            if credential != self._credential:
                self._credential = credential
                self._proven, self._refusal = False, None
            admitted = self._changed.wait_for(self._may_pass, timeout=patience)
            if self._closed():
                raise self._refused_earlier()
            if not admitted:
                message = "no key was accepted yet, and the first requests have no answer"
                raise ApiTimeoutError(message)
            self._in_flight += 1

    def _may_pass(self) -> bool:
        if self._proven or self._closed():
            return True
        return self._in_flight < (1 if self._refusal else UNPROVEN_IN_FLIGHT)

    def _closed(self) -> bool:
        return self._refusal is not None and self._monotonic() < self._reopens_at

    def _refused_earlier(self) -> RefusedEarlierError:
        wait = max(0, round(self._reopens_at - self._monotonic()))
        refusal = self._refusal
        said = refusal.message if refusal else ""
        return RefusedEarlierError(
            f"not asked: the key was refused, next try in {wait} s: {said}",
            status=refusal.status if refusal else None,
            error_code=refusal.error_code if refusal else "",
            request_id=refusal.request_id if refusal else "",
        )

    def _leave(self, credential: Credential, outcome: ApiError | None) -> None:
        with self._changed:
            self._in_flight -= 1
            if credential == self._credential:
                self._learn(outcome)
            self._changed.notify_all()

    def _learn(self, outcome: ApiError | None) -> None:
        if isinstance(outcome, RefusedEarlierError):
            return
        if isinstance(outcome, AuthError):
            self._refusal = outcome
            self._reopens_at = self._monotonic() + self._pause
            self._proven = False
        elif outcome is None or outcome.status is not None:
            self._proven = True
            self._refusal = None
