"""A real Prometheus finds the instances by itself, and shares them out to two exporters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clouds import PROJECT
from real_exporter import cloud_of_two, exporting
from real_prometheus import Prometheus, running_jobs

from dcs_task_exporter.simulator import SimulatedCloud

pytestmark = pytest.mark.real

DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling.md"
INSTANCES = 8


def documented_jobs(addresses: list[str]) -> str:
    """Return the jobs of the document, for exporters at these addresses."""
    text = DOCUMENT.read_text()
    text = text[text.index("```yaml\nscrape_configs:") + 8 :]
    config = yaml.safe_load(text[: text.index("```")])
    probes, own = config["scrape_configs"]
    probes["scrape_interval"] = "1s"
    probes["http_sd_configs"] = [{"url": f"http://{addresses[0]}/sd", "refresh_interval": "1s"}]
    (at,) = [
        number
        for number, rule in enumerate(probes["relabel_configs"])
        if rule.get("replacement") == "exporter-$1:39327"
    ]
    probes["relabel_configs"][at : at + 1] = [
        {**probes["relabel_configs"][at], "regex": str(number), "replacement": address}
        for number, address in enumerate(addresses)
    ]
    own["static_configs"] = [{"targets": addresses}]
    return yaml.safe_dump([probes, own])


@pytest.fixture
def cloud() -> SimulatedCloud:
    made = cloud_of_two()
    for number in range(2, INSTANCES):
        made.add_instance(PROJECT, f"i{number}", f"cache-{number}")
    return made


@pytest.fixture
def exporters(cloud: SimulatedCloud) -> Iterator[list[str]]:
    found = "    discovery: {enabled: true, refresh_interval: 500ms}\n"
    with exporting(cloud, instances=found) as one, exporting(cloud, instances=found) as two:
        yield [url.removeprefix("http://") for url in (one, two)]


@pytest.fixture
def server(prometheus: Path, tmp_path: Path, exporters: list[str]) -> Iterator[Prometheus]:
    with running_jobs(prometheus, tmp_path, documented_jobs(exporters)) as running:
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
