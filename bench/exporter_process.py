"""The exporter as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.clients import configuration
from bench.cloud import BenchCloud
from dcs_task_exporter.demo.monitoring import free_port
from tests.support.real_process import process


@contextmanager
def exporter_process(
    cloud: BenchCloud, folder: Path, instances: int, more: str = "", **collector: object
) -> Iterator[tuple[int, str]]:
    """Run our exporter as a process; `more` ends its configuration. Yields its id and its URL."""
    config, address = folder / "config.yml", f"127.0.0.1:{free_port()}"
    text = configuration(cloud.url, cloud.ca_file, instances, **collector)
    config.write_text(text + more, encoding="utf-8")
    command = [sys.executable, "-m", "dcs_task_exporter", f"--config.file={config}"]
    with process([*command, f"--web.listen-address={address}"], folder / "log") as started:
        yield started.pid, f"http://{address}"
