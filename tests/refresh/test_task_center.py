"""The task center saves reads where nothing changed; where it is wrong, a task comes later."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.refresh.reader import InstanceReader
from dcs_task_exporter.refresh.task_center import TaskCenter, full_pass_is_due
from dcs_task_exporter.simulator.faults import json_reply
from dcs_task_exporter.simulator.listing import timestamp
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.models import CenterTask, Instance, Listing
from tests.support.clouds import PROJECT, Samples, World, exporter_of, scrape, value, world
from tests.support.held_source import Source
from tests.support.refresh_settings import collector

FULL_PASS = 1800
"""Seconds; no instance of these scenes has its own moment for a full pass while they last."""

NO_TASKS = {"task_count": 0, "tasks": []}


@contextmanager
def detecting(here: World, **settings: int) -> Iterator[Exporter]:
    """Run an exporter that asks the task center first."""
    text = here.config_text(collector=settings)
    center = f"    task_center: {{enabled: true, full_pass_interval: {FULL_PASS}s}}\n"
    text = text.replace("    instances:\n", f"{center}    instances:\n")
    with exporter_of(here, text) as exporter:
        yield exporter


def read_by(here: World, exporter: Exporter) -> tuple[set[str], Samples]:
    """Scrape once; return which instances were read for that, and what was shown."""
    before = len(here.cloud.requests)
    found = scrape(exporter, here.clock)
    new = here.cloud.requests[before:]
    return {item.instance_id for item in new if item.operation == "list_tasks"}, found


def failed(found: Samples, instance: str) -> float | None:
    return value(
        found, "dcs_tasks_finished_total", dcs_instance_id=instance, task_name="EXTEND",
        status="FAILED",
    )  # fmt: skip


def test_quiet_instances_are_not_read() -> None:
    """While nothing changes, a scrape costs one request, and up stays 1."""
    with world(10) as here, detecting(here) as exporter:
        scrape(exporter, here.clock)
        requests = len(here.cloud.requests)
        for _ in range(4):
            read_by(here, exporter)
        _, found = read_by(here, exporter)

        assert len(here.cloud.requests) == requests + 5
    assert value(found, "dcs_instance_up", dcs_instance_id="i3") == 1
    assert value(found, "dcs_instance_reads_spared_total", project="prod") == 50


def test_the_age_is_true() -> None:
    """The time of the data is when they were read, not when the task center was asked."""
    with world(1) as here, detecting(here) as exporter:
        first = scrape(exporter, here.clock)
        found = scrape(exporter, here.clock)

    name = "dcs_instance_last_refresh_timestamp_seconds"
    assert value(found, name, dcs_instance_id="i0") == value(first, name, dcs_instance_id="i0")


def test_new_task_is_seen() -> None:
    """A task that the center shows for the first time makes all instances be read."""
    with world(3) as here, detecting(here) as exporter:
        scrape(exporter, here.clock)
        scrape(exporter, here.clock)
        here.cloud.start_task("i1", "EXTEND", "FAILED", updated_at=timestamp(here.clock.wall))
        read, found = read_by(here, exporter)

    assert read == {"i0", "i1", "i2"}
    assert failed(found, "i1") == 1


def test_named_instance() -> None:
    """Where the center says whose task it is, only that instance is read."""
    with world(3, Quirks(center_names_instances=True)) as here, detecting(here) as exporter:
        scrape(exporter, here.clock)
        scrape(exporter, here.clock)
        ended = timestamp(here.clock.wall)
        here.cloud.start_task("i1", "EXTEND", "FAILED", updated_at=ended)
        read, found = read_by(here, exporter)

    assert read == {"i1"}
    assert failed(found, "i1") == 1


def test_task_of_an_instance_that_is_not_watched() -> None:
    """A named instance that is not watched makes nobody be read."""
    with world(2, Quirks(center_names_instances=True)) as here, detecting(here) as exporter:
        scrape(exporter, here.clock)
        scrape(exporter, here.clock)
        here.cloud.add_instance(PROJECT, "other", "other")
        here.cloud.start_task("other", "EXTEND")

        assert read_by(here, exporter)[0] == set()


def test_active_instances_are_read() -> None:
    """An instance with an active task is read each time, the others are not; the end is seen."""
    with world(3) as here, detecting(here) as exporter:
        task = here.cloud.start_task("i1", "EXTEND")
        scrape(exporter, here.clock)
        read_by(here, exporter)
        read, _ = read_by(here, exporter)
        here.cloud.finish_task("i1", task, "FAILED")
        last, found = read_by(here, exporter)

    assert (read, last) == ({"i1"}, {"i1"})
    assert failed(found, "i1") == 1


def test_failing_instance_is_read() -> None:
    """An instance that could not be read is tried again, whatever the center says."""
    with world(3) as here, detecting(here) as exporter:
        here.cloud.faults.add("forbidden", instance_id="i1")
        scrape(exporter, here.clock)
        failing, _ = read_by(here, exporter)
        here.cloud.faults.clear()
        read, found = read_by(here, exporter)

    assert failing == read == {"i1"}
    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1


def test_changed_while_not_due() -> None:
    """A change that is seen while an instance is not due is not lost: it is read when it is."""
    with world(2) as here, detecting(here) as exporter:
        scrape(exporter, here.clock)
        scrape(exporter, here.clock)
        here.clock.advance(15)
        here.cloud.faults.add("internal", operation="list_tasks", instance_id="i0", times=1)
        here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at=timestamp(here.clock.wall))
        read_by(here, exporter)
        read, found = read_by(here, exporter)

    assert "i0" in read
    assert failed(found, "i0") == 1


def test_a_task_that_no_instance_shows_yet() -> None:
    """What only the center shows is looked for in all, until an instance shows it too."""
    with world(2) as here, detecting(here) as exporter:
        for _ in range(2):
            scrape(exporter, here.clock)
        here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at=timestamp(here.clock.wall))
        here.cloud.faults.add(json_reply(200, NO_TASKS), instance_id="i0")
        before = [read_by(here, exporter)[0] for _ in range(2)]
        here.cloud.faults.clear()
        read, found = read_by(here, exporter)
        after, _ = read_by(here, exporter)

    assert [*before, read] == [{"i0", "i1"}] * 3
    assert failed(found, "i0") == 1
    assert after == set()


def test_a_task_that_nobody_shows() -> None:
    """What no instance shows for a minute is nobody's, and all are quiet again."""
    with world(1) as here, detecting(here) as exporter:
        for _ in range(2):
            scrape(exporter, here.clock)
        here.cloud.add_instance(PROJECT, "other", "other")
        here.cloud.start_task("other", "EXTEND")
        reads = [read_by(here, exporter)[0] for _ in range(6)]

    assert reads == [{"i0"}] * 4 + [set()] * 2


def test_full_pass_finds_the_rest() -> None:
    """A task that only the instance's own list shows is found by the full pass."""
    with world(3) as here, detecting(here) as exporter:
        here.cloud.faults.add(json_reply(200, NO_TASKS), operation="list_center_tasks")
        scrape(exporter, here.clock)
        scrape(exporter, here.clock)
        here.cloud.start_task("i1", "EXTEND", "FAILED", updated_at=timestamp(here.clock.wall))
        soon, before = read_by(here, exporter)
        here.clock.advance(FULL_PASS)
        later, after = read_by(here, exporter)

    assert (soon, failed(before, "i1")) == (set(), 0)
    assert (later, failed(after, "i1")) == ({"i0", "i1", "i2"}, 1)


@pytest.mark.parametrize("fault", ["no_such_api", "forbidden"])
def test_no_task_centre(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where the center is missing or forbidden, all are read, and that is said once."""
    with world(3) as here, detecting(here) as exporter:
        here.cloud.faults.add(fault, operation="list_center_tasks")
        for _ in range(4):
            read, _ = read_by(here, exporter)
            assert read == {"i0", "i1", "i2"}

        assert here.cloud.count("list_center_tasks") == 1
        here.clock.advance(FULL_PASS)
        for _ in range(2):
            read_by(here, exporter)
        assert here.cloud.count("list_center_tasks") == 2
    told = [record for record in caplog.records if "task center" in record.message]
    assert len(told) == 1


def test_a_centre_that_comes_back() -> None:
    """A center that was forbidden is tried again when a full pass is due."""
    with world(2) as here, detecting(here) as exporter:
        here.cloud.faults.add("forbidden", operation="list_center_tasks", times=1)
        scrape(exporter, here.clock)
        read_by(here, exporter)
        here.clock.advance(FULL_PASS)
        read_by(here, exporter)
        read_by(here, exporter)

        assert read_by(here, exporter)[0] == set()


def test_a_centre_with_an_error() -> None:
    """While the center fails otherwise, all are read; what changed meanwhile is seen."""
    with world(2) as here, detecting(here) as exporter:
        scrape(exporter, here.clock)
        here.cloud.faults.add("internal", operation="list_center_tasks", times=1)
        read, _ = read_by(here, exporter)

    assert read == {"i0", "i1"}


def test_clocks_that_differ() -> None:
    """The center is asked for a quarter of an hour more than has passed: clocks may differ."""
    asked: list[float] = []
    moment = 1000.0

    def listing(start: float, deadline: float) -> tuple[tuple[CenterTask, ...], bool]:
        assert deadline > moment
        asked.append(start)
        return (), False

    center = TaskCenter("p", listing, 600, Clock(lambda: moment, lambda: moment))
    center.changed([], list)
    moment = 1060.0
    center.changed([], list)
    moment = 1120.0
    center.changed([], list)

    assert asked == [1000 - 900, 1000 - 900, 1060 - 900]


def test_a_clock_that_was_ahead() -> None:
    """When the clock went back since the center was asked, it is asked from the earlier moment."""
    asked: list[float] = []
    moment = 1e6

    def listing(start: float, _deadline: float) -> tuple[tuple[CenterTask, ...], bool]:
        asked.append(start)
        return (), False

    center = TaskCenter("p", listing, 600, Clock(lambda: moment, lambda: 0.0))
    moment = 1000.0
    center.changed([], list)

    assert asked == [1000 - 900]


def test_a_change_during_a_read() -> None:
    """A change that is seen while the instance is being read is looked for once more."""
    steady = 1000.0
    source = Source()
    clock = Clock(lambda: steady, lambda: steady)
    rules = CountingRules(FULL_PASS)
    target = Instance("i0", "n0", "prod")
    instance = WatchedInstance(target, collector(), rules, clock, Journal())

    def change(instance_id: str, start: float, deadline: float) -> Listing:
        nonlocal steady
        steady += 1
        instance.reads.expect_change()
        return Source.list_tasks(source, instance_id, start, deadline)

    reader = InstanceReader({"prod": source}, collector(), rules, clock, Timekeeper(clock))
    source.list_tasks = change  # type: ignore[method-assign]
    reader.read(instance)
    during = instance.reads.expects_change
    del source.list_tasks
    reader.read(instance)

    assert (during, instance.reads.expects_change) == (True, False)


def test_a_centre_that_is_cut() -> None:
    """A listing of the center that the page cap cuts makes all be read."""
    with world(2) as here, detecting(here, page_size=1, max_pages=2) as exporter:
        for _ in range(3):
            ended = timestamp(here.clock.wall)
            here.cloud.start_task("i0", "EXTEND", "SUCCESS", updated_at=ended)
        scrape(exporter, here.clock)
        read, _ = read_by(here, exporter)

    assert read == {"i0", "i1"}


@given(
    name=st.text("abcdef0123456789", min_size=1, max_size=36),
    read=st.floats(0, 1e6),
    steps=st.lists(st.floats(1, 60), min_size=1, max_size=200),
)
def test_full_pass(name: str, read: float, steps: Sequence[float]) -> None:
    """However often it is looked at, a full pass is due once an interval, and never later."""
    due, now = [read], read
    for step in steps:
        now += step
        if full_pass_is_due(name, due[-1], now, 600):
            due.append(now)

    assert now - due[-1] < 600
    assert len(due) - 1 <= (now - read) / 600 + 1


def test_full_passes_are_spread() -> None:
    """Of 1,000 instances that were read together, about as many are due in each tenth."""
    names = [f"{number:08x}-cebf-4473" for number in range(1000)]
    due = [
        sum(full_pass_is_due(name, 1000.0, 1000 + 60 * tenth, 600) for name in names)
        for tenth in range(11)
    ]

    assert due[-1] == 1000
    assert all(60 <= late - early <= 140 for early, late in itertools.pairwise(due))
