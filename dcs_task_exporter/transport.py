"""One HTTP request over a kept connection, with a time limit on the whole of it.

`requests` limits the silence between two reads, not the whole answer: a gateway that sends a byte
a second would hold a thread for hours. Here the limit holds for the head and the body together.
"""

from __future__ import annotations

import http.client
import io
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from dcs_task_exporter.errors import ApiConnectionError, ApiTimeoutError, InvalidResponseError

MAX_BODY_SIZE: Final = 64 << 20
"""Bytes of an answer, decompressed: a page of 1,000 tasks has about one million."""

CHUNK_SIZE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How the cloud's certificate is checked."""

    ca_file: Path | None = None
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of the cloud."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests over a pool of kept connections."""

    def __init__(
        self,
        *,
        timeout: float,
        connections: int,
        user_agent: str,
        tls: TlsSettings | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self._timeout = timeout
        self._session = requests.Session()
        # Reading the environment on every request costs half a request; proxies are given.
        self._session.trust_env = False
        self._session.proxies = dict(proxies or {})
        self._session.headers.update({"User-Agent": user_agent, "Accept": "application/json"})
        adapter = _Adapter(_tls_context(tls or TlsSettings()), connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def get(self, url: str, auth: AuthBase) -> Answer:
        """Send a GET request and return the complete answer, whatever its status.

        Raises `ApiTimeoutError` and `ApiConnectionError`. Redirects are not followed: a signed
        request is for one host.
        """
        try:
            with self._session.get(
                url, auth=auth, timeout=self._timeout, allow_redirects=False, stream=True
            ) as response:
                return Answer(response.status_code, response.headers, _body(response))
        except (requests.Timeout, TimeoutError) as error:
            message = f"no complete answer within {self._timeout:g} s"
            raise ApiTimeoutError(message) from error
        except requests.ConnectionError as error:
            if _is_timeout(error):
                message = f"no complete answer within {self._timeout:g} s"
                raise ApiTimeoutError(message) from error
            message = f"the connection failed: {_cause(error)}"
            raise ApiConnectionError(message) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            message = f"the connection broke: {_cause(error)}"
            raise ApiConnectionError(message) from error

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


class _TimedReader(io.RawIOBase):
    """A socket's reader whose every read gets only the time that is left of the whole."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        limit = sock.gettimeout()
        self._deadline = None if limit is None else time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                message = "timed out"
                raise TimeoutError(message)
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response whose head and body together must arrive within the socket's timeout."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock))


class _TimedHTTPConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedHTTPSConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _TimedHTTPConnection


class _TimedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPSConnection


class _Adapter(HTTPAdapter):
    """A pool with one TLS context: parsing the CA bundle anew costs 20 ms a connection."""

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        super().__init__(pool_connections=4, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self._use_timed_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
        self._use_timed_pools(manager)
        return manager

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        host, _ = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, {"cert_reqs": self._context.verify_mode}

    def cert_verify(self, *_args: Any, **_kwargs: Any) -> None:
        """Leave the checking of certificates to the context."""

    def _use_timed_pools(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _TimedHTTPPool, "https": _TimedHTTPSPool}


def _body(response: requests.Response) -> bytes:
    """Return the decompressed body; a few bytes can be compressed gigabytes."""
    parts, size = [], 0
    for part in response.iter_content(CHUNK_SIZE):
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_SIZE:
            message = f"the answer is larger than {MAX_BODY_SIZE >> 20} MiB"
            raise InvalidResponseError(message, status=response.status_code)
    return b"".join(parts)


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    ca_file = str(tls.ca_file) if tls.ca_file else certifi.where()
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_timeout(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        reason = getattr(seen, "reason", None)
        inner = [arg for arg in seen.args if isinstance(arg, BaseException)]
        if isinstance(seen, TimeoutError | urllib3.exceptions.TimeoutError):
            return True
        seen = reason if isinstance(reason, BaseException) else (inner[0] if inner else None)
    return False


def _cause(error: BaseException) -> str:
    """Name the innermost cause: the outer texts hold the whole URL and object addresses."""
    seen: BaseException = error
    while True:
        inner = [
            item
            for item in (getattr(seen, "reason", None), *seen.args)
            if isinstance(item, BaseException)
        ]
        if not inner:
            break
        seen = inner[0]
    text = str(seen.args[-1]) if seen.args else type(seen).__name__
    return text.rsplit(": ", 1)[-1] if " object at 0x" in text else text
