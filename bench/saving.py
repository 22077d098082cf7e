"""What keeping counts in a file adds to a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from bench.clients import exporter, sweep_of
from bench.cloud import BenchCloud, Load
from bench.measuring import INFORMATION, Row, Say, Sweep, interleaved, median_cpu, median_wall
from bench.sdk import sdk_client, sdk_sweep

INSTANCES: Final = 1000
THREADS: Final = 16
LOADS: Final = {
    "nothing changed": Load(latency=0.02),
    # A new task in each: another error code alone would change nothing that is saved.
    "each listing with a new finished task": Load(latency=0.02, changing=1.0, finishing=True),
}


def saving_sweeps(say: Say) -> Iterator[Row]:
    """Measure sweeps with a state file, beside those without one, and the SDK."""
    for what, load in LOADS.items():
        with BenchCloud(load) as cloud, ExitStack() as stack:
            costs = interleaved(cloud, _sweeps(cloud, stack))
        told = ", ".join(
            f"{name} {median_cpu(of) / INSTANCES * 1e6:.0f} ({median_wall(of):.2f} s)"
            for name, of in costs.items()
        )
        say(f"State file, c={THREADS}, {what}, microseconds per instance: {told}")
        for name, setup in (("with a state file", "saving"), ("without one", "plain")):
            share = median_cpu(costs[setup]) / median_cpu(costs["sdk"])
            yield Row(f"processor time over the SDK's, {what}, {name}", INFORMATION, share)


def _sweeps(cloud: BenchCloud, stack: ExitStack) -> dict[str, Sweep]:
    pool = stack.enter_context(ThreadPoolExecutor(THREADS))
    made = {
        setup: stack.enter_context(exporter(cloud, INSTANCES, THREADS, setup=setup))
        for setup in ("saving", "plain")
    }
    return {
        **{setup: sweep_of(one) for setup, one in made.items()},
        "sdk": sdk_sweep(sdk_client(cloud, THREADS), INSTANCES, pool),
    }
