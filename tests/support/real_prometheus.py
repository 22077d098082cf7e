"""A real Prometheus on loopback, for the tests that need its word."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

from dcs_task_exporter.demo.monitoring import free_port
from tests.support.real_process import process

ATTEMPTS = 600
PAUSE = 0.1


class Prometheus:
    """A running server; `query` asks it, `wait_for` asks until it says what is waited for."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        self.url = url
        self.pid = process.pid
        self._process = process

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def wait_for(
        self, expression: str, wanted: Callable[[list[dict[str, Any]]], bool] = bool
    ) -> list[dict[str, Any]]:
        """Ask until `wanted` holds: another process's progress cannot be awaited otherwise."""
        found: list[dict[str, Any]] = []
        for _ in range(ATTEMPTS):
            assert self._process.poll() is None, "Prometheus ended"
            with contextlib.suppress(requests.RequestException):
                found = self.query(expression)
                if wanted(found):
                    return found
            time.sleep(PAUSE)
        message = f"{expression} stayed {found}"
        raise AssertionError(message)


@contextlib.contextmanager
def running(
    binary: Path, folder: Path, scrape_url: str, job: str = "", more: str = ""
) -> Iterator[Prometheus]:
    """Run Prometheus in an empty folder, scraping `scrape_url` every second.

    `job` adds to the job's configuration, `more` to the whole.
    """
    scheme, _, target = scrape_url.partition("://")
    jobs = (
        "  - job_name: dcs-tasks\n"
        f"    scheme: {scheme}\n"
        f"    static_configs: [{{targets: ['{target}']}}]\n"
        f"{job}"
    )
    with running_jobs(binary, folder, jobs, more) as server:
        yield server


@contextlib.contextmanager
def running_jobs(binary: Path, folder: Path, jobs: str, more: str = "") -> Iterator[Prometheus]:
    """Run Prometheus in an empty folder with these scrape jobs, every second."""
    text = (
        "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
        f"scrape_configs:\n{jobs}{more}"
    )
    with running_config(binary, folder, text) as server:
        yield server


@contextlib.contextmanager
def running_config(
    binary: Path, folder: Path, text: str, options: Sequence[str] = ()
) -> Iterator[Prometheus]:
    """Run Prometheus with this configuration, in a folder that is empty or has its data."""
    config = folder / "prometheus.yml"
    config.write_text(text)
    port = free_port()
    command = [
        str(binary),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
        *options,
    ]
    with process(command, folder / "log") as server:
        yield Prometheus(f"http://127.0.0.1:{port}", server)
