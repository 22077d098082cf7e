"""One simulated world: an exporter in it, its scrapers, and the laws checked at each step.

The code under test is the real one, from the client's paging to the rendered line. The transport,
the clocks and the death of the process are simulated; the jobs that read instances run whole, in
an order that the seed chooses. What must hold is compared with the truth as the cloud knows it.
"""

from __future__ import annotations

import contextlib
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.client import DcsClient
from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import ApiCaller, Retries
from dcs_task_exporter.credentials.fixed import FixedSource
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import ScrapeRequest
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.metrics.telemetry import ApiTelemetry
from dcs_task_exporter.refresh.clocks import Timekeeper
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.workers import Job, WorkerPool
from dcs_task_exporter.state.file import Journal, StateFile
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Instance
from tests.support.fast_folder import fast_folder
from tests.support.refresh_settings import collector, project
from tests.support.world_cloud import ODD_TIMES, Semantics, Tasks, Weather, WorldCloud

NOW = 1_750_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
STALENESS = HOUR
HOLD = 40.0
NAMES = ("EXTEND", "modify", "masterStandbySwapJob", "DeleteAcl", "unheard-of")
ENDINGS = ("SUCCESS", "FAILED", "FAIL", "CANCELLED")
FAULTS = (
    ("silence", "reset", "500", "html", "cut"),
    ("403", "404", "429", "429 window", "429 odd"),
    ("error beside data", "empty page", "null row", "no tasks"),
    ("401",),
)
MAX_TASKS = 40
PATIENCE = 21
LOCK = 300.0
ALLOWED_REFUSALS = 5
"""More than so many 401 in `LOCK` seconds lock a key."""

SAMPLE = re.compile(r"^(dcs_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')

Series = tuple[str, str, str]
Step = tuple[str, int]
"""What is done, and the seed of the chance that says how."""

KINDS: Mapping[str, int] = {
    "scrape": 50,
    "rest": 8,
    "start": 14,
    "end": 12,
    "delete": 3,
    "jump": 3,
    "right the clock": 2,
    "bad scrape": 6,
    "torn scrape": 5,
    "abandoned scrape": 3,
    "die": 3,
    "restart": 2,
    "refuse the key": 1,
    "refuse one": 1,
    "change the cloud": 1,
    "calm": 2,
}


class LawBrokenError(AssertionError):
    """A law does not hold: the message says which one, and of what."""

    def __init__(self, message: str, law: int) -> None:
        self.law = law
        super().__init__(message)


class KilledError(BaseException):
    """The process dies here."""


def steps_of(seed: int, number: int) -> list[Step]:
    """Return the steps of a world."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    kinds, weights = list(KINDS), list(KINDS.values())
    return [(kind, chance.getrandbits(32)) for kind in chance.choices(kinds, weights, k=number)]


class SerialPool(WorkerPool):
    """Runs jobs at once, whole, in an order that the chance chooses."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__("serial", 1)
        self._chance = chance

    def submit(self, jobs: Sequence[Job]) -> None:
        """Run the jobs now."""
        for job in self._chance.sample(list(jobs), len(jobs)):
            job.do()


@dataclass(slots=True)
class Scraper:
    """What Prometheus makes of the scrapes: the last values, and all increases."""

    last: dict[Series, float] = field(default_factory=dict)
    total: Counter[Series] = field(default_factory=Counter)

    def observe(self, counters: Mapping[Series, float]) -> None:
        """Take a scrape; the first sample of a series is no increase."""
        for series, value in counters.items():
            before = self.last.get(series, value)
            self.total[series] += int(value - before if value >= before else value)
            self.last[series] = value


@dataclass(slots=True)
class Truth:
    """What is true of one instance: which tasks must be, and may be, counted.

    `claimed` is when the exporter first said that it read the instance, whole; `unclear` is what
    ended during that reading, or after a process died that may have read it: it may be baseline.
    For the next `patience` readings, one that lacks tasks is no broken law: what a cloud changed
    cannot show before. `reads` counts those of one process.
    """

    must: set[str] = field(default_factory=set)
    may: set[str] = field(default_factory=set)
    baseline: set[str] = field(default_factory=set)
    series: dict[str, Series] = field(default_factory=dict)
    claimed: float | None = None
    claimed_steady: float | None = None
    stamp: float | None = None
    unclear: set[str] = field(default_factory=set)
    died_unclaimed: bool = False
    patience: int = 0
    reads: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """One exposition, parsed."""

    samples: Mapping[tuple[str, str], Mapping[tuple[str, ...], float]]

    def of(self, name: str, instance: str) -> Mapping[tuple[str, ...], float]:
        """Return the samples of a metric and an instance, by the other labels."""
        return self.samples.get((name, instance), {})

    def value(self, name: str, instance: str) -> float | None:
        """Return the sample of a metric that has no other labels."""
        return next(iter(self.of(name, instance).values()), None)

    def counters(self) -> Mapping[Series, float]:
        """Return the counters of finished tasks."""
        return {
            (instance, labels[0], labels[1]): value
            for (name, instance), values in self.samples.items()
            if name == "dcs_tasks_finished_total"
            for labels, value in values.items()
        }


def parsed(text: str) -> Shown:
    """Parse an exposition."""
    found: dict[tuple[str, str], dict[tuple[str, ...], float]] = {}
    for name, labels, value in SAMPLE.findall(text):
        pairs = dict(LABEL.findall(labels))
        instance = pairs.pop("dcs_instance_id", None)
        pairs.pop("dcs_instance_name", None)
        pairs.pop("project", None)
        if instance is not None:
            key = tuple(pairs[label] for label in sorted(pairs, reverse=True))
            found.setdefault((name, instance), {})[key] = float(value)
    return Shown(found)


class DyingFile(Journal):
    """The state file of a process that can be killed right before, or right after, it commits."""

    def __init__(self, file: StateFile) -> None:
        self.file = file
        self.dies = ""
        self.last_words: Callable[[], None] = lambda: None

    def load(self, instance_id: str) -> InstanceState:
        """Return what the file holds."""
        return self.file.load(instance_id)

    def save(self, instance_id: str, state: InstanceState) -> None:
        """Commit, or die."""
        if self.dies == "before":
            self.last_words()
            raise KilledError
        self.file.save(instance_id, state)
        if self.dies == "after":
            self.last_words()
            raise KilledError

    def hand_over(self, instance_id: str) -> None:
        """Hand an instance over."""
        self.file.hand_over(instance_id)


class World:
    """Plays the steps of one world."""

    def __init__(self, seed: int, semantics: Semantics | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - repeatable
        self.semantics = semantics or Semantics.drawn(self.chance)
        self.time, self.steady, self.skew = NOW, 1000.0, 0.0
        self.cloud = WorldCloud(self.semantics, self.chance, lambda: self.time, self.change)
        self.instances = [f"i{number}" for number in range(self.semantics.instances)]
        for instance in self.instances:
            self.cloud.tasks[instance] = {}
        self.truths = {instance: Truth() for instance in self.instances}
        self.scrapers = [Scraper() for _ in range(self.semantics.scrapers)]
        self.refusals: list[float] = []
        self.steps = 0
        self.claims = 0
        self.rounds = 0
        self.round_began = NOW
        self.reads: Counter[str] = Counter()
        self.folder = tempfile.TemporaryDirectory(dir=fast_folder())
        self._history()
        self.live()

    def _history(self) -> None:
        for instance in self.instances:
            for _ in range(self.chance.randrange(8)):
                self._some_task(instance, age=self.chance.uniform(0, 9 * DAY))

    def _some_task(self, instance: str, age: float) -> None:
        self.time -= age
        self.cloud.start(instance, self.chance.choice(NAMES))
        if self.chance.random() < 0.7:
            key = list(self.cloud.tasks[instance])[-1]
            self.time += 1
            self.cloud.end(instance, key, self.chance.choice(ENDINGS))
            self.time -= 1
        self.time += age

    # The process.

    def now(self) -> float:
        """Return what the process's clock says."""
        return self.time + self.skew

    def live(self) -> None:
        """Start a process."""
        semantics, chance = self.semantics, self.chance
        clock = Clock(self.now, lambda: self.steady)
        self.telemetry = ApiTelemetry()
        caller = ApiCaller(
            "prod",
            self.cloud,  # type: ignore[arg-type] # it stands in for the transport
            FixedSource(lambda: AccessKey("AK", "SK")),
            RateLimit(1000.0, clock, self.wait),
            self.telemetry,
            Retries(1, self.wait, lambda: 0.5),
            clock,
        )
        settings = collector(page_size=semantics.page_size, max_pages=semantics.max_pages)
        path = Path(self.folder.name) / "state.db"
        file = StateFile(path, clock)
        self.file = DyingFile(file)
        timekeeper = Timekeeper(clock, file.latest_refresh())
        self.client = DcsClient(
            project(endpoint="https://cloud", project_id="p"),
            settings,
            caller,
            clock,
            timekeeper.latest,
        )
        self.refresher = Refresher(
            [Instance(instance, f"name-{instance}", "prod") for instance in self.instances],
            {"prod": self.client},
            collector(
                min_refresh_interval=10.0,
                max_staleness=STALENESS,
                first_value_hold=HOLD if len(self.scrapers) > 1 else 0.0,
            ),
            CountingRules(semantics.lookback_days * DAY),
            clock,
            journal=self.file,
            pool_of=lambda *_: SerialPool(chance),
            timekeeper=timekeeper,
        )
        self.rendering = Renderer(TaskCollector(self.refresher.snapshots), CollectorRegistry())
        for truth in self.truths.values():
            truth.stamp = truth.claimed_steady = None
            truth.reads = 0

    def end_life(self, *, killed: bool) -> None:
        """End the process; one that is killed saves nothing."""
        if not killed:
            self.refresher.stop()
        self.file.file.close()

    def wait(self, seconds: float) -> bool:
        """Let time pass."""
        self.time += seconds
        self.steady += seconds
        return False

    # The steps.

    def play(self, steps: Sequence[Step]) -> None:
        """Play steps, and a calm at the end; raises `LawBrokenError`."""
        try:
            for kind, seed in [*steps, ("calm", 0)]:
                self.steps += 1
                self.chance.seed(seed)
                getattr(self, f"_{kind.replace(' ', '_')}")()
        finally:
            self.end_life(killed=True)
            self.folder.cleanup()

    def _scrape(self) -> None:
        self.wait(self.chance.uniform(15, 60))
        self.round()

    def _rest(self) -> None:
        longest = self.chance.choice([HOUR, HOUR, 6 * HOUR, DAY, 20 * DAY])
        self.wait(self.chance.uniform(0, longest))

    def _start(self) -> None:
        instance = self.chance.choice(self.instances)
        for _ in range(self.chance.choice([1, 1, 1, 1, 8])):
            if len(self.cloud.tasks[instance]) >= MAX_TASKS:
                return
            self.wait(self.chance.uniform(0.001, 20))
            odd = self.semantics.odd_times and self.chance.random() < 0.2
            self.cloud.start(
                instance,
                self.chance.choice(NAMES),
                odd=self.chance.choice(ODD_TIMES) if odd else "",
                waiting=odd or self.chance.random() < 0.3,
            )

    def _change_the_cloud(self) -> None:
        """The cloud counts otherwise from now on, and cuts its pages at another size."""
        cap = self.chance.choice([5, 10, 1000])
        count = self.chance.choice(["total", "page", "missing"])
        self.semantics = replace(self.semantics, cap=cap, count=count)
        self.cloud.semantics = self.semantics
        for instance, truth in self.truths.items():
            if not truth.reads or self.listed(instance) <= cap:
                truth.patience = PATIENCE

    def listed(self, instance: str) -> int:
        """Return how many tasks are shown in the look-back window."""
        samples = parsed(self.text()).of("dcs_tasks_recent", instance)
        return int(sum(samples.values()))

    def _end(self) -> None:
        running = [
            (instance, task.id)
            for instance in self.instances
            for task in self.cloud.tasks[instance].values()
            if not task.finished
        ]
        if running:
            self.wait(1)
            instance, task_id = self.chance.choice(running)
            odd = self.semantics.odd_times and self.chance.random() < 0.2
            # Without any time, and where a restart lists what was forgotten, it is counted again.
            timeless = self.cloud.tasks[instance][task_id].odd_start
            odd = odd and not (timeless and self.semantics.start in ("begin_time", "neither"))
            self.cloud.end(
                instance,
                task_id,
                self.chance.choice(ENDINGS),
                odd=self.chance.choice(ODD_TIMES) if odd else "",
            )

    def _delete(self) -> None:
        instance = self.chance.choice(self.instances)
        tasks = self.cloud.tasks[instance]
        if tasks:
            del tasks[self.chance.choice(list(tasks))]

    def change(self) -> None:
        """Let something happen in the cloud, while pages are read."""
        self.chance.choice([self._start, self._end, self._delete])()

    def _jump(self) -> None:
        if self.semantics.dated:
            far = self.chance.choice([HOUR, HOUR, DAY, 100 * DAY, 400 * DAY])
            self.skew = self.chance.uniform(-2 * DAY, far)

    def _right_the_clock(self) -> None:
        self.skew = 0.0

    def _bad_scrape(self) -> None:
        kinds = self.chance.choice(FAULTS)
        likelihood = self.chance.choice([0.1, 0.5, 1.0])
        with self.weather(Weather(kinds, likelihood)):
            self._scrape()

    def _torn_scrape(self) -> None:
        with self.weather(Weather(changes=0.5)):
            self._scrape()

    def _abandoned_scrape(self) -> None:
        self.wait(self.chance.uniform(15, 60))
        self.refresh_all()
        self.check(self.text())

    def _die(self) -> None:
        """The process is killed as it commits, perhaps scraped a last time, and starts again."""
        self.file.dies = self.chance.choice(["before", "after"])
        if self.chance.random() < 0.5:
            self.file.last_words = lambda: self.observe(self.text())
        self.wait(self.chance.uniform(15, 60))
        with contextlib.suppress(KilledError):
            self.refresh_all()
        for instance in self.instances:
            self.doubt(instance)
        self.end_life(killed=True)
        self.live()

    def _restart(self) -> None:
        self.end_life(killed=self.chance.random() < 0.5)
        self.live()

    def _refuse_the_key(self) -> None:
        self.cloud.refuses_key = True
        for _ in range(3):
            self._scrape()
        self.cloud.refuses_key = False

    def _refuse_one(self) -> None:
        """Law 5: an instance that is refused alone takes no other one down."""
        self._pass_the_pauses()
        before = {instance for instance in self.instances if self.is_up(instance)}
        one = self.chance.choice(self.instances)
        self.cloud.refuses_one = (one, self.chance.choice(["401", "429"]))
        for _ in range(3):
            self._scrape()
        for instance in sorted(before - {one}):
            self.law(5, self.is_up(instance), f"{instance} is down, and {one} was refused")
        self.law(5, not self.is_up(one), f"{one} is up, and was refused")
        self.cloud.refuses_one = ("", "")
        self._pass_the_pauses()

    def _pass_the_pauses(self) -> None:
        for _ in range(2):
            self.wait(320)
            self.round()

    def is_up(self, instance: str) -> bool:
        """Return whether an instance is shown as up."""
        return bool(parsed(self.text()).value("dcs_instance_up", instance))

    def _calm(self) -> None:
        """All is well for a while; then what increased is what happened."""
        self.skew = 0.0
        for _ in range(3):
            self.wait(320)
            for _ in range(3):
                self.wait(HOLD / 2)
                self.round()
        for instance in self.instances:
            self.check_counts(instance)

    @contextlib.contextmanager
    def weather(self, weather: Weather) -> Iterator[None]:
        """Change the weather for a while."""
        self.cloud.weather = weather
        try:
            yield
        finally:
            self.cloud.weather = Weather()

    # A round of scrapes, and what must hold after it.

    def round(self) -> None:
        """Refresh, and let each scraper scrape."""
        self.refresh_all()
        for scraper in self.scrapers:
            exposition = self.rendering.exposition(ScrapeRequest())
            self.refresher.delivered(exposition.counted, exposition.number)
            text = exposition.body.decode()
            scraper.observe(parsed(text).counters())
            self.check(text)

    def refresh_all(self) -> None:
        """Refresh what is due."""
        self.rounds += 1
        # The window of a reading; time goes on while others are read.
        self.round_began = min(self.time, self.now())
        self.cloud.begin_round()
        refused = self.cloud.faults["401"]
        self.refresher.refresh().result(timeout=0)
        self.check_refusals(self.cloud.faults["401"] - refused)

    def text(self) -> str:
        """Render what a scrape sees."""
        return self.rendering.exposition(ScrapeRequest()).body.decode()

    def observe(self, text: str) -> None:
        """Let all scrapers see an exposition that the exporter cannot confirm any more."""
        for scraper in self.scrapers:
            scraper.observe(parsed(text).counters())

    def check_refusals(self, number: int) -> None:
        """Law 5: the key is never locked."""
        if self.cloud.refuses_key:
            self.refusals += [self.steady] * number
        self.refusals = [at for at in self.refusals if self.steady - at < LOCK]
        number = len(self.refusals)
        self.law(5, number <= ALLOWED_REFUSALS, f"{number} requests with a refused key")

    def check(self, text: str) -> None:
        """Laws 1, 2 and 6, for each instance."""
        shown = parsed(text)
        for instance in self.instances:
            self.check_instance(instance, shown)
        for scraper in self.scrapers:
            self.check_nothing_twice(scraper)

    def check_instance(self, instance: str, shown: Shown) -> None:
        """Compare what is shown of an instance with the truth."""
        truth = self.truths[instance]
        up = shown.value("dcs_instance_up", instance)
        stamp = shown.value("dcs_instance_last_refresh_timestamp_seconds", instance)
        asked, good = self.cloud.requests[instance], self.cloud.good[instance]
        failed = asked and not good and up
        self.law(1, not failed, f"{instance} is up, and every request of it failed")
        if stamp is not None and stamp != truth.stamp:
            truth.stamp = stamp
            self.claim(instance, shown)
        age = None if truth.claimed_steady is None else self.steady - truth.claimed_steady
        shows_data = up or shown.of("dcs_tasks_recent", instance)
        fresh = age is not None and age <= STALENESS
        self.law(1, fresh or not shows_data, f"{instance} shows data of age {age}")

    def claim(self, instance: str, shown: Shown) -> None:
        """The exporter says that it read the instance, whole: nothing may be lost or invented."""
        self.claims += 1
        self.reads[instance] += 1
        truth = self.truths[instance]
        before, after = self.cloud.before.get(instance, {}), self.cloud.tasks[instance]
        cut = bool(shown.value("dcs_instance_tasks_truncated", instance))
        truth.reads += 1
        # The first listing of a process has nothing to be compared with.
        lies = self.semantics.count == "lies" and truth.reads == 1
        if cut and not (lies or truth.patience):
            self.check_newest(instance, shown, before, after)
        cut = cut or truth.patience > 0 or lies
        truth.patience = max(0, truth.patience - 1)
        self.check_recent(instance, shown, before, after, cut=cut)
        first = truth.claimed is None
        if truth.claimed is None:
            truth.claimed = self.time
        truth.claimed_steady = self.steady
        horizon = truth.claimed - self.semantics.lookback_days * DAY + HOUR
        for task in self.cloud.during.get(instance, set()):
            if not task.finished or task.id in truth.baseline:
                continue
            truth.series[task.id] = (instance, task.name, task.status)
            was = before.get(task.id)
            lasts = was is not None and was == after.get(task.id)
            certain = lasts and not cut and task.began >= horizon
            if first and lasts and not truth.died_unclaimed:
                truth.baseline.add(task.id)
            elif first:
                truth.unclear.add(task.id)
            if certain and not first and task.id not in truth.unclear:
                truth.must.add(task.id)
            elif task.id not in truth.baseline:
                truth.may.add(task.id)

    def doubt(self, instance: str) -> None:
        """Note that the process may have read, and counted, before it died."""
        truth = self.truths[instance]
        truth.died_unclaimed |= truth.claimed is None
        for task in self.cloud.tasks[instance].values():
            if task.finished:
                truth.series[task.id] = (instance, task.name, task.status)
                if task.id not in truth.baseline:
                    truth.may.add(task.id)

    def check_recent(
        self, instance: str, shown: Shown, before: Tasks, after: Tasks, *, cut: bool
    ) -> None:
        """Compare the tasks of the look-back window with those that there are."""
        lookback = self.semantics.lookback_days * DAY
        least: Counter[tuple[str, str]] = Counter()
        most: Counter[tuple[str, str]] = Counter()
        for task in self.cloud.during.get(instance, set()):
            in_window = task.began >= self.round_began - lookback - 1
            if in_window or task.odd_start:
                most[task.name, task.status] += 1
        # A cloud that tells the time is believed, from the very first reading on.
        latest = self.time if self.semantics.dated else max(self.time, self.now())
        for key, then in before.items():
            if then == after.get(key) and not cut:
                surely = then.began >= latest - lookback + 1
                least[then.name, then.status] += surely
        samples = shown.of("dcs_tasks_recent", instance)
        recent = {(labels[0], labels[1]): value for labels, value in samples.items()}
        for series, value in recent.items():
            what = f"{instance} shows {value} {series} of {most[series]}"
            self.law(1, value <= most[series], what)
        for series, number in least.items():
            value = recent.get(series, 0)
            self.law(1, value >= number, f"{instance} is up and shows {value} {series} of {number}")

    def check_newest(self, instance: str, shown: Shown, before: Tasks, after: Tasks) -> None:
        """Law 1: a listing that the page cap cut has the newest task."""
        since = max(self.time, self.now()) - self.semantics.lookback_days * DAY + 1
        lasting = [task for key, task in before.items() if task == after.get(key)]
        within = [task for task in lasting if task.began >= since and not task.odd_start]
        newest = max(within, key=lambda task: task.began, default=None)
        recent = shown.of("dcs_tasks_recent", instance)
        is_shown = newest is None or recent.get((newest.name, newest.status), 0) >= 1
        self.law(1, is_shown, f"{instance} is up, cut, and lacks the newest task")

    def check_nothing_twice(self, scraper: Scraper) -> None:
        """Law 2: no series ever increased by more than what ended."""
        most: Counter[Series] = Counter()
        for truth in self.truths.values():
            most.update(truth.series[key] for key in truth.must | truth.may)
        for series, number in scraper.total.items():
            what = f"{series} increased by {number}, {most[series]} ended"
            self.law(2, number <= most[series], what)

    def check_counts(self, instance: str) -> None:
        """Laws 2 and 3: every task that was seen to end has been counted, and is shown.

        That is, where anything may be shown: of an instance that cannot be read nothing is.
        """
        if not self.is_up(instance):
            return
        truth = self.truths[instance]
        least = Counter(truth.series[key] for key in truth.must)
        for scraper in self.scrapers:
            for series, number in least.items():
                seen = scraper.total[series]
                self.law(2, seen >= number, f"{series} increased by {seen}, {number} ended")

    def law(self, number: int, holds: bool, what: str) -> None:  # noqa: FBT001 - reads like a law
        """Raise `LawBrokenError` where a law does not hold: in which world, and when."""
        if not holds:
            where = f"seed {self.seed}, step {self.steps}"
            message = f"{where}: law {number}: {what}; {self.semantics}"
            raise LawBrokenError(message, number)


def failure(seed: int, steps: Sequence[Step]) -> LawBrokenError | None:
    """Return how a world breaks a law, if it does; the steps are those that the seed gives."""
    try:
        World(seed).play(steps)
    except LawBrokenError as error:
        return error
    return None


def shrunk(seed: int, steps: Sequence[Step]) -> list[Step]:
    """Return as few of the steps as still break the same law."""
    first = failure(seed, steps)
    law = first.law if first is not None else None
    kept, size = list(steps), max(1, len(steps) // 2)
    while True:
        at, smaller = 0, False
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            found = failure(seed, fewer)
            if found is not None and found.law == law:
                kept, smaller = fewer, True
            else:
                at += size
        if size == 1 and not smaller:
            return kept
        size = max(1, size // 2)
