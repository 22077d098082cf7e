"""Basic auth and headers around the web app, as the web configuration file says."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcs_task_exporter.web.toolkit import WebConfig

NOBODY: Final = b"$2b$10$CwTycUXWue0Thq9StjUM0uJ8mjBVSzLPR8bEtqXGXVCzMlRgrrEGW"
"""A hash to compare with for a user who is not there, so that the time taken does not tell."""

REMEMBERED: Final = 100
"""How many right passwords are remembered: bcrypt takes 70 ms each time."""

CHECKING_THREADS: Final = 1
"""How many passwords are checked at once; guessers wait for each other, not the scrapes."""


class ConfigSource(Protocol):
    """Where the guard gets the configuration from, for every request anew."""

    def current(self) -> WebConfig:
        """Return the configuration as it is now."""


class WebGuard:
    """An ASGI application that lets in who may, and sets the headers that were asked for."""

    def __init__(self, app: ASGIApp, source: ConfigSource) -> None:
        self._app = app
        self._source = source
        self._passwords = _Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config = self._source.current()
        extra = config.headers()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(extra)
            await send(message)

        if config.basic_auth_users and not await self._may_enter(scope, config):
            refusal = PlainTextResponse(
                "Unauthorized: this exporter asks for a user and a password\n",
                401,
                {
                    "WWW-Authenticate": 'Basic realm="dcs-task-exporter"',
                    "Cache-Control": "no-store",
                },
            )
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    async def _may_enter(self, scope: Scope, config: WebConfig) -> bool:
        given = _basic_auth(Headers(scope=scope).get("Authorization", ""))
        if given is None:
            return False
        user, password = given
        known = config.basic_auth_users.get(user)
        wanted = known.get_secret_value().encode() if known else NOBODY
        return await self._passwords.match(password, wanted) and known is not None


class _Passwords:
    """Checks passwords, and remembers the right ones as keyed hashes."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._pool = ThreadPoolExecutor(CHECKING_THREADS, "web-passwords")

    async def match(self, password: bytes, wanted: bytes) -> bool:
        digest = hmac.new(self._key, wanted + b"\0" + password, hashlib.sha256).digest()
        if digest in self._right:
            return True
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._pool, _check, password, wanted):
            return False
        self._right[digest] = None
        while len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True


def _check(password: bytes, wanted: bytes) -> bool:
    # The exporter-toolkit's library too looks at no more than 72 bytes.
    try:
        return bcrypt.checkpw(password[:72], wanted)
    except ValueError:
        return False


def _refusal() -> Response:
    text = "Unauthorized: this exporter asks for a user and a password\n"
    challenge = 'Basic realm="dcs-task-exporter"'
    headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
    return PlainTextResponse(text, 401, headers)


def _basic_auth(header: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user.decode("utf-8", "replace"), password) if colon else None
