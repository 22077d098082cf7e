"""Reading many instances over kept connections: wall time and processor time, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from bench.bare import BareClient
from bench.clients import exporter, sweep_of
from bench.cloud import BenchCloud, Load
from bench.measuring import (
    CHANGED,
    INFORMATION,
    RUNS,
    Costs,
    Row,
    Say,
    Sweep,
    connections_of,
    interleaved,
    measured,
    median_cpu,
    median_wall,
)
from bench.sdk import sdk_client, sdk_sweep

LATENCY: Final = 0.02
"""Seconds that the cloud takes in the lines of the table."""

SERIAL_RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class Size:
    """How many instances are read, by how many threads."""

    instances: int
    threads: int


TABLE_SIZES: Final = (Size(1000, 16), Size(1000, 32))
SIZES: Final = (Size(100, 16), Size(100, 32), *TABLE_SIZES)


def all_sweeps(cloud: BenchCloud, size: Size, stack: ExitStack) -> dict[str, Sweep]:
    """Return ours, the SDK's, and the floor; with one thread, the SDK is called in a loop."""
    threads = size.threads
    ours = stack.enter_context(exporter(cloud, size.instances, threads))
    pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
    bare = BareClient(cloud, threads)
    stack.callback(bare.close)
    return {
        "ours": sweep_of(ours),
        "sdk": sdk_sweep(sdk_client(cloud, threads), size.instances, pool),
        "bare": lambda: bare.sweep(size.instances),
    }


def warm_sweeps(say: Say) -> Iterator[Row]:
    """Measure sweeps of 100 and 1,000 instances at three latencies; nothing changes."""
    say("Sweeps, HTTPS, nothing changed")
    say(_HEAD)
    for latency in (0.0, LATENCY, 0.05):
        with BenchCloud(Load(latency=latency)) as cloud:
            for size in SIZES:
                costs = _measured(cloud, size, latency, say)
                if latency == LATENCY and size in TABLE_SIZES:
                    yield from _rows(costs, size, "")


def changed_sweeps(say: Say) -> Iterator[Row]:
    """Measure the same when no listing is the one before: all are parsed and counted anew."""
    say("Sweeps, HTTPS, each listing changed")
    say(_HEAD)
    with BenchCloud(Load(latency=LATENCY, changing=1.0)) as cloud:
        for size in TABLE_SIZES:
            yield from _rows(_measured(cloud, size, LATENCY, say), size, CHANGED)


_HEAD: Final = (
    "  latency      N   c   wall over ideal, microseconds of processor time per instance\n"
    "                       ours           SDK            bare          new connections (SDK's)"
)


def _measured(cloud: BenchCloud, size: Size, latency: float, say: Say, runs: int = RUNS) -> Costs:
    """Measure one size, and say what came out."""
    with ExitStack() as stack:
        costs = interleaved(cloud, all_sweeps(cloud, size, stack), runs)
    ideal = _ideal(size, latency)
    shown = []
    for of in costs.values():
        ratio = f"{median_wall(of) / ideal:.3f}" if ideal else f"{median_wall(of) * 1000:.0f} ms"
        shown.append(f"{ratio:>7} {median_cpu(of) / size.instances * 1e6:5.0f}")
    new = f"{connections_of(costs['ours'])} ({connections_of(costs['sdk'])})"
    numbers = f"{latency * 1000:6.0f} ms {size.instances:6} {size.threads:3}"
    say(f"{numbers}  {'  '.join(shown)}  {new}")
    return costs


def _ideal(size: Size, latency: float) -> float:
    return math.ceil(size.instances / size.threads) * latency


def _rows(costs: Costs, size: Size, ending: str) -> Iterator[Row]:
    ours, sdk, at = costs["ours"], costs["sdk"], f"c={size.threads}{ending}"
    sweep = f"warm sweep of {size.instances:,}, 20 ms, {at}"
    ratio = median_wall(ours) / _ideal(size, LATENCY)
    yield Row(f"wall time over ideal, {sweep}", "<= 1.10", ratio)
    yield Row(f"new connections in a {sweep}", "0", connections_of(ours))
    share = median_cpu(ours) / median_cpu(sdk)
    yield Row(f"processor time per instance over the SDK's request, {at}", "<= 0.50", share)


def serial_sweeps(say: Say) -> Iterator[Row]:
    """Measure sweeps of 100 instances one by one, as the SDK is used at its simplest."""
    say(f"Sweeps one by one, HTTPS, nothing changed, medians of {SERIAL_RUNS} runs")
    say(_HEAD)
    for latency in (0.0, LATENCY):
        with BenchCloud(Load(latency=latency)) as cloud:
            costs = _measured(cloud, Size(100, 1), latency, say, SERIAL_RUNS)
        share = median_cpu(costs["ours"]) / median_cpu(costs["sdk"])
        what = f"processor time over the SDK's, both serial, {latency * 1000:.0f} ms"
        yield Row(what, INFORMATION, share)


def growth(say: Say) -> Iterator[Row]:
    """Measure the processor time per instance as their number grows."""
    sizes = (100, 1000, 5000)
    with BenchCloud(Load(latency=0.005)) as cloud, ExitStack() as stack:
        sweeps: dict[str, Sweep] = {}
        for size in sizes:
            made = stack.enter_context(exporter(cloud, size, 16))
            sweeps[str(size)] = sweep_of(made)
        # As much work for each, so that what is not work weighs the same.
        sweeps["100"] = _repeated(sweeps["100"], 10)
        costs = interleaved(cloud, sweeps)
    each = [median_cpu(costs[str(size)]) / max(size, 1000) for size in sizes]
    told = ", ".join(f"{one * 1e6:.0f} us" for one in each)
    say(f"Processor time per instance at 100, 1,000, 5,000: {told}")
    for size, one in zip(sizes[1:], each[1:], strict=True):
        what = f"processor time per instance at {size:,} over that at 100"
        yield Row(what, "<= 1.2", one / each[0])


def _repeated(sweep: Sweep, times: int) -> Sweep:
    def repeated() -> None:
        for _ in range(times):
            sweep()

    return repeated


def capacity(say: Say) -> None:
    """Show that the server is not what limits: what it serves, and what was asked of it."""
    with BenchCloud(Load(changing=1.0)) as cloud:
        bare = BareClient(cloud, 4)
        bare.sweep(1000)
        before = cloud.cpu_seconds
        cost = measured(cloud, lambda: bare.sweep(20_000))
        busy = cloud.cpu_seconds - before
        bare.close()
    rates = (
        f"{20_000 / cost.wall:,.0f} requests/s, {20_000 / busy:,.0f} per second of its processor"
    )
    say(f"The server answers {rates}; sweeps at 20 ms ask for at most 1,600/s")
