"""The example response of the API page that the project starts from."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from dcs_task_exporter.simulator.faults import Reply
from tests.support.clouds import DAY, SettableClock, answer_with, samples, value, world
from tests.support.real_parts import TESTDATA

SEED = Reply(200, (TESTDATA / "seed_example.json").read_bytes())
NINE_O_CLOCK = 1592384400.0  # 2020-06-17T09:00:00Z


@pytest.fixture(scope="module")
def found() -> dict[str, float | None]:
    with world(clock=SettableClock(wall=NINE_O_CLOCK)) as here:
        answer_with(here, SEED)
        with here.exporter() as exporter:
            exporter.fleet.refresh_and_wait(10)
            text = generate_latest(exporter.renderer.registry).decode()
    assert 'summary="capacity 0.125 -> 0.25 GB' in text
    parsed = samples(text)
    by_status = {"task_name": "EXTEND", "status": "SUCCESS"}
    return {
        "recent": value(parsed, "dcs_tasks_recent", **by_status),
        "start": value(parsed, "dcs_task_last_start_timestamp_seconds", **by_status),
        "end": value(parsed, "dcs_task_last_end_timestamp_seconds", **by_status),
        "duration": value(parsed, "dcs_task_last_duration_seconds", **by_status),
        "old": value(parsed, "dcs_task_extend_old_capacity_bytes"),
        "new": value(parsed, "dcs_task_extend_new_capacity_bytes"),
        "finished": value(parsed, "dcs_tasks_finished_total", **by_status),
        "up": value(parsed, "dcs_instance_up"),
    }


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("recent", 1),
        ("start", 1592381886.597),
        ("end", 1592381890.106),
        ("duration", 3.509),
        ("old", 134217728),
        ("new", 268435456),
        ("finished", 0),
        ("up", 1),
    ],
)
def test_seed_example(found: dict[str, float | None], what: str, expected: float) -> None:
    """The seed's example gives these metrics; nothing is counted, for it is baseline."""
    assert expected == found[what]


def test_window() -> None:
    """A clock eight days later shows the task no more: it is outside the look-back window."""
    with world(clock=SettableClock(wall=NINE_O_CLOCK + 8 * DAY)) as here:
        answer_with(here, SEED)
        with here.exporter() as exporter:
            exporter.fleet.refresh_and_wait(10)
            found = samples(generate_latest(exporter.renderer.registry).decode())

    assert value(found, "dcs_instance_tasks_listed") == 0
    assert value(found, "dcs_tasks_recent", task_name="EXTEND", status="SUCCESS") is None
