"""Discovery: new instances appear, deleted ones leave, and no bad answer empties the list."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import DiscoveryConfig
from dcs_task_exporter.errors import ApiTimeoutError
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.refresh.discovery import Discovery, DiscoveryStatus, is_admitted
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.tasks.models import Instance
from tests.support.clouds import (
    PROJECT,
    Samples,
    World,
    exporter_of,
    hide_instances,
    scrape,
    value,
    world,
)


@contextmanager
def discovering(
    here: World, discovery: str = "", *, configured: str = "", more: str = ""
) -> Iterator[Exporter]:
    """Run an exporter that finds its instances by itself."""
    text = here.config_text()
    start, end = text.index("    instances:"), text.index("collector:")
    instances = f"    instances: [{configured}]\n" if configured else ""
    found = f"    discovery: {{enabled: true, refresh_interval: 1m{discovery}}}\n"
    with exporter_of(here, f"{text[:start]}{instances}{found}{text[end:]}{more}") as exporter:
        yield exporter


def watched(exporter: Exporter) -> set[str]:
    return {snapshot.instance.id for snapshot in exporter.refresher.snapshots()}


def search_again(here: World, exporter: Exporter) -> Samples:
    """Let the interval pass; a later search runs beside the scrapes, so wait for its end."""
    here.clock.advance(60)
    before = here.cloud.count("list_instances")
    scrape(exporter, here.clock)
    assert here.cloud.wait_for(lambda: here.cloud.count("list_instances") > before)
    for discovery in exporter.fleet.discoveries:
        if (search := discovery.search()) is not None:
            search.result(10)
    return scrape(exporter, here.clock)


def test_first_scrape_is_whole() -> None:
    """The first scrape waits for the search, and has the data of all instances."""
    with world(25) as here, discovering(here) as exporter:
        found = scrape(exporter)

    up = [number for (name, _), number in found.items() if name == "dcs_instance_up"]
    assert up == [1] * 25
    assert value(found, "dcs_discovery_instances", project="prod") == 25


def test_what_is_known_of_an_instance() -> None:
    """Discovery fills the info of an instance, also of one that is configured, under its name."""
    with world(2) as here, discovering(here, configured="{id: i0, name: mine}") as exporter:
        found = scrape(exporter)

    labels = {"engine": "Redis", "engine_version": "5.0", "instance_status": "RUNNING"}
    assert value(found, "dcs_instance_info", dcs_instance_name="mine", **labels) == 1
    assert value(found, "dcs_instance_info", dcs_instance_name="cache-1", **labels) == 1


def test_new_and_deleted() -> None:
    """A new instance appears; a deleted one leaves when two searches lacked it."""
    with world(2) as here, discovering(here) as exporter:
        scrape(exporter)
        here.cloud.add_instance(PROJECT, "new", "new")
        here.cloud.remove_instance("i0")
        search_again(here, exporter)
        once = watched(exporter)
        search_again(here, exporter)

        assert once == {"i0", "i1", "new"}
        assert watched(exporter) == {"i1", "new"}


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[tuple[str, dict[str, object]]]:
    """Return what discovery logged at a level, since the last time; in no order of its own."""
    found = [
        (record.getMessage(), record.fields)  # type: ignore[attr-defined]
        for record in caplog.records
        if record.levelno == level and record.name.endswith(".discovery")
    ]
    caplog.clear()
    return sorted(found, key=str)


def test_one_log_line_for_each_search(caplog: pytest.LogCaptureFixture) -> None:
    """A search logs one line with how many came and left; one that changes nothing, none."""
    caplog.set_level(logging.INFO)
    with world(3) as here, discovering(here) as exporter:
        scrape(exporter)
        first = told(caplog, logging.INFO)
        here.cloud.add_instance(PROJECT, "new", "new")
        here.cloud.remove_instance("i0")
        here.cloud.remove_instance("i1")
        search_again(here, exporter)
        second = told(caplog, logging.INFO)
        search_again(here, exporter)
        third = told(caplog, logging.INFO)
        search_again(here, exporter)

        said = "discovery searched"
        assert first == [(said, {"project": "prod", "instances": 3, "came": 3, "left": 0})]
        assert second == [(said, {"project": "prod", "instances": 4, "came": 1, "left": 0})]
        assert third == [(said, {"project": "prod", "instances": 2, "came": 0, "left": 2})]
        assert told(caplog, logging.INFO) == []


def test_single_instances_are_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Which instances came is logged at level debug, a line for each."""
    caplog.set_level(logging.DEBUG)
    with world(2) as here, discovering(here) as exporter:
        scrape(exporter)

    assert told(caplog, logging.DEBUG) == [
        (
            "an instance is watched",
            {"project": "prod", "dcs_instance_id": f"i{at}", "dcs_instance_name": f"cache-{at}"},
        )
        for at in range(2)
    ]


def test_an_empty_answer_is_a_failure() -> None:
    """A list without any instance changes nothing, however often it comes, and is not success."""
    with world(2) as here, discovering(here) as exporter:
        scrape(exporter)
        hide_instances(here)
        found = [search_again(here, exporter) for _ in range(3)][-1]
        during = watched(exporter)
        (problem,) = exporter.problems()
        here.cloud.faults.clear()
        after = search_again(here, exporter)

        assert during == watched(exporter) == {"i0", "i1"}
        assert value(found, "dcs_discovery_up", project="prod") == 0
        assert "the answer lists no instance at all, where 2 are known" in problem
        assert value(after, "dcs_discovery_up", project="prod") == 1


def test_an_hour_of_empty_answers_is_believed() -> None:
    """After an hour of empty lists, and not of one before that, the instances are gone."""
    with world(2) as here, discovering(here) as exporter:
        scrape(exporter)
        for hidden in (True, False, True):
            here.cloud.faults.clear()
            if hidden:
                hide_instances(here)
            search_again(here, exporter)
            here.clock.advance(1800)
        before = watched(exporter)
        here.clock.advance(1800)
        search_again(here, exporter)
        found = search_again(here, exporter)

        assert before == {"i0", "i1"}
        assert watched(exporter) == set()
        assert value(found, "dcs_discovery_instances", project="prod") == 0


def test_nothing_is_known_before_it_is_watched() -> None:
    """A search has not succeeded before what it found is watched."""
    at_that_moment: list[float | None] = []
    discovery = Discovery(
        "prod",
        DiscoveryConfig(),
        lambda _: (ORDERS,),
        lambda _: at_that_moment.append(discovery.status.last_success),
        Clock(lambda: 1.0, lambda: 1.0),
    )
    pending = discovery.search()
    assert pending is not None
    pending.result(10)

    assert at_that_moment == [None]
    assert discovery.status.last_success == 1.0


def test_a_project_without_instances() -> None:
    """The very first list is not believed when it is empty; the second, soon after, is."""
    with world(0) as here, discovering(here) as exporter:
        first = scrape(exporter)
        found = scrape(exporter, here.clock)

        assert value(first, "dcs_discovery_up", project="prod") == 0
        assert value(found, "dcs_discovery_up", project="prod") == 1
        assert value(found, "dcs_discovery_instances", project="prod") == 0


def test_the_listing_of_instances_is_never_cut() -> None:
    """Neither the page cap of tasks nor the smallest page leaves an instance out."""
    quirks = Quirks(max_limit=10)
    with world(60, quirks) as here, discovering(here, more="  max_pages: 2\n") as exporter:
        scrape(exporter)

        assert len(watched(exporter)) == 60


def test_a_cloud_that_knows_no_offset() -> None:
    """A listing that is the same again ends there."""
    with world(5, Quirks(instance_offset=False)) as here, discovering(here) as exporter:
        scrape(exporter)

        assert watched(exporter) == {f"i{number}" for number in range(5)}
        assert here.cloud.count("list_instances") == 2


@pytest.mark.parametrize("fault", ["internal", "forbidden", "truncated_json", "reset"])
def test_a_failed_search_keeps_the_list(fault: str) -> None:
    """A search that fails keeps the last list, and its time stands still."""
    with world(2) as here, discovering(here) as exporter:
        scrape(exporter)
        success = here.clock.wall
        here.cloud.faults.add(fault, operation="list_instances")
        found = search_again(here, exporter)

        assert watched(exporter) == {"i0", "i1"}
        name = "dcs_discovery_last_success_timestamp_seconds"
        assert value(found, name, project="prod") == success
        assert value(found, "dcs_discovery_up", project="prod") == 0


def test_a_failed_first_search() -> None:
    """Where no search worked there are no instances, and the exporter is ready to say so."""
    with world(2) as here, discovering(here) as exporter:
        here.cloud.faults.add("forbidden", operation="list_instances")
        found = scrape(exporter)

        assert exporter.status().ready
        assert watched(exporter) == set()
        errors = {"operation": "list_instances", "reason": "forbidden"}
        assert value(found, "dcs_api_errors_total", **errors) == 1
        assert value(found, "dcs_discovery_instances", project="prod") is None
        assert value(found, "dcs_discovery_up", project="prod") == 0


def test_counts_survive_leaving_and_returning() -> None:
    """An instance that leaves and is found again keeps its counts, in memory too."""
    failed = {"dcs_instance_id": "i0", "task_name": "EXTEND", "status": "FAILED"}
    with world(2) as here, discovering(here) as exporter:
        scrape(exporter)
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        scrape(exporter, here.clock)
        hide_instances(here)
        search_again(here, exporter)
        here.clock.advance(3600)
        search_again(here, exporter)
        gone = search_again(here, exporter)
        here.cloud.faults.clear()
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        search_again(here, exporter)
        found = [scrape(exporter, here.clock) for _ in range(3)][-1]

        assert value(gone, "dcs_tasks_finished_total", **failed) is None
        assert value(found, "dcs_tasks_finished_total", **failed) == 2


def test_a_renamed_instance() -> None:
    """A new name begins new series where the old ones were last seen."""
    failed = {"task_name": "EXTEND", "status": "FAILED"}
    with world(1) as here, discovering(here) as exporter:
        scrape(exporter)
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        scrape(exporter, here.clock)
        here.cloud.add_instance(PROJECT, "i0", "renamed")
        search_again(here, exporter)
        found = scrape(exporter, here.clock)

        assert value(found, "dcs_tasks_finished_total", dcs_instance_name="renamed", **failed) == 1
        assert (
            value(found, "dcs_tasks_finished_total", dcs_instance_name="cache-0", **failed) is None
        )


@pytest.mark.parametrize("instance_count", ["total", "page"])
def test_more_than_a_page(instance_count: Literal["total", "page"]) -> None:
    """All pages are read, whatever instance_num means."""
    quirks = Quirks(instance_count=instance_count)
    with world(25, quirks) as here, discovering(here, more="  page_size: 10\n") as exporter:
        scrape(exporter)

        assert len(watched(exporter)) == 25


ORDERS = Instance(
    "i0",
    "prod-orders",
    "prod",
    engine="Redis",
    status="RUNNING",
    tags={"team": "orders"},
)


@pytest.mark.parametrize(
    ("rules", "admitted"),
    [
        (DiscoveryConfig(), True),
        (DiscoveryConfig(include="^prod-"), True),
        (DiscoveryConfig(include="^test-"), False),
        (DiscoveryConfig(exclude="orders$"), False),
        (DiscoveryConfig(tags={"team": "orders"}), True),
        (DiscoveryConfig(tags={"team": "carts"}), False),
        (DiscoveryConfig(tags={"owner": "x"}), False),
        (DiscoveryConfig(statuses=("running",)), True),
        (DiscoveryConfig(statuses=("FROZEN",)), False),
        (DiscoveryConfig(engines=("redis",)), True),
        (DiscoveryConfig(engines=("Memcached",)), False),
    ],
)
def test_rules(rules: DiscoveryConfig, admitted: object) -> None:
    """Instances are chosen by name, tags, status and engine."""
    assert is_admitted(ORDERS, rules) is admitted


# Nothing watched is an outage.

WATCHED = "dcs_project_instances_watched"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of discovery, leaving out that a search failed."""
    return [
        record.message
        for record in caplog.records
        if record.name == "dcs_task_exporter.refresh.discovery"
        and record.levelno == logging.WARNING
        and not record.message.startswith("discovery cannot list")
    ]


def test_rules_that_admit_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt rule is logged once, and is a problem, and a 0 of metrics, as long as it lasts."""
    with world(3) as here, discovering(here, ", include: cahce") as exporter:
        scrape(exporter)
        found = search_again(here, exporter)
        (problem,) = exporter.problems()

    (warning,) = warnings_of(caplog)
    assert warning == (
        "discovery finds no instance to watch: of the 3 that the cloud lists, its rules admit none "
        "(include 'cahce'): check the rules"
    )
    assert problem == f"Project prod: {warning}."
    assert value(found, "dcs_discovery_instances", project="prod") == 0
    assert value(found, WATCHED, project="prod") == 0
    assert value(found, "dcs_discovery_up", project="prod") == 1


def test_a_project_that_lists_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An empty project is told once by a warning that says what to check."""
    with world(0) as here, discovering(here) as exporter:
        scrape(exporter)
        scrape(exporter, here.clock)
        search_again(here, exporter)
        problems = exporter.problems()

    (warning,) = warnings_of(caplog)
    assert warning.startswith("discovery finds no instance to watch: the cloud lists none: check")
    assert problems == [f"Project prod: {warning}."]


def test_nothing_found_beside_what_is_configured() -> None:
    """What is configured is watched, and counted as such, where discovery finds nothing."""
    with world(2) as here:
        one = "{id: i0, name: mine}"
        with discovering(here, ", include: cahce", configured=one) as exporter:
            found = scrape(exporter)
            problems = exporter.problems()

    assert value(found, WATCHED, project="prod") == 1
    assert value(found, "dcs_discovery_instances", project="prod") == 0
    assert len(problems) == 1


def test_found_again(caplog: pytest.LogCaptureFixture) -> None:
    """Once there is an instance to watch, nothing is wrong; the next loss is told anew."""
    with world(0) as here, discovering(here) as exporter:
        scrape(exporter)
        scrape(exporter, here.clock)
        here.cloud.add_instance(PROJECT, "new", "new")
        found = search_again(here, exporter)
        between = exporter.problems()
        here.cloud.remove_instance("new")
        here.clock.advance(3600)
        search_again(here, exporter)
        here.clock.advance(3600)
        search_again(here, exporter)
        search_again(here, exporter)

    assert (value(found, WATCHED, project="prod"), between) == (1, [])
    assert len(warnings_of(caplog)) == 2


def test_without_discovery() -> None:
    """The instances of the configuration are watched, without discovery too."""
    with world(3) as here, here.exporter() as exporter:
        found = scrape(exporter)

    assert value(found, WATCHED, project="prod") == 3


def test_watched_before_the_first_search() -> None:
    """The number of watched instances is there, at 0, before any search has found one."""
    with world(2) as here, discovering(here) as exporter:
        here.cloud.faults.add("forbidden", operation="list_instances")
        found = scrape(exporter)

    assert value(found, WATCHED, project="prod") == 0


class Listed:
    """A discovery whose every list a test makes, an interval apart."""

    def __init__(self) -> None:
        self.steady = 1000.0
        self.numbers = range(0)
        self.discovery = Discovery(
            "prod",
            DiscoveryConfig(),
            lambda _: [Instance(f"i{number}", "", "prod") for number in self.numbers],
            lambda _: None,
            Clock(lambda: self.steady, lambda: self.steady),
        )

    def search(self, *numbers: int, seconds: float = 300.0) -> str:
        """Find so many instances at each search; return the warning after the last one."""
        for number in numbers:
            self.numbers = range(number)
            self.steady += seconds
            search = self.discovery.search()
            assert search is not None
            search.result(10)
        return self.discovery.status.warning


@pytest.mark.parametrize(
    ("after", "warning"),
    [
        (20, "280 of 300 instances left at once"),
        (149, "151 of 300 instances left at once"),
        (150, ""),
        (300, ""),
    ],
)
def test_a_sudden_loss(after: int, warning: str) -> None:
    """That more than half of the instances left in one search is told, with the numbers."""
    listed = Listed()
    listed.search(300)

    assert listed.search(after, after).partition(":")[0] == warning


def test_a_sudden_loss_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The loss is logged once, with the number before and the number that is left."""
    listed = Listed()
    listed.search(300, 20, 20, 20, 21, 20)

    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert record.message.startswith("280 of 300 instances left at once: check whether")
    assert record.fields == {"project": "prod", "before": 300, "now": 20}  # type: ignore[attr-defined]


def test_a_loss_ends() -> None:
    """A loss is told until half of the instances are back, or for a day."""
    listed = Listed()
    lost = listed.search(300, 20, 20)
    back = listed.search(150)
    again = listed.search(20, 20)
    still = listed.search(20, seconds=86_000)
    later = listed.search(20, seconds=400)

    assert [bool(warning) for warning in (lost, back, again, still, later)] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_instances_that_leave_one_by_one() -> None:
    """Instances that leave a few at a time are no sudden loss."""
    listed = Listed()

    assert not any(listed.search(number, number) for number in (300, 200, 120, 80, 50, 30))


@dataclass
class Answering:
    """A discovery whose answers a test chooses, with a clock that it moves."""

    answer: Sequence[Instance] | Exception = ()
    interval: float = 300.0
    steady: float = 1000.0
    deadlines: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = Clock(lambda: self.steady, lambda: self.steady)
        rules = DiscoveryConfig().model_copy(update={"refresh_interval": self.interval})
        self.discovery = Discovery("prod", rules, self.list, lambda _: None, clock)

    def list(self, deadline: float) -> Sequence[Instance]:
        """Answer a search."""
        self.deadlines.append(deadline)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def search(self, seconds: float, answer: Sequence[Instance] | Exception) -> bool:
        """Let time pass; return whether a search began and ended then."""
        self.steady += seconds
        self.answer = answer
        search = self.discovery.search()
        if search is not None:
            search.result(10)
        return search is not None


FOUND = [Instance("i0", "n", "prod")]


def test_how_often_is_searched() -> None:
    """A search is due after 15 seconds until one succeeds, and then after the interval."""
    here = Answering()
    began = [
        here.search(seconds, answer)
        for seconds, answer in (
            (0.0, ApiTimeoutError("no")),
            (14.9, FOUND),
            (0.1, FOUND),
            (299.9, FOUND),
            (0.1, ApiTimeoutError("no")),
            (299.9, FOUND),
            (0.1, FOUND),
        )
    ]

    assert began == [True, False, True, False, True, False, True]


@pytest.mark.parametrize(("interval", "limit"), [(300.0, 300.0), (5.0, 60.0)])
def test_how_long_a_search_takes(interval: float, limit: float) -> None:
    """No page is asked for when the next search is due, or after a minute if that is later."""
    here = Answering(interval=interval)
    here.search(0.0, FOUND)

    assert here.deadlines == [1000.0 + limit]


@pytest.mark.parametrize(("seconds", "up"), [(3599.0, False), (3600.0, True)])
def test_an_hour_of_empty_lists(seconds: float, *, up: bool) -> None:
    """Empty lists are believed when they came for an hour, to the moment."""
    here = Answering()
    here.search(0.0, FOUND)
    here.search(300.0, ())
    here.search(seconds, ())

    assert here.discovery.status.up is up


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ApiTimeoutError("no answer"), "timeout: no answer"),
        (KeyError("x"), "internal: KeyError, see the log"),
    ],
)
def test_the_problem_of_a_search(error: Exception, problem: str) -> None:
    """A failed search says why, and the time of the last success stays."""
    here = Answering()
    here.search(0.0, FOUND)
    good = here.discovery.status
    here.search(300.0, error)

    assert good == DiscoveryStatus("prod", 1, 1000.0)
    assert here.discovery.status == replace(good, problem=problem)
    assert (good.up, here.discovery.status.up) == (True, False)


@pytest.mark.parametrize(
    ("found", "known"), [((), "and is asked for again"), (FOUND, "where 1 are known")]
)
def test_the_problem_of_an_empty_list(found: Sequence[Instance], known: str) -> None:
    """An empty list says how many instances are known."""
    here = Answering()
    if found:
        here.search(0.0, found)
    here.search(300.0, ())

    assert here.discovery.status.problem == f"the answer lists no instance at all, {known}"


def instances(*numbers: int) -> list[Instance]:
    return [Instance(f"i{number}", f"n{number}", "prod") for number in numbers]


def test_the_fields_of_a_search(caplog: pytest.LogCaptureFixture) -> None:
    """The line of a search says how many instances are watched, came and left."""
    caplog.set_level(logging.INFO, "dcs_task_exporter")
    here = Answering()
    for found in (instances(1, 2, 3), instances(2, 3, 4), instances(2, 3, 4)):
        here.search(300.0, found)

    assert [vars(line)["fields"] for line in caplog.records] == [
        {"project": "prod", "instances": 3, "came": 3, "left": 0},
        {"project": "prod", "instances": 4, "came": 1, "left": 0},
        {"project": "prod", "instances": 3, "came": 0, "left": 1},
    ]


def test_the_fields_of_a_loss(caplog: pytest.LogCaptureFixture) -> None:
    """The warning of a loss has the numbers before and after it."""
    here = Answering()
    here.search(0.0, instances(1, 2, 3))
    for _ in range(2):
        here.search(300.0, instances(1))

    assert [vars(line)["fields"] for line in caplog.records] == [
        {"project": "prod", "before": 3, "now": 1}
    ]


def test_half_of_the_instances_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    """Half of the instances may leave at once; that is no loss of most."""
    here = Answering()
    here.search(0.0, instances(1, 2, 3, 4))
    for _ in range(2):
        here.search(300.0, instances(1, 2))

    assert here.discovery.status == DiscoveryStatus("prod", 2, 1600.0)
    assert caplog.records == []


def test_a_failed_search_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A problem is logged when it is another than before, with what becomes of the list."""
    here = Answering()
    here.search(0.0, ApiTimeoutError("a"))
    here.search(300.0, FOUND)
    for text in "bbc":
        here.search(300.0, ApiTimeoutError(text))

    told = [(line.getMessage(), vars(line)["fields"]["error"]) for line in caplog.records]
    start = "discovery cannot list the instances: "
    assert told == [
        (f"{start}none was found before", "timeout: a"),
        (f"{start}the last list stays", "timeout: b"),
        (f"{start}the last list stays", "timeout: c"),
    ]


def test_a_bug_of_a_search_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is logged with its project."""
    Answering().search(0.0, KeyError("x"))

    assert vars(caplog.records[0])["fields"]["project"] == "prod"


def test_all_rules_are_told() -> None:
    """A warning that the rules admit nothing names each rule that is set."""
    here = Answering()
    rules = DiscoveryConfig(include="a", exclude="b", tags={"team": "x"})
    here.discovery._rules = rules  # noqa: SLF001 - the rules of this search
    here.search(0.0, FOUND)

    assert "(include 'a', exclude 'b', tags {'team': 'x'})" in here.discovery.status.warning
