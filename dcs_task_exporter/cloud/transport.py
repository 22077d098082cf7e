"""One HTTP request over a kept connection, with a time limit on the whole of it.

`requests` limits the silence between two reads, not the whole answer: a gateway that sends a byte
a second would hold a thread for hours. Here the limit holds for the head and the body together.
"""

from __future__ import annotations

import http.client
import io
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from dcs_task_exporter.errors import (
    ApiConnectionError,
    ApiTimeoutError,
    InvalidResponseError,
    TooLargeError,
)

MAX_BODY_SIZE: Final = 2_000_000
"""Bytes of an answer, decompressed: 1,000 tasks with all documented fields have 1.1 million."""

CHUNK_SIZE: Final = 1 << 16

_WITHOUT_BODY: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
"""Answers that have no body, whatever their headers say (RFC 9112, section 6.3)."""

_ERRNO: Final = re.compile(r"\[Errno -?[0-9]+\] ")
"""The number of an error, before the words that say the same."""

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""The ports of URLs without one."""

FRESH: Final = 0.05
"""Seconds of a time limit that may pass before a socket is told of what is left of it."""

READ_SIZE: Final = 1 << 15
"""Bytes that are read at once, more than a TLS record has: each read lets other threads in."""


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
    """Sends requests over a pool of kept connections.

    It uses the adapter of `requests` without a session: what a session adds to each request (the
    environment, cookies, redirects, preparing the URL again) costs as much as all the rest.
    """

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
        self._proxies = dict(proxies or {})
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
        }
        self._adapter = _Adapter(_tls_context(tls or TlsSettings()), connections)

    def get(self, url: str, auth: AuthBase) -> Answer:
        """Send a GET request and return the complete answer, whatever its status.

        `url` is encoded already. Raises `ApiTimeoutError`, `ApiConnectionError` and
        `InvalidResponseError`, which may quote the answer. Redirects are not followed: a signed
        request is for one host.
        """
        request = requests.PreparedRequest()
        request.method, request.url = "GET", url
        # A plain one: whoever signs adds headers that nobody has to find in another case.
        request.headers = dict(self._headers)  # type: ignore[assignment]
        try:
            response = self._adapter.send_for_raw(auth(request), self._timeout, self._proxies)
            return Answer(response.status, response.headers, _body(response))
        except (requests.RequestException, urllib3.exceptions.HTTPError, TimeoutError) as error:
            if isinstance(error, requests.Timeout) or _is_timeout(error):
                message = f"no complete answer from {self._tried(url)} within {self._timeout:g} s"
                raise ApiTimeoutError(message) from error
            came = "failed" if isinstance(error, requests.ConnectionError) else "broke"
            message = f"the connection to {self._tried(url)} {came}: {_cause(error)}"
            raise ApiConnectionError(message) from error

    def _tried(self, url: str) -> str:
        """Name what a request was sent to, without its query; and the proxy, if there is one."""
        proxy = select_proxy(url, self._proxies)
        through = f" through the proxy {_origin(proxy)}" if proxy else ""
        return f"{_origin(url)}{urlsplit(url).path}{through}"

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()


class _TimedReader(io.RawIOBase):
    """A socket's reader whose every read gets only the time that is left of the whole."""

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        limit = sock.gettimeout()
        self._limit = limit or 0.0
        self._deadline = None if limit is None else time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                message = "timed out"
                raise TimeoutError(message)
            if self._limit - left > FRESH:
                self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response whose head and body together must arrive within the socket's timeout."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock), READ_SIZE)


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
        self._pools: dict[str, Any] = {}
        super().__init__(pool_connections=4, pool_maxsize=connections)

    def send_for_raw(
        self, request: requests.PreparedRequest, timeout: float, proxies: dict[str, str]
    ) -> urllib3.HTTPResponse:
        """Send a request, and return the answer whose body is not read yet."""
        sent: Any = self.send(request, stream=True, timeout=timeout, proxies=proxies)
        response: urllib3.HTTPResponse = sent  # by build_response
        return response

    def get_connection_with_tls_context(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Find the pool of a host once: there are two hosts, and one way to each."""
        origin = request.url[: request.url.index("/", len("https://"))]
        pool = self._pools.get(origin)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, *args, **kwargs)
            self._pools[origin] = pool
        return pool

    def request_url(self, request: Any, proxies: Any) -> Any:
        """Return what follows the host, which is sent to it; a proxy is told more."""
        if proxies:
            return super().request_url(request, proxies)
        return request.url[request.url.index("/", len("https://")) :]

    def build_response(self, req: Any, resp: Any) -> Any:  # noqa: ARG002 - its base's name
        """Return it as it came: nobody asks for its cookies, or which text encoding it has."""
        return resp

    def close(self) -> None:
        """Close the idle connections."""
        self._pools.clear()
        super().close()

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


def _origin(url: str) -> str:
    """Return the scheme, host and port of a URL, and no user or password."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return "what is no URL"
    scheme = parts.scheme or "http"  # that of a proxy may be left out
    port = parts.port or _PORTS.get(scheme)
    return f"{scheme}://{parts.host}:{port}" if port else f"{scheme}://{parts.host}"


def _body(response: urllib3.HTTPResponse) -> bytes:
    """Return the decompressed body; a few bytes can be compressed gigabytes."""
    if response.status < HTTPStatus.OK or response.status in _WITHOUT_BODY:
        # What may come all the same must not be taken for the answer to the next request.
        response.close()
        return b""
    length = response.length_remaining
    if length is not None and length > MAX_BODY_SIZE:
        response.close()
        raise _too_large(response)
    # Of an answer in chunks there is no length, whatever it says.
    if "Content-Encoding" not in response.headers and length is not None:
        return _read(response)
    with response:
        parts, size = [], 0
        for part in _parts(response):
            parts.append(part)
            size += len(part)
            if size > MAX_BODY_SIZE:
                raise _too_large(response)
        return b"".join(parts)


def _parts(response: urllib3.HTTPResponse) -> Iterator[bytes]:
    try:
        yield from response.stream(CHUNK_SIZE, decode_content=True)
    except (ValueError, ArithmeticError):
        message = "the answer's framing cannot be read"  # a chunk of less than nothing, say
        raise InvalidResponseError(message, status=response.status) from None


def _too_large(response: urllib3.HTTPResponse) -> InvalidResponseError:
    message = f"the answer is larger than {MAX_BODY_SIZE / 1e6:g} MB"
    is_data = response.status == HTTPStatus.OK
    return (TooLargeError if is_data else InvalidResponseError)(message, status=response.status)


def _read(response: urllib3.HTTPResponse) -> bytes:
    """Return a body of known length at once, and give the connection back."""
    try:
        body = response.read()
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return body


class _SharedContext(ssl.SSLContext):
    """A context that many connections share, and that none of them changes.

    urllib3 sets the protocols anew for each connection; doing so while another thread is in its
    handshake is a use after free in OpenSSL (cpython#141012).
    """

    shared = False

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Set them as long as nobody shares the context."""
        if not self.shared:
            super().set_alpn_protocols(alpn_protocols)


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    ca_file = str(tls.ca_file) if tls.ca_file else certifi.where()
    context = _SharedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    context.shared = True
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As Python does from 3.13 on. It is stricter then, too, which the certificates of private
    # clouds often do not bear.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_timeout(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, urllib3.exceptions.NewConnectionError):
            return False  # refused, or no such host: urllib3 takes that for a timeout
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
    if isinstance(seen, urllib3.exceptions.InvalidChunkLength):
        return "a chunk of the answer has no length that can be read"
    if isinstance(seen, http.client.IncompleteRead):
        # Its own text holds what was read: tasks, with the names of people.
        partial: Any = seen.partial  # the bytes, or with urllib3 only their number
        read = partial if isinstance(partial, int) else len(partial)
        return f"the answer was cut after {read} bytes"
    text = str(seen.args[-1]) if seen.args else type(seen).__name__
    if " object at 0x" in text or isinstance(seen, urllib3.exceptions.NewConnectionError):
        text = text.rsplit(": ", 1)[-1]
    return _ERRNO.sub("", text)
