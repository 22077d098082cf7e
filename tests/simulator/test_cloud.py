"""The simulated cloud answers as the documents of the API say, without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dcs_task_exporter.cloud.signing import ALGORITHM
from dcs_task_exporter.simulator.access import LOCK_SECONDS, MAX_BAD_SIGNATURES
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import FAULTS, Reply
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
