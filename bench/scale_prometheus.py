"""The real Prometheus of a scale run: it scrapes one pod, as the chart's ServiceMonitor says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from bench.ledger import COUNTER, Ledger, Series
from bench.process_size import memory_now
from tests.support.charts import Release
from tests.support.real_prometheus import Prometheus, running_config


@contextmanager
def scraping(binary: Path, folder: Path, release: Release, url: str) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes one pod as the release's ServiceMonitor says."""
    (endpoint,) = release.one("ServiceMonitor")["spec"]["endpoints"]
    text = (
        "scrape_configs:\n  - job_name: dcs-tasks\n"
        f"    scrape_interval: {endpoint['interval']}\n"
        f"    scrape_timeout: {endpoint['scrapeTimeout']}\n"
        f"    static_configs: [{{targets: ['{url.removeprefix('http://')}']}}]\n"
    )
    folder.mkdir()
    with running_config(binary, folder, text) as server:
        yield server


def told(server: Prometheus, ledger: Ledger, instances: Container[str]) -> Iterator[str]:
    """Yield what Prometheus has seen, and how it counted the tasks of these instances."""
    head = requests.get(f"{server.url}/api/v1/status/tsdb", timeout=10).json()["data"]["headStats"]
    samples, scrapes, failed, slowest = (
        float(server.query(query)[0]["value"][1])
        for query in (
            "scrape_samples_scraped",
            "count_over_time(up[1h])",
            "count_over_time(up[1h]) - sum_over_time(up[1h])",
            "max_over_time(scrape_duration_seconds[1h])",
        )
    )
    yield (
        f"Prometheus of shard 0: {head['numSeries']} series, {samples:.0f} samples a scrape; "
        f"{scrapes:.0f} scrapes, {failed:.0f} failed, the slowest took {slowest:.2f} s; "
        f"{memory_now(server.pid):.0f} MB"
    )
    counted: Counter[Series] = Counter()
    for row in server.query(f"({COUNTER} - min_over_time({COUNTER}[1h])) > 0"):
        found = row["metric"]
        series = found["dcs_instance_id"], found["task_name"], found["status"]
        counted[series] = round(float(row["value"][1]))
    happened, seen = (
        Counter({key: number for key, number in counts.items() if key[0] in instances})
        for counts in (ledger.happened, counted)
    )
    yield (
        f"  {happened.total()} tasks ended in its instances that stayed, {seen.total()} counted: "
        f"{(happened - seen).total()} lost, {(seen - happened).total()} doubled"
    )
