"""Measuring side by side, and the rows of the table."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.cloud import BenchCloud

RUNS: Final = 5
INFORMATION: Final = "for information"
"""Bound of a row that must reach nothing."""

CHANGED: Final = ", each listing changed"
"""End of a row's name where every listing differs from the one before."""

RELATIONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    "": operator.eq,
}

Say = Callable[[str], None]
Sweep = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: its name, the bound in words, and our value."""

    what: str
    wanted: str
    ours: float

    @property
    def verdict(self) -> str:
        """`falls short` where our value, unrounded, misses the bound."""
        if self.wanted == INFORMATION:
            return ""
        relation, _, bound = self.wanted.rpartition(" ")
        return "" if RELATIONS[relation](self.ours, float(bound)) else "falls short"

    def __str__(self) -> str:
        return f"| {self.what} | {self.wanted} | {self.ours:.4g} | {self.verdict} |"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one sweep over all instances; times in seconds."""

    wall: float
    cpu: float
    connections: int


Costs = Mapping[str, list[Cost]]


def measured(cloud: BenchCloud, sweep: Sweep) -> Cost:
    """Run a sweep once."""
    connections = cloud.connections
    wall, cpu = time.perf_counter(), time.process_time()
    sweep()
    return Cost(
        time.perf_counter() - wall, time.process_time() - cpu, cloud.connections - connections
    )


def interleaved(cloud: BenchCloud, sweeps: Mapping[str, Sweep], runs: int = RUNS) -> Costs:
    """Run the sweeps in turn, several times, after a first round that is not counted."""
    for sweep in sweeps.values():
        sweep()
    costs: dict[str, list[Cost]] = {name: [] for name in sweeps}
    for _ in range(runs):
        for name, sweep in sweeps.items():
            costs[name].append(measured(cloud, sweep))
    return costs


def median_wall(costs: list[Cost]) -> float:
    """Return the median wall time in seconds."""
    return statistics.median(cost.wall for cost in costs)


def median_cpu(costs: list[Cost]) -> float:
    """Return the median processor time in seconds."""
    return statistics.median(cost.cpu for cost in costs)


def connections_of(costs: list[Cost]) -> int:
    """Return the number of connections that were made in all runs."""
    return sum(cost.connections for cost in costs)
