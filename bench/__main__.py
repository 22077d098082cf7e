"""The way into the benchmarks: ``python -m bench NAME [options]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parent.parent / ".tools"
PROMETHEUS: Final = TOOLS / "prometheus-3" / "prometheus"
OTHER: Final = TOOLS / "prometheus-2" / "prometheus"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the names and their options, which are arguments of each `main`."""
    made = argparse.ArgumentParser("python -m bench", description="Measure the exporter.")
    names = made.add_subparsers(metavar="NAME", required=True)

    def add(name: str, module: str, text: str) -> argparse.ArgumentParser:
        one = names.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        one.set_defaults(module=module)
        return one

    def option(one: argparse.ArgumentParser, name: str, default: float, text: str) -> None:
        one.add_argument(f"--{name}", type=type(default), default=default, help=text)

    def prometheus(one: argparse.ArgumentParser) -> None:
        one.add_argument("--prometheus", type=Path, default=PROMETHEUS, help="a real Prometheus")

    one = add("table", "table", "sweeps, exposition and memory beside the official SDK")
    one.add_argument("parts", nargs="*", metavar="PART", help="run only these parts")

    one = add("chaos", "chaos", "kill the exporter again and again: it must count every task once")
    option(one, "seconds", 180.0, "length of the run")
    option(one, "kills", 20, "kills in that time")
    option(one, "instances", 20, "instances in the cloud")
    option(one, "seed", 1, "seed of chance")
    prometheus(one)

    one = add("reloads", "reloads", "reload again and again: nothing may be lost, fail, or grow")
    option(one, "reloads", 100, "number of reloads, one a second")
    option(one, "instances", 300, "instances in the cloud")
    option(one, "seed", 1, "seed of chance")
    prometheus(one)
    one.add_argument("--other", type=Path, default=OTHER, help="another real Prometheus")

    one = add(
        "soak", "soak", "run for an hour under faults, reloads and rotations: nothing may grow"
    )
    option(one, "minutes", 60.0, "length of the run")
    option(one, "seed", 1, "seed of chance")

    one = add("clients", "bad_clients", "what clients that hang cost the others")
    one.add_argument("rows", nargs="*", metavar="ROW", help="run only these rows")

    one = add("years", "years", "simulated years in which no law may break")
    option(one, "years", 10, "years to play")
    option(one, "first", 0, "seed of the first year")
    option(one, "steps", 5000, "steps of a year")
    one.add_argument("--shrink", action="store_true", help="show the fewest steps that break a law")

    one = add("pass-time", "pass_time", "age of the data with many instances at a low rate limit")
    option(one, "instances", 5000, "instances in the cloud")
    option(one, "rate", 50.0, "requests per second")
    option(one, "passes", 3.0, "length of the run, in passes over all instances")
    prometheus(one)

    one = add("scale", "scale", "many instances on the shards of the chart, lost, moved and added")
    option(one, "instances", 20_000, "instances in the cloud")
    option(one, "projects", 10, "projects that they are in")
    option(one, "shards", 8, "shards that share them")
    option(one, "after", 9, "shards at the end")
    option(one, "pass-time", 45.0, "seconds of a pass, which the limit of each project follows")
    option(one, "roll", 3.0, "seconds between two pods that start anew; 0: all at once")
    prometheus(one)

    one = add("long-run", "long_run", "memory over thousands of scrapes with tasks that change")
    option(one, "scrapes", 20_000, "number of scrapes")
    return made


def main(words: Sequence[str]) -> int:
    """Run the benchmark with this name, and return its exit status."""
    given = vars(parser().parse_args(words))
    module = importlib.import_module(f"bench.{given.pop('module')}")
    status: int = module.main(**given)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
