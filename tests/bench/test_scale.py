"""The pieces of the scale run: its plan, its limited cloud, its pods, and what it sees of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.ledger import Ledger
from bench.scale_cloud import CloudProcess, CloudSettings, LimitedCloud
from bench.scale_plan import Plan
from bench.scale_pods import Pods, values
from bench.scale_watch import Scrape, Watch, spread
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.simulator.request import received

PLAN = Plan(instances=60, projects=3, shards=4, after=5, pass_time=2, roll=0)
CLOUD = CloudSettings(projects=2, instances=3, latency=0.0, limit=2)


def page(second: int, **finished: int) -> str:
    """Return a scrape of a pod that has read instance i at this second, with its counters."""
    lines = [
        "# HELP dcs_instance_up x",
        'dcs_instance_up{dcs_instance_id="i"} 1.0',
        f'dcs_instance_last_refresh_timestamp_seconds{{dcs_instance_id="i"}} {second}.0',
        *(
            'dcs_tasks_finished_total{dcs_instance_id="i",status="FAILED",'
            f'task_name="{name}"}} {value}'
            for name, value in finished.items()
        ),
    ]
    return "\n".join(lines)


def test_the_rate_leaves_room() -> None:
    """All shards together, the added one too, keep below the limit of a project."""
    together = max(PLAN.shards, PLAN.after) * PLAN.rate

    assert 0.9 < together / (PLAN.cloud.limit / 60) < 0.95


def test_a_pass_takes_as_long_as_planned() -> None:
    """The shards before the change read all instances of a project once in the planned time."""
    assert 20 / (PLAN.rate * PLAN.shards) == pytest.approx(PLAN.pass_time, rel=0.01)


def test_owners() -> None:
    """Each instance has one owner: the shard that the exporter's own rule names."""
    owners = PLAN.owners(4)

    assert sum(map(len, owners.values())) == 60
    assert all(Shard(number, 4).has(it) for number, ids in owners.items() for it in ids)


def test_a_project_over_its_limit() -> None:
    """A project that asks too often is refused, and another one is not."""
    cloud = LimitedCloud(CLOUD)
    first, second = CLOUD.project_ids()
    targets = [f"/v2/{project}/instances" for project in (first, first, first, second)]
    statuses = [cloud.answer(received("GET", it, {}, b"")).status for it in targets]

    assert statuses == [401, 401, 429, 401]
    assert cloud.served().refused == 1
    assert cloud.requests == []


def test_the_cloud_as_a_process() -> None:
    """Tasks are played in the cloud of another process."""
    with CloudProcess(CLOUD) as cloud:
        instance = CLOUD.instance_ids()[CLOUD.project_ids()[0]][0]
        task = cloud.start_task(instance, "EXTEND")
        cloud.finish_task(instance, task, "SUCCESS")

        assert (len(task), cloud.url[:17], cloud.served().total) == (32, "http://127.0.0.1:", 0)


def test_the_values_are_the_operators() -> None:
    """The values name the projects, the rate and the interval: the chart has the rest."""
    made = values(CLOUD, "http://cloud", 8, {"requests_per_second": 3}, "15s")

    assert made["shards"] == 8
    assert [it["project_id"] for it in made["config"]["projects"]] == CLOUD.project_ids()
    assert made["config"]["collector"] == {"requests_per_second": 3}


def test_an_increase_is_told_to_the_ledgers() -> None:
    """What one pod shows more than before is counted, by the pod; a first value is not."""
    ledger = Ledger()
    ledger.ended("i", "EXTEND", "FAILED")
    watch = Watch(dict, [ledger], 1)
    for pod, second, value in ((0, 1, 0), (1, 2, 7), (0, 3, 1)):
        watch.take(pod, float(second), 0.1, page(second, EXTEND=value))

    assert ledger.agrees
    assert watch.latest[0].passes == [2.0]


def test_counted_by_two_pods() -> None:
    """A task that two pods count is doubled in their sum, and not in the highest of them."""
    ledger = Ledger({"i"})
    ledger.ended("i", "EXTEND", "FAILED")
    watch = Watch(dict, [ledger], 1)
    for value in (0, 1):
        for pod in (0, 1):
            watch.take(pod, 1.0, 0.1, page(1, EXTEND=value))

    assert (ledger.doubled.total(), ledger.highest) == (1, ledger.happened)


def test_other_instances() -> None:
    """A ledger of some instances leaves the others out."""
    ledger = Ledger({"j"})
    watch = Watch(dict, [ledger], 1)
    for value in (0, 1):
        watch.take(0, 1.0, 0.1, page(1, EXTEND=value))

    assert not ledger.counted


def test_a_pod_that_does_not_answer() -> None:
    """A scrape that fails is noted, and the pod has read nothing until it answers again."""
    watch = Watch(dict, [], 1)
    watch.take(0, 1.0, 0.1, page(1))
    assert watch.is_read({0: {"i"}}, 0)
    watch.scrape(0, "http://127.0.0.1:1")

    assert [pod for pod, _ in watch.failed] == [0]
    assert not watch.is_read({0: {"i"}}, 0)


def test_ages() -> None:
    """The age of data is the time since their read; an instance without one has none."""
    assert Scrape(0, 100.0, refreshed={"i": 90.0, "j": 0.0}).ages == [10.0]


def test_spread() -> None:
    """The median, the 99th percentile and the most are told; of one value, nothing is."""
    assert spread([1.0] * 99 + [5.0]).startswith("p50 1.0 s, p99 ")
    assert spread([1.0]) == "unknown"


def test_no_pod_runs(tmp_path: Path) -> None:
    """Pods that were never started need no end."""
    pods = Pods(tmp_path)
    pods.end_all()

    assert (pods.running, pods.urls) == ({}, {})
