"""The refresher: who is read when, what is shown meanwhile, and what a broken thread costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from dcs_task_exporter.counting import CountingRules
from dcs_task_exporter.errors import ApiTimeoutError
from dcs_task_exporter.models import Instance, Listing, Task
from dcs_task_exporter.refresher import Refresher, RefreshSettings, Target

NOW = 1_750_000_000.0
PATIENCE = 30


class Source:
    """A cloud whose listings a test holds back, one permit each; it notes who was read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.permits: threading.Semaphore | None = None
        self.tasks: list[Task] = []
        self.error: Exception | None = None

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        del deadline
        if self.permits is not None:
            assert self.permits.acquire(timeout=PATIENCE)
        self.read.append(instance_id)
        if self.error is not None:
            raise self.error
        return Listing(tuple(self.tasks), start)


class Scene:
    """A refresher over a source, with clocks that a test moves."""

    def __init__(self, instances: int, **more: float) -> None:
        self.source = Source()
        self.steady = 1000.0
        known = [Instance(f"i{number}", f"n{number}", "prod") for number in range(instances)]
        self.refresher = Refresher(
            [Target(instance, self.source) for instance in known],
            RefreshSettings(CountingRules(7 * 86_400.0), concurrency=1, **more),
            now=lambda: NOW + self.steady,
            monotonic=lambda: self.steady,
        )

    def scrape(self) -> dict[tuple[str, str], int] | None:
        """Refresh after a scrape interval; return the counters of the first instance."""
        self.steady += 15
        self.refresher.refresh().result(PATIENCE)
        return self.look()

    def look(self) -> dict[tuple[str, str], int] | None:
        """Scrape without a refresh."""
        snapshots = self.refresher.snapshots()
        self.refresher.witness(snapshots)
        figures = snapshots[0].figures
        return dict(figures.finished) if figures else None


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(instances: int = 1, **more: float) -> Scene:
        made.append(Scene(instances, **more))
        return made[-1]

    yield make
    for one in made:
        one.refresher.stop()


def test_nobody_is_overtaken(scene: Callable[..., Scene]) -> None:
    """An instance that waits from an earlier scrape is read before those of later scrapes."""
    here = scene(4)
    here.source.permits = threading.Semaphore(0)
    waiting = []
    for _ in range(6):
        waiting.append(here.refresher.refresh())
        here.source.permits.release()
        here.steady += 15
    for _ in range(20):
        here.source.permits.release()
    for future in waiting:
        future.result(PATIENCE)

    assert here.source.read[:4] == ["i0", "i1", "i2", "i3"]


def test_old_data_are_not_up(scene: Callable[..., Scene]) -> None:
    """Data older than max_staleness disappear, and the instance does not stay up without them."""
    here = scene(1, max_staleness=60)
    here.scrape()
    here.steady += 61

    (snapshot,) = here.refresher.snapshots()

    assert (snapshot.up, snapshot.figures) == (False, None)


def unforeseen() -> Task:
    return Task("a", "DeleteAcl", "CANCELLED", NOW + 1020, NOW + 1021)


def test_two_scrapers_see_the_first_increment(scene: Callable[..., Scene]) -> None:
    """A new series stays at its first value until the slower of two scrapers has seen it."""
    here = scene(1, first_value_hold=60)
    here.scrape()
    here.source.tasks = [unforeseen()]
    series = ("DeleteAcl", "CANCELLED")

    seen = [(found := here.scrape()) and found[series] for _ in range(8)]

    assert seen[:4] == [0, 0, 0, 0]
    assert seen[-1] == 1


def test_a_look_is_no_scrape(scene: Callable[..., Scene]) -> None:
    """Snapshots that nobody rendered do not make a count rise."""
    here = scene()
    here.scrape()
    here.source.tasks = [unforeseen()]
    for _ in range(3):
        here.steady += 15
        here.refresher.refresh().result(PATIENCE)

    found = here.look()

    assert found is not None
    assert found["DeleteAcl", "CANCELLED"] == 0


@pytest.mark.parametrize("broken", [MemoryError("odd"), ValueError("odd")])
def test_a_bug_costs_one_refresh(scene: Callable[..., Scene], broken: Exception) -> None:
    """An error that nobody foresaw makes the instance fail once, and is read again."""
    here = scene()
    here.source.error = broken
    assert here.scrape() is None
    here.source.error = None

    assert here.scrape() is not None


def test_no_thread(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the instances fail, and are read when one can."""
    here = scene(2)

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        here.scrape()
    failed: Sequence[bool] = [item.failure is not None for item in here.refresher.snapshots()]
    here.scrape()

    assert failed == [True, True]
    assert all(item.up for item in here.refresher.snapshots())


def test_scrape_while_stopping(scene: Callable[..., Scene]) -> None:
    """A refresh that is asked for after the end waits for nothing."""
    here = scene(3)
    here.refresher.stop()

    assert here.refresher.refresh().result(PATIENCE) is None


def test_failure_keeps_the_data(scene: Callable[..., Scene]) -> None:
    """A failed refresh keeps the last data, says when they were read, and that it failed."""
    here = scene()
    here.scrape()
    here.source.error = ApiTimeoutError("silence")

    assert here.scrape() is not None
    (snapshot,) = here.refresher.snapshots()
    assert (snapshot.up, snapshot.failure and snapshot.failure.reason) == (False, "timeout")
    assert snapshot.refreshed_at == NOW + 1015
