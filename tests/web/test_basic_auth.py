"""Basic auth in front of the web app: who gets in, how long it takes, and what is told of it."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from collections import Counter

import bcrypt
import pytest
import requests
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message

from dcs_task_exporter.web import basic_auth
from dcs_task_exporter.web.basic_auth import BasicAuth
from dcs_task_exporter.web.failed_logins import FailedLogins
from dcs_task_exporter.web.web_config import WebConfig
from tests.support.web_config_files import HASH, PASSWORD, USERS, Start

PATIENCE = 30.0


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        (None, 401),
        (("grafana", "wrong"), 401),
        (("nobody", PASSWORD), 401),
        (("grafana", "x" * 100), 401),
        (("grafana", PASSWORD), 200),
    ],
)
def test_basic_auth(start: Start, auth: tuple[str, str] | None, status: int) -> None:
    """Only the right user with the right password gets in."""
    url = start(USERS).url

    answers = [requests.get(url, auth=auth, timeout=10) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, status]


@pytest.mark.parametrize(
    "header",
    [
        b"Basic",
        b"Basic !!",
        b"Basic YQ==",
        b"Bearer abc",
        b"basic OjphOg",
        b"Basic \xe9",
        b"Basic \xff\x80\t\xc3\xa9",
        b"Basic YTpi\xe9",
        b"B\xe9sic YTpi",
        b"Basic YTr/AP8=",
    ],
)
def test_malformed_authorization(start: Start, header: bytes) -> None:
    """A malformed header is a 401 with a challenge."""
    answer = requests.get(start(USERS).url, headers={"Authorization": header}, timeout=10)

    assert (answer.status_code, answer.headers["WWW-Authenticate"][:6]) == (401, "Basic ")


class CheckedPasswords:
    """Stands for bcrypt: compares nothing before it is released, and notes the order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released = threading.Event()
        self.checked: list[bytes] = []
        monkeypatch.setattr(basic_auth, "_check", self._check)

    def _check(self, password: bytes, wanted: bytes) -> bool:
        assert self.released.wait(PATIENCE)
        assert wanted
        self.checked.append(password)
        return password == PASSWORD.encode()


def one_user() -> WebConfig:
    """Return a configuration with one user."""
    return WebConfig.model_validate({"basic_auth_users": {"grafana": HASH}})


async def ask(app: ASGIApp, password: str, address: str = "10.0.0.1", user: str = "grafana") -> int:
    """Ask with a password from an address; return the status of the answer."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    encoded = base64.b64encode(f"{user}:{password}".encode())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "client": (address, 1),
        "headers": [(b"authorization", b"Basic " + encoded)],
    }
    await app(scope, receive, send)
    return statuses[0]


async def ask_all(checks: CheckedPasswords, *asked: tuple[str, str]) -> list[int]:
    """Ask with each password from its address, all before any is checked."""
    app = BasicAuth(PlainTextResponse("up 1\n"), one_user, FailedLogins(float))
    asking = [asyncio.create_task(ask(app, *one)) for one in asked]
    await asyncio.sleep(0)  # each has come as far as to wait for its check
    checks.released.set()
    return await asyncio.gather(*asking)


WRONG = [(f"wrong {number}", "10.0.0.1") for number in range(600)]


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.2"])
def test_guessers_keep_no_one_waiting(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The right password after 600 wrong ones waits for two at most, whoever sent those."""
    checks = CheckedPasswords(monkeypatch)

    statuses = asyncio.run(ask_all(checks, *WRONG, (PASSWORD, address)))

    assert statuses[-1] == 200
    assert checks.checked.index(PASSWORD.encode()) <= 2


def test_guessers_wait_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who guesses on after a right password came from elsewhere does not take its turn."""
    checks = CheckedPasswords(monkeypatch)
    right = (PASSWORD, "10.0.0.2")

    statuses = asyncio.run(ask_all(checks, WRONG[0], right, *WRONG[1:]))

    assert statuses[1] == 200
    assert checks.checked.index(PASSWORD.encode()) <= 2


def test_only_so_many_passwords_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 wrong passwords at once few are checked; the rest is refused, and may come again."""
    checks = CheckedPasswords(monkeypatch)

    statuses = asyncio.run(ask_all(checks, *WRONG))

    assert len(checks.checked) <= basic_auth.MOST_WAITING + basic_auth.CHECKING_THREADS
    assert Counter(statuses) == {401: len(checks.checked), 503: 600 - len(checks.checked)}


def test_a_known_password_waits_for_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A right password that was checked before lets in at once, ahead of all that wait."""
    checks = CheckedPasswords(monkeypatch)
    checks.released.set()
    app = BasicAuth(PlainTextResponse("up 1\n"), one_user, FailedLogins(float))

    async def play() -> int:
        await ask(app, PASSWORD)
        checks.released.clear()
        guessing = [asyncio.create_task(ask(app, *one)) for one in WRONG]
        await asyncio.sleep(0)
        status = await ask(app, PASSWORD)
        checks.released.set()
        await asyncio.gather(*guessing)
        return status

    assert asyncio.run(play()) == 200


def test_a_check_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is being checked does not keep the process from its end."""
    checks = CheckedPasswords(monkeypatch)

    asyncio.run(ask_all(checks, *WRONG[:1]))

    checking = [thread for thread in threading.enumerate() if "web-passwords" in thread.name]
    assert {thread.daemon for thread in checking} == {True}


def test_headers(start: Start) -> None:
    """The headers of the file are on every answer."""
    server = start(
        USERS + "http_server_config: {headers: {Strict-Transport-Security: max-age=31536000}}\n"
    )

    answer = requests.get(server.url, timeout=10)

    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


COSTS = ("04", "10", "12", "18")


class Compared:
    """Stands for bcrypt: notes the hashes that passwords are compared with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: list[str] = []
        monkeypatch.setattr(basic_auth, "_check", self._check)

    def _check(self, password: bytes, wanted: bytes) -> bool:
        assert password
        assert len(wanted) == len(HASH)
        self.costs.append(wanted[4:6].decode())
        return False


def costs_of_names(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Return what a wrong password of each name costs, where known users' costs differ."""
    users = {f"user {cost}": f"$2y${cost}{HASH[6:]}" for cost in COSTS}
    config = WebConfig.model_validate({"basic_auth_users": users})
    app = BasicAuth(PlainTextResponse(""), lambda: config, FailedLogins(float))
    compared = Compared(monkeypatch)

    async def ask_in_turn() -> None:
        for name in names:
            assert await ask(app, "wrong", user=name) == 401

    asyncio.run(ask_in_turn())
    return compared.costs


def test_a_known_users_password_costs_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password of a known user is compared with the user's hash."""
    names = [f"user {cost}" for cost in COSTS]

    assert costs_of_names(monkeypatch, *names) == list(COSTS)


def test_an_unknown_users_password_costs_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password of an unknown user costs what some known user's costs, each of them for some."""
    costs = costs_of_names(monkeypatch, *(f"nobody {number}" for number in range(200)))

    assert set(costs) == set(COSTS)


def test_a_name_costs_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of an unknown name does not change from one try to the next, as no user's does."""
    assert len(set(costs_of_names(monkeypatch, *["nobody"] * 20))) == 1


def test_one_cost_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all hashes cost the same, unknown names cost just that, and not bcrypt's usual 10."""
    compared = Compared(monkeypatch)
    app = BasicAuth(PlainTextResponse(""), one_user, FailedLogins(float))

    for number in range(20):
        asyncio.run(ask(app, "wrong", user=f"nobody {number}"))

    assert set(compared.costs) == {"04"}


@pytest.mark.parametrize("cost", ["04", "05"])
def test_the_stand_in_is_a_hash(cost: str) -> None:
    """What an unknown user's password is compared with is a hash that bcrypt takes."""
    assert not bcrypt.checkpw(b"wrong", basic_auth.NOBODY % cost.encode())


def test_no_password_in_the_log(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A failed login is logged with its address and known user, and with nothing that was tried."""
    server = start(USERS)

    with caplog.at_level(logging.DEBUG):
        requests.get(server.url, auth=("grafana", "hunter22"), timeout=10)
        requests.get(server.url, auth=("hunter33", PASSWORD), timeout=10)
        server.stop()

    said = "".join(
        f"{record.getMessage()} {record.__dict__.get('fields')}" for record in caplog.records
    )
    assert "'user': 'grafana', 'address': '127.0.0.1'" in said
    assert not [secret for secret in ("hunter22", "hunter33", PASSWORD) if secret in said]
