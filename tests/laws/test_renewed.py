"""Credentials that end, through three days: renewed once each time, and no request refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.cloud.refusals import MOST_TRIES
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.errors import AuthError, ThrottledError
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.simulator.faults import gateway_error
from tests.support.clouds import DAY, World, scrape, value, world
from tests.support.credentials import (
    ACCOUNT,
    PASSWORD,
    SOURCES,
    USER,
    Made,
    ask,
    exporter_with,
    text_with,
)

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


def reload(exporter: Exporter, here: World, made: Made, **collector: Any) -> None:
    """Reload these credentials with other settings."""
    text = text_with(here, made.section, **collector)
    exporter.reload(lambda: parse_config(text, "test", {}))


WRONG: Mapping[str, Callable[[Made, int], Mapping[str, Any]]] = {
    "password": lambda made, _: {**made.section, "password": "wrong"},
    "password, another each time": lambda made, at: {**made.section, "password": f"wrong-{at}"},
    "assume_agency": lambda made, _: {
        **made.section,
        "source": {**made.section["source"], "secret_key": "wrong"},
    },
    "auto by OIDC": lambda made, _: made.section,
}
"""Sections with a wrong secret, the same in each reload or another one."""


@pytest.mark.parametrize("case", WRONG)
def test_reloads_with_a_wrong_secret(case: str, tmp_path: Path) -> None:
    """However often a reload changes settings, a wrong secret is tried three times at most."""
    with world(1) as here:
        made = SOURCES[case.partition(",")[0]](here, tmp_path)
        (tmp_path / "id").write_text("wrong\n")
        begun = replace(made, section=WRONG[case](made, 0))
        with exporter_with(here, begun) as exporter:
            for at in range(8):
                with pytest.raises(AuthError):
                    ask(exporter, here)
                section = WRONG[case](made, at + 1)
                reload(exporter, here, replace(made, section=section), page_size=20 + at)
        tried = here.cloud.count(made.operation)

    assert tried == MOST_TRIES


def test_a_reload_tries_a_refused_password_again(tmp_path: Path) -> None:
    """A password that is right by now is tried at a reload, though nothing else has changed."""
    with world(1) as here:
        made = SOURCES["password"](here, tmp_path)
        here.cloud.identity.add_user(ACCOUNT, USER, "another")
        with exporter_with(here, made) as exporter:
            with pytest.raises(AuthError):
                ask(exporter, here)
            here.cloud.identity.add_user(ACCOUNT, USER, PASSWORD)
            reload(exporter, here, made)
            ask(exporter, here)


def test_a_reload_keeps_the_pause_of_the_identity_service(tmp_path: Path) -> None:
    """A pause that the identity service asks for outlives a reload."""
    with world(1) as here:
        made = SOURCES["password"](here, tmp_path)
        throttled = gateway_error(429, "APIGW.0308", "too many requests", retry_after="120")
        here.cloud.faults.add(throttled, operation=made.operation)
        with exporter_with(here, made) as exporter:
            for size in (20, 21, 22):
                with pytest.raises(ThrottledError):
                    ask(exporter, here)
                reload(exporter, here, made, page_size=size)
        asked = here.cloud.count(made.operation)

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
