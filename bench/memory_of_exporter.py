"""Print what the exporter holds, in MB.

``peak INSTANCES TASKS CHANGING gzip|text`` prints the most that it ever held; CHANGING is the share
of the listings that change from one refresh to the next. ``growth INSTANCES TASKS CHANGING
SCRAPES`` prints what it holds after each tenth of the scrapes, and the seconds that they took. A
script of its own, so that nothing else that is measured weighs on it.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from bench.clients import exporter, sweep_of
from bench.cloud import BenchCloud, Load
from bench.held import memory_now, memory_peak
from dcs_task_exporter.commands.serve import tune_garbage_collection
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.metrics.exposition import ScrapeRequest

SCRAPES: Final = {
    "gzip": ScrapeRequest("application/openmetrics-text;version=1.0.0", "gzip"),
    "text": ScrapeRequest("text/plain;version=0.0.4"),
}
REFRESHES: Final = 3


def peak(instances: int, load: Load, scrape: ScrapeRequest) -> tuple[float, ...]:
    """Return the peak over a few refreshes, with a scrape after each."""
    with BenchCloud(load) as cloud, exporter(cloud, instances, 16) as made:
        sweep = sweep_of(made)
        for _ in range(1 + REFRESHES):
            sweep()
            scraped(made, scrape)
        return (memory_peak(),)


def growth(instances: int, load: Load, scrapes: int) -> tuple[float, ...]:
    """Return what is held after each tenth of the scrapes, and the seconds that they took."""
    held, start = [], time.monotonic()
    with BenchCloud(load) as cloud, exporter(cloud, instances, 16) as made:
        sweep = sweep_of(made)
        for number in range(1, scrapes + 1):
            sweep()
            scraped(made, SCRAPES["gzip"])
            if number % (scrapes // 10) == 0:
                held.append(memory_now())
    return *held, time.monotonic() - start


def scraped(made: Exporter, scrape: ScrapeRequest) -> None:
    """Render an answer, and confirm it."""
    shown = made.renderer.exposition(scrape).shown
    if shown is not None:
        made.fleet.delivered(shown.snapshots, shown.number)


def main(measure: str, instances: str, tasks: str, changing: str, last: str) -> str:
    """Measure, and return what is to be printed."""
    load = Load(tasks=int(tasks), changing=float(changing))
    if measure == "peak":
        found = peak(int(instances), load, SCRAPES[last])
    else:
        found = growth(int(instances), load, int(last))
    return " ".join(map(str, found))


if __name__ == "__main__":
    tune_garbage_collection()
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
