"""An exporter in good health, to which something happens: what it looks like is in its row."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.types import ASGIApp

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import Reply
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.tasks.statuses import StatusTable
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.status_page import StatusPage
from tests.support.clouds import NOW, Samples, SettableClock, World, scrape, value, world
from tests.support.fault_rows import FaultRow, broken_claims, logged_in, reply_of
from tests.support.promtool import accepts
from tests.support.real_parts import ROOT

RULE_FILE: Final = ROOT / "prometheus" / "dcs-tasks-alerts.yml"
PATIENCE: Final = 4000
"""Seconds within which every fault that recovers has done so."""

LASTS: Final = 40
"""Minutes for which a fault lasts that alerts are to notice."""

UP: Final = ("up", frozenset[tuple[str, str]]())
TARGET: Final = {"job": "dcs-tasks", "instance": "e"}
COUNTED: Final = {
    "dcs_instance_id": "i0", "task_name": "EXTEND", "status": "SUCCESS",
}  # fmt: skip


class Scene:
    """An exporter over a simulated cloud, and the fault that happens to it.

    With `promtool` the fault lasts long, and its alerts are judged; without it, what it looks
    like after one scrape, and how it ends.
    """

    def __init__(
        self,
        row: FaultRow,
        cause: str,
        folder: Path,
        caplog: pytest.LogCaptureFixture,
        promtool: Path | None = None,
    ) -> None:
        self.row = row
        self.cause = cause
        self.folder = folder
        self._log = caplog
        self._promtool = promtool
        self._step = 60.0 if promtool else 15.0
        self._shown: list[Samples] = []
        self._stack = ExitStack()
        self._before: Samples = {}
        self._page_before = ""
        self._ahead = 0.0

    @property
    def reply(self) -> Reply:
        """The cloud's answer that the cause stands for."""
        return reply_of(self.cause)

    @property
    def is_long(self) -> bool:
        """Whether the fault lasts long, for its alerts."""
        return self._promtool is not None

    @property
    def patience(self) -> str:
        """A short timeout: a long fault meets many requests."""
        return "300ms" if self._promtool is None else "50ms"

    @property
    def cloud(self) -> SimulatedCloud:
        """The simulated cloud."""
        return self.here.cloud

    def begin(
        self,
        instances: int = 2,
        *,
        edit: Callable[[str], str] = str,
        quirks: Quirks | None = None,
        prepare: Callable[[World], None] = lambda _: None,
        is_well: bool = True,
        step: float | None = None,
        web_config: Path | None = None,
        **collector: Any,
    ) -> None:
        """Start an exporter of some instances that has counted a task.

        `edit` changes its configuration. Where it is not to be well at first (`is_well`), it is
        looked at from its start.
        """
        self._step = step or self._step
        self.here = self._stack.enter_context(world(instances, quirks))
        prepare(self.here)
        self.text = edit(self.here.config_text(collector=collector))
        self._access_control = AccessControl(web_config, Clock()) if web_config else None
        self.start()
        if not is_well:
            return
        self.scrape()
        task = self.cloud.start_task("i0", "EXTEND")
        self.scrape()
        self.cloud.finish_task("i0", task)
        self._before = self.scrape()
        self._page_before = self.page()
        self._log.clear()

    def start(self) -> None:
        """Start the exporter, in a process of its own as far as it can tell."""
        clock = _OwnClock(self.here.clock, lambda: self._ahead)
        options = Options(
            clock=clock.clock, process_metrics=False, access_control=self._access_control
        )
        self.exporter = Exporter(parse_config(self.text, "test", {}), options)
        self._stack.callback(self.exporter.stop)

    def restart(self, meanwhile: Callable[[], object] = bool) -> None:
        """Stop the exporter, let something happen, and start it anew."""
        self.exporter.stop()
        meanwhile()
        self._before = {}
        self._log.clear()
        self.start()

    def end(self) -> None:
        """Stop all."""
        self._stack.close()

    def set_clock(self, ahead: float) -> None:
        """Let the clock of the exporter's machine be ahead of the cloud's by some seconds."""
        self._ahead = ahead

    def scrape(self) -> Samples:
        """Scrape after an interval."""
        self.here.clock.advance(self._step)
        for discovery in self.exporter.fleet.discoveries:
            if (search := discovery.search()) is not None:
                search.result(10)
        found = scrape(self.exporter)
        self._shown.append({UP: 1.0, **found})
        return found

    def guarded_app(self) -> ASGIApp:
        """Return the web application behind its web configuration file."""
        assert self._access_control is not None
        return self._access_control.app(self.exporter.app())

    def pass_time(self, seconds: float) -> None:
        """Let time pass before the next scrape, unless the fault lasts long anyway."""
        if self._promtool is None:
            self.here.clock.advance(seconds)

    def is_down(self, minutes: int) -> None:
        """Let scrapes go unanswered."""
        self._shown += [{UP: 0.0}] * minutes

    def is_gone(self, minutes: int) -> None:
        """Let Prometheus scrape nothing."""
        self._shown += [{}] * minutes

    def page(self) -> str:
        """Return the text of the status page."""
        page, shown = StatusPage("/metrics"), self.exporter.refresher.snapshots()
        markup = page.render(shown, self.exporter.status(), StatusTable(), "n")
        body = markup[markup.index("<body>") :]
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))

    def shows(self, *, counts: bool = True) -> None:
        """Check that the fault looks as its row says, or raises its alerts.

        What was counted before is still shown, unless not to be (`counts`).
        """
        if self._promtool is not None:
            for _ in range(LASTS):
                self.scrape()
            self.check_alerts()
            return
        found = self.scrape()
        page = self.page()
        wrong = broken_claims(self.row, self._before, found)
        assert not wrong, f"{wrong}, but {_of_interest(found)}"
        logged = logged_in(self._log)
        assert logged == self.row.log, logged
        for text in self.row.page:
            assert text in page, page
            assert text not in self._page_before
        if counts:
            assert value(found, "dcs_tasks_finished_total", **COUNTED) == 1

    def recovers(self, *, counts: bool = True) -> None:
        """Check that all is well again, as soon as the row says and no sooner."""
        if self._promtool is not None:
            return
        waited = 0
        while not self._is_well(self.scrape()):
            waited += round(self._step)
            assert waited < PATIENCE, self.page()
        assert waited + round(self._step) == self.row.within
        if counts:
            assert value(self._shown[-1], "dcs_tasks_finished_total", **COUNTED) == 1

    def check_alerts(self) -> None:
        """Check that exactly the alerts of the row have fired, by what Prometheus has scraped.

        Of a fault that does not last, check what was scraped last.
        """
        if self._promtool is None:
            assert not broken_claims(self.row, self._before, self._shown[-1])
            return
        step = f"{self._step:.0f}s"
        end = f"{self._step * (len(self._shown) - 1):.0f}s"
        check = {
            "expr": 'group by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1d]))',
            "eval_time": end,
            "exp_samples": [
                {"labels": f'{{alertname="{name}"}}', "value": 1} for name in self.row.alerts
            ],
        }
        case = {
            "interval": step,
            "input_series": series(self._shown),
            "promql_expr_test": [check],
        }
        file = {"rule_files": [str(RULE_FILE)], "evaluation_interval": "1m", "tests": [case]}
        (self.folder / "fault.yml").write_text(json.dumps(file))  # YAML, too
        accepts(self._promtool, "test", "rules", "fault.yml", folder=self.folder)

    def _is_well(self, found: Samples) -> bool:
        ups = [number for (name, _), number in found.items() if name in WELL]
        page = self.page()
        return all(ups) and not [text for text in self.row.page if text in page]


WELL: Final = ("dcs_instance_up", "dcs_discovery_up")
"""What is 1 when all is well."""


class _OwnClock(SettableClock):
    """The clock of the exporter's machine, which may be ahead of the cloud's."""

    def __init__(self, true: SettableClock, ahead: Callable[[], float]) -> None:
        self._true = true
        self._ahead = ahead

    @property
    def wall(self) -> float:  # type: ignore[override]
        return self._true.wall + self._ahead()

    @property
    def steady(self) -> float:  # type: ignore[override]
        return self._true.steady


def series(shown: Sequence[Samples]) -> list[dict[str, str]]:
    """Return all series as promtool takes them; its time begins at 0."""
    rows = []
    for name, labels in sorted(set[Any]().union(*shown), key=str):
        is_time = name.endswith("timestamp_seconds")
        values = [samples.get((name, labels)) for samples in shown]
        pairs = sorted({**dict(labels), **TARGET}.items())
        text = ",".join(f"{key}={yaml_text(word)}" for key, word in pairs)
        begin = NOW if is_time else 0.0
        shifted = ("_" if at is None else f"{at - begin if at else at:f}" for at in values)
        rows.append({"series": f"{name}{{{text}}}", "values": " ".join(shifted)})
    return rows


def yaml_text(word: str) -> str:
    """Return a label's value in quotes, as PromQL reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _of_interest(found: Samples) -> Sequence[str]:
    """Return the samples that a row may speak of, for a message."""
    return [
        f"{name}{dict(labels)} {number:g}"
        for (name, labels), number in sorted(found.items(), key=str)
        if number or name in WELL
        if not name.startswith(("dcs_task_", "dcs_tasks_")) or name.startswith("dcs_task_exporter")
        if "_bucket" not in name
    ]
