"""Clocks that are wrong: noticed, said, and never believed alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.refresh.clocks import MAX_GAP, Moment, Timekeeper
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from tests.support.clouds import (
    ACCESS_KEY,
    DAY,
    NOW,
    SECRET_KEY,
    Samples,
    SettableClock,
    scrape,
    value,
    world,
)
from tests.support.held_source import NoProgress
from tests.support.kept_journal import KeptJournal
from tests.support.refresh_settings import RULES, collector
from tests.support.secrets import secret

HOUR = 3600.0
FAILED = {"task_name": "EXTEND", "status": "FAILED"}
COUNTER = "dcs_tasks_finished_total"
IN_DOUBT = "dcs_clock_in_doubt"
TOKEN = secret("token-of-a-test-")
JUMPS = st.floats(-400 * DAY, 400 * DAY)


@dataclass
class Scene:
    """A cloud whose clock is right, and exporters with a clock of their own and a state file."""

    cloud: SimulatedCloud
    true: SettableClock
    text: str
    ahead: float = 0.0
    exporter: Exporter | None = None

    def start(self) -> Exporter:
        """Start an exporter, the one before having ended."""
        self.stop()
        options = Options(clock=self.clock.clock, process_metrics=False)
        self.exporter = Exporter(parse_config(self.text, "test", {}), options)
        return self.exporter

    @property
    def clock(self) -> SettableClock:
        """The clock of this machine, which is `ahead` of the true one."""
        return _OwnClock(self)

    def stop(self) -> None:
        """End the exporter."""
        if self.exporter is not None:
            self.exporter.stop()
        self.exporter = None

    def scrape(self) -> Samples:
        """Scrape once."""
        self.true.advance(15)
        assert self.exporter is not None
        return scrape(self.exporter)

    def count(self) -> float | None:
        """Scrape until what happened is shown, and return the number of failures."""
        return [value(self.scrape(), COUNTER, **FAILED) for _ in range(3)][-1]


class _OwnClock(SettableClock):
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @property
    def wall(self) -> float:  # type: ignore[override]
        return self._scene.true.wall + self._scene.ahead

    @property
    def steady(self) -> float:  # type: ignore[override]
        return self._scene.true.steady


@contextmanager
def scene(folder: Path, *, dated: bool = True) -> Iterator[Scene]:
    """Run a cloud that takes a token, so that a wrong clock does not end all reading."""
    with world(1, Quirks(date=dated)) as here:
        here.cloud.access.add_token(TOKEN)
        key = f"      access_key: {ACCESS_KEY}\n      secret_key: {SECRET_KEY}\n"
        text = here.config_text().replace(key, f"      token: {TOKEN}\n")
        text = text.replace("type: access_key", "type: token")
        made = Scene(here.cloud, here.clock, f"{text}state: {{path: {folder}/state.db}}\n")
        try:
            yield made
        finally:
            made.stop()


both = pytest.mark.parametrize("dated", [True, False])


@both
@pytest.mark.parametrize("days", [-100, 100, 400])
def test_restart_by_a_wrong_clock(tmp_path: Path, days: int, *, dated: bool) -> None:
    """After restarts by a wrong clock and by the right one again, the counter went on evenly."""
    found = []
    with scene(tmp_path, dated=dated) as here:
        for ahead in (0, days, 0):
            here.ahead = ahead * DAY
            here.start()
            found.append(here.count())
            here.cloud.start_task("i0", "EXTEND", "FAILED")
            here.cloud.start_task("i0", "modify", "FAILED")

    assert found == [0, 1, 2]


@pytest.mark.parametrize("ahead", [HOUR, 20 * DAY, -HOUR, -20 * DAY])
def test_first_start_by_a_wrong_clock(tmp_path: Path, ahead: float) -> None:
    """What fails in the first hour of an exporter whose clock is wrong is counted, also later."""
    with scene(tmp_path) as here:
        here.ahead = ahead
        here.start()
        before = here.count()
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        here.true.advance(1800)
        after = here.count()

    assert (before, after) == (0, 1)


def test_window_is_asked_for_again(tmp_path: Path) -> None:
    """When the first answer tells that our clock is ahead, what it left out is listed as well."""
    with scene(tmp_path) as here:
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        here.ahead = 20 * DAY
        here.start()
        found = here.scrape()

    assert value(found, "dcs_tasks_recent", **FAILED) == 1


@both
@settings(max_examples=settings().max_examples // 6)
@given(jumps=st.lists(JUMPS, min_size=1, max_size=2))
def test_a_clock_that_jumps_while_running(
    tmp_path_factory: pytest.TempPathFactory, jumps: list[float], *, dated: bool
) -> None:
    """However the clock jumps while the exporter runs, all that fails is counted once."""
    with scene(tmp_path_factory.mktemp("state"), dated=dated) as here:
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        here.true.advance(30 * DAY)
        here.start()
        found = [here.count()]
        for jump in (*jumps, 0.0):
            here.ahead = jump
            here.cloud.start_task("i0", "EXTEND", "FAILED")
            here.true.advance(DAY)
            found.append(here.count())

    assert found == list(range(len(jumps) + 2))


@both
def test_an_id_of_long_ago_is_not_counted_again(tmp_path: Path, *, dated: bool) -> None:
    """A clock that goes far back makes no task new that was counted and forgotten."""
    with scene(tmp_path, dated=dated) as here:
        here.start()
        here.scrape()
        for _ in range(3):
            here.cloud.start_task("i0", "EXTEND", "FAILED")
            here.true.advance(20 * DAY)
            here.scrape()
        here.ahead = -70 * DAY
        here.start()
        found = here.count()

    assert found == 3


def test_refresh_time_is_by_our_clock(tmp_path: Path) -> None:
    """The time of the latest refresh is by our clock, with which Prometheus compares it."""
    with scene(tmp_path) as here:
        here.ahead = HOUR
        here.start()
        found = here.scrape()

        assert value(found, "dcs_instance_last_refresh_timestamp_seconds") == here.clock.wall


@both
def test_doubt_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, *, dated: bool) -> None:
    """A clock that jumps is told once in the log, on the status page, and by a metric."""
    with scene(tmp_path, dated=dated) as here:
        exporter = here.start()
        right = value(here.scrape(), IN_DOUBT, project="prod"), exporter.problems()
        here.ahead = 2 * DAY
        with caplog.at_level(logging.INFO, logger="dcs_task_exporter"):
            doubted = [value(here.scrape(), IN_DOUBT, project="prod") for _ in range(3)]
            (problem,) = exporter.problems()
            here.ahead = 0.0
            again = value(here.scrape(), IN_DOUBT, project="prod"), exporter.problems()

    messages = [record.message for record in caplog.records if "clock" in record.message]
    assert (right, doubted, again) == ((0, []), [1, 1, 1], (0, []))
    assert messages == [
        "this machine's clock is in doubt: nothing is forgotten until it is right",
        "this machine's clock is right again",
    ]
    assert problem.startswith("The clock of this machine is 2 days ahead of the ")


# What the timekeeper makes of each source.


def keeper(clock: SettableClock, latest_refresh: float | None = None) -> Timekeeper:
    return Timekeeper(clock.clock, latest_refresh)


@given(jump=JUMPS, suspended=st.floats(0, 30 * DAY), later=st.floats(0, 30 * DAY))
def test_the_earliest_is_never_late(jump: float, suspended: float, later: float) -> None:
    """By the cloud's time, the earliest that it can be is never later than it is."""
    clock = SettableClock()
    clocks = keeper(clock)
    clocks.hear("prod", clock.wall)
    clock.advance(later)
    true = clock.wall + suspended
    clock.wall = true + jump

    moment = clocks.moment("prod")

    assert moment.at <= true + 1e-3
    assert bool(moment.doubt) == (abs(jump + suspended) > 900)


@pytest.mark.parametrize(
    ("known", "doubt"),
    [
        (NOW, ""),
        (NOW - 80 * DAY, ""),
        (NOW + 800, ""),
        (NOW + HOUR, "60 minutes behind the latest refresh in the state file"),
        (NOW - MAX_GAP - DAY, "91 days ahead of the latest refresh before the start"),
    ],
)
def test_a_start_without_the_clouds_time(known: float, doubt: str) -> None:
    """Without the cloud's time, a start long after the latest refresh, or before it, is doubted."""
    assert keeper(SettableClock(), known).moment("prod").doubt == doubt


def test_the_clouds_time_ends_doubt() -> None:
    """What the state file says matters no more when the cloud agrees with our clock."""
    clocks = keeper(SettableClock(), NOW - 100 * DAY)
    clocks.hear("prod", NOW)

    assert (clocks.moment("prod").doubt, bool(clocks.moment("other").doubt)) == ("", True)


@pytest.mark.parametrize("date", [None, 0.0, -1e9])
def test_a_date_that_cannot_be(date: float | None) -> None:
    """An answer without a date, or with one before 2010, tells nothing."""
    clocks = keeper(SettableClock())
    clocks.hear("prod", date)

    assert clocks.moment("prod").at == NOW


def test_each_cloud_has_its_own_time() -> None:
    """The clock of one project's cloud says nothing of another's."""
    clocks = keeper(SettableClock())
    clocks.hear("odd", NOW - DAY)

    assert clocks.moment("prod").at == NOW


@given(jump=JUMPS, known=st.none() | st.floats(NOW - 100 * DAY, NOW))
def test_the_latest_is_never_early(jump: float, known: float | None) -> None:
    """Whatever our clock does after the start, a task of now is not taken for one of the future."""
    clock = SettableClock()
    clocks = keeper(clock, known)
    clock.advance(HOUR)
    true = clock.wall
    clock.wall += jump

    assert clocks.latest() >= true


class Undated(NoProgress):
    """A cloud of two tasks, the first of which tells no times; its answers do."""

    def __init__(self) -> None:
        self.time = NOW
        self.task = Task("a", "EXTEND", "EXECUTING")
        self.starts: list[float] = []

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """List what started in the window; of the first task only the cloud knows when."""
        del instance_id, deadline
        self.starts.append(start)
        began = NOW + 5 * DAY
        later = Task("b", "EXTEND", "SUCCESS", began, began + 1)
        tasks = [self.task] if start <= NOW else []
        tasks += [later] if start <= began <= self.time else []
        return Listing(tuple(tasks), start, answered_at=self.time)


def test_a_clock_behind_brings_nothing_back() -> None:
    """What tells no times, and was forgotten, is not listed again by a start with a slow clock."""
    cloud, ahead, state = Undated(), [0.0], InstanceState()
    counted = []
    for days, slow in ((0, 0.0), (1, 0.0), (8, 0.0), (9, 0.0), (9, -4 * DAY)):
        cloud.time, ahead[0] = NOW + days * DAY, slow
        if days == 1:
            cloud.task = replace(cloud.task, status="FAILED")
        journal = KeptJournal(state)
        refresher = Refresher(
            [Instance("i0", "n0", "prod")],
            {"prod": cloud},
            collector(),
            RULES,
            Clock(lambda: cloud.time + ahead[0], lambda: cloud.time),
            journal=journal,
        )
        refresher.refresh().result(10)
        refresher.stop()
        state = journal.state
        counted.append(sum(state.counts.values()))

    assert counted == [0, 1, 2, 2, 2]
    assert cloud.starts[-2] < NOW < cloud.starts[-1]


def test_projects_that_left_are_forgotten() -> None:
    """What the cloud of a project said of the time ends with the project."""
    keeper = Timekeeper(Clock(lambda: NOW, lambda: 0.0))
    keeper.hear("prod", NOW + 3600)
    keeper.hear("test", NOW + 3600)
    keeper.keep_only(["prod"])

    assert [keeper.moment(name).at for name in ("prod", "test")] == [NOW + 3600, NOW]


def test_the_latest_time_is_one_of_three() -> None:
    """It is the latest of our clock, the seconds since the start, and the refresh in the file."""
    clock = SettableClock()
    plain, known = keeper(clock), keeper(clock, NOW + DAY)
    clock.advance(HOUR)
    found = [plain.latest(), known.latest()]
    clock.wall -= 2 * HOUR
    found.append(plain.latest())
    clock.wall += 3 * DAY
    found.append(known.latest())

    assert found == [NOW + HOUR, NOW + DAY, NOW + HOUR, clock.wall]


def test_the_earliest_time_is_one_of_two() -> None:
    """Without the cloud's time, it is the earlier of our clock and the seconds since the start."""
    clock = SettableClock()
    clocks = keeper(clock)
    clock.advance(HOUR)
    clock.wall += DAY
    ahead = clocks.moment("prod").at
    clock.wall -= 2 * DAY

    assert (ahead, clocks.moment("prod").at) == (NOW + HOUR, clock.wall)


@pytest.mark.parametrize(
    ("seconds", "doubt"),
    [
        (900, ""),
        (-900, ""),
        (901, "15 minutes ahead of the cloud's"),
        (-901, "15 minutes behind the cloud's"),
        (7199, "120 minutes ahead of the cloud's"),
        (7200, "2 hours ahead of the cloud's"),
        (2 * DAY - 1, "48 hours ahead of the cloud's"),
        (-2 * DAY, "2 days behind the cloud's"),
    ],
)
def test_how_wrong_our_clock_is(seconds: float, doubt: str) -> None:
    """The doubt says by how much, and in which direction our clock is wrong."""
    clock = SettableClock()
    clocks = keeper(clock)

    assert clocks.hear("prod", clock.wall - seconds) == Moment(clock.wall - seconds, doubt)


def test_a_jump_since_the_start() -> None:
    """A jump of our clock is told where the cloud's time is not known."""
    clock = SettableClock()
    clocks = keeper(clock)
    clock.wall -= DAY

    assert clocks.moment("prod").doubt == "24 hours behind the monotonic clock since the start"


@pytest.mark.parametrize(
    ("known", "doubted"),
    [(NOW - MAX_GAP, False), (NOW - MAX_GAP - 1, True), (NOW + 900, False), (NOW + 901, True)],
)
def test_the_edges_of_belief(known: float, *, doubted: bool) -> None:
    """A start within 90 days of the latest refresh is believed, or 15 minutes before it."""
    assert MAX_GAP == 90 * DAY
    assert bool(keeper(SettableClock(), known).moment("prod").doubt) is doubted


@pytest.mark.parametrize(("date", "heard"), [(1_262_304_000.0, True), (1_262_303_999.0, False)])
def test_dates_from_2010_on_are_heard(date: float, *, heard: bool) -> None:
    """A date before 2010 is no time."""
    clocks = keeper(SettableClock())

    assert (clocks.hear("prod", date).at == date) is heard


def test_a_doubt_is_logged_once_for_each_project(caplog: pytest.LogCaptureFixture) -> None:
    """Each project whose cloud contradicts our clock is named once, and again when it agrees."""
    caplog.set_level(logging.INFO, "dcs_task_exporter")
    clock = SettableClock()
    clocks = keeper(clock)
    for project, behind in (("a", DAY), ("a", DAY), ("b", DAY), ("a", 0.0), ("a", 0.0)):
        clocks.hear(project, clock.wall - behind)

    found = [(record.levelno, vars(record)["fields"]) for record in caplog.records]
    doubt = "24 hours ahead of the cloud's"
    assert found == [
        (logging.WARNING, {"project": "a", "clock": doubt}),
        (logging.WARNING, {"project": "b", "clock": doubt}),
        (logging.INFO, {"project": "a"}),
    ]


def test_a_doubt_of_a_project_that_left(caplog: pytest.LogCaptureFixture) -> None:
    """A project that left in doubt and returns in doubt is logged again; one that stayed is not."""
    clock = SettableClock()
    keeper = Timekeeper(clock.clock)
    clock.wall += 10 * DAY
    for name in ("prod", "test"):
        keeper.hear(name, None)
    keeper.keep_only(["prod"])
    for name in ("prod", "test"):
        keeper.hear(name, None)

    assert [vars(line)["fields"]["project"] for line in caplog.records] == ["prod", "test", "test"]
