"""From a failing task to the pager, with real parts: cloud, exporter, Prometheus, Alertmanager."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from tests.support.clouds import ACCESS_KEY, PROJECT
from tests.support.real_exporter import cloud_of_two, exporting
from tests.support.real_pager import FOLDER, Alertmanager, Pager, alerting, hurried, paging
from tests.support.real_prometheus import Prometheus, running_config
from tests.support.yaml_texts import load_yaml

pytestmark = [pytest.mark.real, pytest.mark.long(15)]

DOCUMENT = (FOLDER.parent / "docs" / "high-availability.md").read_text()
FLEET = 60
FOUND = "    discovery: {enabled: true, refresh_interval: 1s}\n"
RESIZE = {"old_capacity": "0.125", "new_capacity": "0.25"}


@pytest.fixture
def pager() -> Iterator[Pager]:
    with paging() as made:
        yield made


@pytest.fixture
def cloud() -> SimulatedCloud:
    return cloud_of_two()


@pytest.fixture
def manager(alertmanager: Path, tmp_path: Path, pager: Pager) -> Iterator[Alertmanager]:
    with alerting(alertmanager, tmp_path / "alertmanager", pager) as running:
        yield running


@contextlib.contextmanager
def monitoring(
    binary: Path,
    folder: Path,
    exporters: Sequence[str],
    manager: Alertmanager,
    replica: str = "a",
) -> Iterator[Prometheus]:
    """Run Prometheus with our example: these exporters, hurried rules, this Alertmanager."""
    folder.mkdir()
    rules = folder / "rules.yml"
    rules.write_text(hurried((FOLDER / "dcs-tasks-alerts.yml").read_text()))
    config = load_yaml((FOLDER / "prometheus.example.yml").read_text())
    config["global"]["external_labels"]["replica"] = replica
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["global"]["evaluation_interval"] = "1s"
    config["rule_files"] = [str(rules)]
    targets = [url.removeprefix("http://") for url in exporters]
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [manager.address]}]}]
    with running_config(binary, folder, yaml.safe_dump(config)) as server:
        yield server


def documented(first_line: str) -> Any:
    """Return what the block of the document on pairs that begins with this line says."""
    text = DOCUMENT[DOCUMENT.index(f"```yaml\n{first_line}\n") + 8 :]
    return load_yaml(text[: text.index("```")])


def pages(pager: Pager) -> list[tuple[Any, ...]]:
    """Return the notifications of alerts that fire, without the tests' own."""
    return [
        (body["path"], body["groupLabels"]["alertname"], body["commonLabels"].get("project"))
        for body in pager.told
        if body["status"] == "firing" and body["groupLabels"]["alertname"] != "AllIsTold"
    ]


def test_from_failure_to_pager(
    prometheus: Path, tmp_path: Path, pager: Pager, manager: Alertmanager, cloud: SimulatedCloud
) -> None:
    """A failed EXTEND pages with its own id while a retry runs; that one's success resolves it."""
    cloud.start_task("i1", "EXTEND", "FAILED", created_at=time.time() - 86_400)
    with (
        exporting(cloud) as url,
        monitoring(prometheus, tmp_path / "prometheus", [url], manager) as server,
    ):
        server.wait_for('dcs_tasks_finished_total{task_name="EXTEND",dcs_instance_id="i0"}')
        task = cloud.start_task("i0", "EXTEND", details=RESIZE, created_at=time.time() - 60)
        retry = cloud.start_task("i0", "EXTEND", details=RESIZE)
        server.wait_for('dcs_tasks_active{task_name="EXTEND",dcs_instance_id="i0"} == 2')
        cloud.finish_task("i0", task, "FAILED", error_code="DCS.4842")
        fired = pager.wait_for("DCSTaskFailed", "firing")
        running = server.query('dcs_task_last_info{dcs_instance_id="i0",status="EXECUTING"}')

        cloud.finish_task("i0", retry, "SUCCESS")
        resolved = pager.wait_for("DCSTaskFailed", "resolved")

    (alert,) = fired["alerts"]
    assert [one["metric"]["task_id"] for one in running] == [retry]
    assert fired["path"] == "/pager"
    assert fired["groupLabels"] == {"alertname": "DCSTaskFailed", "project": "prod"}
    assert alert["labels"]["dcs_instance_id"] == "i0"
    assert alert["labels"]["task_name"] == "EXTEND"
    description = alert["annotations"]["description"]
    assert description.startswith("EXTEND of orders (i0, project prod) failed 20")
    assert "0.125" in description
    assert description.endswith(f", error DCS.4842 (task {task}).")
    assert alert["annotations"]["dashboard_url"].endswith("?var-dcs_instance=i0")
    assert [item["labels"]["dcs_instance_id"] for item in resolved["alerts"]] == ["i0"]
    assert not [body for body in pager.told if "i1" in json.dumps(body)]


@pytest.mark.long(25)
def test_a_refused_key_is_one_page(
    prometheus: Path, tmp_path: Path, pager: Pager, manager: Alertmanager, cloud: SimulatedCloud
) -> None:
    """A key that is refused is one notification, which names the project, for 60 instances."""
    for number in range(2, FLEET):
        cloud.add_instance(PROJECT, f"i{number}", f"cache-{number}")
    with (
        exporting(cloud, instances=FOUND) as url,
        monitoring(prometheus, tmp_path / "prometheus", [url], manager) as server,
    ):
        server.wait_for(f"count(dcs_instance_up == 1) == {FLEET}")
        cloud.access.revoke(ACCESS_KEY)
        fired = pager.wait_for("DCSCredentialsRefused", "firing")
        held = manager.wait_for(
            lambda found: (
                sum(one["labels"]["alertname"] == "DCSInstanceUnreadable" for one in found) == FLEET
                and "DCSDiscoveryFailing" in {one["labels"]["alertname"] for one in found}
                and sum(one["status"]["state"] != "suppressed" for one in found) == 1
            )
        )
        manager.pass_on(pager, "AllIsTold")

    assert pages(pager) == [("/pager", "DCSCredentialsRefused", "prod")]
    assert "project prod" in fired["alerts"][0]["annotations"]["description"]
    assert {one["labels"]["alertname"] for one in held} == {
        "DCSCredentialsRefused",
        "DCSProjectUnreadable",
        "DCSInstanceUnreadable",
        "DCSDiscoveryFailing",
    }


def test_a_pair_of_each_is_one_page(
    prometheus: Path, tmp_path: Path, pager: Pager, manager: Alertmanager, cloud: SimulatedCloud
) -> None:
    """Two exporters, scraped by two Prometheus servers, page once; with one of them down, too."""
    failed = 'dcs_tasks_finished_total{task_name="EXTEND",status="FAILED",dcs_instance_id="i0"}'
    query = DOCUMENT.partition("```promql\n")[2].partition("```")[0]
    swapped = 'dcs_tasks_finished_total{task_name="masterStandbySwapJob",status="SUCCESS"}'
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(exporting(cloud))
        with exporting(cloud) as two:
            servers = [
                stack.enter_context(
                    monitoring(prometheus, tmp_path / name, [one, two], manager, name)
                )
                for name in ("a", "b")
            ]
            for server in servers:
                server.wait_for(failed, lambda found: len(found) == 2)
                server.wait_for(swapped, lambda found: len(found) == 4)
            cloud.start_task("i0", "EXTEND", "FAILED", details=RESIZE)
            cloud.start_task("i0", "masterStandbySwapJob", "SUCCESS")
            for server in servers:
                server.wait_for(f"{failed} == 1", lambda found: len(found) == 2)
                server.wait_for('ALERTS{alertname="DCSMasterStandbySwap",alertstate="firing"}')
            # In one query: between two of them, more samples bring each increase closer to 1.
            largest = f"max by (task_name) (increase({failed}[1h]))"
            shares = [server.query(f"({query}) / on (task_name) {largest}") for server in servers]
            pager.wait_for("DCSTaskFailed", "firing")
            pager.wait_for("DCSMasterStandbySwap", "firing")
        for server in servers:
            server.wait_for('ALERTS{alertname="DCSTaskExporterReplicaDown",alertstate="firing"}')
        pager.wait_for("DCSTaskExporterReplicaDown", "firing")
        manager.pass_on(pager, "AllIsTold")
        alerts = [
            server.query("count by (alertname) (ALERTS{alertstate='firing'})") for server in servers
        ]
        held = manager.alerts()

    names = ["DCSMasterStandbySwap", "DCSTaskExporterReplicaDown", "DCSTaskFailed"]
    for (share,) in shares:
        assert (share["metric"], float(share["value"][1])) == ({"task_name": "EXTEND"}, 1.0)
    assert sorted(name for _, name, _ in pages(pager)) == names
    assert not [body for body in pager.told if len(body["alerts"]) != 1]
    assert sorted(one["labels"]["alertname"] for one in held) == ["AllIsTold", *names]
    for found in alerts:
        assert {one["metric"]["alertname"]: one["value"][1] for one in found} == dict.fromkeys(
            names, "1"
        )


def test_the_documented_pair_is_the_example() -> None:
    """The document on pairs shows the example's handling of two servers."""
    shown = documented("global:")
    example = load_yaml((FOLDER / "prometheus.example.yml").read_text())

    assert shown["global"].items() <= example["global"].items()
    assert shown["alerting"].items() <= example["alerting"].items()
