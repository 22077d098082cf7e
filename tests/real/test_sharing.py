"""A real Prometheus finds the instances by itself, and shares them out to two exporters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from tests.support.clouds import PROJECT, samples
from tests.support.real_exporter import cloud_of_two, exporting
from tests.support.real_parts import ROOT
from tests.support.real_prometheus import Prometheus, running_jobs
from tests.support.yaml_texts import load_yaml

pytestmark = [pytest.mark.real, pytest.mark.long(10)]

DOCUMENT = (ROOT / "docs" / "scaling.md").read_text()
EXAMPLE = load_yaml((ROOT / "prometheus" / "prometheus-probe.example.yml").read_text())
INSTANCES = 8
FOUND = "    discovery: {enabled: true, refresh_interval: 1s}\n"
UNREACHABLE = """\
  - name: test
    region: cn-north-4
    project_id: none
    endpoint: http://127.0.0.1:%d
    credentials: {type: token, token: none}
"""


@pytest.fixture
def prometheus_major() -> str:
    """The newest alone: promtool of each major version accepts what is used here."""
    return "3"


def documented(first_line: str) -> Any:
    """Return what the block of the document that begins with this line says."""
    text = DOCUMENT[DOCUMENT.index(f"```yaml\n{first_line}\n") + 8 :]
    return load_yaml(text[: text.index("```")])


def documented_jobs(addresses: list[str]) -> list[dict[str, Any]]:
    """Return the jobs of the document, for exporters at these two addresses."""
    jobs: list[dict[str, Any]] = documented("scrape_configs:")["scrape_configs"]
    probes, own = jobs
    rules = probes["relabel_configs"]
    (at,) = [n for n, rule in enumerate(rules) if rule.get("target_label") == "__address__"]
    assert rules[at]["replacement"] == "exporter-$1:39327"
    rules[at : at + 1] = [
        {**rules[at], "regex": str(number), "replacement": address}
        for number, address in enumerate(addresses)
    ]
    for listed in probes["http_sd_configs"]:
        listed |= {"url": at_port(listed["url"], addresses), "refresh_interval": "1s"}
    (named,) = own["static_configs"]
    named["targets"] = [at_port(target, addresses) for target in named["targets"]]
    return jobs


def at_port(text: str, addresses: list[str]) -> str:
    """Return a text of the document with the exporters' addresses in place of their names."""
    for number, address in enumerate(addresses):
        text = text.replace(f"exporter-{number}:39327", address)
    return text


def targets(server: Prometheus, job: str = "dcs-tasks") -> list[str]:
    """Return what Prometheus scrapes for a job, each target as often as it does."""
    answer = requests.get(f"{server.url}/api/v1/targets?state=active", timeout=10)
    found = answer.json()["data"]["activeTargets"]
    return sorted(one["labels"]["instance"] for one in found if one["labels"]["job"] == job)


@pytest.fixture
def cloud() -> SimulatedCloud:
    made = cloud_of_two()
    for number in range(2, INSTANCES):
        made.add_instance(PROJECT, f"i{number}", f"cache-{number}")
    return made


@pytest.fixture
def exporters(cloud: SimulatedCloud) -> Iterator[list[str]]:
    with exporting(cloud, instances=FOUND) as one, exporting(cloud, instances=FOUND) as two:
        yield [url.removeprefix("http://") for url in (one, two)]


@pytest.fixture
def server(prometheus: Path, tmp_path: Path, exporters: list[str]) -> Iterator[Prometheus]:
    jobs = yaml.safe_dump(documented_jobs(exporters))
    with running_jobs(prometheus, tmp_path, jobs) as running:
        yield running


def test_each_is_probed_once(server: Prometheus) -> None:
    """Each instance is a target of one exporter, both exporters have some, and all are up."""
    found = server.wait_for("dcs_instance_up == 1", lambda found: len(found) == INSTANCES)
    named = {(one["metric"]["instance"], one["metric"]["dcs_instance_id"]) for one in found}

    assert named == {(f"i{number}", f"i{number}") for number in range(INSTANCES)}
    busy = 'sum by (instance) (dcs_api_requests_total{operation="list_tasks"}) > 0'
    server.wait_for(busy, lambda found: len(found) == 2)


def test_nothing_is_counted_twice(server: Prometheus, cloud: SimulatedCloud) -> None:
    """The failures of all instances together are as many as there were."""
    failed = 'dcs_tasks_finished_total{task_name="EXTEND",status="FAILED"}'
    server.wait_for(failed, lambda found: len(found) == INSTANCES)
    for number in range(INSTANCES):
        task = cloud.start_task(f"i{number}", "EXTEND")
        cloud.finish_task(f"i{number}", task, "FAILED")

    server.wait_for(f"{failed} == 1", lambda found: len(found) == INSTANCES)
    total = server.wait_for(f"count(increase({failed}[1m]) > 0) == {INSTANCES}")
    assert total
    assert server.query(f"sum({failed})")[0]["value"][1] == str(INSTANCES)


def test_new_instance_is_probed(server: Prometheus, cloud: SimulatedCloud) -> None:
    """An instance that is made later is found, and probed."""
    server.wait_for("dcs_instance_up == 1", lambda found: len(found) == INSTANCES)
    cloud.add_instance(PROJECT, "later", "later")

    server.wait_for('dcs_instance_up{dcs_instance_id="later"} == 1')


def test_the_exporters_themselves(server: Prometheus, exporters: list[str]) -> None:
    """The second job shows what the exporters say of themselves, without any instance."""
    own = 'dcs_task_exporter_build_info{job="dcs-task-exporter"}'
    found = server.wait_for(own, lambda found: len(found) == 2)

    assert {one["metric"]["instance"] for one in found} == set(exporters)
    assert not server.query('dcs_instance_up{job="dcs-task-exporter"}')


def test_no_target_is_doubled(server: Prometheus) -> None:
    """What both exporters list is one target each."""
    server.wait_for('up{job="dcs-tasks"} == 1', lambda found: len(found) == INSTANCES)
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    discovered = [
        number
        for (name, labels), number in samples(text).items()
        if name == "prometheus_sd_discovered_targets" and "dcs-tasks" in dict(labels).values()
    ]

    assert discovered == [2 * INSTANCES]
    assert targets(server) == [f"i{number}" for number in range(INSTANCES)]


def test_one_exporter_is_down(prometheus: Path, tmp_path: Path, exporters: list[str]) -> None:
    """The targets are whole from one list alone; those of the exporter that is down are not up."""
    jobs = documented_jobs([f"127.0.0.1:{free_port()}", exporters[1]])

    with running_jobs(prometheus, tmp_path, yaml.safe_dump(jobs)) as server:
        server.wait_for('up{job="dcs-tasks"}', lambda found: len(found) == INSTANCES)
        up = server.wait_for('up{job="dcs-tasks"} == 1')
        down = server.wait_for('up{job="dcs-tasks"} == 0')

    assert len(up) + len(down) == INSTANCES


def test_one_project_cannot_be_listed(
    prometheus: Path, tmp_path: Path, cloud: SimulatedCloud
) -> None:
    """Asked for by its name, as documented, a project is listed though another one cannot be."""
    probes, _ = documented_jobs(["", ""])
    (rule,) = re.findall(r"# (\{target_label: .*\})", DOCUMENT)
    rules = [one for one in probes["relabel_configs"] if "__tmp_exporter" not in str(one)]
    projects = documented("    http_sd_configs:")["http_sd_configs"]

    with exporting(cloud, instances=f"{FOUND}{UNREACHABLE % free_port()}{FOUND}") as url:
        addresses = [url.removeprefix("http://")] * 2
        probes["relabel_configs"] = [*rules, load_yaml(at_port(rule, addresses))]
        probes["http_sd_configs"] = [
            {"url": at_port(one["url"], addresses), "refresh_interval": "1s"} for one in projects
        ]
        with running_jobs(prometheus, tmp_path, yaml.safe_dump([probes])) as server:
            server.wait_for("dcs_instance_up == 1", lambda found: len(found) == INSTANCES)
            all_projects = requests.get(f"{url}/sd", timeout=30)

    assert all_projects.status_code == 503


def test_the_example_is_the_documented_one() -> None:
    """The example file has the jobs of the document."""
    assert EXAMPLE["scrape_configs"] == documented("scrape_configs:")["scrape_configs"]
