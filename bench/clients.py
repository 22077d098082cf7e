"""The exporter of the benchmarks, and its set-ups."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.cloud import BenchCloud
from bench.load import PROJECT
from bench.measuring import Sweep
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options

LIMIT: Final = 100
"""Requests per second that the limited cloud allows."""

INTERVAL: Final = 30.0
"""Seconds between two scrapes with the task center."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings besides the instances: keys of `collector`, lines of the project, a state file."""

    collector: Mapping[str, object] = field(default_factory=dict)
    project: str = ""
    saves: bool = False


_CENTER: Final = f"{{enabled: true, full_pass_interval: {10 * INTERVAL:.0f}s}}"
SETUPS: Final[Mapping[str, Setup]] = {
    "plain": Setup(),
    "limited": Setup({"requests_per_second": 0.93 * LIMIT}),
    "background": Setup({"refresh_interval": "59m"}),
    "center": Setup(project=f"    task_center: {_CENTER}\n"),
    "saving": Setup(saves=True),
}
"""The set-ups by their measurement; a test builds each of them."""


def configuration(url: str, ca_file: Path, instances: int, **collector: object) -> str:
    """Return the configuration of an exporter that reads so many instances."""
    rows = "\n".join(f"      - {{id: i{number}, name: c{number}}}" for number in range(instances))
    settings = {
        "requests_per_second": 10_000,
        "min_refresh_interval": "0s",
        "first_value_hold": "0s",
        **collector,
    }
    return (
        f"projects:\n  - name: bench\n    region: cn-north-4\n    project_id: {PROJECT}\n"
        f"    endpoint: {url}\n    tls: {{ca_file: {ca_file}}}\n"
        "    credentials: {type: access_key, access_key: BENCHAK, secret_key: BENCHSK}\n"
        f"    instances:\n{rows}\n"
        "collector:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items())
    )


@contextmanager
def exporter(
    cloud: BenchCloud,
    instances: int,
    threads: int,
    *,
    setup: str = "plain",
    clock: Clock | None = None,
) -> Iterator[Exporter]:
    """Run our exporter with a set-up."""
    wanted = SETUPS[setup]
    text = configuration(
        cloud.url, cloud.ca_file, instances, concurrency=threads, **wanted.collector
    ).replace("    instances:\n", f"{wanted.project}    instances:\n")
    with tempfile.TemporaryDirectory() as folder:
        if wanted.saves:
            text += f"state: {{path: {folder}/state.db}}\n"
        made = Exporter(
            parse_config(text, "bench", {}),
            Options(process_metrics=False, clock=clock or Clock()),
        )
        try:
            yield made
        finally:
            made.stop()


def sweep_of(made: Exporter) -> Sweep:
    """Return a sweep of the exporter, from the requests to the snapshots."""

    def sweep() -> None:
        made.fleet.refresh_and_wait(600)
        if not all(snapshot.up for snapshot in made.refresher.snapshots()):
            message = "an instance could not be read: this was no sweep"
            raise RuntimeError(message)

    return sweep
