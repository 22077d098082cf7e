"""Print the memory of an exporter in MB; `memory` runs this as a process of its own.

    peak INSTANCES TASKS CHANGING gzip|text      the peak over a few refreshes and scrapes
    growth INSTANCES TASKS CHANGING SCRAPES      after each tenth of the scrapes; then the seconds

CHANGING is the share of the listings that change from one refresh to the next.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final

from bench.clients import exporter, sweep_of
from bench.cloud import BenchCloud
from bench.load import Load
from bench.process_size import memory_now, memory_peak
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.metrics.exposition import ScrapeRequest

SCRAPES: Final = {
    "gzip": ScrapeRequest("application/openmetrics-text;version=1.0.0", "gzip"),
    "text": ScrapeRequest("text/plain;version=0.0.4"),
}
REFRESHES: Final = 3


def peak(instances: int, load: Load, scrape: ScrapeRequest) -> Sequence[float]:
    """Return the peak over a few refreshes, with a scrape after each."""
    with BenchCloud(load) as cloud, exporter(cloud, instances, 16) as made:
        sweep = sweep_of(made)
        for _ in range(1 + REFRESHES):
            sweep()
            _scrape(made, scrape)
        return [memory_peak()]


def growth(instances: int, load: Load, scrapes: int) -> Sequence[float]:
    """Return the memory after each tenth of the scrapes, and the seconds that they took."""
    held, start = [], time.monotonic()
    with BenchCloud(load) as cloud, exporter(cloud, instances, 16) as made:
        sweep = sweep_of(made)
        for number in range(1, scrapes + 1):
            sweep()
            _scrape(made, SCRAPES["gzip"])
            if number % (scrapes // 10) == 0:
                held.append(memory_now())
    return [*held, time.monotonic() - start]


def _scrape(made: Exporter, scrape: ScrapeRequest) -> None:
    shown = made.renderer.exposition(scrape)
    made.refresher.delivered(shown.counted, shown.number)


def main(measure: str, instances: str, tasks: str, changing: str, last: str) -> None:
    """Measure, and print the numbers."""
    number, load = int(instances), Load(tasks=int(tasks), changing=float(changing))
    if measure == "peak":
        found = peak(number, load, SCRAPES[last])
    else:
        found = growth(number, load, int(last))
    sys.stdout.write(f"{' '.join(map(str, found))}\n")


if __name__ == "__main__":
    tune_garbage_collection()
    main(*sys.argv[1:])
