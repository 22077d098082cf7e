"""Proving who asks: authentication for keys and tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from requests import PreparedRequest
from requests.auth import AuthBase

from dcs_task_exporter.cloud.credential import AccessKey, Credential, Token
from dcs_task_exporter.cloud.signing import (
    DATE_FORMAT,
    authorization,
    canonical_request,
    signature,
)


class RequestAuth(AuthBase):
    """Sign a request with an access key (SDK-HMAC-SHA256), or send a token.

    The signature covers the host, the date, and the project and security token where there are
    any; not the headers that a proxy may rewrite.
    """

    def __init__(self, credential: Credential, project_id: str, now: Callable[[], float]) -> None:
        self._credential = credential
        self._project_id = project_id
        self._now = now

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the headers that prove the key, dated now, or the one that holds the token.

        A request that carries its own secrets stays as it is.
        """
        if isinstance(self._credential, AccessKey):
            self._sign(request, self._credential)
        elif isinstance(self._credential, Token):
            request.headers["X-Auth-Token"] = self._credential.token
        return request

    def _sign(self, request: PreparedRequest, key: AccessKey) -> None:
        host, _, rest = str(request.url).partition("://")[2].partition("/")
        path, _, query = rest.partition("?")
        moment = datetime.fromtimestamp(self._now(), tz=timezone.utc)
        headers = {"Host": host, "X-Sdk-Date": moment.strftime(DATE_FORMAT)}
        if self._project_id:
            headers["X-Project-Id"] = self._project_id
        if key.security_token:
            headers["X-Security-Token"] = key.security_token
        body = request.body or b""
        canonical = canonical_request(
            str(request.method),
            f"/{path}",
            query,
            headers,
            body.encode() if isinstance(body, str) else bytes(body),  # type: ignore[arg-type]
        )
        signed = signature(key.secret_key, headers["X-Sdk-Date"], canonical)
        request.headers.update(headers)
        request.headers["Authorization"] = authorization(key.access_key, headers, signed)
