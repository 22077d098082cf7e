"""The counts of a chaos run: those of the cloud beside those of Prometheus."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.real_prometheus import Prometheus

COUNTER = "dcs_tasks_finished_total"

Counts = dict[tuple[str, str], int]
"""Finished tasks by their name and status."""


@dataclass(frozen=True)
class Result:
    """The tasks that finished, what Prometheus counted, and what the exporter went through."""

    happened: Counts
    increase: Counts
    samples: Counts
    kills: int
    requests: int
    failed: int
    intact: bool

    @property
    def good(self) -> bool:
        """Whether all counts agree."""
        return self.happened == self.increase == self.samples and self.intact


def increase(prometheus: Prometheus, span: str) -> Counts:
    """Return Prometheus' own increase, rounded because it extrapolates."""
    query = f"round(sum by (task_name, status) (increase({COUNTER}[{span}])))"
    rows = prometheus.query(query)
    return _counts({_series(row["metric"]): float(row["value"][1]) for row in rows})


def sum_of_samples(prometheus: Prometheus, span: str) -> Counts:
    """Return the sums of the differences between samples; a fall is a reset, as for increase()."""
    total: Counter[tuple[str, str]] = Counter()
    for row in prometheus.query(f"{COUNTER}[{span}]"):
        values = [float(value) for _, value in row["values"]]
        total[_series(row["metric"])] += round(
            sum(
                after - before if after >= before else after
                for before, after in itertools.pairwise(values)
            )
        )
    return _counts(total)


def failed_requests(prometheus: Prometheus, span: str) -> int:
    """Return the number of failed requests that the exporter counted."""
    rows = prometheus.query(f"sum(increase(dcs_api_errors_total[{span}]))")
    return round(float(rows[0]["value"][1])) if rows else 0


def _series(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels["task_name"], labels["status"]


def _counts(found: Mapping[tuple[str, str], float]) -> Counts:
    return {series: round(number) for series, number in found.items() if number}


def report(result: Result) -> str:
    """Return the result as a table."""
    lines = [f"{'task_name':24}{'status':12}{'happened':>10}{'increase()':>12}{'samples':>9}"]
    for series in sorted({*result.happened, *result.increase, *result.samples}):
        found = (result.happened, result.increase, result.samples)
        cells = [counts.get(series, 0) for counts in found]
        lines.append(f"{series[0]:24}{series[1]:12}{cells[0]:>10}{cells[1]:>12}{cells[2]:>9}")
    happened, counted = sum(result.happened.values()), sum(result.samples.values())
    lost = sum((Counter(result.happened) - Counter(result.samples)).values())
    twice = sum((Counter(result.samples) - Counter(result.happened)).values())
    lines += [
        (
            f"{result.kills} kills, {2 * result.kills} clocks set, {result.kills} state files "
            f"spoilt, {result.requests} requests, {result.failed} seen to fail; "
            f"state file intact: {result.intact}"
        ),
        f"{happened} tasks ended, {counted} counted: {lost} lost, {twice} counted twice",
    ]
    return "\n".join(lines)
