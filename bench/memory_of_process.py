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
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from bench.cloud import BenchCloud
from bench.exporter_process import exporter_process
from bench.load import Load
from bench.process_size import memory_peak

SCRAPES: Final[tuple[Mapping[str, str], ...]] = (
    {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
    {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"},
)
ROUNDS: Final = 4
INTERVAL: Final = 5.0
"""Seconds within which no instance is read again: the scrapes of a round show the same data."""

TIMEOUT: Final = 300


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
    retry = Retry(total=None, connect=60, read=0, backoff_factor=0.1, backoff_max=1)
    session.mount(url, HTTPAdapter(max_retries=retry))
    session.get(f"{url}/-/healthy", timeout=TIMEOUT)


def main(instances: str, tasks: str, changing: str) -> None:
    """Measure, and print the peak."""
    load = Load(tasks=int(tasks), changing=float(changing))
    with tempfile.TemporaryDirectory() as name, BenchCloud(load) as cloud:
        pause = f"{INTERVAL:.0f}s"
        with (
            exporter_process(cloud, Path(name), int(instances), min_refresh_interval=pause) as (
                pid,
                url,
            ),
            requests.Session() as session,
        ):
            session.trust_env = False
            wait_until_healthy(session, url)
            for _ in range(ROUNDS):
                for headers in SCRAPES:
                    scrape(session, url, headers)
                time.sleep(INTERVAL)
            sys.stdout.write(f"{memory_peak(pid)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
