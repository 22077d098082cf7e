"""The task center saves reads where nothing changed; where it is wrong, a task comes later."""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
)
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.refresh.clocks import Moment, Timekeeper
from dcs_task_exporter.refresh.instance import Claim, WatchedInstance
from dcs_task_exporter.refresh.reader import InstanceReader
from dcs_task_exporter.refresh.task_center import TaskCenter, full_pass_is_due
from dcs_task_exporter.simulator.faults import json_reply
from dcs_task_exporter.simulator.listing import timestamp
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.state.file import Journal
from dcs_task_exporter.tasks.counting import SKEW_MARGIN, CountingRules
from dcs_task_exporter.tasks.models import CenterTask, Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Failure
from tests.support.clouds import (
    NOW,
    PROJECT,
    Samples,
    SettableClock,
    World,
    exporter_of,
    scrape,
    value,
    world,
)
from tests.support.held_source import Source
from tests.support.refresh_settings import RULES, collector

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


class Center:
    """A task center whose answer a test scripts, and the instances of its project."""

    def __init__(self, *names: str) -> None:
        self.clock = SettableClock()
        self.tasks: list[CenterTask] = []
        self.is_cut = False
        self.error: Exception | None = None
        self.asked: list[tuple[float, float]] = []
        self.center = TaskCenter("prod", self._listing, FULL_PASS, self.clock.clock)
        self.watched = [self._instance(name) for name in names]
        for one in self.watched:
            self.publish(one)

    def _instance(self, name: str) -> WatchedInstance:
        target = Instance(name, name, "prod")
        settings = collector(min_refresh_interval=15.0)
        return WatchedInstance(target, settings, RULES, self.clock.clock, Journal())

    def _listing(self, start: float, deadline: float) -> tuple[Sequence[CenterTask], bool]:
        self.asked.append((start, deadline))
        if self.error is not None:
            raise self.error
        return tuple(self.tasks), self.is_cut

    def publish(self, watched: WatchedInstance, *tasks: Task) -> None:
        """Publish that an instance was read, and had these tasks."""
        listing = Listing(tasks, NOW - FULL_PASS)
        watched.publish(listing, Moment(self.clock.wall), self.clock.steady)

    def ask(self) -> set[str]:
        """Ask the center, and return which instances it says must be read; they are not."""
        self.clock.advance(15)
        due = [(one, one.reads.claim(urgent=False)) for one in self.watched]
        claims = [Claim(one, *read) for one, read in due if read is not None]
        chosen = self.center.changed(claims, lambda: self.watched)
        for claim in claims:
            assert claim.done.done() is (claim not in chosen)
            claim.abandon()
        return {claim.watched.instance.id for claim in chosen}

    def read(self, *tasks: Task) -> None:
        """Publish that all instances were read just now, each with these tasks."""
        for one in self.watched:
            self.publish(one, *tasks)


def of_center(key: str, owner: str = "", updated_at: str = "1") -> CenterTask:
    return CenterTask(key, "SUCCESS", updated_at, owner)


def test_nothing_new_skips_all() -> None:
    """Where the center shows nothing new, all that was due is skipped, and counted as that."""
    here = Center("a", "b")
    assert here.ask() == set()
    assert here.center.skipped == 2
    assert here.ask() == set()
    assert here.center.skipped == 4


def test_what_is_skipped_is_not_due() -> None:
    """An instance that was skipped is due as late as if it had been read."""
    here = Center("a")
    here.ask()
    here.clock.advance(10)

    assert here.watched[0].reads.claim(urgent=False) is None


def test_what_the_center_is_asked_for() -> None:
    """The tasks since a quarter of an hour before it was asked last, in half a minute."""
    here = Center("a")
    began = here.clock.wall
    here.ask()
    here.ask()

    assert here.asked == [
        (began - SKEW_MARGIN, here.clock.steady - 15 + 30),
        (began + 15 - SKEW_MARGIN, here.clock.steady + 30),
    ]


def test_a_named_task() -> None:
    """A new task of an instance makes it alone be read, and so does one that has changed."""
    here = Center("a", "b")
    here.tasks = [of_center("t", "a")]
    assert here.ask() == {"a"}
    shown = Task("t", "EXTEND", "SUCCESS", NOW, NOW)
    here.publish(here.watched[0], shown)
    assert here.ask() == set()
    here.tasks = [of_center("t", "a", updated_at="2")]

    assert here.ask() == {"a"}


def test_a_task_without_a_name() -> None:
    """A new task of nobody makes all be read, until one has shown it."""
    here = Center("a", "b")
    here.tasks = [of_center("t")]
    assert here.ask() == {"a", "b"}
    here.read()
    assert here.ask() == {"a", "b"}
    here.read()
    here.publish(here.watched[1], Task("t", "EXTEND", "SUCCESS", NOW, NOW))

    assert here.ask() == set()


@pytest.mark.parametrize(("seconds", "read"), [(29.5, {"a"}), (30.0, set())])
def test_how_long_a_task_is_searched_for(seconds: float, read: set[str]) -> None:
    """A task that nobody shows is searched for during a minute."""
    here = Center("a")
    here.tasks = [of_center("t")]
    for _ in range(3):
        here.ask()
        here.read()
    here.clock.advance(seconds - 15)

    assert here.ask() == read


def test_a_task_of_somebody_else() -> None:
    """A task of an instance that is not watched makes nobody be read."""
    here = Center("a", "b")
    here.tasks = [of_center("t", "other")]

    assert here.ask() == set()


@pytest.mark.parametrize(
    "task",
    [
        Task("t", "EXTEND", "SUCCESS", NOW, NOW),
        Task("t", "EXTEND", "EXECUTING", NOW),
    ],
)
def test_a_change_of_what_is_known(task: Task) -> None:
    """A change of a task that an instance has shown makes that one be read."""
    here = Center("a", "b")
    here.publish(here.watched[1], task)
    here.tasks = [of_center("t")]

    assert here.ask() == {"b"}


def test_a_change_of_what_is_missing() -> None:
    """So does a change of a task that its latest listing lacked."""
    here = Center("a", "b")
    here.publish(here.watched[1], Task("t", "EXTEND", "EXECUTING", NOW))
    here.publish(here.watched[1])
    assert here.watched[1].state.missing
    here.tasks = [of_center("t")]

    assert here.ask() == {"b"}


def test_a_cut_answer() -> None:
    """A cut answer makes all be read; what it lists is no news afterwards."""
    here = Center("a", "b")
    here.tasks, here.is_cut = [of_center("t", "a")], True
    assert here.ask() == {"a", "b"}
    here.read()
    here.is_cut = False

    assert here.ask() == set()


def levels(caplog: pytest.LogCaptureFixture) -> list[tuple[int, dict[str, object]]]:
    """Return the levels and fields of the log since the last call."""
    found = [(record.levelno, vars(record)["fields"]) for record in caplog.records]
    caplog.clear()
    return found


@pytest.mark.parametrize("kind", [NotFoundError, ForbiddenError, BadRequestError])
def test_a_center_that_refuses(kind: type[ApiError], caplog: pytest.LogCaptureFixture) -> None:
    """All is read, and the center is asked again after a full pass; the first is a warning."""
    caplog.set_level(logging.DEBUG, "dcs_task_exporter.refresh.task_center")
    here = Center("a", "b")
    here.error = kind("no", status=404)
    fields = {"project": "prod", **here.error.fields}
    assert here.ask() == {"a", "b"}
    assert levels(caplog) == [(logging.WARNING, fields)]
    here.read()
    here.clock.advance(FULL_PASS - 16)
    here.read()
    assert here.ask() == {"a", "b"}
    assert len(here.asked) == 1
    here.clock.advance(-14)
    here.ask()
    assert len(here.asked) == 2
    assert levels(caplog) == [(logging.DEBUG, fields)]


def test_a_center_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """While the center does not answer all is read, and it is asked each time."""
    caplog.set_level(logging.DEBUG, "dcs_task_exporter.refresh.task_center")
    here = Center("a", "b")
    here.error = ApiTimeoutError("no")
    for _ in range(2):
        assert here.ask() == {"a", "b"}
        assert levels(caplog) == [(logging.DEBUG, {"project": "prod", **here.error.fields})]
        here.read()

    assert len(here.asked) == 2


def test_a_refusal_after_an_answer_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """A center that answered in between is reported once more when it refuses."""
    here = Center("a")
    for error in (NotFoundError("no"), None, NotFoundError("no")):
        here.error = error
        here.ask()
        here.read()
        here.clock.advance(FULL_PASS)

    assert [level for level, _ in levels(caplog)] == [logging.WARNING] * 2


def test_an_odd_answer_of_the_center(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in its answer is logged, and makes all be read."""
    here = Center("a", "b")
    here.error = KeyError("x")

    assert here.ask() == {"a", "b"}
    assert levels(caplog) == [(logging.ERROR, {"project": "prod"})]
    assert here.center.skipped == 0


def test_a_pass_that_breaks_ends_its_reads() -> None:
    """Where the instances cannot be told, no read is left to wait for."""
    here = Center("a")
    here.clock.advance(15)
    claim = here.watched[0].reads.claim(urgent=False)
    assert claim is not None
    with pytest.raises(ZeroDivisionError):
        here.center.changed([Claim(here.watched[0], *claim)], lambda: [1 // 0])  # type: ignore[list-item]

    assert claim[0].done()


def test_another_client() -> None:
    """Another client is asked, and its answers are relied on for another time."""
    here = Center("a")
    asked: list[float] = []

    def listing(start: float, _deadline: float) -> tuple[Sequence[CenterTask], bool]:
        asked.append(start)
        return (), False

    here.center.change(listing, 15.0)
    here.ask()

    assert (len(asked), here.asked) == (1, [])
    here.clock.advance(16)
    assert here.center.may_skip(here.watched[0]) is False


def test_what_may_be_skipped() -> None:
    """An instance may be skipped that was read, is up, and waits for nothing."""
    here = Center("a")
    one = here.watched[0]
    assert here.center.may_skip(one) is True
    one.reads.expect_change()
    assert here.center.may_skip(one) is False
    here.read()
    assert here.center.may_skip(one) is True
    here.read(Task("t", "EXTEND", "EXECUTING", NOW))
    assert here.center.may_skip(one) is False
    here.read()
    here.read()
    assert here.center.may_skip(one) is True
    one.fail(Failure(NOW, "timeout", "no"), here.clock.steady)
    assert here.center.may_skip(one) is False
    here.read()
    here.clock.advance(FULL_PASS)
    assert here.center.may_skip(one) is False


def test_the_moment_of_a_full_pass() -> None:
    """A full pass is due once the moment of the instance has come since its read."""
    phase = 600 * zlib.crc32(b"a") / 2**32
    moment = 6000 - phase

    assert full_pass_is_due("a", None, 0.0, 600) is True
    assert full_pass_is_due("a", moment - 1, moment - 0.5, 600) is False
    assert full_pass_is_due("a", moment - 1, moment + 0.5, 600) is True
    assert full_pass_is_due("a", moment + 1, moment + 599.5, 600) is False
