"""Simulated years: whole worlds, each from a seed, in which no law may break.

A year is 5,000 steps. What breaks a law is shown with its seed, and with the few steps that are
enough; the exit status is 1 then.

    python -m bench.years --years 100
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from tests.support.world_play import DAY, NOW, LawBrokenError, World, shrunk, steps_of  # noqa: E402 - found beside

STEPS = 5000


@dataclass(frozen=True)
class Year:
    """What one world came to."""

    seed: int
    steps: int
    claims: int
    requests: int
    days: float
    faults: Counter[str]
    happened: Counter[str]
    broken: str


def year(seed: int, steps: int = STEPS) -> Year:
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


def main() -> int:
    """Play the years, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a year")
    parser.add_argument("--shrink", action="store_true", help="show the steps that are enough")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    seeds = range(asked.first, asked.first + asked.years)
    with multiprocessing.get_context("spawn").Pool() as pool:
        years = pool.starmap(year, [(seed, asked.steps) for seed in seeds], chunksize=1)
    faults, happened = Counter[str](), Counter[str]()
    for one in years:
        faults += one.faults
        happened += one.happened
    broken = [one for one in years if one.broken]
    say = sys.stdout.write
    say(f"worlds: {len(years)}, seeds {seeds.start} to {seeds.stop - 1}\n")
    say(f"steps: {sum(one.steps for one in years)}: {_table(happened)}\n")
    say(f"simulated days: {sum(one.days for one in years):.0f}\n")
    say(f"requests: {sum(one.requests for one in years)}\n")
    say(f"readings that were said to be whole: {sum(one.claims for one in years)}\n")
    say(f"faults: {sum(faults.values())}: {_table(faults)}\n")
    say(f"worlds in which a law broke: {len(broken)}\n")
    for one in broken:
        say(f"  {one.broken}\n")
        if asked.shrink:
            say(f"    enough: {shrunk(one.seed, steps_of(one.seed, asked.steps)[: one.steps])}\n")
    say(f"took {time.monotonic() - began:.0f} s\n")
    return 1 if broken else 0


def _table(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
