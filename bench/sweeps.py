"""Sweeps over many instances on kept connections: wall time and processor time, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from bench.bare import BareClient
from bench.clients import INTERVAL, LIMIT, exporter, sweep_of
from bench.cloud import BenchCloud
from bench.load import Load
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
from dcs_task_exporter.clock import Clock

LATENCY: Final = 0.02
"""Latency of the cloud, in seconds, in the rows of the table."""

SERIAL_RUNS: Final = 3
SAVING_LOADS: Final = {
    "nothing changed": Load(latency=LATENCY),
    # A new task in each: another error code alone would change nothing in the state file.
    "each listing with a new finished task": Load(latency=LATENCY, changing=1.0, finishing=True),
}


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a sweep."""

    instances: int
    threads: int


TABLE_SIZES: Final = (Size(1000, 16), Size(1000, 32))
SIZES: Final = (Size(100, 16), Size(100, 32), *TABLE_SIZES)


def all_sweeps(cloud: BenchCloud, size: Size, stack: ExitStack) -> dict[str, Sweep]:
    """Return the exporter's sweep, the SDK's, and the bare client's."""
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
    """Measure sweeps in which every listing changed, so that all are parsed and counted."""
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
    """Measure one size, and print its line."""
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
    yield Row(f"processor time per instance over the SDK's request, {at}", "<= 0.45", share)


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
    """Measure the processor time per instance at growing numbers of instances."""
    sizes = (100, 1000, 5000)
    with BenchCloud(Load(latency=0.005)) as cloud, ExitStack() as stack:
        sweeps: dict[str, Sweep] = {}
        for size in sizes:
            made = stack.enter_context(exporter(cloud, size, 16))
            sweeps[str(size)] = sweep_of(made)
        # As much work in each run, so that the overhead of a run weighs the same.
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


def limited_sweep(say: Say) -> Iterator[Row]:
    """Measure a sweep of 1,000 at a limit of 100 requests per second."""
    with BenchCloud(Load(latency=LATENCY, limit=LIMIT)) as cloud, ExitStack() as stack:
        made = stack.enter_context(exporter(cloud, 1000, 16, setup="limited"))
        costs = interleaved(cloud, {"ours": sweep_of(made)})["ours"]
        refused = cloud.refused
    took = median_wall(costs)
    say(f"1,000 instances at 93/s of 100/s: {took:.2f} s, {refused} refused")
    ratio = took / (1000 / LIMIT)
    yield Row("wall time over ideal, 1,000 instances at a limit of 100/s", "<= 1.10", ratio)
    yield Row("refusals in it", "0", refused)


def task_center_sweeps(say: Say) -> Iterator[Row]:
    """Count the requests per scrape with the task center, a full pass every 10th scrape."""
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


def saving_sweeps(say: Say) -> Iterator[Row]:
    """Measure sweeps with a state file, beside those without one, and the SDK."""
    size = Size(1000, 16)
    for what, load in SAVING_LOADS.items():
        with BenchCloud(load) as cloud, ExitStack() as stack:
            sweeps = all_sweeps(cloud, size, stack)
            saving = stack.enter_context(
                exporter(cloud, size.instances, size.threads, setup="saving")
            )
            sweeps = {"saving": sweep_of(saving), "plain": sweeps["ours"], "sdk": sweeps["sdk"]}
            costs = interleaved(cloud, sweeps)
        text = ", ".join(
            f"{name} {median_cpu(of) / size.instances * 1e6:.0f} ({median_wall(of):.2f} s)"
            for name, of in costs.items()
        )
        say(f"State file, c={size.threads}, {what}, microseconds per instance: {text}")
        for name, setup in (("with a state file", "saving"), ("without one", "plain")):
            share = median_cpu(costs[setup]) / median_cpu(costs["sdk"])
            yield Row(f"processor time over the SDK's, {what}, {name}", INFORMATION, share)


def capacity(say: Say) -> None:
    """Show that the cloud is no bottleneck."""
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
