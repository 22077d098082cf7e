"""How many series an instance has, and which labels every one of them carries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing, Progress, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from tests.support.clouds import NOW, Samples, samples, scrape, value, world
from tests.support.counting import count
from tests.support.served import get, served

QUIET = 30
"""Most series of an instance without any task; those of a resize are among them."""

FIRST, FURTHER = 10, 5
"""Most series that a task name adds with its first status, and with each further one."""

RULES = CountingRules(7 * 86_400.0)
TASKS = st.lists(
    st.builds(
        Task,
        id=st.text("ab", min_size=1, max_size=3),
        name=st.sampled_from(["EXTEND", "modify", "DeleteAcl", "ChangeInstanceSpec"]),
        status=st.sampled_from(
            ["SUCCESS", "FAILED", "FAIL", "ERROR", "CANCELLED", "EXECUTING", "WAITING", "PAUSED"]
        ),
        created_at=st.floats(NOW - 3600, NOW - 1800) | st.none(),
        updated_at=st.floats(NOW - 1800, NOW) | st.none(),
        details=st.builds(TaskDetails, old_capacity=st.just(1.0), new_capacity=st.just(2.0)),
    ),
    max_size=8,
)


def shown(snapshot: Snapshot) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    """Return the series of an instance."""
    return [
        (sample.name, frozenset(sample.labels.items()))
        for family in TaskCollector(lambda _: [snapshot]).collect()
        for sample in family.samples
    ]


def read(listings: Sequence[Sequence[Task]]) -> Snapshot:
    """Return what is shown after these listings, each at its own time, with all progress."""
    state, listing = InstanceState(), Listing((), NOW - 86_400)
    for tasks in listings:
        listing = Listing(tuple(tasks), NOW - 86_400)
        state = count(state, listing, NOW, RULES)
        state = reveal(state, set(state.counts))
    progress = dict.fromkeys(state.active, Progress(0.5, 60.0))
    shown_now = task_metrics(state, listing, NOW, RULES, progress)
    return Snapshot(
        Instance("i0", "orders", "prod"),
        up=True,
        metrics=shown_now,
        refreshed_at=NOW,
        refresh_duration=0.1,
    )


def of_instance(found: Samples, instance_id: str) -> int:
    return sum(("dcs_instance_id", instance_id) in labels for _, labels in found)


def test_quiet_instances() -> None:
    """Of 300 instances without any task, each has at most 30 series."""
    with world(300) as here, here.exporter() as exporter:
        found = scrape(exporter)

    assert {of_instance(found, key) <= QUIET for key in here.instances} == {True}


@given(st.lists(TASKS, min_size=1, max_size=3))
def test_a_name_adds_few_series(listings: list[list[Task]]) -> None:
    """A task name adds at most 10 series with its first status, and 5 with each further one."""
    statuses: dict[str, set[str]] = defaultdict(set)
    for task in (task for tasks in listings for task in tasks):
        statuses[task.name].add(task.status)
    allowed = sum(FIRST + FURTHER * (len(words) - 1) for words in statuses.values())

    assert len(shown(read(listings))) <= QUIET + allowed


@pytest.mark.parametrize("tasks", [[], [Task("a", "EXTEND", "FAILED", NOW - 60, NOW)]])
def test_no_zeros_for_names_it_never_had(tasks: list[Task]) -> None:
    """But for the counters, a name that the instance never had has no series."""
    named = {
        dict(labels)["task_name"]
        for name, labels in shown(read([tasks]))
        if "task_name" in dict(labels) and name != "dcs_tasks_finished_total"
    }

    assert named == {task.name for task in tasks}


@pytest.mark.parametrize(
    "later", [[], [Task("b", "modify", "SUCCESS", NOW - 60, NOW)]], ids=["nothing", "another"]
)
def test_a_name_that_it_had_stays(later: list[Task]) -> None:
    """Of a name that was counted, and is not listed any more, the gauges show 0 and when."""
    failed = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    found = {
        name
        for name, labels in shown(read([[], [failed], later]))
        if ("task_name", "EXTEND") in labels
    }

    assert found >= {
        "dcs_tasks_recent",
        "dcs_tasks_active",
        "dcs_task_last_failure_timestamp_seconds",
        "dcs_task_last_success_timestamp_seconds",
    }


def test_nothing_listed_is_zero() -> None:
    """An instance that was read and has no task says so: dcs_instance_tasks_listed is 0."""
    with world(2) as here, here.exporter() as exporter:
        for _ in range(3):
            here.cloud.start_task("i1", "EXTEND", "SUCCESS")
        found = scrape(exporter)

    listed = [
        value(found, "dcs_instance_tasks_listed", dcs_instance_id=key) for key in ("i0", "i1")
    ]
    assert listed == [0, 3]


def test_never_read_lists_nothing() -> None:
    """An instance that was never read does not say how many tasks are listed."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.faults.add("internal")
        found = scrape(exporter)

    assert value(found, "dcs_instance_tasks_listed", dcs_instance_id="i0") is None


@pytest.mark.parametrize("path", ["/metrics", "/probe"])
def test_every_series_has_its_project(path: str) -> None:
    """Every series of an instance names its project, its id and its name."""
    with world(1) as here, served(here) as url:
        for status in ("EXECUTING", "SUCCESS", "FAILED"):
            here.cloud.start_task("i0", "EXTEND", status)
        target = "i0" if path == "/probe" else ""
        found = samples(get(f"{url}{path}", target=target, part="instances").text)

    own = {("project", "prod"), ("dcs_instance_id", "i0"), ("dcs_instance_name", "cache-0")}
    assert found
    assert not [(name, labels) for name, labels in found if not own <= labels]


def test_capacity_of_a_failed_resize_is_not_shown() -> None:
    """The capacities are those of the latest EXTEND that succeeded, not of a later failed one."""
    done = Task("a", "EXTEND", "SUCCESS", NOW - 60, NOW - 30, TaskDetails(1.0, 2.0))
    failed = Task("b", "EXTEND", "FAILED", NOW - 20, NOW, TaskDetails(2.0, 4.0))
    snapshot = read([[done, failed]])

    assert snapshot.metrics is not None
    assert snapshot.metrics.last_extend == done
