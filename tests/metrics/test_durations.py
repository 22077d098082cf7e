"""The histogram of how long background tasks take."""

from __future__ import annotations

import pytest

from dcs_task_exporter.metrics.durations import TaskDurations
from dcs_task_exporter.metrics.telemetry import ApiTelemetry
from dcs_task_exporter.simulator.listing import timestamp
from tests.support.clouds import SettableClock, World, scrape, value, world
from tests.support.served import get, served

COUNT = "dcs_task_duration_seconds_count"
SUM = "dcs_task_duration_seconds_sum"


def end(here: World, instance_id: str, seconds: float) -> None:
    """Let a task end that took so long."""
    began, ended = here.clock.wall - seconds, timestamp(here.clock.wall)
    here.cloud.start_task(instance_id, "EXTEND", "SUCCESS", created_at=began, updated_at=ended)


def test_observed_once_when_counted() -> None:
    """What is counted is observed once, over all instances of a project; baseline is not."""
    with world(2) as here, here.exporter() as exporter:
        end(here, "i0", 50)
        first = scrape(exporter)
        end(here, "i0", 100)
        end(here, "i1", 300)
        found = [scrape(exporter, here.clock) for _ in range(3)][-1]

    labels = {"project": "prod", "task_name": "EXTEND", "status": "SUCCESS"}
    assert value(first, COUNT, **labels) is None
    assert (value(found, COUNT, **labels), value(found, SUM, **labels)) == (2, 400)


def test_without_a_duration() -> None:
    """A task that is counted and does not say how long it took is not observed."""
    with world(1) as here, here.exporter() as exporter:
        scrape(exporter)
        here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at="")
        found = [scrape(exporter, here.clock) for _ in range(2)][-1]

    counted = {"task_name": "EXTEND", "status": "FAILED"}
    assert value(found, "dcs_tasks_finished_total", **counted) == 1
    assert value(found, COUNT) is None


def test_not_in_a_probe() -> None:
    """The histogram is the project's: a probe of one instance does not show it."""
    with world(1) as here, served(here) as url:
        get(f"{url}/probe", target="i0")
        end(here, "i0", 60)
        here.clock.advance(15)
        probed = get(f"{url}/probe", target="i0").text
        scraped = get(f"{url}/metrics").text

    assert (COUNT in probed, COUNT in scraped) == (False, True)


def collected(durations: TaskDurations) -> dict[tuple[str, ...], float]:
    """Return the samples by the last part of their name, and their labels in order."""
    (family,) = durations.collect()
    return {
        (sample.name.rpartition("_")[2], *sample.labels.values()): sample.value
        for sample in family.samples
    }


def test_a_series_stands_at_zero_first() -> None:
    """For the first seconds of a series it shows 0, so that its first increase is seen."""
    clock = SettableClock()
    durations = TaskDurations(clock.clock.monotonic, hold=120, max_names=10)
    durations.observe("prod", ("EXTEND", "SUCCESS"), 60.0)
    shown = [collected(durations)["count", "prod", "EXTEND", "SUCCESS"]]
    clock.advance(119)
    durations.observe("prod", ("EXTEND", "SUCCESS"), 60.0)
    shown.append(collected(durations)["sum", "prod", "EXTEND", "SUCCESS"])
    clock.advance(1)
    shown.append(collected(durations)["count", "prod", "EXTEND", "SUCCESS"])
    durations.observe("prod", ("EXTEND", "SUCCESS"), 60.0)
    shown.append(collected(durations)["count", "prod", "EXTEND", "SUCCESS"])

    assert shown == [0, 0, 2, 3]


def test_from_ten_seconds_to_four_hours() -> None:
    """The bounds reach from 10 s to 4 h, and what took as long as a bound is within it."""
    durations = TaskDurations(lambda: 0.0, hold=0, max_names=10)
    for seconds in (10.0, 14_400.0, 14_400.1):
        durations.observe("prod", ("EXTEND", "SUCCESS"), seconds)
    found = {key[-1]: number for key, number in collected(durations).items() if key[0] == "bucket"}

    assert list(found)[0::10] == ["10.0", "14400.0"]
    assert (found["10.0"], found["14400.0"], found["+Inf"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([(f"name{at}", "SUCCESS") for at in range(9)], 4),
        ([("EXTEND", f"word{at}") for at in range(40)], 21),
    ],
    ids=["names", "statuses"],
)
def test_names_and_statuses_are_bounded(series: list[tuple[str, str]], expected: int) -> None:
    """Above the cap of names, or 20 statuses, of a project, the rest is observed together."""
    durations = TaskDurations(lambda: 0.0, hold=0, max_names=3)
    for one in series:
        durations.observe("prod", one, 60.0)
    counts = {key: number for key, number in collected(durations).items() if key[0] == "count"}

    assert len(counts) == expected
    assert sum(counts.values()) == len(series)


def test_other_settings() -> None:
    """Another hold and another cap hold from now on, and a project that left has no series."""
    durations = TaskDurations(lambda: 0.0, hold=120, max_names=10)
    durations.observe("prod", ("EXTEND", "SUCCESS"), 60.0)
    durations.observe("test", ("EXTEND", "SUCCESS"), 60.0)
    durations.change(hold=0.0, max_names=1, projects=["prod"])
    durations.observe("prod", ("modify", "SUCCESS"), 60.0)
    durations.observe("test", ("EXTEND", "SUCCESS"), 60.0)
    found = collected(durations)

    assert found["count", "prod", "EXTEND", "SUCCESS"] == 1
    assert found["count", "prod", "other", "SUCCESS"] == 1
    assert not [key for key in found if "test" in key]


def test_requests_of_a_project_that_left() -> None:
    """The series of a project end with it, and its last request does not bring them back."""
    telemetry = ApiTelemetry()
    telemetry.prepare({"prod": ["list_tasks"], "test": ["list_tasks"]})
    telemetry.request("prod", "list_tasks", "200", 0.1)
    telemetry.credentials_expiry("test", 1.0)
    telemetry.prepare({"prod": ["list_tasks", "list_instances"]})
    telemetry.request("test", "list_tasks", "200", 0.1)
    telemetry.error("test", "list_tasks", "auth")
    telemetry.retry("test")
    telemetry.throttle_wait("test", 1.0)
    telemetry.credentials_expiry("test", 1.0)
    found = [sample for family in telemetry.collect() for sample in family.samples]

    assert {sample.labels["project"] for sample in found} == {"prod"}
    kept = {"project": "prod", "operation": "list_tasks", "code": "200"}
    assert [it.value for it in found if it.labels == kept] == [1]
