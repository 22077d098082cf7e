"""What happened in simulated clouds, beside what all scrapes together showed of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

COUNTER: Final = "dcs_tasks_finished_total"

Series = tuple[str, str, str]
"""An instance's id, a task's name and its status."""

_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Page:
    """One scrape's text, as samples by the name of their metric and the text of their labels."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, dict[str, float]] = {}
        for name, labels, value in _SAMPLE.findall(text):
            self._samples.setdefault(name, {})[labels] = float(value)

    def family(self, name: str) -> Mapping[str, float]:
        """Return the samples of one metric by the text of their labels."""
        return self._samples.get(name, {})

    def value(self, name: str) -> float | None:
        """Return the sample of a metric without labels, or None where there is none."""
        return self.family(name).get("")

    def total(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        return sum(self.family(name).values())

    def by_instance(self, name: str) -> Mapping[str, float]:
        """Return the samples of a metric by the id of their instance."""
        return {labels_of(text)["dcs_instance_id"]: at for text, at in self.family(name).items()}


@lru_cache(maxsize=10_000)
def labels_of(text: str) -> Mapping[str, str]:
    """Return the labels that a text holds."""
    return dict(_LABEL.findall(text))


@dataclass(slots=True)
class Ledger:
    """The tasks that ended after the baseline, and the increases of the counters.

    An increase is what Prometheus sees: the difference between two scrapes of the same series.
    `falls` and `early` say which counters fell, and which showed a task before it had ended. With
    `instances`, the others are left out.
    """

    instances: Container[str] | None = None
    happened: Counter[Series] = field(default_factory=Counter)
    counted: Counter[Series] = field(default_factory=Counter)
    falls: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    _latest: dict[tuple[str, str], float] = field(default_factory=dict)
    _by_target: dict[str, Counter[Series]] = field(default_factory=dict)

    def ended(self, instance: str, name: str, status: str) -> None:
        """Note the end of a task; before the cloud shows it."""
        self.happened[instance, name, status] += 1

    def scraped(self, page: Page, target: str = "") -> None:
        """Add the increases since the scrape of this target before."""
        for text, value in page.family(COUNTER).items():
            before = self._latest.get((target, text))
            self._latest[target, text] = value
            if before is None or value == before:
                continue
            labels = labels_of(text)
            series = labels["dcs_instance_id"], labels["task_name"], labels["status"]
            if self.instances is not None and series[0] not in self.instances:
                continue
            if value < before:
                self.falls.append(f"{text}: from {before:g} to {value:g}")
                continue
            self.counted[series] += round(value - before)
            self._by_target.setdefault(target, Counter())[series] += round(value - before)
            if self.counted[series] > self.happened[series]:
                self.early.append(f"{text}: {value:g}")

    @property
    def highest(self) -> Counter[Series]:
        """The increases of the target that shows the most of them, for each series."""
        most: Counter[Series] = Counter()
        for counted in self._by_target.values():
            most |= counted
        return most

    @property
    def lost(self) -> Counter[Series]:
        """The tasks that ended and were not counted."""
        return self.happened - self.counted

    @property
    def doubled(self) -> Counter[Series]:
        """The tasks that were counted and did not end, or not as often."""
        return self.counted - self.happened

    @property
    def agrees(self) -> bool:
        """Whether every task was counted once, and no counter ever fell or was ahead."""
        return not (self.lost or self.doubled or self.falls or self.early)

    def report(self) -> Iterator[str]:
        """Yield the counts in sentences, and each mistake."""
        yield (
            f"{self.happened.total()} tasks ended, {self.counted.total()} counted: "
            f"{self.lost.total()} lost, {self.doubled.total()} doubled; "
            f"{len(self.falls)} counters fell, {len(self.early)} were ahead"
        )
        yield from (f"  lost: {series}: {number}" for series, number in self.lost.items())
        yield from (f"  doubled: {series}: {number}" for series, number in self.doubled.items())
        yield from (f"  fell: {text}" for text in self.falls)
        yield from (f"  ahead: {text}" for text in self.early)
