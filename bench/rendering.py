"""The exposition: what is kept against the library alone, and scrapes beside a refresh."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

import requests
from clients import exporter
from cloud import BenchCloud, Load
from prometheus_client import CollectorRegistry
from sweeps import Row

from dcs_task_exporter.collector import TaskCollector
from dcs_task_exporter.counting import CountingRules, InstanceState, count, reveal
from dcs_task_exporter.models import Instance, Listing, Task
from dcs_task_exporter.snapshots import Snapshot, figures
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.blocks import InstanceBlocks
from dcs_task_exporter.web.exposition import choose_format
from dcs_task_exporter.web.server import WebServer

NOW: Final = 1_750_000_000.0
FORMATS: Final = {
    "text": "text/plain;version=0.0.4",
    "OpenMetrics": "application/openmetrics-text;version=1.0.0",
}
RULES: Final = CountingRules(7 * 86_400.0)


def snapshot_of(number: int, tasks: int) -> Snapshot:
    """Return the snapshot of an instance with some finished tasks."""
    names = ("EXTEND", "modify", "AddWhitelist", "UpdatePort", "masterStandbySwapJob")
    rows = tuple(
        Task(
            f"{number}-{at}",
            names[at % 5],
            "FAILED" if at % 7 == 0 else "SUCCESS",
            NOW - 3600 * (at + 2),
            NOW - 3600 * (at + 1),
        )
        for at in range(tasks)
    )
    listing = Listing(rows, NOW - RULES.lookback)
    state = reveal(count(InstanceState(), listing, NOW, RULES), ())
    instance = Instance(f"5560df16-cebf-4473-95c4-{number:012d}", f"cache-{number}", "prod")
    return Snapshot(
        instance,
        up=True,
        figures=figures(state, listing, NOW, RULES),
        refreshed_at=NOW,
        refresh_duration=0.02,
    )


def expositions(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure the kept blocks against the library, with 1 % of the instances changed."""
    each = _series([snapshot_of(0, 10)])
    say("Exposition, milliseconds: the library alone, and what is kept with 1 % changed")
    for series in (1_000, 10_000, 100_000):
        snapshots = [snapshot_of(number, 10) for number in range(max(1, round(series / each)))]
        for name, accept in FORMATS.items():
            library, kept = _rendered(snapshots, accept)
            shown = f"{library * 1000:8.2f} {kept * 1000:8.2f}"
            say(f"  {_series(snapshots):7} series, {name:11}: {shown}")
            what = f"rendering of {series:,} series, {name}, over the library's"
            if series > 1_000:  # noqa: PLR2004 - the smallest is for information
                yield what, "<= 0.15", 0.15, kept / library


def _series(snapshots: Sequence[Snapshot]) -> int:
    families = TaskCollector(lambda: snapshots).collect()
    return sum(len(family.samples) for family in families)


def _rendered(snapshots: list[Snapshot], accept: str) -> tuple[float, float]:
    """Return the median processor time of the library, and of the kept blocks."""
    encoder, content_type = choose_format(accept)
    registry = CollectorRegistry(support_collectors_without_names=True)
    collector = TaskCollector(lambda: snapshots)
    registry.register(collector)
    blocks = InstanceBlocks(collector)
    blocks.render(snapshots, encoder, content_type)
    families = list(collector.collect())
    library, kept = [], []
    changed = max(1, len(snapshots) // 100)
    for run in range(7):
        for at in range(changed):
            where = (run * changed + at) % len(snapshots)
            before = snapshots[where]
            snapshots[where] = replace(
                snapshot_of(where, 10 + run % 2), instance=before.instance, refreshed_at=NOW + run
            )
        start = time.process_time()
        encoder(_Fixed(families))
        library.append(time.process_time() - start)
        start = time.process_time()
        blocks.render(snapshots, encoder, content_type)
        kept.append(time.process_time() - start)
    return statistics.median(library), statistics.median(kept)


class _Fixed(CollectorRegistry):
    """The same families, made already: only the encoder is measured."""

    def __init__(self, families: Sequence[object]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[object]:  # type: ignore[override]
        """Yield them."""
        return iter(self._families)


def scrapes_beside_a_refresh(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure the worst scrape while 1,000 instances are refreshed in the background."""
    shares, latest = [], ""
    with BenchCloud(Load(latency=0.02, changing=False)) as cloud, ExitStack() as stack:
        made = stack.enter_context(exporter(cloud, 1000, 16, refresh_interval="1h"))
        web = WebServer(create_app(made, made.web_settings("/metrics")), "127.0.0.1", 0)
        web.start()
        stack.callback(web.stop)
        for _ in range(2):
            made.refresh_and_wait(600)
            requests.get(f"{web.url}/metrics", timeout=60)
        context = multiprocessing.get_context("spawn")
        for _ in range(5):
            ours, theirs = context.Pipe()
            scraper = context.Process(target=_scrape_until_told, args=(web.url, theirs))
            scraper.start()
            ours.recv()
            start = time.perf_counter()
            made.refresh_and_wait(600)
            took = time.perf_counter() - start
            ours.send("stop")
            times: list[float] = ours.recv()
            scraper.join()
            shares.append(max(times) / took)
            worst, median = max(times) * 1000, statistics.median(times) * 1000
            latest = f"{len(times)} scrapes, worst {worst:.0f} ms, median {median:.0f} ms"
            latest += f", beside a refresh of {took:.2f} s"
    say(f"Background refresh: {latest}")
    yield (
        "worst scrape beside a refresh of 1,000, over its time",
        "<= 0.05",
        0.05,
        (statistics.median(shares)),
    )


def _scrape_until_told(url: str, told: multiprocessing.connection.Connection) -> None:
    """Scrape as Prometheus does, in a process of its own, five times a second."""
    session = requests.Session()
    session.trust_env = False
    headers = {
        "Accept": FORMATS["OpenMetrics"],
        "Accept-Encoding": "gzip",
        "X-Prometheus-Scrape-Timeout-Seconds": "10",
    }
    session.get(f"{url}/metrics", headers=headers, timeout=60)
    told.send("ready")
    times = []
    while not told.poll(0.2):
        start = time.perf_counter()
        answer = session.get(f"{url}/metrics", headers=headers, timeout=60, stream=True)
        answer.raw.read()
        times.append(time.perf_counter() - start)
    told.send(times)
