"""The exposition, against the library's encoder alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from bench.measuring import INFORMATION, RUNS, Row, Say
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import ScrapeRequest, choose_format
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.tasks.counting import CountingRules, count_new
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, TaskMetrics, task_metrics

NOW: Final = 1_750_000_000.0
INTERVAL: Final = 15.0
"""Seconds between two refreshes."""

TASKS: Final = 10
FORMATS: Final = {
    "text": "text/plain;version=0.0.4",
    "OpenMetrics": "application/openmetrics-text;version=1.0.0",
}
SERIES: Final = {1_000: False, 10_000: True, 100_000: True}
"""How many series are rendered, and whether the table wants them."""

RULES: Final = CountingRules(7 * 86_400.0)
NAMES: Final = ("EXTEND", "modify", "AddWhitelist", "UpdatePort", "masterStandbySwapJob")

LIBRARY: Final = "library"
PLAIN: Final = "plain"
GZIP: Final = "gzip"


def expositions(say: Say) -> Iterator[Row]:
    """Measure a scrape after a refresh of all instances, which changed 1 % of them."""
    each = len(_samples([snapshot_of(0)]))
    say("Exposition, all refreshed, 1 % changed; milliseconds, and over the library's encoder")
    say("   series               library        text         with gzip")
    for series, in_table in SERIES.items():
        snapshots = [snapshot_of(number) for number in range(max(1, round(series / each)))]
        for name, accept in FORMATS.items():
            cost = _rendered(snapshots, accept)
            library, plain, gzipped = cost[LIBRARY], cost[PLAIN], cost[GZIP]
            say(
                f"  {len(_samples(snapshots)):7}  {name:11}  {library * 1000:8.2f}"
                f"  {plain * 1000:8.2f} {plain / library:5.3f}"
                f"  {gzipped * 1000:8.2f} {gzipped / library:5.3f}"
            )
            if in_table:
                what = f"processor time to render {series:,} series, {name}, over the encoder's"
                yield Row(what, "<= 0.10", plain / library)
                yield Row(f"{what}, with gzip", INFORMATION, gzipped / library)


def snapshot_of(number: int) -> Snapshot:
    """Return the first snapshot of an instance."""
    instance = Instance(f"5560df16-cebf-4473-95c4-{number:012d}", f"cache-{number}", "prod")
    return Snapshot(
        instance,
        up=True,
        metrics=_task_metrics(number, 0),
        refreshed_at=NOW,
        attempted_at=NOW,
        refresh_duration=0.02,
    )


def refreshed(snapshots: Sequence[Snapshot], run: int) -> list[Snapshot]:
    """Return the snapshots after a refresh of all, which found one in a hundred changed.

    The others keep their metrics, the same objects, as the exporter does.
    """
    changed = max(1, len(snapshots) // 100)
    first = run * changed
    made = []
    for at, before in enumerate(snapshots):
        is_changed = (at - first) % len(snapshots) < changed
        moment = NOW + INTERVAL * run + at * 0.001_234
        made.append(
            replace(
                before,
                metrics=_task_metrics(at, run) if is_changed else before.metrics,
                refreshed_at=moment,
                attempted_at=moment,
                refresh_duration=0.02 + (at + run) % 97 * 0.000_123_4,
            )
        )
    return made


def _task_metrics(number: int, run: int) -> TaskMetrics:
    """Return the metrics of an instance with some finished tasks; each run has later ones."""
    rows = tuple(
        Task(
            f"{number}-{at}",
            NAMES[at % len(NAMES)],
            "FAILED" if at % 7 == 0 else "SUCCESS",
            NOW - 3600 * (at + 2) + run,
            NOW - 3600 * (at + 1) + run,
        )
        for at in range(TASKS)
    )
    listing = Listing(rows, NOW - RULES.lookback)
    state = reveal(count_new(InstanceState(), listing, NOW, RULES)[0], ())
    return task_metrics(state, listing, NOW, RULES)


def _rendered(snapshots: list[Snapshot], accept: str) -> Mapping[str, float]:
    """Return the median processor time of the library's encoder, and of ours."""
    latest = snapshots
    encoder, _ = choose_format(accept)
    renderer = Renderer(TaskCollector(lambda _: latest), CollectorRegistry())
    plain, gzipped = ScrapeRequest(accept), ScrapeRequest(accept, "gzip")
    renderer.exposition(plain)
    found: dict[str, list[float]] = {LIBRARY: [], PLAIN: [], GZIP: []}
    for run in range(1, 2 + RUNS):
        families = _Families(refreshed(latest, run))
        found[LIBRARY].append(_took(lambda: encoder(families)))  # noqa: B023 - called at once
        for name, request in ((PLAIN, plain), (GZIP, gzipped)):
            latest = refreshed(latest, 2 * run + (name == GZIP))
            found[name].append(_took(lambda: renderer.exposition(request)))  # noqa: B023
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def _took(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _samples(snapshots: Sequence[Snapshot]) -> list[object]:
    families = TaskCollector(lambda _: snapshots).collect()
    return [sample for family in families for sample in family.samples]


class _Families(CollectorRegistry):
    """The families of some snapshots, made already: only the encoder is measured."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        super().__init__()
        self._families = list(TaskCollector(lambda _: snapshots).collect())

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        return iter(self._families)
