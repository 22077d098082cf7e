"""Print the peak memory, in MB, of the exporter as a process; `process_memory` runs this.

    INSTANCES TASKS CHANGING

CHANGING is the share of the listings that change from one refresh to the next. After each refresh
the exporter is scraped twice: as Prometheus does, with gzip, and as text without.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import requests

from bench.clients import configuration
from bench.cloud import BenchCloud
from bench.load import Load
from bench.measuring import memory_peak
from dcs_task_exporter.demo.monitoring import free_port
from tests.support.real_process import process

SCRAPES: Final[tuple[Mapping[str, str], ...]] = (
    {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
    {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"},
)
ROUNDS: Final = 4
INTERVAL: Final = 5.0
"""Seconds within which no instance is read again: the scrapes of a round show the same data."""

TIMEOUT: Final = 300
START: Final = 60.0
"""Seconds that the exporter has to listen."""


def scrape(session: requests.Session, url: str, headers: Mapping[str, str]) -> None:
    """Read a whole answer, without unpacking it."""
    patience = {"X-Prometheus-Scrape-Timeout-Seconds": str(TIMEOUT)}
    answer = session.get(
        f"{url}/metrics", headers={**headers, **patience}, timeout=TIMEOUT, stream=True
    )
    answer.raise_for_status()
    answer.raw.read(decode_content=False)


def wait_until_healthy(session: requests.Session, url: str) -> None:
    """Block until the exporter listens."""
    deadline = time.monotonic() + START
    while True:
        try:
            session.get(f"{url}/-/healthy", timeout=TIMEOUT)
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def main(instances: str, tasks: str, changing: str) -> None:
    """Measure, and print the peak."""
    load = Load(tasks=int(tasks), changing=float(changing))
    with tempfile.TemporaryDirectory() as name, BenchCloud(load) as cloud:
        folder, port = Path(name), free_port()
        text = configuration(
            cloud.url,
            cloud.ca_file,
            int(instances),
            min_refresh_interval=f"{INTERVAL:.0f}s",
        )
        config = folder / "config.yml"
        config.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "dcs_task_exporter", f"--config.file={config}"]
        address = f"127.0.0.1:{port}"
        with (
            process([*command, f"--web.listen-address={address}"], folder / "log") as exporter,
            requests.Session() as session,
        ):
            session.trust_env = False
            wait_until_healthy(session, f"http://{address}")
            for _ in range(ROUNDS):
                for headers in SCRAPES:
                    scrape(session, f"http://{address}", headers)
                time.sleep(INTERVAL)
            sys.stdout.write(f"{memory_peak(exporter.pid)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
