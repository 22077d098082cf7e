"""New connections: sweeps after the cloud hung up, and what a connection costs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import certifi
import requests

from bench.bare import PAGE, BareClient
from bench.clients import exporter, sweep_of
from bench.cloud import BenchCloud
from bench.load import PROJECT, Load
from bench.measuring import RUNS, Cost, Row, Say, measured, median_wall

COLD_RUNS: Final = 11
REPEATED: Final = 50
"""Connections in one run."""

PAUSE: Final = 0.002
"""Seconds that a hang-up takes: a request after such a pause is slower on any connection."""


def cold_sweep(say: Say) -> Iterator[Row]:
    """Measure sweeps after the cloud closed all connections, as a gateway does with idle ones."""
    instances, threads, latency = 100, 32, 0.02
    ours: list[Cost] = []
    floor: list[Cost] = []
    with BenchCloud(Load(latency=latency)) as cloud, ExitStack() as stack:
        made = stack.enter_context(exporter(cloud, instances, threads))
        bare = BareClient(cloud, threads)
        stack.callback(bare.close)
        sweep_of(made)()
        for _ in range(1 + COLD_RUNS):
            cloud.hang_up()
            ours.append(measured(cloud, sweep_of(made)))
            cloud.hang_up()
            bare.close()
            floor.append(measured(cloud, lambda: bare.sweep(instances)))
    ideal = math.ceil(instances / threads) * latency
    ratio, least = median_wall(ours[1:]) / ideal, median_wall(floor[1:]) / ideal
    say(f"Cold, 100 instances, c=32, 20 ms, wall over ideal: ours {ratio:.3f}, bare {least:.3f}")
    yield Row("wall time over ideal, cold sweep of 100, 20 ms, c=32", "<= 1.5", ratio)
    new = statistics.median(cost.connections for cost in ours[1:])
    yield Row("new connections in a cold sweep of 100, c=32", f"{threads}", new)


def connection_cost(say: Say) -> Iterator[Row]:
    """Measure the processor time of a new connection, ours and that of a session's default."""
    with BenchCloud(Load()) as cloud, ExitStack() as stack:
        # As in real life: all certificates of the bundle, and the cloud's.
        bundle = cloud.ca_file.with_name("bundle.pem")
        bundle.write_bytes(Path(certifi.where()).read_bytes() + cloud.ca_file.read_bytes())
        cloud.ca_file = bundle
        made = stack.enter_context(exporter(cloud, 1, 1))
        session = stack.enter_context(requests.Session())
        url = f"{cloud.url}/v2/{PROJECT}/instances/i0/tasks?{PAGE}"
        cost = _costs_of_connections(
            cloud,
            {
                "ours": sweep_of(made),
                "default": lambda: session.get(url, verify=str(bundle)).json(),
            },
        )
    text = f"ours {cost['ours'] * 1000:.2f} ms, default {cost['default'] * 1000:.2f} ms"
    say(f"Processor time of a new connection: {text}")
    share = cost["ours"] / cost["default"]
    yield Row("processor time per new connection over a default session's", "<= 0.10", share)


def _costs_of_connections(
    cloud: BenchCloud, requesters: Mapping[str, Callable[[], object]]
) -> Mapping[str, float]:
    """Return the extra processor time of a request after a hang-up, by requester."""
    found: dict[str, list[float]] = {name: [] for name in requesters}
    for _ in range(1 + RUNS):
        for name, request in requesters.items():
            request()
            warm = _each(request, lambda: time.sleep(PAUSE))
            found[name].append(_each(request, cloud.hang_up) - warm)
    return {name: statistics.median(costs[1:]) for name, costs in found.items()}


def _each(request: Callable[[], object], before: Callable[[], object]) -> float:
    """Return the mean processor time of a request, without that of `before`."""
    total = 0.0
    for _ in range(REPEATED):
        before()
        start = time.process_time()
        request()
        total += time.process_time() - start
    return total / REPEATED
