"""Who may ask: signatures, security tokens, tokens, and the lock after bad signatures."""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final, Protocol

from dcs_task_exporter.cloud.signing import (
    ALGORITHM,
    DATE_FORMAT,
    canonical_query,
    canonical_request,
    signature,
)
from dcs_task_exporter.simulator.faults import FAULTS, Reply, gateway_error

MAX_BAD_SIGNATURES: Final = 5
LOCK_SECONDS: Final = 300.0
_AUTHORIZATION: Final = re.compile(
    rf"{ALGORITHM} Access=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{{64}})"
)


class Asked(Protocol):
    """The parts of a request that are signed."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        ...

    @property
    def path(self) -> str:
        """The path, still encoded."""
        ...

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by any case."""
        ...

    @property
    def body(self) -> bytes:
        """The body."""
        ...


class AccessCheck:
    """Keys and tokens, and what they may not do."""

    def __init__(self, clock: Callable[[], float], max_skew: float) -> None:
        self._clock = clock
        self._max_skew = max_skew
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[str, str]] = {}
        self._tokens: dict[str, float] = {}
        self._bad: dict[str, int] = {}
        self._locked_until: dict[str, float] = {}

    def add_key(self, access_key: str, secret_key: str, security_token: str = "") -> None:
        """Make a key; with a security token it is a temporary one."""
        with self._lock:
            self._keys[access_key] = (secret_key, security_token)

    def add_token(self, token: str, expires_at: float = float("inf")) -> None:
        """Make a token of the identity service."""
        with self._lock:
            self._tokens[token] = expires_at

    def revoke(self, name: str) -> None:
        """Take back a key or a token."""
        with self._lock:
            self._keys.pop(name, None)
            self._tokens.pop(name, None)

    def refusal(self, request: Asked) -> Reply | None:
        """Return why a request is refused, or None."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = headers.get("x-auth-token")
        with self._lock:
            if token is not None:
                expiry = self._tokens.get(token)
                if expiry is None:
                    return FAULTS["bad_token"]
                return FAULTS["old_token"] if expiry < self._clock() else None
            match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
            if match is None:
                message = "Incorrect IAM authentication information: x-auth-token not found"
                return gateway_error(401, "APIGW.0301", message)
            return self._check_signature(request, headers, *match.groups())

    def _check_signature(
        self, request: Asked, headers: Mapping[str, str], key: str, names: str, signed: str
    ) -> Reply | None:
        if key not in self._keys:
            unknown = FAULTS["no_such_key"]
            return replace(unknown, body=unknown.body.replace(b"{ak}", key.encode()))
        if self._locked_until.get(key, 0.0) > self._clock():
            return FAULTS["locked_key"]
        secret, security_token = self._keys[key]
        if abs(_dated(headers.get("x-sdk-date", "")) - self._clock()) > self._max_skew:
            return FAULTS["clock_skew"]
        signed_headers = {name: headers.get(name, "") for name in names.split(";")}
        canonical = canonical_request(
            request.method,
            request.path,
            canonical_query(request.query.items()),
            signed_headers,
            request.body,
        )
        expected = signature(secret, headers.get("x-sdk-date", ""), canonical)
        if not hmac.compare_digest(expected, signed):
            return self._bad_signature(key)
        self._bad.pop(key, None)
        if headers.get("x-security-token", "") != security_token:
            return FAULTS["bad_token"]
        return None

    def _bad_signature(self, key: str) -> Reply:
        self._bad[key] = self._bad.get(key, 0) + 1
        if self._bad[key] > MAX_BAD_SIGNATURES:
            self._locked_until[key] = self._clock() + LOCK_SECONDS
            self._bad[key] = 0
        return FAULTS["bad_signature"]


def _dated(date: str) -> float:
    try:
        return datetime.strptime(date, DATE_FORMAT).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return float("-inf")
