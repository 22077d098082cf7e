"""Many instances at a low rate limit: the age of the data, and scrapes that come too late.

The exporter runs as a process against a cloud with a latency, and a real Prometheus scrapes it
every 15 s with a timeout of 10 s. One instance in a hundred has a task that never ends. Prometheus'
own samples after the first pass are reported.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.cloud import BenchCloud
from bench.exporter_process import exporter_process
from bench.load import Load
from tests.support.real_prometheus import Prometheus, running_jobs

INTERVAL: Final = 15
TIMEOUT: Final = 10
AGE: Final = (
    "timestamp(dcs_instance_last_refresh_timestamp_seconds)"
    " - dcs_instance_last_refresh_timestamp_seconds"
)
ACTIVE: Final = "and on (dcs_instance_id) dcs_tasks_active > 0"


def run(
    prometheus: Path, folder: Path, instances: int, rate: float, passes: float
) -> Iterator[str]:
    """Run it, and yield the lines of the report."""
    whole, state = instances / rate, f"state: {{path: {folder / 'state.db'}}}\n"
    settings = {"min_refresh_interval": "15s", "first_value_hold": "2m"}
    settings["requests_per_second"] = f"{rate}"
    with (
        BenchCloud(Load(latency=0.02, active=True)) as cloud,
        exporter_process(cloud, folder, instances, state, **settings) as (_, url),
    ):
        job = (
            f"  - job_name: dcs-tasks\n    scrape_interval: {INTERVAL}s\n"
            f"    scrape_timeout: {TIMEOUT}s\n    static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]\n"
        )
        with running_jobs(prometheus, folder, job) as server:
            started = time.monotonic()
            time.sleep(whole + 4 * INTERVAL)
            warm, served = time.monotonic(), cloud.served
            time.sleep(passes * whole)
            asked = (cloud.served - served) / (time.monotonic() - warm)
            yield f"{instances} instances, {rate:g} requests/s: a pass takes {whole:.0f} s"
            yield f"requests per second: {asked:.1f}"
            yield from _report(server, f"{passes * whole:.0f}s", whole)
            everything = f"{time.monotonic() - started:.0f}s"
            yield from _scrapes(server, everything)


def _report(server: Prometheus, span: str, whole: float) -> Iterator[str]:
    for what, expression in (
        ("oldest data", f"max({AGE})"),
        ("median age", f"quantile(0.5, {AGE})"),
        ("oldest data of instances with active tasks", f"max(({AGE}) {ACTIVE})"),
    ):
        worst = _value(server, f"max_over_time(({expression})[{span}:{INTERVAL}s])")
        yield f"{what}, at worst: {worst:.1f} s, {worst / whole:.2f} passes"
    least = _value(server, f"min_over_time((sum(dcs_instance_up))[{span}:{INTERVAL}s])")
    yield f"instances that are up, at least: {least:.0f}"


def _scrapes(server: Prometheus, span: str) -> Iterator[str]:
    scrapes = _value(server, f"count_over_time(up[{span}])")
    good = _value(server, f"sum_over_time(up[{span}])")
    longest = _value(server, f"max_over_time(scrape_duration_seconds[{span}])")
    yield f"scrapes from the start: {scrapes:.0f}, failed: {scrapes - good:.0f}"
    for row in server.query(f"up[{span}]"):
        numbers = [at for at, (_, value) in enumerate(row["values"], 1) if value == "0"]
        yield f"failed were: {', '.join(map(str, numbers)) or 'none'}"
    yield f"longest scrape, with what Prometheus does itself: {longest:.2f} s of {TIMEOUT} s"
    yield f"samples per scrape: {_value(server, 'scrape_samples_scraped'):.0f}"
    memory = _value(server, f"max_over_time(process_resident_memory_bytes[{span}])")
    yield f"memory of the exporter, at most: {memory / (1 << 20):.0f} MB"
    cpu = _value(server, f"rate(process_cpu_seconds_total[{span}])")
    yield f"processor time: {cpu * 100:.0f} % of one"


def _value(server: Prometheus, expression: str) -> float:
    rows = server.query(expression)
    return float(rows[0]["value"][1]) if rows else float("nan")


def main(instances: int, rate: float, passes: float, prometheus: Path) -> int:
    """Run it, and print each line at once."""
    with tempfile.TemporaryDirectory() as folder:
        for line in run(prometheus, Path(folder), instances, rate, passes):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0
