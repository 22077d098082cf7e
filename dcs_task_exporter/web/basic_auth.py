"""Basic auth in front of the web app, and the headers that the web configuration file adds."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcs_task_exporter.refresh.workers import Job, WorkerPool
from dcs_task_exporter.web.failed_logins import FailedLogins
from dcs_task_exporter.web.web_config import WebConfig

NOBODY: Final = b"$2b$%s$CwTycUXWue0Thq9StjUM0uJ8mjBVSzLPR8bEtqXGXVCzMlRgrrEGW"
"""The hash, but for its cost, that an unknown user's password is compared with."""

REMEMBERED: Final = 100
"""Right passwords that are remembered: bcrypt takes 70 ms each time."""

CHECKING_THREADS: Final = 1
"""Passwords that are checked at once: guessers wait for each other, and scrapes do not."""

MOST_WAITING: Final = 20
"""Passwords that may wait for a check, so that each is answered in about a second."""


class BasicAuth:
    """An ASGI application that lets only known users through to another one.

    `config` is read for every request; its headers are set on every answer. `failed` hears of the
    logins that fail.
    """

    def __init__(self, app: ASGIApp, config: Callable[[], WebConfig], failed: FailedLogins) -> None:
        self._app = app
        self._config = config
        self._failed = failed
        self._passwords = _Passwords()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config = self._config()
        extra = config.headers()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(extra)
            await send(message)

        refusal = await self._refusal(scope, config) if config.basic_auth_users else None
        await (refusal or self._app)(scope, receive, send_with_headers)

    async def _refusal(self, scope: Scope, config: WebConfig) -> Response | None:
        """Return the answer for a client that is not let in; None for one that is."""
        given = _basic_auth(Headers(scope=scope).get("Authorization", ""))
        if given is None:
            return _unauthorized()
        user, password = given
        hashes = {
            name: value.get_secret_value().encode()
            for name, value in config.basic_auth_users.items()
        }
        wanted = hashes.get(user) or self._passwords.stand_in(user, list(hashes.values()))
        address = (scope.get("client") or ("",))[0]
        right = await self._passwords.match(password, wanted, address)
        if right is None:
            return _busy()
        if right and user in hashes:
            return None
        self._failed.note(user if user in hashes else None, address)
        return _unauthorized()


@dataclass(frozen=True, slots=True)
class Check:
    """A password to compare with a hash; the answer is None if it will not be compared."""

    password: bytes
    wanted: bytes
    answer: Future[bool | None]


class WaitingChecks:
    """A bounded number of waiting checks: addresses take turns, each with its newest check first.

    So an endless guesser keeps others waiting only for a moment. Safe to use from threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, list[Check]] = OrderedDict()

    def add(self, check: Check, address: str) -> Check | None:
        """Add a check; return the one that loses its place: the oldest of the busiest address."""
        with self._lock:
            self._waiting.setdefault(address, []).append(check)
            if sum(map(len, self._waiting.values())) <= self._most:
                return None
            return self._take(max(self._waiting, key=lambda key: len(self._waiting[key])), 0)

    def next(self) -> Check:
        """Take the check whose turn it is."""
        with self._lock:
            address = next(iter(self._waiting))
            self._waiting.move_to_end(address)
            return self._take(address, -1)

    def _take(self, address: str, at: int) -> Check:
        check = self._waiting[address].pop(at)
        if not self._waiting[address]:
            del self._waiting[address]
        return check


class _Passwords:
    """Checks passwords, and remembers the right ones as keyed hashes."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._waiting = WaitingChecks(MOST_WAITING)
        self._pool = WorkerPool("web-passwords", CHECKING_THREADS)

    def stand_in(self, user: str, known: Sequence[bytes]) -> bytes:
        """Return what to compare an unknown user's password with, for as long as a known user's.

        Where known users' hashes cost more or less, so do those of unknown names, each its own.
        """
        costs = sorted(one[4:6] for one in known)
        digest = hmac.digest(self._key, user.encode(errors="replace"), "sha256")
        return NOBODY % costs[int.from_bytes(digest[:8], "big") % len(costs)]

    async def match(self, password: bytes, wanted: bytes, address: str) -> bool | None:
        """Return whether the password is right; None if too many others wait."""
        digest = hmac.new(self._key, wanted + b"\0" + password, hashlib.sha256).digest()
        if digest in self._right:
            return True
        check = Check(password, wanted, Future())
        dropped = self._waiting.add(check, address)
        if dropped is None:
            # In this thread, where none can be started.
            self._pool.submit([Job(self._check_next, drop=self._check_next)])
        elif dropped.answer.set_running_or_notify_cancel():
            dropped.answer.set_result(None)
        right = await asyncio.wrap_future(check.answer)
        if right:
            self._right[digest] = None
            while len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
        return right

    def _check_next(self) -> None:
        check = self._waiting.next()
        if check.answer.set_running_or_notify_cancel():
            check.answer.set_result(_check(check.password, check.wanted))


def _check(password: bytes, wanted: bytes) -> bool:
    # The exporter-toolkit, too, looks only at the first 72 bytes.
    try:
        return bcrypt.checkpw(password[:72], wanted)
    except ValueError:
        return False


def _unauthorized() -> Response:
    text = "Unauthorized: this exporter asks for a user and a password\n"
    challenge = 'Basic realm="dcs-task-exporter"'
    headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
    return PlainTextResponse(text, 401, headers)


def _busy() -> Response:
    text = "Too many passwords wait to be checked: try again\n"
    return PlainTextResponse(text, 503, {"Retry-After": "1", "Cache-Control": "no-store"})


def _basic_auth(header: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except ValueError:  # no base64, or no ASCII
        return None
    return (user.decode("utf-8", "replace"), password) if colon else None
