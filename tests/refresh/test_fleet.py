"""The fleet: what is searched and read together, and how long that takes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import Config, DiscoveryConfig, InstanceConfig, ProjectConfig
from dcs_task_exporter.errors import ApiTimeoutError
from dcs_task_exporter.refresh import fleet
from dcs_task_exporter.refresh.discovery import Discovery
from dcs_task_exporter.refresh.fleet import Fleet
from dcs_task_exporter.refresh.refresher import Refresher
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.refresh.targets import Targets
from dcs_task_exporter.tasks.models import Instance
from tests.support.held_source import NOW, PATIENCE, Source
from tests.support.refresh_settings import RULES, collector, project


class Project(Source):
    """A project whose instances a search finds; it notes which answers may be forgotten."""

    def __init__(self, name: str, *found: str) -> None:
        super().__init__()
        self.listed = [Instance(key, key, name) for key in found]
        self.failure: Exception | None = None
        self.kept: list[set[str]] = []
        self.searches: list[float] = []
        self.held: threading.Semaphore | None = None

    def list_instances(self, deadline: float) -> Sequence[Instance]:
        self.searches.append(deadline)
        if self.held is not None:
            assert self.held.acquire(timeout=PATIENCE)
        if self.failure is not None:
            raise self.failure
        return self.listed

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        self.kept.append(set(instance_ids))


class Scene:
    """A fleet of projects, with clocks that a test moves."""

    def __init__(self, configured: Sequence[ProjectConfig], **settings: Any) -> None:
        self.steady = 1000.0
        self.sources = {item.name: Project(item.name) for item in configured}
        clock = Clock(lambda: NOW + self.steady, lambda: self.steady)
        config = self.config = of(configured, **settings)
        targets = Targets(config.projects, Shard(), lambda _: None)
        self.refresher = Refresher(targets.current(), self.sources, config.collector, RULES, clock)
        self.fleet = Fleet(config, self.sources, targets, self.refresher, clock)

    def change(
        self,
        *configured: ProjectConfig,
        sources: Mapping[str, Project] | None = None,
        centers: Any = None,
        **settings: Any,
    ) -> None:
        """Use another configuration, and other clients if there are some."""
        self.config = of(configured, **settings)
        self.fleet.change(self.config, sources or self.sources, RULES, centers or {})


def of(projects: Sequence[ProjectConfig], **settings: Any) -> Config:
    """Return a configuration of these projects."""
    return Config.model_construct(projects=tuple(projects), collector=collector(**settings))


def configured(name: str = "prod", *ids: str, search: bool = False) -> ProjectConfig:
    """Return a project with these instances."""
    instances = tuple(InstanceConfig(id=key, name=key) for key in ids)
    return project(name=name, instances=instances, discovery=DiscoveryConfig(enabled=search))


Make = Callable[..., Scene]


@pytest.fixture
def scene() -> Iterator[Make]:
    made: list[Scene] = []

    def make(*projects: ProjectConfig, **settings: Any) -> Scene:
        made.append(Scene(projects, **settings))
        return made[-1]

    yield make
    for one in made:
        one.fleet.stop()


def test_only_what_is_switched_on_is_searched(scene: Make) -> None:
    """Projects without discovery are not searched."""
    here = scene(configured("prod", search=True), configured("test", "i0"))

    assert [item.project for item in here.fleet.discoveries] == ["prod"]


def test_the_time_of_a_pass(scene: Make) -> None:
    """One request for each instance takes as long as the rate limit makes it, by project."""
    here = scene(
        configured("prod", "i0", "i1", "i2"), configured("test", "i3"), requests_per_second=2.0
    )

    assert here.fleet.pass_times() == {"prod": 1.5, "test": 0.5}


def test_what_is_found_is_read_at_once(scene: Make) -> None:
    """The first search is awaited, and the instances that it finds are read with the others."""
    here = scene(configured("prod", search=True), configured("test", "i0"))
    here.sources["prod"].listed = [Instance("i1", "n", "prod")]
    here.fleet.refresh_and_wait(PATIENCE)

    assert {one.instance.id: one.up for one in here.refresher.snapshots()} == {
        "i0": True,
        "i1": True,
    }
    assert here.sources["prod"].kept == [{"i0", "i1"}]
    assert here.sources["test"].kept == []


def test_a_refresh_of_all(scene: Make) -> None:
    """A scrape reads all instances that are due."""
    here = scene(configured("prod", "i0", "i1"))
    asyncio.run(here.fleet.refresh(PATIENCE))

    assert sorted(here.sources["prod"].read) == ["i0", "i1"]


def test_a_refresh_of_one(scene: Make) -> None:
    """A probe reads its own instance only."""
    here = scene(configured("prod", "i0", "i1"))
    asyncio.run(here.fleet.refresh(PATIENCE, "i1"))

    assert here.sources["prod"].read == ["i1"]


@pytest.mark.parametrize(("target", "read"), [(None, []), ("i0", ["i0"])])
def test_a_scrape_beside_an_interval(scene: Make, target: str | None, read: list[str]) -> None:
    """With an interval of its own, a scrape of all waits for nothing; a probe still reads."""
    here = scene(configured("prod", "i0"), refresh_interval=60.0)
    asyncio.run(here.fleet.refresh(PATIENCE, target))

    assert here.sources["prod"].read == read


def test_a_refresh_ends_in_time(scene: Make) -> None:
    """A scrape does not wait longer than its timeout."""
    here = scene(configured("prod", "i0"))
    here.sources["prod"].permits = threading.Semaphore(0)
    asyncio.run(here.fleet.refresh(0.0))
    here.fleet.refresh_and_wait(0.0)

    assert here.sources["prod"].read == []
    here.sources["prod"].permits.release()


@pytest.mark.parametrize(
    ("name", "known"), [(None, False), ("prod", True), ("test", False), ("other", True)]
)
def test_whether_instances_are_known(scene: Make, name: str | None, *, known: bool) -> None:
    """The instances of a project are known after its search succeeded."""
    here = scene(configured("prod", search=True), configured("test", search=True))
    here.sources["prod"].listed = [Instance("i1", "n", "prod")]
    here.sources["test"].failure = ApiTimeoutError("no")

    assert asyncio.run(here.fleet.discover(PATIENCE, name)) is known


def test_one_project_is_searched(scene: Make) -> None:
    """Only the project that is asked for is searched."""
    here = scene(configured("prod", search=True), configured("test", search=True))
    here.sources["prod"].listed = here.sources["test"].listed = [Instance("i1", "n", "prod")]
    asyncio.run(here.fleet.discover(PATIENCE, "prod"))

    assert [item.status.instances for item in here.fleet.discoveries] == [1, None]


def test_searched_and_read(scene: Make) -> None:
    """All was tried when each project was searched and each instance read, even in vain."""
    here = scene(configured("prod", "i0", search=True))
    assert here.fleet.was_tried() is False
    here.sources["prod"].failure = ApiTimeoutError("no")
    asyncio.run(here.fleet.discover(PATIENCE))
    assert here.fleet.was_tried() is False
    here.sources["prod"].error = ApiTimeoutError("no")
    here.refresher.refresh().result(PATIENCE)

    assert here.fleet.was_tried() is True


def test_read_but_not_searched(scene: Make) -> None:
    """Not all was tried while a project was not searched."""
    here = scene(configured("prod", "i0", search=True))
    here.refresher.refresh().result(PATIENCE)

    assert here.fleet.was_tried() is False


def test_tried_stays_tried(scene: Make) -> None:
    """An instance that comes later does not undo it."""
    here = scene(configured("prod", "i0"))
    here.refresher.refresh().result(PATIENCE)
    assert here.fleet.was_tried() is True
    here.refresher.retarget([Instance("i9", "n", "prod")])

    assert here.fleet.was_tried() is True


def test_everything_is_read_once(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single pass waits for the searches, and longer for the reads, by the slowest project."""
    here = scene(
        configured("prod", "i0", "i1", search=True),
        configured("test", "i2"),
        requests_per_second=2.0,
    )
    here.sources["prod"].listed = [Instance("i3", "n", "prod")]
    waits: list[float] = []

    def wait_for(futures: Any, seconds: float) -> None:
        waits.append(seconds)
        for future in futures:
            future.result(PATIENCE)

    monkeypatch.setattr(fleet, "wait_awake", wait_for)
    here.fleet.read_everything(10.0)

    assert waits == [10.0, 11.5]
    assert all(one.up for one in here.refresher.snapshots())


def test_nothing_to_read(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any instance a single pass has nothing to wait for."""
    waits: list[float] = []
    monkeypatch.setattr(fleet, "wait_awake", lambda _, seconds: waits.append(seconds))
    scene(configured("prod")).fleet.read_everything(10.0)

    assert waits == [10.0, 10.0]


def test_without_an_interval_nothing_begins(scene: Make) -> None:
    """Without an interval, instances are read for scrapes only."""
    before = set(threading.enumerate())
    scene(configured("prod", "i0")).fleet.start()

    assert set(threading.enumerate()) <= before


def test_an_interval_needs_no_scrape(scene: Make) -> None:
    """With an interval, instances are read from the start on, in one daemon thread."""
    before = set(threading.enumerate())
    here = scene(configured("prod", "i0"), refresh_interval=3600.0)
    here.fleet.start()
    here.fleet.start()
    here.sources["prod"].wait_for(1)
    alone = [it for it in set(threading.enumerate()) - before if it.name == "refresh"]
    here.fleet.stop()
    for thread in alone:
        thread.join(PATIENCE)

    assert [thread.daemon for thread in alone] == [True]
    assert not any(thread.is_alive() for thread in alone)


def test_nothing_is_searched_after_the_stop(scene: Make) -> None:
    """After the stop no search and no read begins."""
    here = scene(configured("prod", "i0", search=True))
    here.fleet.stop()
    here.fleet.refresh_and_wait(PATIENCE)

    assert here.sources["prod"].read == []
    assert here.fleet.discoveries[0].status.instances is None


def names(here: Scene) -> list[str]:
    """Return the ids of the instances that are shown."""
    return [one.instance.id for one in here.refresher.snapshots()]


def test_another_configuration(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another configuration is used by all parts; each client forgets who is not watched."""
    here = scene(configured("prod", "i0", "i1"))
    changes: list[Any] = []
    change = here.refresher.change

    def noted(targets: Sequence[Instance], *others: Any) -> None:
        changes.append(([one.id for one in targets], *others))
        change(targets, *others)

    monkeypatch.setattr(here.refresher, "change", noted)
    sources = {"prod": Project("prod"), "test": Project("test")}
    centers: Any = {"test": object()}
    here.change(
        configured("prod", "i0"), configured("test", "i2"), sources=sources, centers=centers
    )

    assert names(here) == ["i0", "i2"]
    assert [each.kept for each in sources.values()] == [[{"i0", "i2"}]] * 2
    assert here.sources["prod"].kept == []
    assert changes == [(["i0", "i2"], sources, here.config.collector, RULES, centers)]


def searched(scene: Make) -> Scene:
    """Return a fleet of a project in which a search found two instances."""
    here = scene(configured("prod", search=True))
    here.sources["prod"].listed = [Instance("i0", "a", "prod"), Instance("i1", "b", "prod")]
    assert asyncio.run(here.fleet.discover(PATIENCE)) is True
    return here


def test_a_search_that_is_as_before_goes_on(scene: Make) -> None:
    """A project that stays as it is, and its client, keep their search."""
    here = searched(scene)
    (before,) = here.fleet.discoveries
    here.change(
        configured("prod", search=True),
        configured("test"),
        sources=here.sources | {"test": Project("test")},
    )

    assert here.fleet.discoveries == [before]
    assert names(here) == ["i0", "i1"]
    here.sources["prod"].searches.clear()
    search_again(here, before)
    assert here.sources["prod"].searches == [here.steady + 300]


def search_again(here: Scene, discovery: Discovery) -> None:
    """Search when that is due."""
    here.steady += 3600
    future = discovery.search()
    assert future is not None
    future.result(PATIENCE)


def test_a_search_by_other_rules(scene: Make) -> None:
    """A search by other rules keeps what they admit; the one before ends."""
    here = searched(scene)
    (before,) = here.fleet.discoveries
    rules = DiscoveryConfig(enabled=True, include="b")
    here.change(configured("prod").model_copy(update={"discovery": rules}))
    (search,) = here.fleet.discoveries

    assert (names(here), search.status.instances) == (["i1"], 1)
    here.sources["prod"].searches.clear()
    search_again(here, before)
    assert here.sources["prod"].searches == []


def test_a_search_by_another_client(scene: Make) -> None:
    """A search whose client is replaced keeps what is known, and asks the new one."""
    here = searched(scene)
    here.change(configured("prod", search=True), sources={"prod": Project("prod", "i7")})
    assert names(here) == ["i0", "i1"]
    search_again(here, here.fleet.discoveries[0])

    assert sorted(names(here)) == ["i0", "i1", "i7"]


@pytest.mark.parametrize("key", ["project_id", "region", "project_name"])
def test_a_search_in_another_project(scene: Make, key: str) -> None:
    """What was found under another id, region or name of the project is no more watched."""
    here = searched(scene)
    here.change(configured("prod", search=True).model_copy(update={key: "another"}))

    assert names(here) == []
    assert here.fleet.discoveries[0].status.instances is None


def test_a_search_that_is_switched_off(scene: Make) -> None:
    """What only a search found leaves when it is switched off."""
    here = searched(scene)
    here.change(configured("prod", "i0"))

    assert here.fleet.discoveries == []
    assert names(here) == ["i0"]


def test_a_search_that_was_replaced_finds_nothing(scene: Make) -> None:
    """What a search finds after another has taken its place is not watched."""
    here = scene(configured("prod", search=True))
    (before,) = here.fleet.discoveries
    here.change(configured("prod", search=True), sources={"prod": Project("prod")})
    before._found([Instance("i5", "n", "prod")])  # noqa: SLF001 - as its thread calls it

    assert names(here) == []


def test_an_interval_that_comes_later(scene: Make) -> None:
    """Once started, a fleet that is given an interval begins to refresh by itself."""
    here = scene(configured("prod", "i0"))
    here.fleet.start()
    here.change(configured("prod", "i0"), refresh_interval=3600.0)
    here.sources["prod"].wait_for(1)
    asyncio.run(here.fleet.refresh(0.0))

    assert here.sources["prod"].read == ["i0"]


def test_a_search_that_takes_longer(scene: Make) -> None:
    """A search that goes on when the time is over leaves its instances unknown until it ends."""
    here = scene(configured("prod", search=True))
    held = here.sources["prod"].held = threading.Semaphore(0)
    assert asyncio.run(here.fleet.discover(0.0)) is False
    held.release()
    here.sources["prod"].listed = [Instance("i0", "n", "prod")]

    assert asyncio.run(here.fleet.discover(PATIENCE)) is True


def test_only_scrapes_are_told_as_joined(scene: Make) -> None:
    """A refresh that only joins another is counted if a scrape asked for it."""
    here = scene(configured("prod", "i0"))
    here.sources["prod"].permits = threading.Semaphore(0)
    here.fleet.refresh_and_wait(0.0)
    counts = [here.refresher.coalesced]
    here.fleet.refresh_and_wait(0.0)
    counts.append(here.refresher.coalesced)
    asyncio.run(here.fleet.refresh(0.0))
    counts.append(here.refresher.coalesced)
    here.fleet.refresh_and_wait(0.0, is_scrape=False)
    counts.append(here.refresher.coalesced)
    here.sources["prod"].permits.release()

    assert counts == [0, 1, 2, 2]


def test_one_thread_refreshes(scene: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a fleet is started, one thread refreshes."""
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    here = scene(configured("prod", "i0"), refresh_interval=3600.0)
    here.fleet.start()
    here.fleet.start()

    assert started == ["refresh"]


class Rounds(threading.Event):
    """Notes how long the thread waits for a change, and ends it after two rounds."""

    def __init__(self, stopping: threading.Event) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._stopping = stopping

    def wait(self, timeout: float | None = None) -> bool:
        """Note a wait."""
        self.waits.append(timeout)
        if len(self.waits) == 2:
            self._stopping.set()
        return False


def test_a_round_begins_when_the_interval_is_over(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next round begins an interval after the one before, or at once if that took longer."""
    here = scene(configured("prod", "i0"), refresh_interval=60.0)
    rounds = Rounds(here.fleet._stopping)  # noqa: SLF001 - nothing else shows the waits
    monkeypatch.setattr(here.fleet, "_changed", rounds)
    moments = iter([1000.0, 1012.0, 2000.0, 2099.0])
    monkeypatch.setattr(fleet, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    asked: list[tuple[float, bool]] = []

    def refresh(timeout: float, *, is_scrape: bool = True) -> None:
        asked.append((timeout, is_scrape))

    monkeypatch.setattr(here.fleet, "refresh_and_wait", refresh)
    here.fleet._refresh_forever()  # noqa: SLF001 - as its thread does

    assert rounds.waits == [48.0, 0.0]
    assert asked == [(60.0, False)] * 2


def test_what_a_first_search_found_is_read_alone(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first search of a project only its own instances are read."""
    here = scene(configured("prod", search=True), configured("test", "i0"))
    here.sources["prod"].listed = [Instance("i1", "n", "prod")]
    asked: list[dict[str, object]] = []
    refresh = here.refresher.refresh

    def noted(**what: Any) -> Any:
        asked.append(what)
        return refresh(**what)

    monkeypatch.setattr(here.refresher, "refresh", noted)
    here.fleet.refresh_and_wait(PATIENCE)

    assert sorted(map(repr, asked)) == ["{'is_scrape': True}", "{'project': 'prod'}"]
