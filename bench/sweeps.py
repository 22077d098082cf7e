"""Reading many instances: wall time, processor time, connections; all side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import certifi
import requests
from clients import (
    BareClient,
    Cost,
    Sweep,
    exporter,
    measured,
    sweep_of,
)
from cloud import PROJECT, BenchCloud, Load
from sdk import sdk_client, sdk_sweep

from dcs_task_exporter.exporter import Clocks, Exporter

RUNS: Final = 5
LIMIT: Final = 100
"""Requests per second that the limited cloud allows."""

Costs = Mapping[str, list[Cost]]
Row = tuple[str, str, float, float]
"""A line of the table: what, the figure to reach as it is written, its number, ours."""


def interleaved(cloud: BenchCloud, sweeps: Mapping[str, Sweep], runs: int = RUNS) -> Costs:
    """Run each sweep in turn, several times, after one that is not counted."""
    for sweep in sweeps.values():
        sweep()
    costs: dict[str, list[Cost]] = {name: [] for name in sweeps}
    for _ in range(runs):
        for name, sweep in sweeps.items():
            costs[name].append(measured(cloud, sweep))
    return costs


def wall(costs: list[Cost]) -> float:
    """Return the median of the clock, in seconds."""
    return statistics.median(cost.wall for cost in costs)


def cpu(costs: list[Cost]) -> float:
    """Return the median of the processor time, in seconds."""
    return statistics.median(cost.cpu for cost in costs)


def all_sweeps(
    cloud: BenchCloud, instances: int, threads: int, stack: ExitStack
) -> dict[str, Sweep]:
    """Return ours, the SDK's in threads, and the floor."""
    ours = stack.enter_context(exporter(cloud, instances, threads))
    pool = stack.enter_context(ThreadPoolExecutor(threads))
    bare = BareClient(cloud, threads)
    stack.callback(bare.close)
    return {
        "ours": sweep_of(ours),
        "sdk": sdk_sweep(sdk_client(cloud, threads), instances, pool),
        "bare": lambda: bare.sweep(instances),
    }


def warm_sweeps(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure sweeps of 100 and 1,000 instances at three latencies."""
    say("Sweeps, HTTPS: wall over ideal, and processor time per instance in microseconds")
    say(
        f"{'latency':>9} {'N':>6} {'c':>4}   ours         sdk          bare         new connections"
    )
    for latency in (0.0, 0.02, 0.05):
        with BenchCloud(Load(latency=latency)) as cloud:
            for instances, threads in ((100, 16), (100, 32), (1000, 16), (1000, 32)):
                yield from _warm(cloud, latency, instances, threads, say)


def _warm(
    cloud: BenchCloud, latency: float, instances: int, threads: int, say: Callable[[str], None]
) -> Iterator[Row]:
    ideal = math.ceil(instances / threads) * latency
    with ExitStack() as stack:
        costs = interleaved(cloud, all_sweeps(cloud, instances, threads, stack))
    shown = []
    for of in costs.values():
        ratio = f"{wall(of) / ideal:.2f}" if ideal else f"{wall(of) * 1000:.0f} ms"
        shown.append(f"{ratio:>6} {cpu(of) / instances * 1e6:5.0f}")
    new = sum(cost.connections for cost in costs["ours"])
    say(f"{latency * 1000:6.0f} ms {instances:6} {threads:4}  " + "  ".join(shown) + f"  {new:6}")
    if latency == 0.02 and instances == 1000:  # noqa: PLR2004 - the line of the table
        ours, sdk = costs["ours"], costs["sdk"]
        yield (
            f"warm sweep of 1,000, 20 ms, c={threads}: wall over ideal",
            "<= 1.10",
            1.10,
            (wall(ours) / ideal),
        )
        yield "new connections in it", "0", 0, new
        share = cpu(ours) / cpu(sdk)
        yield f"processor time over the SDK's, c={threads}", "<= 0.50", 0.50, share


def changing_sweep(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure the same when no listing is the one before: all are parsed and counted anew."""
    with BenchCloud(Load(latency=0.02, changing=True)) as cloud, ExitStack() as stack:
        costs = interleaved(cloud, all_sweeps(cloud, 1000, 16, stack))
    say(
        "All 1,000 listings changed, c=16, microseconds per instance: "
        f"ours {cpu(costs['ours']) * 1000:.0f}, SDK {cpu(costs['sdk']) * 1000:.0f}"
    )
    yield (
        "the same, each listing changed, c=16",
        "<= 0.50",
        0.50,
        (cpu(costs["ours"]) / cpu(costs["sdk"])),
    )


def cold_sweep(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure sweeps whose connections were all closed before."""
    instances, threads, latency = 100, 32, 0.02
    costs: dict[str, list[Cost]] = {"ours": [], "bare": []}
    with BenchCloud(Load(latency=latency)) as cloud, ExitStack() as stack:
        ours = stack.enter_context(exporter(cloud, instances, threads))
        bare = BareClient(cloud, threads)
        stack.callback(bare.close)
        ours.refresh_and_wait(60)
        for _ in range(11):
            hang_up(ours)
            costs["ours"].append(measured(cloud, sweep_of(ours)))
            bare.close()
            costs["bare"].append(measured(cloud, lambda: bare.sweep(instances)))
    ideal = math.ceil(instances / threads) * latency
    ratios = {name: wall(of) / ideal for name, of in costs.items()}
    say(f"Cold, 100 instances, c=32, 20 ms: ours {ratios['ours']:.2f}, bare {ratios['bare']:.2f}")
    what = "cold sweep of 100, 20 ms, c=32: wall over ideal"
    yield what, "<= 1.5", 1.5, ratios["ours"]
    made = statistics.median(cost.connections for cost in costs["ours"])
    yield "new connections in it", f"{threads}", threads, made


def hang_up(ours: Exporter) -> None:
    """Close the connections of the exporter, as a gateway does with idle ones."""
    for client in ours.clients.values():
        client.close()


def connection_cost(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure the processor time of a new connection, ours and that of a session's default."""
    with BenchCloud(Load()) as cloud, ExitStack() as stack:
        # What a cloud's certificate is checked with: the whole bundle, and here one more.
        bundle = cloud.ca_file.with_name("bundle.pem")
        bundle.write_bytes(Path(certifi.where()).read_bytes() + cloud.ca_file.read_bytes())
        cloud.ca_file = bundle
        ours = stack.enter_context(exporter(cloud, 1, 1))
        url = f"{cloud.url}/v2/{PROJECT}/instances/i0/tasks?limit=100&offset=0"

        def default(number: int, *, cold: bool) -> None:
            session = requests.Session()
            for _ in range(number):
                session.get(url, verify=str(bundle)).json()
                if cold:
                    session.close()
            session.close()

        def own(number: int, *, cold: bool) -> None:
            for _ in range(number):
                ours.refresh_and_wait(60)
                if cold:
                    hang_up(ours)

        costs = interleaved(
            cloud,
            {
                "own warm": lambda: own(50, cold=False),
                "own cold": lambda: own(50, cold=True),
                "default warm": lambda: default(50, cold=False),
                "default cold": lambda: default(50, cold=True),
            },
        )
    of_ours = (cpu(costs["own cold"]) - cpu(costs["own warm"])) / 50
    of_default = (cpu(costs["default cold"]) - cpu(costs["default warm"])) / 50
    told = f"ours {of_ours * 1000:.2f} ms, default {of_default * 1000:.1f} ms"
    say(f"Processor time of a new connection: {told}")
    yield (
        "processor time per new connection over a default session's",
        "<= 0.10",
        0.10,
        (of_ours / of_default),
    )


def limited_sweep(say: Callable[[str], None]) -> Iterator[Row]:
    """Measure a sweep of 1,000 at a limit of 100 requests per second."""
    with BenchCloud(Load(latency=0.02, limit=LIMIT)) as cloud, ExitStack() as stack:
        ours = stack.enter_context(exporter(cloud, 1000, 16, requests_per_second=0.93 * LIMIT))
        costs = interleaved(cloud, {"ours": sweep_of(ours)})["ours"]
        refused = cloud.refused
    say(f"1,000 instances at 93/s of 100/s: {wall(costs):.2f} s, {refused} refused")
    yield (
        "1,000 instances at a limit of 100/s: wall over ideal",
        "<= 1.10",
        1.10,
        (wall(costs) / (1000 / LIMIT)),
    )
    yield "refusals in it", "0", 0, refused


def growth(say: Callable[[str], None]) -> Iterator[Row]:
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
    each = [cpu(costs["100"]) / 1000, cpu(costs["1000"]) / 1000, cpu(costs["5000"]) / 5000]
    say(
        "Processor time per instance at 100, 1,000, 5,000: "
        + ", ".join(f"{one * 1e6:.0f} us" for one in each)
    )
    for size, one in zip(sizes[1:], each[1:], strict=True):
        yield (
            f"processor time per instance at {size:,} over that at 100",
            "<= 1.2",
            1.2,
            one / each[0],
        )


def _repeated(sweep: Sweep, times: int) -> Sweep:
    def repeated() -> None:
        for _ in range(times):
            sweep()

    return repeated


def spared(say: Callable[[str], None]) -> Iterator[Row]:
    """Count the requests per scrape with the change detector, a full pass every 10th scrape."""
    instances, interval, moment = 1000, 30.0, [1_000.0]
    clocks = Clocks(now=lambda: 1_750_000_000.0 + moment[0], monotonic=lambda: moment[0])
    center = f"    task_center: {{enabled: true, full_pass_interval: {10 * interval:.0f}s}}\n"
    with BenchCloud(Load()) as cloud, ExitStack() as stack:
        made = stack.enter_context(exporter(cloud, instances, 16, project=center, clocks=clocks))
        made.refresh_and_wait(60)
        before = cloud.served
        for _ in range(20):
            moment[0] += interval
            made.refresh_and_wait(60)
        average = (cloud.served - before) / 20
    say(f"Change detector: {average:.1f} requests per scrape of 1,000 quiet instances")
    yield (
        "requests per scrape with the change detector, over N",
        "<= 0.12",
        0.12,
        average / instances,
    )


def capacity(say: Callable[[str], None]) -> None:
    """Show that the server is not what limits: what it serves, and what was asked of it."""
    with BenchCloud(Load()) as cloud:
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
