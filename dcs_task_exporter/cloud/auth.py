"""Proving who asks: authentication for keys and tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from requests import PreparedRequest
from requests.auth import AuthBase

from dcs_task_exporter.cloud.credentials import AccessKey, Credential
from dcs_task_exporter.cloud.signing import (
    DATE_FORMAT,
    authorization,
    canonical_request,
    signature,
)


class AccessKeyAuth(AuthBase):
    """Sign a request with an access key (SDK-HMAC-SHA256).

    The signature covers the host, the date, and the project and security token where there are
    any; not the headers that a proxy may rewrite.
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
    """Return the authentication of one request with `credential`."""
    if isinstance(credential, AccessKey):
        return AccessKeyAuth(credential, project_id, now)
    return TokenAuth(credential.token)
