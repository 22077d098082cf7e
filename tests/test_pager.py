"""From a failing task to the pager, with real parts: cloud, exporter, Prometheus, Alertmanager."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from real_exporter import cloud_of_two, exporting
from real_prometheus import free_port, running

from dcs_task_exporter.simulator import SimulatedCloud

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent / "prometheus"
PATIENCE = 60


class Pager:
    """A webhook that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                pager.take(self.path, json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path: str, body: dict[str, Any]) -> None:
        """Keep a notification."""
        with self._changed:
            self.told.append({"path": path, **body})
            self._changed.notify_all()

    def wait_for(self, name: str, status: str) -> dict[str, Any]:
        """Return the first notification of this alert with this status."""

        def found() -> dict[str, Any] | None:
            return next(
                (
                    body
                    for body in self.told
                    if body["status"] == status and body["commonLabels"].get("alertname") == name
                ),
                None,
            )

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, PATIENCE), self.told
            return found() or {}


@pytest.fixture
def pager() -> Iterator[Pager]:
    made = Pager()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@contextlib.contextmanager
def alerting(binary: Path, folder: Path, pager: Pager) -> Iterator[str]:
    """Run Alertmanager with our example, its receivers turned to `pager`, and shorter waits."""
    folder.mkdir()
    text = (ROOT / "alertmanager.example.yml").read_text()
    text = text.replace("http://127.0.0.1:9095", pager.url)
    text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
    text = re.sub(r"group_interval: \w+", "group_interval: 1s", text)
    (folder / "alertmanager.yml").write_text(text)
    port = free_port()
    command = [
        str(binary),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - a test's own
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def cloud() -> SimulatedCloud:
    return cloud_of_two()


@pytest.fixture
def exporter_url(cloud: SimulatedCloud) -> Iterator[str]:
    with exporting(cloud) as url:
        yield url


def test_from_failure_to_pager(
    prometheus: Path,
    alertmanager: Path,
    tmp_path: Path,
    pager: Pager,
    cloud: SimulatedCloud,
    exporter_url: str,
) -> None:
    """A failing EXTEND pages with what it tried and why; an EXTEND that succeeds resolves it."""
    details = {"old_capacity": "0.125", "new_capacity": "0.25"}
    cloud.start_task("i1", "EXTEND", "FAILED", created_at=time.time() - 86_400)
    with alerting(alertmanager, tmp_path / "alertmanager", pager) as address:
        more = (
            f"rule_files: ['{ROOT}/dcs-tasks-*.yml']\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n"
        )
        (tmp_path / "prometheus").mkdir()
        with running(prometheus, tmp_path / "prometheus", exporter_url, more=more) as server:
            server.wait_for('dcs_tasks_finished_total{task_name="EXTEND",dcs_instance_id="i0"}')
            task = cloud.start_task("i0", "EXTEND", details=details)
            server.wait_for('dcs_tasks_active{task_name="EXTEND",dcs_instance_id="i0"} == 1')
            cloud.finish_task("i0", task, "FAILED", error_code="DCS.4842")
            fired = pager.wait_for("DCSTaskFailed", "firing")

            again = cloud.start_task("i0", "EXTEND", details=details)
            cloud.finish_task("i0", again, "SUCCESS")
            resolved = pager.wait_for("DCSTaskFailed", "resolved")

    (alert,) = fired["alerts"]
    assert fired["path"] == "/pager"
    assert alert["labels"]["dcs_instance_id"] == "i0"
    assert alert["labels"]["task_name"] == "EXTEND"
    assert alert["annotations"]["description"].startswith("EXTEND of orders (i0) failed 20")
    assert alert["annotations"]["description"].endswith(
        f": tried to extend from 0.125 GB to 0.25 GB, error DCS.4842 (task {task})."
    )
    assert alert["annotations"]["dashboard_url"].endswith("?var-dcs_instance=i0")
    assert [item["labels"]["dcs_instance_id"] for item in resolved["alerts"]] == ["i0"]
    assert not [body for body in pager.told if "i1" in json.dumps(body)]
    (tmp_path / "payload.json").write_text(json.dumps(fired, indent=1))
