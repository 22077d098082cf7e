"""The reload as a web client asks for it: who may, what is answered, and how often it is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

import pytest
import requests

from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.reloads import NOT_ENABLED, Reloads
from dcs_task_exporter.web.server import WebServer
from tests.support.fake_source import QuietSource

PATIENCE: Final = 30
SOURCE: Final = "config.yml"


def answer(
    reload: Callable[[], None] | None, method: str = "POST", path: str = "/-/reload"
) -> requests.Response:
    """Ask a server with this reload."""
    server = WebServer(create_app(QuietSource().sources, reload=reload), [("127.0.0.1", 0)])
    server.start()
    try:
        return requests.request(method, f"{server.url}{path}", timeout=PATIENCE)
    finally:
        server.stop()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reloads(method: str) -> None:
    """A POST or a PUT reloads, and is answered after that."""
    done: list[str] = []
    found = answer(lambda: done.append("reload"), method)

    assert (found.status_code, found.text) == (200, "The configuration was reloaded\n")
    assert done == ["reload"]


def test_mistakes() -> None:
    """Mistakes are answered with 500 and their list."""

    def broken() -> None:
        problems = (Problem("projects", "is missing"), Problem("state", "unknown key"))
        raise ConfigError(SOURCE, problems)

    found = answer(broken)

    assert found.status_code == 500
    assert found.text == (
        "The configuration was not reloaded, the one before stays:\n"
        "config.yml: 2 problems\n  - projects: is missing\n  - state: unknown key\n"
    )


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_not_enabled(method: str) -> None:
    """Without the flag it is refused with 403, in Prometheus' own words."""
    found = answer(None, method)

    assert (found.status_code, found.text) == (403, f"{NOT_ENABLED}\n")


@pytest.mark.parametrize("reload", [None, lambda: None])
def test_get_is_no_order(reload: Callable[[], None] | None) -> None:
    """A GET, which a browser sends by itself, reloads nothing."""
    found = answer(reload, "GET")

    assert (found.status_code, found.text) == (405, "Method not allowed: use POST, PUT\n")


def test_those_who_wait_share_one() -> None:
    """Many who ask while a reload is under way wait for one more, which begins after they asked."""
    begun, permits = threading.Semaphore(0), threading.Semaphore(0)
    number = 0

    def slow() -> None:
        nonlocal number
        number += 1
        begun.release()
        assert permits.acquire(timeout=PATIENCE)

    async def ask() -> list[tuple[int, str]]:
        reloads = Reloads(slow)
        first = asyncio.create_task(reloads.ask())
        await asyncio.get_running_loop().run_in_executor(None, begun.acquire)
        others = [asyncio.create_task(reloads.ask()) for _ in range(20)]
        await asyncio.sleep(0)  # all have asked
        permits.release(2)
        return await asyncio.gather(first, *others)

    assert {status for status, _ in asyncio.run(ask())} == {200}
    assert number == 2
