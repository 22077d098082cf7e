"""A real Prometheus scrapes the exporter, and says what an operator would see."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from tests.support.real_exporter import cloud_of_two, exporting
from tests.support.real_prometheus import running

pytestmark = [pytest.mark.real, pytest.mark.long(10)]


@pytest.fixture
def cloud() -> SimulatedCloud:
    return cloud_of_two()


@pytest.fixture
def url(cloud: SimulatedCloud) -> Iterator[str]:
    with exporting(cloud) as found:
        yield found


def test_failure_is_seen(prometheus: Path, tmp_path: Path, cloud: SimulatedCloud, url: str) -> None:
    """Prometheus scrapes it, and sees the first failing EXTEND as an increase."""
    failed = 'dcs_tasks_finished_total{task_name="EXTEND",status="FAILED",dcs_instance_id="i0"}'
    with running(prometheus, tmp_path, url) as server:
        server.wait_for(failed)
        task = cloud.start_task("i0", "EXTEND")
        server.wait_for('dcs_tasks_active{task_name="EXTEND",dcs_instance_id="i0"} == 1')
        cloud.finish_task("i0", task, "FAILED")
        server.wait_for(f"increase({failed}[1m]) > 0")

        assert [sample["value"][1] for sample in server.query("up")] == ["1"]
        assert server.query(
            'dcs_task_last_failure_timestamp_seconds{task_name="EXTEND"} '
            '> dcs_task_last_success_timestamp_seconds{task_name="EXTEND"}'
        )


def test_unforeseen_first_increment(
    prometheus: Path, tmp_path: Path, cloud: SimulatedCloud, url: str
) -> None:
    """Law 3: Prometheus sees the increase of a series whose name and status nobody foresaw."""
    series = 'dcs_tasks_finished_total{task_name="DeleteAcl",status="CANCELLED"}'
    with running(prometheus, tmp_path, url) as server:
        server.wait_for("dcs_instance_up == 1", lambda found: len(found) == 2)
        cloud.start_task("i0", "DeleteAcl", "CANCELLED")

        server.wait_for(f"increase({series}[1m]) > 0")


def test_outage_is_seen(prometheus: Path, tmp_path: Path, cloud: SimulatedCloud, url: str) -> None:
    """Law 1: in an outage the scrapes stay good, up is 0, and the other instance is untouched."""
    with running(prometheus, tmp_path, url) as server:
        server.wait_for("dcs_instance_up == 1", lambda found: len(found) == 2)
        cloud.faults.add("forbidden", instance_id="i0")

        found = server.wait_for("dcs_instance_up == 0")
        assert [sample["metric"]["dcs_instance_id"] for sample in found] == ["i0"]
        assert [sample["value"][1] for sample in server.query("up")] == ["1"]
        assert server.query('dcs_instance_up{dcs_instance_id="i1"} == 1')


def test_promtool_finds_nothing(promtool: Path, cloud: SimulatedCloud, url: str) -> None:
    """`promtool check metrics` has nothing to say of the exposition."""
    cloud.start_task("i0", "EXTEND", "SUCCESS")
    text = requests.get(f"{url}/metrics", timeout=10).content

    done = subprocess.run(  # noqa: S603 - a test's own
        [str(promtool), "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_openmetrics(cloud: SimulatedCloud, url: str) -> None:
    """The OpenMetrics form passes the client library's strict parser."""
    cloud.start_task("i0", "EXTEND", "SUCCESS")
    wanted = {"Accept": "application/openmetrics-text;version=1.0.0"}
    answer = requests.get(f"{url}/metrics", headers=wanted, timeout=10)

    names: dict[str, Any] = {
        family.name: family
        for family in text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    }

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert names["dcs_tasks_finished"].type == "counter"
