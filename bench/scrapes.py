"""Scrapes while many instances are refreshed in the background."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import requests

from bench.clients import exporter, sweep_of
from bench.cloud import BenchCloud
from bench.load import Load
from bench.measuring import INFORMATION, RUNS, Row, Say, Sweep
from dcs_task_exporter.web.server import WebServer

INSTANCES: Final = 1000
WANTED: Final = {0.01: "<= 0.05", 0.0: INFORMATION, 1.0: INFORMATION}
"""What must be reached, by the share of the listings that each refresh finds changed."""

PAUSE: Final = 0.2
"""Seconds between two scrapes."""

FIRST: Final = 1.0
"""Seconds until the first scrape of a refresh: a late one has to show more that is new."""

HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


@dataclass(frozen=True, slots=True)
class _Run:
    """How long one refresh took, and each scrape beside it, in seconds."""

    refresh: float
    scrapes: Sequence[float]


def scrapes_beside_a_refresh(say: Say) -> Iterator[Row]:
    """Measure the worst scrape while 1,000 instances are refreshed in the background."""
    for changing, wanted in WANTED.items():
        load = Load(latency=0.02, changing=changing)
        with BenchCloud(load) as cloud, ExitStack() as stack:
            made = stack.enter_context(exporter(cloud, INSTANCES, 16, setup="background"))
            web = WebServer(made.app(), [("127.0.0.1", 0)])
            web.start()
            stack.callback(web.stop)
            sweep = sweep_of(made)
            sweep()
            runs = [_run(sweep, web.url) for _ in range(1 + RUNS)][1:]
        say(_told(f"{changing:.0%} changed", runs))
        share = statistics.median(max(run.scrapes) / run.refresh for run in runs)
        what = f"the worst scrape over the refresh beside it, 1,000 instances, {changing:.0%}"
        yield Row(f"{what} changed", wanted, share)


def _told(what: str, runs: Sequence[_Run]) -> str:
    scrapes = [one for run in runs for one in run.scrapes]
    worst = ", ".join(f"{max(run.scrapes) * 1000:.0f}" for run in runs)
    return (
        f"Scrapes beside a refresh, {what}: {len(scrapes)} scrapes, "
        f"median {statistics.median(scrapes) * 1000:.0f} ms, worst of each refresh {worst} ms; "
        f"refreshes of {statistics.median(run.refresh for run in runs):.2f} s"
    )


def _run(sweep: Sweep, url: str) -> _Run:
    """Refresh once, and scrape meanwhile."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    scraper = context.Process(target=_scrape_until_told, args=(url, theirs))
    scraper.start()
    ours.recv()
    start = time.perf_counter()
    sweep()
    took = time.perf_counter() - start
    ours.send("stop")
    scrapes: list[float] = ours.recv()
    scraper.join()
    return _Run(took, scrapes)


def _scrape_until_told(url: str, told: multiprocessing.connection.Connection) -> None:
    """Scrape as Prometheus does, in a process of its own, five times a second."""
    session = requests.Session()
    session.trust_env = False
    session.get(f"{url}/metrics", headers=HEADERS, timeout=60)
    told.send("ready")
    times: list[float] = []
    while not told.poll(PAUSE if times else FIRST):
        start = time.perf_counter()
        answer = session.get(f"{url}/metrics", headers=HEADERS, timeout=60, stream=True)
        answer.raise_for_status()
        answer.raw.read()
        times.append(time.perf_counter() - start)
    told.send(times)
