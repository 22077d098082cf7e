"""The laws of the product (design, section 1), end to end against the simulated cloud.

First of all that an outage is not zero: tests/faults/ holds it against every fault.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.clouds import ACCESS_KEY, SECRET_KEY, World, samples, scrape, value, world

FINISHED = "dcs_tasks_finished_total"


@pytest.fixture
def here() -> Iterator[World]:
    with world(2) as made:
        yield made


def test_never_read_is_not_zero(here: World) -> None:
    """Law 1: an instance that was never read has no task series at all."""
    here.cloud.faults.add("internal")
    with here.exporter() as exporter:
        found = scrape(exporter)

    assert not [
        name
        for name, _ in found
        if name.startswith(("dcs_task_last", "dcs_task_extend", "dcs_tasks_"))
    ]


def test_stale_data_disappear(here: World) -> None:
    """Law 1: after max_staleness the task series disappear, and up and the age stay."""
    with here.exporter(max_staleness="1h") as exporter:
        scrape(exporter)
        here.cloud.faults.add("internal")
        here.clock.advance(3601)
        found = scrape(exporter)

    assert not [name for name, _ in found if name.startswith("dcs_tasks_")]
    assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 0
    refreshed = value(found, "dcs_instance_last_refresh_timestamp_seconds", dcs_instance_id="i0")
    assert refreshed is not None


def test_counted_once(here: World) -> None:
    """Law 2: a task that ends is counted by the next scrape, and not again by later ones."""
    task = here.cloud.start_task("i0", "EXTEND")
    labels = {"dcs_instance_id": "i0", "task_name": "EXTEND", "status": "SUCCESS"}
    with here.exporter() as exporter:
        scrape(exporter)
        here.cloud.finish_task("i0", task)
        counts = [value(scrape(exporter, here.clock), FINISHED, **labels) for _ in range(3)]

    assert counts == [1, 1, 1]


def test_deleted_record(here: World) -> None:
    """Law 2: a counter does not fall when a user deletes the record; the window follows."""
    task = here.cloud.start_task("i0", "EXTEND")
    labels = {"dcs_instance_id": "i0", "task_name": "EXTEND", "status": "SUCCESS"}
    with here.exporter() as exporter:
        scrape(exporter)
        here.cloud.finish_task("i0", task)
        scrape(exporter, here.clock)
        here.cloud.delete_task("i0", task)
        found = scrape(exporter, here.clock)

    assert value(found, FINISHED, **labels) == 1
    assert value(found, "dcs_tasks_recent", **labels) == 0


def test_status_spelling(here: World) -> None:
    """Law 2: a finished task whose status changes its spelling is not counted again."""
    task = here.cloud.start_task("i0", "EXTEND")
    with here.exporter() as exporter:
        scrape(exporter)
        here.cloud.finish_task("i0", task, "FAILED")
        scrape(exporter, here.clock)
        here.cloud.set_status("i0", task, "FAIL")
        scrape(exporter, here.clock)
        found = scrape(exporter, here.clock)

    counted = sum(number for (name, _), number in found.items() if name == FINISHED)
    assert counted == 1


def test_known_names_start_at_zero(here: World) -> None:
    """Law 3: known names stand at 0, for success and failure, from the first reading on."""
    with here.exporter() as exporter:
        found = scrape(exporter)

    for status in ("SUCCESS", "FAILED"):
        assert value(found, FINISHED, dcs_instance_id="i0", task_name="modify", status=status) == 0


def test_unforeseen_series_show_zero_first(here: World) -> None:
    """Law 3: an unforeseen name and status show 0 on one scrape before they show their count."""
    labels = {"dcs_instance_id": "i0", "task_name": "DeleteAcl", "status": "CANCELLED"}
    with here.exporter() as exporter:
        scrape(exporter)
        here.cloud.start_task("i0", "DeleteAcl", "CANCELLED")
        counts = [value(scrape(exporter, here.clock), FINISHED, **labels) for _ in range(3)]

    assert counts == [0, 1, 1]


def test_unforeseen_names_and_statuses(here: World) -> None:
    """Law 6: an undocumented name and status are exported under their own words."""
    here.cloud.start_task("i0", "neverHeardOf", "PAUSED")
    with here.exporter() as exporter:
        found = scrape(exporter)

    assert value(found, "dcs_tasks_recent", task_name="neverHeardOf", status="PAUSED") == 1
    assert value(found, "dcs_tasks_active", task_name="neverHeardOf") == 1


def test_cap_of_names(here: World) -> None:
    """Law 6: above the cap, names are counted together as `other`."""
    for number in range(15):
        here.cloud.start_task("i0", f"name{number:02}")
    with here.exporter(max_task_names=12) as exporter:
        found = scrape(exporter)

    names = {
        dict(labels)["task_name"]
        for (name, labels) in found
        if name == "dcs_tasks_active" and ("dcs_instance_id", "i0") in labels
    }
    assert len(names) == 3
    assert value(found, "dcs_tasks_active", dcs_instance_id="i0", task_name="other") == 13


def test_wrong_key_stops_the_fan_out() -> None:
    """Law 5: a refused key is tried at most twice, and then not for five minutes."""
    with world(50) as here, here.exporter(key="wrong") as exporter:
        found = [scrape(exporter, here.clock) for _ in range(10)][-1]

    assert here.cloud.count() <= 2
    assert value(found, "dcs_instance_up", dcs_instance_id="i7") == 0


def test_wrong_key_is_tried_again() -> None:
    """Law 5: after the pause one request tries the key, and all go on when it is accepted."""
    with world(20) as here, here.exporter() as exporter:
        here.cloud.access.revoke(ACCESS_KEY)
        scrape(exporter)
        refused = here.cloud.count()
        here.cloud.access.add_key(ACCESS_KEY, SECRET_KEY)
        here.clock.advance(320)
        found = scrape(exporter)

    assert refused <= 2
    assert sum(number for (name, _), number in found.items() if name == "dcs_instance_up") == 20


def test_throttling_is_obeyed() -> None:
    """Law 5: after a 429 no request of the project leaves until the time that it names."""
    with world(30, Quirks(rate_limit=5)) as here:
        with here.exporter(concurrency=1) as exporter:
            scrape(exporter, timeout=1)
            refused = here.cloud.count()

        assert refused <= 6


def test_secrets_stay_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Law 7: a cloud that echoes the access key does not bring it into a log, a page, a metric."""
    caplog.set_level(logging.DEBUG)
    with world(1) as here, here.exporter() as exporter:
        here.cloud.access.revoke(ACCESS_KEY)
        exporter.fleet.refresh_and_wait(10)
        failure = exporter.refresher.snapshots()[0].failure
        text = generate_latest(exporter.renderer.registry).decode()

    assert failure is not None
    assert "[redacted] not exist" in failure.message
    for secret in (ACCESS_KEY, SECRET_KEY):
        assert secret not in text + caplog.text + repr(failure) + repr(
            exporter.refresher.snapshots()
        )


def test_silence_does_not_hang_a_scrape() -> None:
    """Law 4: what is not fetched by the deadline goes on, and is there for the next scrape."""
    with world(3) as here, here.exporter(concurrency=3) as exporter:
        scrape(exporter)
        here.cloud.faults.add("silence")
        here.clock.advance(15)
        exporter.fleet.refresh_and_wait(0.05)
        during = samples(generate_latest(exporter.renderer.registry).decode())
        here.cloud.faults.clear()
        exporter.fleet.refresh_and_wait(10)
        after = scrape(exporter, here.clock)

    assert value(during, FINISHED, dcs_instance_id="i0", task_name="EXTEND", status="FAILED") == 0
    assert sum(number for (name, _), number in after.items() if name == "dcs_instance_up") == 3


def test_two_scrapes_cost_one_pass() -> None:
    """Law 4: two scrapes at once send one request per instance."""
    with world(5) as here, here.exporter(concurrency=5) as exporter:
        scrape(exporter)
        before = here.cloud.count()
        here.cloud.faults.add("silence")
        here.clock.advance(15)
        for _ in range(2):
            exporter.fleet.refresh_and_wait(0.05)
        assert here.cloud.wait_for(lambda: len(here.cloud.requests) >= before + 5)
        here.cloud.faults.clear()

        assert here.cloud.count() - before == 5
