"""What outgrows one scrape: probes, service discovery, shards, several projects, no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from dcs_task_exporter.config.environment import config_of_environment
from dcs_task_exporter.config.model import Config, parse_config
from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.refresh.sharding import Shard
from tests.support.clouds import ACCESS_KEY, NOW, PROJECT, SECRET_KEY, World, samples, value, world
from tests.support.served import get, served

ENVIRON = {"HUAWEICLOUD_SDK_AK": ACCESS_KEY, "HUAWEICLOUD_SDK_SK": SECRET_KEY}


@pytest.mark.parametrize("target", ["i1", "cache-1"])
def test_probe_reads_one(target: str) -> None:
    """A probe, by id or by name, reads its instance and shows nothing else."""
    with world(3) as here, served(here) as url:
        answer = get(f"{url}/probe", target=target)
        read = {request.instance_id for request in here.cloud.requests}

    found = samples(answer.text)
    assert read == {"i1"}
    assert {dict(labels)["dcs_instance_id"] for _, labels in found} == {"i1"}
    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1


def test_probe_counts() -> None:
    """What a probe shows first at 0 a later one shows counted."""
    with world(2) as here, served(here) as url:
        get(f"{url}/probe", target="i0")
        here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at="2025-06-15T15:06:41.000Z")
        here.clock.advance(15)
        found = samples(get(f"{url}/probe", target="i0").text)

    assert value(found, "dcs_tasks_finished_total", task_name="EXTEND", status="FAILED") == 1


def test_probe_of_what_is_not_known_yet() -> None:
    """A probe of an instance that no search has found yet searches first."""
    with world(1) as here, served(here, parse_config(discovering(here), "test", {})) as url:
        found = samples(get(f"{url}/probe", target="cache-0").text)

    assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 1


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("", "Which instance? /probe?target=<id or name>"),
        ("nobody", "No instance 'nobody' is watched"),
        ("http://169.254.169.254/", "No instance 'http://169.254.169.254/' is watched"),
        ("twin", "2 instances are named 'twin': use the id, one of t1, t2"),
    ],
)
def test_probe_of_nobody(target: str, told: str) -> None:
    """A target that is not one watched instance is refused, and no request leaves."""
    with world(1) as here:
        here.cloud.add_instance(PROJECT, "t1", "twin")
        here.cloud.add_instance(PROJECT, "t2", "twin")
        with served(here) as url:
            answer = get(f"{url}/probe", target=target)

        assert (answer.status_code, here.cloud.requests) == (400, [])
        assert answer.text.startswith(told)


def test_probe_of_a_hanging_instance() -> None:
    """A probe answers in time with what is known, and says that the instance is not up."""
    with world(2) as here, served(here) as url:
        here.cloud.faults.add("silence", instance_id="i0")
        answer = get(f"{url}/probe", timeout=1, target="i0")

    assert value(samples(answer.text), "dcs_instance_up", dcs_instance_id="i0") == 0


def test_targets() -> None:
    """`/sd` lists the instances in the form that Prometheus reads, with labels to choose by."""
    with world(0) as here:
        tags = [{"key": "cost center", "value": "7"}]
        here.cloud.add_instance(PROJECT, "i0", "orders", tags=tags)
        config = parse_config(discovering(here), "test", {})
        with served(here, config) as url:
            answer = get(f"{url}/sd")

    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == [
        {
            "targets": ["i0"],
            "labels": {
                "__meta_dcs_instance_id": "i0",
                "__meta_dcs_instance_name": "orders",
                "__meta_dcs_project": "prod",
                "__meta_dcs_project_id": PROJECT,
                "__meta_dcs_region": "cn-north-4",
                "__meta_dcs_engine": "Redis",
                "__meta_dcs_engine_version": "5.0",
                "__meta_dcs_spec_code": "redis.ha.xu1.large.r2.4",
                "__meta_dcs_instance_status": "RUNNING",
                "__meta_dcs_tag_cost_center": "7",
            },
        }
    ]


def discovering(here: World) -> str:
    """Return a configuration without instances, but with discovery."""
    text = here.config_text()
    start, end = text.index("    instances:"), text.index("collector:")
    return f"{text[:start]}    discovery: {{enabled: true}}\n{text[end:]}"


def test_targets_that_are_not_known() -> None:
    """While no search has worked `/sd` is an error, for an empty list would end all scrapes."""
    with world(2) as here:
        here.cloud.faults.add("forbidden", operation="list_instances")
        with served(here, parse_config(discovering(here), "test", {})) as url:
            answer = get(f"{url}/sd")
            page = requests.get(url, timeout=10).text

    assert (answer.status_code, answer.text) == (503, "The instances are not known yet\n")
    assert "The instances of project prod cannot be listed: forbidden" in page


def test_only_the_exporter() -> None:
    """`collect[]=exporter` shows what the exporter says of itself, and reads no instance."""
    with world(2) as here, served(here) as url:
        found = samples(get(f"{url}/metrics", part="exporter").text)

        assert here.cloud.requests == []
    assert value(found, "dcs_task_exporter_total_shards") == 1
    assert "dcs_instance_up" not in {name for name, _ in found}


def test_only_the_instances() -> None:
    """`collect[]=instances` leaves out what the exporter says of itself."""
    with world(2) as here, served(here) as url:
        found = samples(get(f"{url}/metrics", part="instances").text)

    names = {name for name, _ in found}
    assert "dcs_instance_up" in names
    assert "dcs_api_requests_total" not in names


def test_unknown_part() -> None:
    """Another part is refused by its name."""
    with world(1) as here, served(here) as url:
        answer = get(f"{url}/metrics", part="tasks")

    assert answer.status_code == 400
    assert answer.text == "Unknown collect[]=tasks: there are instances and exporter\n"


def test_shards_share() -> None:
    """Two shards read each instance once together, and show which shard they are."""
    shown: list[set[str]] = []
    with world(20) as here:
        for index in range(2):
            with served(here, shard=Shard(index, 2)) as url:
                found = samples(get(f"{url}/metrics").text)
            up = [dict(labels) for name, labels in found if name == "dcs_instance_up"]
            shown.append({labels["dcs_instance_id"] for labels in up})
            assert value(found, "dcs_task_exporter_shard_ordinal") == index

    assert sorted([*shown[0], *shown[1]]) == sorted(here.instances)
    assert all(shown)


def with_bad_project(text: str, other: str) -> Config:
    """Return a configuration with the project of another beside its own, under the name `bad`."""
    start, end = other.index("  - name: prod"), other.index("collector:")
    bad = other[start:end].replace("name: prod", "name: bad")
    return parse_config(text.replace("collector:", f"{bad}collector:"), "test", {})


def test_hanging_project() -> None:
    """A project that hangs does not slow another: that one is whole, and both are told apart."""
    with world(5) as good, world(5) as bad:
        bad.cloud.faults.add("silence")
        text = good.config_text(collector={"timeout": "30s"})
        other = bad.config_text().replace("{id: i", "{id: b")
        with served(good, with_bad_project(text, other)) as url:
            found = samples(get(f"{url}/metrics", timeout=2).text)
            assert bad.cloud.requests  # nobody waited for those
    up = {
        dict(labels)["dcs_instance_id"]: number
        for (name, labels), number in found.items()
        if name == "dcs_instance_up"
    }
    assert up == {f"i{n}": 1 for n in range(5)} | {f"b{n}": 0 for n in range(5)}


@contextmanager
def beside_a_silent_project(instances: int, *, search: bool = False) -> Iterator[tuple[World, str]]:
    """Serve a good project, searched too if wanted, and a silent one that was never searched."""
    with world(instances) as good, world(0) as bad:
        bad.cloud.faults.add("silence")
        text = discovering(good) if search else good.config_text(collector={"timeout": "30s"})
        with served(good, with_bad_project(text, discovering(bad))) as url:
            yield good, url


@pytest.mark.parametrize("search", [False, True])
def test_a_search_that_hangs(*, search: bool) -> None:
    """A project whose first search hangs does not keep another from being searched and read."""
    with beside_a_silent_project(3, search=search) as (_, url):
        found = samples(get(f"{url}/metrics", timeout=2).text)

    assert value(found, "dcs_instance_up", dcs_instance_id="i2") == 1
    assert value(found, "dcs_discovery_up", project="bad") == 0


def test_a_probe_waits_for_no_search() -> None:
    """A probe of what is known waits for no search, and has one time limit for all it does."""
    with beside_a_silent_project(3) as (good, url):
        found = samples(get(f"{url}/probe", timeout=100, target="i1").text)

        assert good.cloud.count("list_tasks") == 1
    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1


def test_targets_of_one_project() -> None:
    """`/sd?project=` answers for a project while another was never listed."""
    with beside_a_silent_project(2) as (_, url):
        one = requests.get(f"{url}/sd", {"project": "prod"}, timeout=30)
        none = requests.get(f"{url}/sd", {"project": "other"}, timeout=30)

    assert [target for group in one.json() for target in group["targets"]] == ["i0", "i1"]
    assert (none.status_code, none.text) == (400, "No project 'other': there are prod, bad\n")


def test_an_empty_name_is_no_name() -> None:
    """`name[]=` asks for everything, and the counters in it are seen to be scraped."""
    failed = {"task_name": "EXTEND", "status": "FAILED"}
    with world(1) as here, served(here) as url:
        get(f"{url}/metrics?name[]=")
        here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at="2025-06-15T15:06:41.000Z")
        here.clock.advance(15)
        found = samples(get(f"{url}/metrics?name[]=").text)

    assert value(found, "dcs_tasks_finished_total", **failed) == 1


def test_refreshing_by_itself() -> None:
    """With a refresh interval the exporter reads on its own, and a scrape waits for nothing."""
    with world(3) as here:
        text = here.config_text(collector={"refresh_interval": "30m"})
        with served(here, parse_config(text, "test", {})) as url:
            assert here.cloud.wait_for(lambda: here.cloud.count("list_tasks") >= 3)
            here.clock.advance(3600)
            answer = get(f"{url}/metrics")
            asked = here.cloud.count("list_tasks")

    assert asked == 3
    assert "dcs_instance_up" in answer.text


def environment(here: World, **more: str) -> dict[str, str]:
    """Return the environment of an exporter without a file."""
    return {
        **ENVIRON,
        "HUAWEICLOUD_SDK_REGION": "cn-north-4",
        "HUAWEICLOUD_SDK_REGION_DCS_CN_NORTH_4": here.server.url,
        "HUAWEICLOUD_SDK_IAM_ENDPOINT": here.server.url,
        **more,
    }


@pytest.mark.parametrize("project", [{}, {"HUAWEICLOUD_SDK_PROJECT_ID": PROJECT}])
def test_without_a_file(project: dict[str, str]) -> None:
    """A key and a region in the environment are enough: all instances of the project are read."""
    with world(3) as here:
        environ = environment(here, **project)
        config = config_of_environment(environ)
        with served(here, config, environ=environ) as url:
            found = samples(get(f"{url}/metrics").text)

    assert value(found, "dcs_instance_up", dcs_instance_id="i2") == 1
    assert value(found, "dcs_discovery_last_success_timestamp_seconds", project="cn-north-4") == NOW


def test_without_a_region() -> None:
    """Without a region the environment is not enough, and that is said."""
    with pytest.raises(ConfigError, match="region: is missing: set HUAWEICLOUD_SDK_REGION or HW"):
        config_of_environment(ENVIRON)


def test_the_environment_is_data() -> None:
    """A variable's value cannot name another variable."""
    with pytest.raises(ConfigError, match="region: letters, digits"):
        config_of_environment({**ENVIRON, "HUAWEICLOUD_SDK_REGION": "${HUAWEICLOUD_SDK_SK}"})
