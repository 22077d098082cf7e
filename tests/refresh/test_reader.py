"""Reading one instance: what is asked for, what a failure shows, and what is logged of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from dcs_task_exporter.errors import (
    ApiError,
    ApiTimeoutError,
    AuthError,
    ServerError,
    StoppedError,
)
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.instance import WatchedInstance
from dcs_task_exporter.refresh.reader import MAX_REPORTED_WORDS, InstanceReader, log_fields
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from tests.support.clouds import DAY, NOW, SettableClock
from tests.support.held_source import NoProgress
from tests.support.kept_journal import KeptJournal
from tests.support.refresh_settings import RULES, WEEK, collector

INSTANCE = Instance("i0", "orders", "prod")
NAMED = {"project": "prod", "dcs_instance_id": "i0", "dcs_instance_name": "orders"}


class Scripted(NoProgress):
    """A source that answers with a listing or an error; it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, float]] = []
        self.tasks: Sequence[Task] = ()
        self.error: Exception | None = None
        self.answered_at: float | None = None

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        self.asked.append((instance_id, start, deadline))
        if self.error is not None:
            raise self.error
        return Listing(tuple(self.tasks), start, answered_at=self.answered_at)


class Scene:
    """An instance, its source, and a reader with clocks that a test moves."""

    def __init__(self, *, observes: bool = True, **settings: Any) -> None:
        self.clock = SettableClock()
        self.source = Scripted()
        self.observed: list[tuple[str, tuple[str, str], float]] = []
        self.timekeeper = Timekeeper(self.clock.clock)
        self.reader = InstanceReader(
            {"prod": self.source},
            collector(**settings),
            RULES,
            self.clock.clock,
            self.timekeeper,
            (lambda *it: self.observed.append(it)) if observes else None,
        )
        journal = KeptJournal(InstanceState())
        self.watched = WatchedInstance(INSTANCE, collector(), RULES, self.clock.clock, journal)

    def read(self, *tasks: Task, error: Exception | None = None) -> bool:
        """Read the instance, 15 seconds later."""
        self.clock.advance(15)
        self.source.tasks, self.source.error = tasks, error
        return self.reader.read(self.watched)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_is_asked_for(scene: Scene) -> None:
    """The tasks of the look-back window are asked for, for a minute at most."""
    assert scene.read() is True
    assert scene.source.asked == [("i0", scene.clock.wall - WEEK, scene.clock.steady + 60)]


@pytest.mark.parametrize(
    ("timeout", "retries", "limit"), [(5.0, 2, 60.0), (20.0, 1, 80.0), (11.0, 2, 66.0)]
)
def test_the_time_limit(timeout: float, retries: int, limit: float) -> None:
    """A listing may take twice as long as all its tries, and at least a minute."""
    scene = Scene(timeout=timeout, retries=retries)
    scene.read()
    ((_, _, deadline),) = scene.source.asked

    assert deadline - scene.clock.steady == limit


def test_a_failure_is_shown(scene: Scene) -> None:
    """A failure has its time, reason, message, code and request."""
    error = ServerError("no", status=500, error_code="DCS.1", request_id="r1")
    assert scene.read(error=error) is False

    failure = scene.watched.failure
    assert failure is not None
    assert (failure.at, failure.reason, failure.message) == (scene.clock.wall, "server", "no")
    assert (failure.error_code, failure.request_id) == ("DCS.1", "r1")


def test_how_long_a_failed_read_took(scene: Scene) -> None:
    """The duration of a failed read counts from when it began."""
    scene.reader.fail(scene.watched, ServerError("no"), scene.clock.steady - 4)

    assert scene.watched.snapshot(scene.clock.steady).refresh_duration == 4


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return the levels and messages of the log since the last call."""
    found = [(record.levelno, record.message) for record in caplog.records]
    caplog.clear()
    return found


def test_a_failure_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged when it begins or changes its reason, and its end once."""
    caplog.set_level(logging.INFO, "dcs_task_exporter")
    told = []
    for error in (ServerError("a"), ServerError("b"), ApiTimeoutError("c"), None, None):
        scene.read(error=error)
        told.append(lines(caplog))
    cannot = [(logging.WARNING, "the instance cannot be read")]

    assert told == [cannot, [], cannot, [(logging.INFO, "the instance can be read again")], []]


def test_the_fields_of_a_failure(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The line of a failure names the instance and the error; that of its end, the instance."""
    caplog.set_level(logging.INFO, "dcs_task_exporter")
    error = ServerError("no", status=500)
    scene.read(error=error)
    scene.read()

    assert [vars(record)["fields"] for record in caplog.records] == [
        {**NAMED, **error.fields},
        NAMED,
    ]


def test_a_refused_key_is_no_warning(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A refused key was logged for the whole project already."""
    caplog.set_level(logging.DEBUG, "dcs_task_exporter")
    scene.read(error=AuthError("no"))

    assert lines(caplog) == [(logging.DEBUG, "the instance cannot be read")]


def test_a_bug_is_a_failure(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen error costs one read, and is logged with its instance."""
    assert scene.read(error=KeyError("x")) is False

    failure = scene.watched.failure
    assert failure is not None
    assert (failure.reason, failure.message) == (
        "internal",
        "internal error (KeyError): see the log",
    )
    assert {**vars(caplog.records[0])["fields"], **NAMED} == vars(caplog.records[0])["fields"]


def test_a_stop_is_no_failure(scene: Scene) -> None:
    """An instance whose read ends because the exporter stops has not failed."""
    assert scene.read(error=StoppedError("stop")) is False
    assert scene.watched.failure is None


def test_a_project_that_left(scene: Scene) -> None:
    """An instance of a project that left is not read."""
    scene.reader.change({}, collector(), RULES)

    assert scene.read() is False
    assert scene.source.asked == []


def test_the_new_client_reads_on(scene: Scene) -> None:
    """An instance whose client stops, because another takes its place, is read by that one."""
    new = Scripted()
    old = scene.source

    class Leaving(Scripted):
        def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
            scene.reader.change({"prod": new}, collector(), RULES)
            return super().list_tasks(instance_id, start, deadline)

    scene.source = Leaving()
    scene.reader.change({"prod": scene.source}, collector(), RULES)
    assert scene.read(error=StoppedError("changed")) is True

    assert ([len(it.asked) for it in (old, scene.source, new)]) == [0, 1, 1]


@pytest.mark.parametrize(("ahead", "reads"), [(0.0, 1), (900.0, 1), (901.0, 2), (-901.0, 2)])
def test_a_clock_that_is_wrong(scene: Scene, ahead: float, reads: int) -> None:
    """If the cloud's time is more than 15 minutes from ours, the tasks are listed again by it."""
    scene.source.answered_at = scene.clock.wall + 15 + ahead
    scene.read()
    starts = [start for _, start, _ in scene.source.asked]

    assert len(starts) == reads
    assert starts[-1] == scene.clock.wall - WEEK + (ahead if reads > 1 else 0)


def finished(key: str, seconds: float | None) -> Task:
    """Return a task that took so long."""
    start = None if seconds is None else NOW
    return Task(key, "EXTEND", "SUCCESS", start, NOW + (seconds or 0.0))


def test_durations_are_observed(scene: Scene) -> None:
    """The duration of each newly counted task is observed, if it is known, for its project."""
    scene.read()
    scene.clock.advance(DAY)
    scene.read(finished("a", 2 * 3600.0), finished("b", None))

    assert scene.observed == [("prod", ("EXTEND", "SUCCESS"), 7200.0)]


def test_nobody_observes() -> None:
    """Durations need no observer."""
    scene = Scene(observes=False)
    scene.read()
    scene.clock.advance(DAY)

    assert scene.read(finished("a", 2 * 3600.0)) is True


def words(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the unknown words of the log."""
    return [vars(record)["fields"]["status"] for record in caplog.records]


def test_unknown_words_are_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Each unknown status is logged once, in order, with the instance that has it."""
    for status in (("NEW", "ODD", "SUCCESS"), ("NEW", "THIRD")):
        scene.read(*(Task(word, "EXTEND", word, NOW) for word in status))

    assert words(caplog) == ["NEW", "ODD", "THIRD"]
    assert vars(caplog.records[0])["fields"] == {**NAMED, "status": "NEW"}
    assert caplog.records[0].levelno == logging.WARNING


def test_not_all_unknown_words_are_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """At most 100 unknown words are logged."""
    assert MAX_REPORTED_WORDS == 100
    scene.read(*(Task(f"a{it}", "EXTEND", f"A{it:03}", NOW) for it in range(99)))
    scene.read(*(Task(f"b{it}", "EXTEND", f"B{it:03}", NOW) for it in range(9)))
    scene.read(*(Task(f"c{it}", "EXTEND", f"C{it:03}", NOW) for it in range(9)))

    assert words(caplog)[99:] == ["B000"]


def test_an_instance_in_the_log() -> None:
    """An instance is named by its project, id and name."""
    assert log_fields(INSTANCE) == NAMED


@pytest.mark.parametrize("error", [ServerError("no"), AuthError("no"), KeyError("no")])
def test_any_failure_may_show_that_the_clock_is_wrong(scene: Scene, error: ApiError) -> None:
    """A jump of our clock is noticed although no answer comes."""
    scene.read()
    scene.clock.wall += DAY
    scene.read(error=error)

    assert scene.timekeeper.moment("prod").doubt != ""
