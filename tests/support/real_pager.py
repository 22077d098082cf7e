"""A pager, and a real Alertmanager with our example that tells it, for the tests of alerts."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import requests

from dcs_task_exporter.demo.monitoring import free_port
from tests.support.real_parts import ROOT
from tests.support.real_process import process
from tests.support.real_prometheus import ATTEMPTS, PAUSE

FOLDER = ROOT / "prometheus"
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

    def of(self, name: str, status: str) -> list[dict[str, Any]]:
        """Return the notifications of this alert with this status."""
        return [
            body
            for body in self.told
            if body["status"] == status and body["groupLabels"].get("alertname") == name
        ]

    def wait_for(self, name: str, status: str) -> dict[str, Any]:
        """Return the first notification of this alert with this status."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.of(name, status), PATIENCE), self.told
            return self.of(name, status)[0]


@contextlib.contextmanager
def paging() -> Iterator[Pager]:
    """Run a pager."""
    pager = Pager()
    thread = threading.Thread(target=pager.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield pager
    finally:
        pager.server.shutdown()
        pager.server.server_close()
        thread.join()


class Alertmanager:
    """A running Alertmanager: what it holds, and what it was told."""

    def __init__(self, address: str) -> None:
        self.address = address

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that it holds now."""
        answer = requests.get(f"http://{self.address}/api/v2/alerts", timeout=10)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def wait_for(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Ask until `wanted` holds: another process's progress cannot be awaited otherwise."""
        found: list[dict[str, Any]] = []
        for _ in range(ATTEMPTS):
            with contextlib.suppress(requests.RequestException):
                found = self.alerts()
                if wanted(found):
                    return found
            time.sleep(PAUSE)
        message = f"Alertmanager holds {[(one['labels'], one['status']) for one in found][:20]}"
        raise AssertionError(message)

    def pass_on(self, pager: Pager, name: str) -> None:
        """Raise an alert of this name and wait for its page: all older groups were told by then."""
        alert = {"labels": {"alertname": name, "severity": "critical"}}
        answer = requests.post(f"http://{self.address}/api/v2/alerts", json=[alert], timeout=10)
        answer.raise_for_status()
        pager.wait_for(name, "firing")


def hurried(text: str) -> str:
    """Return rules or a configuration whose waits are seconds for minutes; reminders stay."""
    text = re.sub(
        r"(?m)^( *(?:for|keep_firing_for|group_interval|group_wait): \d+)m$", r"\1s", text
    )
    return re.sub(r"(?m)^( *group_wait: )30s$", r"\g<1>500ms", text)


@contextlib.contextmanager
def alerting(binary: Path, folder: Path, pager: Pager) -> Iterator[Alertmanager]:
    """Run Alertmanager with our example, its receivers turned to `pager`, and hurried."""
    folder.mkdir()
    text = hurried((FOLDER / "alertmanager.example.yml").read_text())
    text = text.replace("http://127.0.0.1:9095", pager.url)
    (folder / "alertmanager.yml").write_text(text)
    port = free_port()
    command = [
        str(binary),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with process(command, folder / "log"):
        yield Alertmanager(f"127.0.0.1:{port}")
