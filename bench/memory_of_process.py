"""Print the most memory, in MB, that the exporter held as a process of its own.

``INSTANCES TASKS CHANGING`` say how many instances it reads, how many tasks each has, and which
share of the listings changes from one refresh to the next. After each refresh it is scraped twice:
as Prometheus does, with gzip, and as text without.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import requests

from bench.clients import configuration
from bench.cloud import BenchCloud
from bench.load import Load
from bench.measuring import memory_peak

SCRAPES: Final[tuple[Mapping[str, str], ...]] = (
    {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"},
    {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"},
)
ROUNDS: Final = 5
INTERVAL: Final = 5.0
"""Seconds within which no second refresh is made: the scrapes of one round show the same data."""

TIMEOUT: Final = {"X-Prometheus-Scrape-Timeout-Seconds": "300"}
PATIENCE: Final = 60.0
"""Seconds that the exporter may take to listen, and to end."""


@contextmanager
def serving(config: str) -> Iterator[tuple[int, str]]:
    """Run the exporter as a process; yield its process id and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yml"
        path.write_text(config, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "dcs_task_exporter", f"--config.file={path}"),
            *(f"--web.listen-address={address}", "--log.level=error"),
        ]
        process = subprocess.Popen(command, cwd=Path(__file__).parent.parent)  # noqa: S603 - ours
        try:
            _wait_for(address)
            yield process.pid, f"http://{address}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main(instances: str, tasks: str, changing: str) -> float:
    """Measure, and return the peak."""
    with BenchCloud(Load(tasks=int(tasks), changing=float(changing))) as cloud:
        config = configuration(
            cloud.url,
            cloud.ca_file,
            int(instances),
            min_refresh_interval=f"{INTERVAL:.0f}s",
            default_scrape_timeout="300s",
        )
        with serving(config) as (pid, url), requests.Session() as session:
            session.trust_env = False
            for _ in range(ROUNDS):
                for headers in SCRAPES:
                    answer = session.get(
                        f"{url}/metrics", headers={**headers, **TIMEOUT}, timeout=300, stream=True
                    )
                    size = len(answer.raw.read(decode_content=False))
                    sys.stderr.write(f"{size}\n")
                time.sleep(INTERVAL)
            return memory_peak(pid)


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
