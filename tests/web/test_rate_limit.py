"""The rate limit of the web configuration file."""

from __future__ import annotations

import asyncio

import pytest
import requests
from starlette.responses import PlainTextResponse
from starlette.types import Message

from dcs_task_exporter.web.rate_limit import RateLimit, TokenBucket
from dcs_task_exporter.web.web_config import RateLimitConfig, WebConfig
from tests.support.web_config_files import USERS, Start


def limit(interval: str, burst: int) -> RateLimitConfig:
    return RateLimitConfig.model_validate({"interval": interval, "burst": burst})


@pytest.mark.parametrize(
    ("interval", "burst", "times", "admitted"),
    [
        ("1s", 2, [0, 0, 0], [True, True, False]),
        ("1s", 1, [0, 0.9, 1.1, 1.2], [True, False, True, False]),
        ("1s", 2, [0, 0, 60, 60, 60], [True, True, True, True, False]),
        ("100ms", 1, [0, 0.05, 0.1, 0.15, 0.21], [True, False, True, False, True]),
        ("1s", 0, [0, 5], [False, False]),
        ("1s", -1, [0, 5], [False, False]),
        ("0", 0, [0, 0], [True, True]),
        ("-1s", 0, [0, 0], [True, True]),
    ],
)
def test_bucket(interval: str, burst: int, times: list[float], admitted: list[bool]) -> None:
    """`burst` requests pass at once, one more each `interval`; without an interval all pass."""
    bucket = TokenBucket(limit(interval, burst), 0.0)

    assert [bucket.admits(now) for now in times] == admitted


class Played:
    """A rate limit whose clock and file are the test's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.config = WebConfig(rate_limit=limit("1s", 1))
        self.app = RateLimit(PlainTextResponse("up"), lambda: self.config, lambda: self.now)

    def ask(self) -> int:
        """Return the status of one answer."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        asyncio.run(self.app({"type": "http"}, receive, send))
        return int(sent[0]["status"])


def test_a_changed_limit() -> None:
    """A limit that changes in the file holds at once; one that stays keeps its count."""
    played = Played()
    statuses = [played.ask(), played.ask()]

    played.config = WebConfig(rate_limit=limit("1s", 2))
    statuses += [played.ask(), played.ask(), played.ask()]
    played.config = WebConfig()
    statuses += [played.ask(), played.ask()]

    assert statuses == [200, 429, 200, 200, 429, 200, 200]


def test_too_many_requests(start: Start) -> None:
    """More requests than allowed get 429, which names the setting; wrong passwords count too."""
    url = start(f"{USERS}rate_limit: {{interval: 1h, burst: 2}}\n").url

    answers = [requests.get(url, timeout=10) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert "rate_limit" in answers[-1].text
