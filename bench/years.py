"""Simulated years: whole worlds, each from a seed, in which no law may break."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import dataclass

from tests.support.world_play import DAY, NOW, LawBrokenError, World, shrunk, steps_of


@dataclass(frozen=True)
class Year:
    """The outcome of one world."""

    seed: int
    steps: int
    claims: int
    requests: int
    days: float
    faults: Counter[str]
    happened: Counter[str]
    broken: str


def year(seed: int, steps: int) -> Year:
    """Play one world."""
    logging.disable(logging.CRITICAL)
    world, plan, broken = World(seed), steps_of(seed, steps), ""
    try:
        world.play(plan)
    except LawBrokenError as error:
        broken = str(error)
    return Year(
        seed,
        world.steps,
        world.claims,
        world.cloud.total,
        (world.time - NOW) / DAY,
        world.cloud.faults,
        Counter(kind for kind, _ in plan[: world.steps]),
        broken,
    )


def main(years: int, first: int, steps: int, *, shrink: bool) -> int:
    """Play the years from seed `first` on, and print their sums and each world that broke a law."""
    began = time.monotonic()
    seeds = range(first, first + years)
    with multiprocessing.get_context("spawn").Pool() as pool:
        played = pool.starmap(year, [(seed, steps) for seed in seeds], chunksize=1)
    faults, happened = Counter[str](), Counter[str]()
    for one in played:
        faults += one.faults
        happened += one.happened
    broken = [one for one in played if one.broken]
    say = sys.stdout.write
    say(f"worlds: {len(played)}, seeds {seeds.start} to {seeds.stop - 1}\n")
    say(f"steps: {sum(one.steps for one in played)}: {_table(happened)}\n")
    say(f"simulated days: {sum(one.days for one in played):.0f}\n")
    say(f"requests: {sum(one.requests for one in played)}\n")
    say(f"readings reported as whole: {sum(one.claims for one in played)}\n")
    say(f"faults: {sum(faults.values())}: {_table(faults)}\n")
    say(f"worlds in which a law broke: {len(broken)}\n")
    for one in broken:
        say(f"  {one.broken}\n")
        if shrink:
            say(f"    enough: {shrunk(one.seed, steps_of(one.seed, steps)[: one.steps])}\n")
    say(f"took {time.monotonic() - began:.0f} s\n")
    return 1 if broken else 0


def _table(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.most_common())
