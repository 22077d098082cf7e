"""Credentials that end, through three days: renewed once each time, and no request refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dcs_task_exporter.errors import AuthError
from dcs_task_exporter.exporter import Exporter
from tests.support.clouds import DAY, World, scrape, value, world
from tests.support.credentials import SOURCES, Made, ask, exporter_with

THREADS = 32
DAYS = 3

each_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def ask_at_once(exporter: Exporter, here: World) -> None:
    """Let all threads list an instance each at the same moment; raise what any raises."""
    barrier = threading.Barrier(THREADS)

    def one(number: int) -> None:
        barrier.wait(30)
        ask(exporter, here, f"i{number}")

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(THREADS)))


@pytest.mark.long
@each_source
def test_three_days(make: Callable[[World, Path], Made], tmp_path: Path) -> None:
    """At each end in three days, 32 threads ask: one renewal each time, no refused request."""
    with world(THREADS) as here:
        made = make(here, tmp_path)
        moments = round(DAYS * DAY / made.life)
        with exporter_with(here, made) as exporter:
            numbers = []
            for _ in range(moments + 1):
                ask_at_once(exporter, here)
                numbers.append(here.cloud.identity.made[made.operation])
                here.clock.advance(made.life)
            found = scrape(exporter)

    assert numbers == list(range(1, moments + 2))
    assert here.cloud.count("list_tasks") >= THREADS * (moments + 1)
    assert value(found, "dcs_api_errors_total", operation="list_tasks", reason="auth") == 0
    assert value(found, "dcs_api_requests_total", operation="list_tasks", code="401") is None


def test_a_wrong_password(tmp_path: Path) -> None:
    """32 threads with a wrong password log in once, and not again for five minutes: no lock."""
    with world(THREADS) as here:
        made = SOURCES["password"](here, tmp_path)
        section = {**made.section, "password": "wrong"}
        with exporter_with(here, replace(made, section=section)) as exporter:
            for _ in range(20):
                with pytest.raises(AuthError):
                    ask_at_once(exporter, here)
                here.clock.advance(15)
        asked = here.cloud.count()

    assert asked == 1


@each_source
def test_renewed_before_the_end(make: Callable[[World, Path], Made], tmp_path: Path) -> None:
    """When a tenth of the life is left, or 40 minutes, 32 threads cause one renewal."""
    with world(THREADS) as here:
        made = make(here, tmp_path)
        with exporter_with(here, made) as exporter:
            ask_at_once(exporter, here)
            here.clock.advance(made.life - 2400 * 3)
            ask_at_once(exporter, here)
            before = here.cloud.identity.made[made.operation]
            here.clock.advance(2400 * 2.5)
            ask_at_once(exporter, here)
            after = here.cloud.identity.made[made.operation]

    assert (before, after) == (1, 2)
