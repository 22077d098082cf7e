"""Print what the exporter holds, in MB: ``peak INSTANCES TASKS`` or ``growth INSTANCES SCRAPES``.

A script of its own, so that nothing else that is measured weighs on it.
"""

from __future__ import annotations

import sys

from clients import exporter
from cloud import BenchCloud, Load, memory_now, memory_peak

from dcs_task_exporter.process import tune_garbage_collection
from dcs_task_exporter.web.exposition import ScrapeRequest

SCRAPE = ScrapeRequest("application/openmetrics-text;version=1.0.0", "gzip")


def peak(instances: int, tasks: int) -> tuple[float, float]:
    """Return the peak, all told, and the one before the first scrape."""
    with BenchCloud(Load(tasks=tasks)) as cloud, exporter(cloud, instances, 16) as made:
        made.refresh_and_wait(600)
        before = memory_peak()
        for _ in range(3):
            made.exposition(SCRAPE)
            made.refresh_and_wait(600)
        return memory_peak(), before


def growth(instances: int, scrapes: int) -> tuple[float, float]:
    """Return what is held after a tenth of the scrapes, and after all; each listing changes."""
    early = 0.0
    with BenchCloud(Load(changing=True)) as cloud, exporter(cloud, instances, 16) as made:
        for number in range(scrapes):
            made.refresh_and_wait(600)
            made.exposition(SCRAPE)
            if number == scrapes // 10:
                early = memory_now()
        return early, memory_now()


if __name__ == "__main__":
    tune_garbage_collection()
    measure = {"peak": peak, "growth": growth}[sys.argv[1]]
    sys.stdout.write(" ".join(map(str, measure(int(sys.argv[2]), int(sys.argv[3])))) + "\n")
