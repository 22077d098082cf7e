"""The alert on a failed reload fires for one, and only until a good configuration is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.errors import ConfigError
from tests.support.clouds import scrape, value, world
from tests.support.promtool import accepts
from tests.support.real_parts import ROOT

SUCCESSFUL = "dcs_task_exporter_config_last_reload_successful"
TARGET = 'job="dcs-tasks",instance="e"'
ALERT = "DCSTaskExporterReloadFailed"


def shown() -> list[float | None]:
    """Return what a real exporter shows each minute: well, then 10 minutes after a bad file."""
    found = []
    with world(1) as here, here.exporter() as exporter:
        for minute in range(30):
            if minute == 5:
                with pytest.raises(ConfigError):
                    exporter.reload(lambda: parse_config("projects: []", "test", {}))
            if minute == 15:
                exporter.reload(lambda: parse_config(here.config_text(), "test", {}))
            found.append(value(scrape(exporter), SUCCESSFUL))
            here.clock.advance(60)
    return found


@pytest.mark.real
def test_it_fires(promtools: Sequence[Path], tmp_path: Path) -> None:
    """It fires five minutes after a real reload that failed, and ends with the next good one."""

    def fires(minute: int, number: int) -> dict[str, Any]:
        labels = f'{{alertname="{ALERT}",alertstate="firing",{TARGET},severity="warning"}}'
        samples = [{"labels": f"ALERTS{labels}", "value": 1}] * number
        query = f'ALERTS{{alertname="{ALERT}",alertstate="firing"}}'
        return {"expr": query, "eval_time": f"{minute}m", "exp_samples": samples}

    values = " ".join(f"{number:g}" for number in shown() if number is not None)
    case = {
        "interval": "1m",
        "input_series": [{"series": f"{SUCCESSFUL}{{{TARGET}}}", "values": values}],
        "promql_expr_test": [fires(4, 0), fires(8, 0), fires(12, 1), fires(16, 0)],
    }
    rules = str(ROOT / "prometheus" / "dcs-tasks-alerts.yml")
    file = {"rule_files": [rules], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "reload.yml").write_text(yaml.safe_dump(file))

    for promtool in promtools:
        accepts(promtool, "test", "rules", "reload.yml", folder=tmp_path)
