"""One HTTP request over a kept connection: its complete answer, or an error without secrets."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase
from requests.utils import select_proxy
from urllib3.connection import port_by_scheme
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from dcs_task_exporter.cloud.connections import TimedAdapter
from dcs_task_exporter.cloud.tls import tls_context
from dcs_task_exporter.config.model import TlsConfig
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


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of the cloud."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests over a pool of kept connections.

    It calls the adapter of `requests` without a session, which would read a redirect's body without
    a limit. A session also costs 25 % of a warm sweep's processor time. `before` is called before
    each request.
    """

    def __init__(
        self,
        *,
        timeout: float,
        connections: int,
        user_agent: str,
        tls: TlsConfig | None = None,
        proxies: Mapping[str, str] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._timeout = timeout
        self._proxies = dict(proxies or {})
        self._before = before
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
        }
        tls = tls or TlsConfig()
        self._verify = not tls.insecure_skip_verify
        self._adapter = TimedAdapter(tls_context(tls), connections)
        self._is_closed = False

    def send(
        self,
        url: str,
        auth: AuthBase,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the complete answer, whatever its status.

        `url` is encoded already. Raises `ApiTimeoutError`, `ApiConnectionError` and
        `InvalidResponseError`, which may quote the answer. Redirects are not followed: a signed
        request is for one host.
        """
        self._before()
        # Preparing the URL again costs 15 % of a warm sweep's processor time, and headers whose
        # case does not matter 4 %.
        request = requests.PreparedRequest()
        request.method, request.url, request.body = method, url, body
        request.headers = {**self._headers, **(headers or {})}  # type: ignore[assignment]
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
        try:
            sent = self._adapter.send(
                auth(request),
                stream=True,
                timeout=self._timeout,
                verify=self._verify,
                proxies=self._proxies,
            )
            response = cast("urllib3.HTTPResponse", sent)  # by `build_response` of the adapter
            return Answer(response.status, response.headers, _body(response))
        except (requests.RequestException, urllib3.exceptions.HTTPError, TimeoutError) as error:
            if isinstance(error, requests.Timeout) or _is_timeout(error):
                message = f"no complete answer from {self._path_to(url)} within {self._timeout:g} s"
                raise ApiTimeoutError(message) from error
            failed = "failed" if isinstance(error, requests.ConnectionError) else "broke"
            message = f"the connection to {self._path_to(url)} {failed}: {_cause(error)}"
            raise ApiConnectionError(message) from error
        finally:
            if self._is_closed:  # while the request was under way
                self._adapter.close()

    def close(self) -> None:
        """Close the idle connections; the others close with their answer."""
        self._is_closed = True
        self._adapter.close()

    def _path_to(self, url: str) -> str:
        """Return the target of a request without its query, and the proxy if there is one."""
        proxy = select_proxy(url, self._proxies)
        through = f" through the proxy {origin_of(proxy)}" if proxy else ""
        return f"{origin_of(url)}{urlsplit(url).path}{through}"


def origin_of(url: str) -> str:
    """Return the scheme, host and port of a URL, without user and password."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return "an invalid URL"
    scheme = parts.scheme or "http"  # that of a proxy may be left out
    port = parts.port or port_by_scheme.get(scheme)
    return f"{scheme}://{parts.host}:{port}" if port else f"{scheme}://{parts.host}"


def _body(response: urllib3.HTTPResponse) -> bytes:
    """Return the decompressed body; a few bytes can be compressed gigabytes."""
    if response.status < HTTPStatus.OK or response.status in _WITHOUT_BODY:
        # A body that comes all the same must not be taken for the answer to the next request.
        response.close()
        return b""
    length = response.length_remaining  # None of an answer in chunks
    if length is not None and length > MAX_BODY_SIZE:
        response.close()
        raise _too_large(response)
    with response:
        if length is not None and "Content-Encoding" not in response.headers:
            return response.read()  # in chunks: 4 % of a warm sweep's processor time
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
        message = "the answer's framing cannot be read"  # a chunk of a negative size, say
        raise InvalidResponseError(message, status=response.status) from None


def _too_large(response: urllib3.HTTPResponse) -> InvalidResponseError:
    message = f"the answer is larger than {MAX_BODY_SIZE / 1e6:g} MB"
    is_data = response.status == HTTPStatus.OK
    return (TooLargeError if is_data else InvalidResponseError)(message, status=response.status)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors inside it, from the outermost to the innermost."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inside = (getattr(seen, "reason", None), *seen.args)
        seen = next((item for item in inside if isinstance(item, BaseException)), None)


def _is_timeout(error: BaseException) -> bool:
    for seen in _chain(error):
        if isinstance(seen, urllib3.exceptions.NewConnectionError):
            return False  # refused, or no such host: urllib3 takes that for a timeout
        if isinstance(seen, TimeoutError | urllib3.exceptions.TimeoutError):
            return True
    return False


def _cause(error: BaseException) -> str:
    """Return the words of the innermost error: the outer ones hold URLs and object addresses."""
    *_, seen = _chain(error)
    if isinstance(seen, urllib3.exceptions.InvalidChunkLength):
        return "a chunk of the answer has no length that can be read"
    if isinstance(seen, http.client.IncompleteRead):
        # Its own text holds the part that was read: tasks, with the names of people.
        partial: Any = seen.partial  # the bytes, or with urllib3 only their number
        read = partial if isinstance(partial, int) else len(partial)
        return f"the answer was cut after {read} bytes"
    text = str(seen.args[-1]) if seen.args else type(seen).__name__
    if " object at 0x" in text or isinstance(seen, urllib3.exceptions.NewConnectionError):
        text = text.rpartition(": ")[2]
    return _ERRNO.sub("", text)
