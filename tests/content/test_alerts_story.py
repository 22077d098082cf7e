"""The demo's story, played minute by minute through an exporter and the shipped alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.server import CloudServer
from dcs_task_exporter.simulator.story import DemoStory
from tests.support.clouds import ACCESS_KEY, NOW, SECRET_KEY, Samples, SettableClock, World, scrape
from tests.support.promtool import accepts
from tests.support.real_parts import ROOT

RULE_FILE = ROOT / "prometheus" / "dcs-tasks-alerts.yml"
MINUTES = 50
QUIET = 4
"""Minutes without anything new at both ends: what is held back is shown by then."""

CRITICAL = {"EXTEND", "AddReplica", "DelReplica", "masterStandbySwapJob"}
"""The tasks that change no access, whose failure is critical."""

TARGET = {"job": "dcs-tasks", "instance": "e"}
Fired = set[tuple[str, str, str, str]]


class Witness(SimulatedCloud):
    """A cloud that knows which tasks of the story ended, and how."""

    def __init__(self, clock: SettableClock) -> None:
        super().__init__(lambda: clock.wall)
        self.ended: Counter[tuple[str, str, str]] = Counter()
        self._names: dict[str, str] = {}

    def start_task(self, instance_id: str, name: str, *args: Any, **more: Any) -> str:
        """Note the name of a task."""
        task_id = super().start_task(instance_id, name, *args, **more)
        self._names[task_id] = name
        return task_id

    def finish_task(self, instance_id: str, task_id: str, *args: Any, **more: Any) -> None:
        """Note how a task ended."""
        super().finish_task(instance_id, task_id, *args, **more)
        self.ended[instance_id, self._names[task_id], args[0]] += 1


def play(seed: int) -> tuple[Witness, list[Samples]]:
    """Return what the story held, and what the exporter showed each minute."""
    clock = SettableClock()
    cloud = Witness(clock)
    story = DemoStory(cloud, seed)
    story.begin()
    cloud.access.add_key(ACCESS_KEY, SECRET_KEY)
    shown = []
    with (
        CloudServer(cloud) as server,
        World(cloud, server, clock).exporter(first_value_hold="1m") as exporter,
    ):
        for minute in range(MINUTES):
            if QUIET <= minute < MINUTES - QUIET:
                story.advance()
            shown.append(scrape(exporter))
            clock.advance(60)
    return cloud, shown


def series(shown: list[Samples]) -> list[dict[str, str]]:
    """Return all series as promtool takes them; its time begins at 0."""
    rows = [{"series": 'up{job="dcs-tasks",instance="e"}', "values": f"1x{MINUTES - 1}"}]
    for name, labels in sorted(set().union(*shown), key=str):
        is_time = name.endswith("timestamp_seconds")
        values = [samples.get((name, labels)) for samples in shown]
        text = ",".join(
            f'{key}="{value}"' for key, value in sorted({**dict(labels), **TARGET}.items())
        )
        rows.append(
            {
                "series": f"{name}{{{text}}}",
                "values": " ".join(
                    "_" if value is None else f"{value - NOW if is_time and value else value:f}"
                    for value in values
                ),
            }
        )
    return rows


def expected(ended: Counter[tuple[str, str, str]]) -> Fired:
    """Return the alerts that the story calls for: severity, alert, instance, task."""
    fired: Fired = set()
    for (instance_id, task, status), number in ended.items():
        if status == "FAILED":
            severity = "critical" if task in CRITICAL else "warning"
            fired.add((severity, "DCSTaskFailed", instance_id, task))
        if task not in CRITICAL:
            fired.add(("info", "DCSAccessChanged", instance_id, task))
        if task == "masterStandbySwapJob" and status == "SUCCESS":
            fired.add(("warning", "DCSMasterStandbySwap", instance_id, task))
            if number >= 2:
                fired.add(("critical", "DCSMasterStandbySwapsRepeat", instance_id, task))
    return fired


@pytest.mark.real
@pytest.mark.parametrize("seed", [162, 280])
def test_the_story_raises_what_it_holds(
    promtools: Sequence[Path], tmp_path: Path, seed: int
) -> None:
    """Exactly the alerts fire that the story's tasks call for, each with its severity."""
    cloud, shown = play(seed)
    wanted = expected(cloud.ended)
    names = ("severity", "alertname", "dcs_instance_id", "task_name")
    grouped = ", ".join(names)
    check = {
        # The end statuses of a task are labels of one alert: count what fired of it once.
        "expr": f"count by ({grouped}) (count by ({grouped}) ("
        'count_over_time(ALERTS{alertstate="firing"}[2h])))',
        "eval_time": f"{MINUTES - 1}m",
        "exp_samples": [
            {
                "labels": "{"
                + ",".join(f'{n}="{v}"' for n, v in zip(names, row, strict=True))
                + "}",
                "value": 1,
            }
            for row in sorted(wanted)
        ],
    }
    case = {"interval": "1m", "input_series": series(shown), "promql_expr_test": [check]}
    file = {"rule_files": [str(RULE_FILE)], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "story.yml").write_text(yaml.safe_dump(file))

    assert {row[:2] for row in wanted} == {
        ("critical", "DCSTaskFailed"),
        ("warning", "DCSTaskFailed"),
        ("critical", "DCSMasterStandbySwapsRepeat"),
        ("warning", "DCSMasterStandbySwap"),
        ("info", "DCSAccessChanged"),
    }
    for promtool in promtools:
        accepts(promtool, "test", "rules", "story.yml", folder=tmp_path)
