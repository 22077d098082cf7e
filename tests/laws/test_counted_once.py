"""Law 2 and law 3 together: what Prometheus sees increase is what happened, whatever happens.

The real refresher counts the tasks of a cloud that is only a dictionary, and keeps its state in a
real file; a model of Prometheus' increase() watches the scrapes. Processes end at every moment, and
their clock jumps, with and without the cloud's own time in its answers.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ApiTimeoutError
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.state.file import Journal, StateFile
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from tests.support.clouds import DAY, NOW
from tests.support.fast_folder import fast_folder
from tests.support.held_source import NoProgress
from tests.support.refresh_settings import collector

NAMES = st.sampled_from(["EXTEND", "modify", "DeleteAcl", "unheard-of"])
ENDINGS = st.sampled_from(["SUCCESS", "FAILED", "FAIL", "CANCELLED"])
HISTORY = st.lists(
    st.tuples(NAMES, ENDINGS, st.floats(1000, 20 * DAY))
    | st.tuples(NAMES, st.just("EXECUTING"), st.floats(1000, 6 * DAY)),
    max_size=4,
)
JUMPS = (
    st.just(0.0)
    | st.floats(-3 * 3600, 3 * 3600)
    | st.floats(-20 * DAY, 20 * DAY)
    | st.floats(-400 * DAY, 400 * DAY)
)
LOOKBACKS = st.sampled_from([1 * DAY, 7 * DAY, 30 * DAY])
STEPS = 50

Series = tuple[str, str, str]


class Increase:
    """What increase() over all time says: the first sample of a series is no increase."""

    def __init__(self) -> None:
        self.last: dict[Series, int] = {}
        self.total: Counter[tuple[str, str]] = Counter()

    def observe(self, refresher: Refresher) -> bool:
        """Scrape once, and say whether there were data."""
        snapshots = refresher.snapshots()
        refresher.delivered(snapshots)
        for snapshot in snapshots:
            for (task, status), value in (
                snapshot.metrics.finished.items() if snapshot.metrics else ()
            ):
                series = (snapshot.instance.name, task, status)
                before = self.last.get(series, value)
                self.total[task, status] += value - before if value >= before else value
                self.last[series] = value
        return any(snapshot.metrics for snapshot in snapshots)


class Cloud(NoProgress):
    """The tasks of one instance, and how the next listing of them goes wrong.

    `time` is the true one; answers tell it when they are `dated`.
    """

    def __init__(self) -> None:
        self.time = NOW
        self.dated = True
        self.tasks: dict[str, Task] = {}
        self.fails = False
        self.shuffle: Callable[[list[Task]], list[Task]] = list
        self.listed: list[Task] = []
        self.hidden: set[str] = set()

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """List what began since `start`; what does not say when it began always comes."""
        del instance_id, deadline
        if self.fails:
            message = "silence"
            raise ApiTimeoutError(message)
        found = [task for task in self.tasks.values() if (task.created_at or start) >= start]
        self.listed = self.shuffle(found)
        self.hidden |= {task.id for task in found} - {task.id for task in self.listed}
        return Listing(tuple(self.listed), start, answered_at=self.time if self.dated else None)


class DyingJournal(Journal):
    """The state file of a process that is killed right before, or right after, it commits."""

    def __init__(self, file: StateFile) -> None:
        self.file = file
        self.dies = ""
        self.dead = False
        self.last_words: Callable[[], object] = lambda: None

    def load(self, instance_id: str) -> InstanceState:
        """Return what the file holds."""
        return self.file.load(instance_id)

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Commit, unless the process is dead; it may be scraped a last time as it dies."""
        if self.dead:
            return
        if self.dies == "before":
            self.dead = True
            self.last_words()
            return
        self.file.save(instance_id, state)
        if self.dies == "after":
            self.dead = True
            self.last_words()


class InstanceLife(RuleBasedStateMachine):
    """Tasks start, end and are deleted; processes start, are killed, and read them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=fast_folder())
        self.steady, self.skew = 1000.0, 0.0
        self.cloud = Cloud()
        self.prometheus = Increase()
        self.expected: Counter[tuple[str, str]] = Counter()
        self.seen: set[str] = set()
        self.torn = False
        self.scraped = False
        self.numbers = iter(range(1_000_000))
        self.lookback, self.name = 7 * DAY, "orders"
        self.life()

    @initialize(history=HISTORY, jump=JUMPS)
    def first_seen(self, history: list[tuple[str, str, float]], jump: float) -> None:
        """The instance is seen for the first time, with a history, perhaps by a wrong clock.

        That clock is found out by the cloud's time. Without it, nothing could tell.
        """
        if jump:
            self.skew = jump
            self.restart(self.lookback, killed=True)
        for name, status, age in history:
            key = f"t{next(self.numbers)}"
            began = self.cloud.time - age
            self.cloud.tasks[key] = Task(key, name, status, began, began + 1)
            if status != "EXECUTING":
                self.seen.add(key)
        self.pass_over()

    def life(self) -> None:
        """Start a process."""
        path = Path(self.folder.name) / "state.db"
        clock = Clock(self.now, lambda: self.steady)
        file = StateFile(path, clock)
        self.journal = DyingJournal(file)
        self.refresher = Refresher(
            [Instance("i0", self.name, "prod")],
            {"prod": self.cloud},
            collector(),
            CountingRules(self.lookback),
            clock,
            journal=self.journal,
            timekeeper=Timekeeper(clock, file.latest_refresh()),
        )

    def end_life(self, *, killed: bool) -> None:
        """End the process; only one that is not killed may save something on that occasion."""
        self.journal.dead = self.journal.dead or killed
        self.refresher.stop()
        self.journal.file.close()

    def now(self) -> float:
        """Return what the process's clock says."""
        return self.cloud.time + self.skew

    def pass_time(self, seconds: float) -> None:
        """Let time pass; the clock that only goes forward does so as well."""
        self.cloud.time += seconds
        self.steady += seconds

    def pass_over(self) -> None:
        """Refresh and scrape; what has ended by a committed refresh is counted from then on.

        All of it, whatever our clock made of the window that was asked for; of what a torn listing
        hid, what is listed.
        """
        self.pass_time(20)
        self.refresher.refresh().result(timeout=60)
        if not self.cloud.fails and self.journal.dies != "before":
            listed = {task.id for task in self.cloud.listed}
            for task in self.cloud.tasks.values():
                has_come = task.id in listed or task.id not in self.cloud.hidden
                if task.status != "EXECUTING" and task.id not in self.seen and has_come:
                    self.seen.add(task.id)
                    self.expected[task.name, task.status] += 1
        if not self.journal.dead:
            self.scraped = self.prometheus.observe(self.refresher) or self.scraped

    @rule(name=NAMES, gap=st.floats(0.001, 3600), number=st.integers(1, 2))
    def start(self, name: str, gap: float, number: int) -> None:
        """A task starts, or two at the same moment."""
        self.pass_time(gap)
        for _ in range(number):
            task = Task(f"t{next(self.numbers)}", name, "EXECUTING", self.cloud.time)
            self.cloud.tasks[task.id] = task

    @rule(name=NAMES, status=ENDINGS)
    def fail_at_an_unknown_time(self, name: str, status: str) -> None:
        """A task is over that does not say when it began, nor when it ended."""
        task = Task(f"t{next(self.numbers)}", name, status)
        self.cloud.tasks[task.id] = task

    @precondition(lambda self: self.running())
    @rule(status=ENDINGS, data=st.data())
    def end(self, status: str, data: st.DataObject) -> None:
        """A task ends."""
        key = data.draw(st.sampled_from(self.running()))
        self.pass_time(1)
        task = self.cloud.tasks[key]
        self.cloud.tasks[key] = replace(task, status=status, updated_at=self.cloud.time)

    @precondition(lambda self: self.cloud.tasks)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A user deletes a record; one that nobody read can never be counted."""
        del self.cloud.tasks[data.draw(st.sampled_from(sorted(self.cloud.tasks)))]

    @rule(days=st.floats(0, 20) | st.floats(80, 200), suspended=st.booleans())
    def wait(self, days: float, *, suspended: bool) -> None:
        """Nobody scrapes for a while; a machine that is suspended does not even count the time."""
        steady = self.steady
        self.pass_time(days * DAY)
        if suspended:
            self.steady = steady

    @rule()
    def refresh(self) -> None:
        """A scrape that finds all well."""
        self.torn = False
        self.pass_over()

    @rule(jump=JUMPS)
    def refresh_with_a_wrong_clock(self, jump: float) -> None:
        """A scrape while our clock is wrong."""
        before, self.skew = self.skew, jump
        self.pass_over()
        self.skew = before

    @rule(jump=JUMPS)
    def set_the_clock(self, jump: float) -> None:
        """Our clock is set, wrong or right, and stays so."""
        self.skew = jump

    @rule(jump=JUMPS, killed=st.booleans())
    def restart_with_another_clock(self, jump: float, *, killed: bool) -> None:
        """The machine starts again, and its clock is another."""
        self.skew = jump
        self.restart(self.lookback, killed=killed)

    @rule()
    def lose_the_date(self) -> None:
        """A proxy takes the cloud's time away from its answers, or stops doing so."""
        self.cloud.dated = not self.cloud.dated

    @rule()
    def refresh_in_vain(self) -> None:
        """A scrape while the API fails."""
        self.cloud.fails = True
        self.pass_over()
        self.cloud.fails = False

    @precondition(lambda self: not self.torn)
    @rule(seed=st.integers(0, 1_000_000))
    def refresh_torn(self, seed: int) -> None:
        """A listing whose pages moved: one record is hidden, others come twice, in any order."""

        def tear(tasks: list[Task]) -> list[Task]:
            chance = random.Random(seed)  # noqa: S311 - a test's chance
            mixed = chance.sample(tasks, len(tasks))
            hidden = chance.randrange(len(mixed) + 1)
            kept = mixed[:hidden] + mixed[hidden + 1 :]
            return kept + kept[:2]

        self.torn = True
        self.cloud.shuffle = tear
        self.pass_over()
        self.cloud.shuffle = list

    @rule(moment=st.sampled_from(["before", "after"]), lookback=LOOKBACKS)
    def die_in_a_refresh(self, moment: str, lookback: float) -> None:
        """The process is killed as it commits, perhaps scraped a last time, and starts again."""
        self.journal.last_words = lambda: self.prometheus.observe(self.refresher)
        self.journal.dies = moment
        self.pass_over()
        self.restart(lookback, killed=True)

    @rule(lookback=LOOKBACKS, killed=st.booleans())
    def restart(self, lookback: float, *, killed: bool) -> None:
        """The process ends and starts again, with a look-back window of another length."""
        self.end_life(killed=killed)
        self.scraped = self.scraped and not killed
        self.lookback = lookback
        self.life()

    # Whether a killed process was scraped after it last committed, no one knows: it is taken to
    # have been, so a name must not change before the next scrape.
    @precondition(lambda self: self.scraped)
    @rule()
    def rename(self) -> None:
        """The instance gets another name."""
        self.end_life(killed=False)
        self.name = f"orders-{next(self.numbers)}"
        self.life()

    def running(self) -> list[str]:
        """Return the ids of the tasks that have not ended."""
        return sorted(key for key, t in self.cloud.tasks.items() if t.status == "EXECUTING")

    def teardown(self) -> None:
        """In the end, what increased is what happened."""
        try:
            for _ in range(3):
                self.pass_over()
            increased = {key: number for key, number in self.prometheus.total.items() if number}
            assert increased == {key: number for key, number in self.expected.items() if number}
        finally:
            self.end_life(killed=True)
            self.folder.cleanup()


TestInstanceLife = InstanceLife.TestCase
TestInstanceLife.settings = settings(
    max_examples=4 * settings().max_examples,
    stateful_step_count=STEPS,
    suppress_health_check=[HealthCheck.too_slow],
)
