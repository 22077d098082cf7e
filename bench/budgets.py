"""Requests that are not made: under the cloud's limit, and where the task centre spares them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench.clients import INTERVAL, LIMIT, exporter, sweep_of
from bench.cloud import BenchCloud, Load
from bench.measuring import Row, Say, interleaved, median_wall
from dcs_task_exporter.clock import Clock


def limited_sweep(say: Say) -> Iterator[Row]:
    """Measure a sweep of 1,000 at a limit of 100 requests per second."""
    with BenchCloud(Load(latency=0.02, limit=LIMIT)) as cloud, ExitStack() as stack:
        made = stack.enter_context(exporter(cloud, 1000, 16, setup="limited"))
        costs = interleaved(cloud, {"ours": sweep_of(made)})["ours"]
        refused = cloud.refused
    took = median_wall(costs)
    say(f"1,000 instances at 93/s of 100/s: {took:.2f} s, {refused} refused")
    ratio = took / (1000 / LIMIT)
    yield Row("wall time over ideal, 1,000 instances at a limit of 100/s", "<= 1.10", ratio)
    yield Row("refusals in it", "0", refused)


def spared(say: Say) -> Iterator[Row]:
    """Count the requests per scrape with the change detector, a full pass every 10th scrape."""
    instances, scrapes, moment = 1000, 20, [1_000.0]
    clock = Clock(now=lambda: 1_750_000_000.0 + moment[0], monotonic=lambda: moment[0])
    with BenchCloud(Load()) as cloud, ExitStack() as stack:
        made = stack.enter_context(exporter(cloud, instances, 16, setup="center", clock=clock))
        sweep = sweep_of(made)
        sweep()
        before = cloud.served
        for _ in range(scrapes):
            moment[0] += INTERVAL
            sweep()
        average = (cloud.served - before) / scrapes
    say(f"Change detector: {average:.1f} requests per scrape of 1,000 quiet instances")
    ratio = average / instances
    yield Row("requests per scrape with the change detector, over N", "<= 0.12", ratio)
