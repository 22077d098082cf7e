"""Access to the simulated cloud: signatures, tokens, and the lock after bad signatures."""

from __future__ import annotations

import hmac
import math
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final

from dcs_task_exporter.cloud.signing import (
    ALGORITHM,
    DATE_FORMAT,
    canonical_query,
    canonical_request,
    signature,
)
from dcs_task_exporter.simulator.faults import FAULTS, RefusedError, gateway_error
from dcs_task_exporter.simulator.request import Request

MAX_BAD_SIGNATURES: Final = 5
LOCK_SECONDS: Final = 300.0
_AUTHORIZATION: Final = re.compile(
    rf"{ALGORITHM} Access=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{{64}})"
)


class AccessCheck:
    """The keys and tokens that are valid, and those that are locked."""

    def __init__(self, clock: Callable[[], float], max_skew: float) -> None:
        self._clock = clock
        self._max_skew = max_skew
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[str, str, float]] = {}
        self._tokens: dict[str, float] = {}
        self._bad: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}

    def add_key(
        self,
        access_key: str,
        secret_key: str,
        security_token: str = "",
        ends_at: float = math.inf,
    ) -> None:
        """Create a key, which works until `ends_at`; with a security token it is temporary."""
        with self._lock:
            self._keys[access_key] = (secret_key, security_token, ends_at)

    def add_token(self, token: str, ends_at: float = math.inf) -> None:
        """Create a token of the identity service, which works until `ends_at`."""
        with self._lock:
            self._tokens[token] = ends_at

    def revoke(self, name: str) -> None:
        """Delete a key or a token."""
        with self._lock:
            self._keys.pop(name, None)
            self._tokens.pop(name, None)

    def check(self, request: Request) -> None:
        """Raise `RefusedError` unless the request has a good token or signature."""
        with self._lock:
            token = request.headers.get("x-auth-token")
            if token is None:
                self._check_signature(request)
            else:
                self._check_token(token)

    def check_token(self, token: str) -> None:
        """Raise `RefusedError` unless a token is good."""
        with self._lock:
            self._check_token(token)

    def _check_token(self, token: str) -> None:
        if token not in self._tokens:
            raise RefusedError(FAULTS["bad_token"])
        if self._tokens[token] <= self._clock():
            raise RefusedError(FAULTS["expired_token"])

    def _check_signature(self, request: Request) -> None:
        headers = request.headers
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if match is None:
            message = "Incorrect IAM authentication information: x-auth-token not found"
            raise RefusedError(gateway_error(401, "APIGW.0301", message))
        key, names, signed = match.groups()
        if key not in self._keys:
            unknown = FAULTS["no_such_key"]
            body = unknown.body.replace(b"{ak}", key.encode())
            raise RefusedError(replace(unknown, body=body))
        if self._locked_until.get(key, 0.0) > self._clock():
            raise RefusedError(FAULTS["locked_key"])
        secret, security_token, ends_at = self._keys[key]
        date = headers.get("x-sdk-date", "")
        if abs(_moment(date) - self._clock()) > self._max_skew:
            raise RefusedError(FAULTS["clock_skew"])
        canonical = canonical_request(
            request.method,
            request.path,
            canonical_query(request.query.items()),
            {name: headers.get(name, "") for name in names.split(";")},
            request.body,
        )
        if not hmac.compare_digest(signature(secret, date, canonical), signed):
            self._bad[key] = self._bad.get(key, 0) + 1
            if self._bad[key] > MAX_BAD_SIGNATURES:
                self._locked_until[key] = self._clock() + LOCK_SECONDS
                self._bad[key] = 0
            raise RefusedError(FAULTS["bad_signature"])
        self._bad.pop(key, None)
        if headers.get("x-security-token", "") != security_token:
            raise RefusedError(FAULTS["bad_token"])
        if ends_at <= self._clock():
            raise RefusedError(FAULTS["expired_token"])


def _moment(date: str) -> float:
    try:
        return datetime.strptime(date, DATE_FORMAT).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return float("-inf")
