"""The simulated cloud answers as the documents of the API say, without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dcs_task_exporter.cloud.signing import ALGORITHM
from dcs_task_exporter.simulator.access import LOCK_SECONDS, MAX_BAD_SIGNATURES
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import FAULTS, Reply
from dcs_task_exporter.simulator.identity import MAX_WRONG_PASSWORDS, USER_LOCK_SECONDS
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.request import received
from tests.support.clouds import ACCESS_KEY, NOW, PROJECT, SECRET_KEY, SettableClock

TOKEN = {"X-Auth-Token": "token"}
TASKS = f"/v2/{PROJECT}/instances/i0/tasks"


def cloud_of(clock: SettableClock, quirks: Quirks | None = None) -> SimulatedCloud:
    cloud = SimulatedCloud(lambda: clock.wall, quirks)
    cloud.add_project(PROJECT, "cn-north-4")
    cloud.add_instance(PROJECT, "i0", "orders")
    cloud.access.add_token("token")
    cloud.access.add_key(ACCESS_KEY, SECRET_KEY)
    return cloud


def ask(cloud: SimulatedCloud, target: str, method: str = "GET") -> Reply:
    return cloud.answer(received(method, target, TOKEN, b""))


def names(cloud: SimulatedCloud, query: str) -> list[str]:
    found: dict[str, Any] = json.loads(ask(cloud, f"{TASKS}?{query}").body)
    return [task["name"] for task in found["tasks"]]


@pytest.fixture
def three() -> SimulatedCloud:
    """Return a cloud whose instance has a task of each of the last three hours."""
    cloud = cloud_of(SettableClock())
    for hours, name in enumerate("ABC"):
        cloud.start_task("i0", name, created_at=NOW - 3600 * hours)
    return cloud


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "ABC"),
        ("limit=2", "AB"),
        ("offset=1&limit=1", "B"),
        ("offset=3", ""),
        ("start_time=20250615140000", "AB"),
        ("end_time=20250615143000", "BC"),
        ("begin_time=20250615140000", "ABC"),
    ],
)
def test_pages_and_windows(three: SimulatedCloud, query: str, expected: str) -> None:
    """A listing is the page and the time window that are asked for, newest first."""
    assert names(three, query) == list(expected)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "DCS.4800"),
        ("limit=1001", "DCS.4800"),
        ("offset=x", "DCS.4800"),
        ("start_time=yesterday", "DCS.4062"),
        ("start_time=20250615140000&end_time=20250615130000", "DCS.4025"),
    ],
)
def test_bad_queries(three: SimulatedCloud, query: str, code: str) -> None:
    """A bad query is refused with the code of the documents."""
    reply = ask(three, f"{TASKS}?{query}")

    assert (reply.status, json.loads(reply.body)["error_code"]) == (400, code)


def test_order_and_count_are_quirks(three: SimulatedCloud) -> None:
    """The order and the count of a listing are those of the quirks."""
    three.quirks = Quirks(order="oldest", task_count="page", task_count_as_text=True)

    found = json.loads(ask(three, f"{TASKS}?limit=2").body)

    assert ([task["name"] for task in found["tasks"]], found["task_count"]) == (["C", "B"], "2")


def test_unknown_paths_and_projects(three: SimulatedCloud) -> None:
    """An unknown API, project or instance is refused, each in its own way."""
    replies = [
        ask(three, "/v2/nothing"),
        ask(three, TASKS, "DELETE"),
        ask(three, TASKS.replace(PROJECT, "another")),
        ask(three, TASKS.replace("i0", "i1")),
    ]

    assert [reply.status for reply in replies] == [404, 404, 400, 404]


def test_a_key_is_locked_after_bad_signatures() -> None:
    """After more than five bad signatures a key is locked for five minutes."""
    clock = SettableClock()
    cloud = cloud_of(clock)
    headers = {
        "X-Sdk-Date": "20250615T150640Z",
        "Authorization": f"{ALGORITHM} Access={ACCESS_KEY}, SignedHeaders=x-sdk-date, "
        f"Signature={'0' * 64}",
    }
    request = received("GET", TASKS, headers, b"")

    replies = [cloud.answer(request) for _ in range(MAX_BAD_SIGNATURES + 2)]
    clock.advance(LOCK_SECONDS)

    assert replies == [FAULTS["bad_signature"]] * 6 + [FAULTS["locked_key"]]
    assert cloud.answer(request) == FAULTS["bad_signature"]


def test_the_rate_limit_of_the_cloud() -> None:
    """Beyond its rate limit a cloud answers 429 until the next window."""
    clock = SettableClock()
    cloud = cloud_of(clock, Quirks(rate_limit=2))

    before = [ask(cloud, TASKS).status for _ in range(3)]
    clock.advance(60)

    assert (before, ask(cloud, TASKS).status) == ([200, 200, 429], 200)


def login(cloud: SimulatedCloud, password: str) -> Reply:
    """Ask the identity service for a token."""
    user = {"name": "u", "password": password, "domain": {"name": "d"}}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": {"project": {"name": "cn-north-4"}}}}
    sent = received("POST", "/v3/auth/tokens", {}, json.dumps(body).encode())
    return cloud.answer(sent)


def test_tokens_end() -> None:
    """A token of the identity service works until the end that it names."""
    clock = SettableClock()
    cloud = cloud_of(clock, Quirks(token_life=100))
    cloud.identity.add_user("d", "u", "right")
    reply = login(cloud, "right")
    token = {"X-Auth-Token": reply.headers["X-Subject-Token"]}
    found = []
    for _ in range(2):
        found.append(cloud.answer(received("GET", TASKS, token, b"")).status)
        clock.advance(100)

    assert (reply.status, found) == (201, [200, 401])
    assert json.loads(reply.body)["token"]["expires_at"] == "2025-06-15T15:08:20.000000Z"


def test_wrong_passwords_lock_the_user() -> None:
    """After five wrong passwords the user is locked for a while, also with the right one."""
    clock = SettableClock()
    cloud = cloud_of(clock)
    cloud.identity.add_user("d", "u", "right")
    for _ in range(MAX_WRONG_PASSWORDS):
        assert login(cloud, "wrong").status == 401
    locked = login(cloud, "right").status
    clock.advance(USER_LOCK_SECONDS)

    assert (locked, login(cloud, "right").status) == (401, 201)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"auth": 1}', b'{"auth": {"identity": []}}'])
@pytest.mark.parametrize(
    "path",
    ["/v3/auth/tokens", "/v3.0/OS-CREDENTIAL/securitytokens", "/v5/agencies/assume-with-oidc"],
)
def test_bad_logins(path: str, body: bytes) -> None:
    """What is no request of the identity service's is refused, in its own form."""
    reply = cloud_of(SettableClock()).answer(received("POST", path, {}, body))

    assert reply.status in (400, 401)
    assert json.loads(reply.body)


def test_a_servers_keys_stay_until_they_are_nearly_dead() -> None:
    """The metadata service gives the same keys again until an hour before their end."""
    clock = SettableClock()
    cloud = cloud_of(clock)
    cloud.identity.give_server_agency()
    found = []
    for seconds in (0, 82_000, 1000):
        clock.advance(seconds)
        reply = cloud.answer(received("GET", "/openstack/latest/securitykey", {}, b""))
        found.append(json.loads(reply.body)["credential"]["access"])

    assert found[0] == found[1] != found[2]
