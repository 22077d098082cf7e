"""Memory: a process that runs for years holds no more than it did after its first hours."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from weakref import ReferenceType

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.metrics.exposition import ScrapeRequest
from tests.support.clouds import SettableClock, World, world

LOOKBACK = 3600
SCRAPE_INTERVAL = 120
SCRAPES = LOOKBACK // SCRAPE_INTERVAL * 2
LEFT_OUT = (ModuleType, type, FunctionType, CodeType, ReferenceType)
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def play(here: World, exporter: Exporter) -> None:
    """Let a task start and another fail before each of many scrapes; they pass out of sight."""
    active: list[str] = []
    for _ in range(SCRAPES):
        here.clock.advance(SCRAPE_INTERVAL)
        active.append(here.cloud.start_task("i0", "EXTEND"))
        if len(active) > 2:
            here.cloud.finish_task("i0", active.pop(0), "FAILED")
        exporter.fleet.refresh_and_wait(60)
        made = exporter.renderer.exposition(ScrapeRequest(OPENMETRICS, "gzip"))
        exporter.refresher.delivered(made.counted, made.number)
        # What the simulated cloud remembers is not ours.
        here.cloud.requests.clear()
        del here.cloud._tasks["i0"][:-80]  # noqa: SLF001 - likewise


def held_by(root: object) -> int:
    """Return the bytes of everything that can be reached from an object, but for code.

    Nor weak references: SQLite has up to 200 dead ones of its cursors, and then drops them all.
    """
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, LEFT_OUT):
            seen[id(one)] = one
            waiting += gc.get_referents(one)
            waiting += [*one] if isinstance(one, dict) else []  # else without keys that are texts
    return sum(map(sys.getsizeof, seen.values()))


def test_tasks_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    """Two look-back windows of tasks that come and go leave less than 50 bytes for each."""
    with world(1, clock=SettableClock()) as here:
        # The budget remembers when the latest requests left: one second's.
        settings = {"lookback": f"{LOOKBACK}s", "concurrency": 1, "requests_per_second": 50}
        text = here.config_text(collector=settings)
        text += f"state: {{path: {tmp_path / 'state.db'}}}\n"
        options = Options(clock=here.clock.clock, process_metrics=False)
        exporter = Exporter(parse_config(text, "test", {}), options)
        for _ in range(2):
            play(here, exporter)
        before = held_by(exporter)
        play(here, exporter)
        after = held_by(exporter)
        exporter.stop()

    assert after - before < 50 * SCRAPES, f"{before} bytes, then {after}"
