"""What the scrapes of all pods show: the ages of the data, the passes, the counts of tasks."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import requests

from bench.ledger import COUNTER, Ledger, Page

UP: Final = "dcs_instance_up"
REFRESHED: Final = "dcs_instance_last_refresh_timestamp_seconds"
ALWAYS: Final = (f"{UP}{{", f"{REFRESHED}{{")
"""Lines that are read at each scrape; of the counters only those that changed are."""

TIMEOUT: Final = 10.0
HEADERS: Final = {
    "Accept": "text/plain;version=0.0.4",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": f"{TIMEOUT:g}",
}


@dataclass(frozen=True, slots=True)
class Scrape:
    """One scrape of one pod: when, how long it took in seconds, and what it showed.

    The `ages` in seconds are those of the data shown; `passes` the seconds between two reads of the
    same instance, of those read since the scrape before.
    """

    pod: int
    at: float
    took: float = 0.0
    size: int = 0
    series: int = 0
    up: int = 0
    refreshed: Mapping[str, float] = field(default_factory=dict)
    passes: Sequence[float] = ()

    @property
    def ages(self) -> Sequence[float]:
        """The ages of the data shown, in seconds."""
        return [self.at - moment for moment in self.refreshed.values() if moment]


class Watch:
    """Scrapes all pods in turn, every `interval` seconds, and tells the ledgers.

    A pod that starts anew goes on with its series: the chart names them by the pod.
    """

    def __init__(
        self, urls: Callable[[], Mapping[int, str]], ledgers: Sequence[Ledger], interval: float
    ) -> None:
        self._urls = urls
        self._ledgers = ledgers
        self._interval = interval
        self._lines: dict[int, set[str]] = {}
        self._session = requests.Session()
        self._session.trust_env = False
        self.scrapes: list[Scrape] = []
        self.failed: list[tuple[int, float]] = []
        self.latest: Mapping[int, Scrape] = {}

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Scrape while the block lasts."""
        stopped = threading.Event()

        def go_on() -> None:
            due = time.monotonic()
            while not stopped.wait(max(0.0, due - time.monotonic())):
                due += self._interval
                for number, url in self._urls().items():
                    self.scrape(number, url)

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
            self._session.close()

    def scrape(self, number: int, url: str) -> None:
        """Scrape one pod; one that does not answer is noted."""
        began = time.perf_counter()
        try:
            answer = self._session.get(f"{url}/metrics", headers=HEADERS, timeout=TIMEOUT)
            answer.raise_for_status()
        except requests.RequestException:
            self.failed.append((number, time.time()))
            self.latest = {key: it for key, it in self.latest.items() if key != number}
            return
        took = time.perf_counter() - began
        self.take(number, time.time(), took, answer.text)

    def take(self, number: int, at: float, took: float, text: str) -> None:
        """Take the text of a scrape of a pod, that took so many seconds."""
        lines = {line for line in text.splitlines() if not line.startswith("#")}
        new = lines - self._lines.get(number, set())
        self._lines[number] = lines
        changed = Page("\n".join(line for line in new if line.startswith(COUNTER)))
        for ledger in self._ledgers:
            ledger.scraped(changed, str(number))
        shown = Page("\n".join(line for line in lines if line.startswith(ALWAYS)))
        refreshed = shown.by_instance(REFRESHED)
        before = self.latest[number].refreshed if number in self.latest else {}
        passes = [
            moment - before[key]
            for key, moment in refreshed.items()
            if before.get(key) and moment != before[key]
        ]
        scrape = Scrape(
            number, at, took, len(text), len(lines), int(shown.total(UP)), refreshed, passes
        )
        self.scrapes.append(scrape)
        self.latest = {**self.latest, number: scrape}

    def is_read(self, instances: Mapping[int, Collection[str]], since: float) -> bool:
        """Whether these pods showed that they read all these instances after a moment."""
        return all(
            number in self.latest
            and self.latest[number].up == len(ids)
            and all(self.latest[number].refreshed.get(key, 0.0) > since for key in ids)
            for number, ids in instances.items()
        )


def spread(values: Sequence[float]) -> str:
    """Return the median, the 99th percentile and the most of some seconds, in words."""
    if len(values) < 2:  # noqa: PLR2004 - a percentile needs two
        return "unknown"
    cuts = statistics.quantiles(values, n=100)
    return f"p50 {cuts[49]:.1f} s, p99 {cuts[98]:.1f} s, max {max(values):.1f} s"
