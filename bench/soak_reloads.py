"""The reloads of a soak: each rewrites the configuration, sends SIGHUP, and expects an outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.ledger import Page
from bench.soak_play import Play
from bench.soak_scene import Scene

PATIENCE: Final = 10.0
"""Seconds within which a reload must show."""

_SUCCESS: Final = "dcs_task_exporter_config_last_reload_success_timestamp_seconds"
_IS_GOOD: Final = "dcs_task_exporter_config_last_reload_successful"


@dataclass(slots=True)
class Outcomes:
    """How often a reload was taken, refused as it should be, or did not show."""

    taken: int = 0
    refused: int = 0
    missed: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Whether each reload did what it should, or this version of the exporter has none."""
        return not self.missed or not self.taken

    def report(self) -> str:
        """Return a sentence."""
        if self.missed and not self.taken:
            return f"reload not supported: {self.missed.total()} were asked for"
        missed = ", ".join(f"{name} {number}" for name, number in self.missed.items())
        return (
            f"{self.taken} reloads taken, {self.refused} bad files refused, "
            f"{self.missed.total()} missed{f': {missed}' if missed else ''}"
        )


class Reloads:
    """Changes the configuration one step after the other; `hang_up` sends the signal.

    An instance that is to leave has no more tasks first: `leaving` has those.
    """

    def __init__(
        self, scene: Scene, plays: Mapping[str, Play], hang_up: Callable[[], None]
    ) -> None:
        self._scene = scene
        self._plays = plays
        self._hang_up = hang_up
        self._number = 0
        self._expected: tuple[str, float] | None = None
        self._taken_at = 0.0
        self.leaving: set[str] = set()
        self.outcomes = Outcomes()
        self._changes = (
            self._rename,
            self._spares_arrive,
            self._other_limits,
            self._mistake,
            self._spares_end,
            self._other_words,
            self._spares_leave,
        )

    def next(self, seen_at: Mapping[str, float], now: float) -> None:
        """Make the next change; `seen_at` has the time of each instance's latest refresh."""
        self._scene.settings.tail = ""
        change = self._changes[self._number % len(self._changes)]
        self._number += 1
        change(seen_at, now)
        self._scene.write_config()
        self._hang_up()
        self._expected = change.__name__.strip("_"), now

    def seen(self, page: Page, now: float) -> None:
        """Compare a scrape with what the latest reload should bring."""
        taken_at, is_good = page.value(_SUCCESS) or 0.0, page.value(_IS_GOOD) == 1
        before, self._taken_at = self._taken_at, taken_at
        if self._expected is None:
            return
        what, asked_at = self._expected
        if what == "mistake" and not is_good and taken_at == before:
            self.outcomes.refused += 1
        elif what != "mistake" and is_good and taken_at > before:
            self.outcomes.taken += 1
        elif now - asked_at < PATIENCE:
            return
        else:
            self.outcomes.missed[what] += 1
        self._expected = None

    def _rename(self, _: Mapping[str, float], __: float) -> None:
        settings = self._scene.settings
        instance = settings.listed[self._number % len(settings.listed)]
        settings.names[instance] = f"renamed-{self._number}"

    def _spares_arrive(self, _: Mapping[str, float], __: float) -> None:
        for project, spare in self._scene.spares.items():
            self._scene.arrive(project, spare)

    def _other_limits(self, _: Mapping[str, float], __: float) -> None:
        odd = bool(self._scene.settings.collector)
        self._scene.settings.collector = (
            {} if odd else {"concurrency": 3, "requests_per_second": 40, "task_progress": "true"}
        )

    def _mistake(self, _: Mapping[str, float], __: float) -> None:
        self._scene.settings.tail = "collecter: {lookback: 5m}"

    def _spares_end(self, _: Mapping[str, float], now: float) -> None:
        for project, spare in self._scene.spares.items():
            self.leaving.add(spare)
            self._plays[project].end_all(now, spare)

    def _other_words(self, _: Mapping[str, float], __: float) -> None:
        self._scene.settings.words = (f"WORD{self._number}",)

    def _spares_leave(self, seen_at: Mapping[str, float], _: float) -> None:
        for project, spare in self._scene.spares.items():
            if self._plays[project].is_seen(spare, seen_at):
                self._scene.leave(project, spare)
                self._plays[project].forget(spare)
            self.leaving.discard(spare)
