"""The shipped alerts: unit tested by promtool, true to the collector, and each with its runbook."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import promql
import pytest
import yaml
from real_prometheus import free_port, running

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "prometheus"
RULES = [
    rule
    for name in ("dcs-tasks-rules.yml", "dcs-tasks-alerts.yml")
    for group in yaml.safe_load((FOLDER / name).read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
UNIT_TESTS = yaml.safe_load((FOLDER / "tests" / "dcs-tasks-alerts.test.yml").read_text())["tests"]
RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARDS = ("dcs-tasks-fleet", "dcs-tasks-instance", "dcs-tasks-exporter")

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


@pytest.fixture(scope="module")
def described() -> Mapping[str, set[str]]:
    return promql.described()


@pytest.mark.real
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "dcs-tasks-rules.yml", "dcs-tasks-alerts.yml"],
        ["test", "rules", "tests/dcs-tasks-alerts.test.yml"],
        ["check", "config", "prometheus.example.yml"],
        ["check", "config", "prometheus-probe.example.yml"],
    ],
    ids=" ".join,
)
def test_promtool(promtool: Path, command: list[str]) -> None:
    """Promtool finds nothing in the rules, their unit tests pass, the examples are valid."""
    done = subprocess.run(  # noqa: S603 - a test's own
        [str(promtool), *command], cwd=FOLDER, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_amtool(alertmanager: Path) -> None:
    """Amtool accepts the example of Alertmanager's configuration."""
    command = [str(alertmanager.parent / "amtool"), "check-config", "alertmanager.example.yml"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603

    assert done.returncode == 0, done.stdout + done.stderr


@each_alert
def test_unit_tests_are_whole(alert: Mapping[str, Any]) -> None:
    """Each alert has a moment at which it fires, an earlier and a later one without it."""
    moments = []
    for case in UNIT_TESTS:
        for check in case["promql_expr_test"]:
            pattern = re.search(r'alertname(=~?)"([^"]+)"', check["expr"])
            if pattern and re.fullmatch(pattern[2], alert["alert"]):
                told = check["exp_samples"] != [{"value": 0}]
                own = {
                    name
                    for sample in check["exp_samples"]
                    for name in re.findall(r'alertname="(\w+)"', sample.get("labels", ""))
                }
                if told and own and alert["alert"] not in own:
                    continue
                minutes = int(check["eval_time"][:-1])
                moments.append((case["name"], minutes, told))

    stories = {
        name: [told for other, _, told in sorted(moments) if other == name]
        for name, _, _ in moments
    }
    assert any(True in story and not story[0] and not story[-1] for story in stories.values()), (
        stories
    )


@each_alert
def test_annotations(alert: Mapping[str, Any]) -> None:
    """Each alert says how bad it is, what it is about, and where to read on."""
    notes = alert["annotations"]
    per_instance = "dcs_instance_id" in notes["description"]

    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert re.fullmatch(r"[A-Z][^{}]*\.", notes["summary"])
    assert notes["description"].endswith(".")
    assert not per_instance or "$labels.dcs_instance_name" in notes["description"]
    assert notes["runbook_url"].endswith(f"/{alert['alert']}.md")
    dashboard = re.search(r"/d/([\w-]+)", notes["dashboard_url"])
    assert dashboard
    assert dashboard[1] in DASHBOARDS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_names_are_real(rule: Mapping[str, Any], described: Mapping[str, set[str]]) -> None:
    """Every metric and label of every rule is one that the exporter exposes."""
    used = promql.metrics(rule["expr"])
    recorded = set(promql.RECORDED.findall(rule["expr"]))
    known = set().union(*(described[name] for name in used if name in described))
    if recorded:
        known |= described["dcs_tasks_finished_total"]
    texts = " ".join(rule.get("annotations", {}).values())
    named = set(re.findall(r"\$labels\.(\w+)", texts))

    assert used <= set(described)
    assert recorded <= {other["record"] for other in RULES if "record" in other}
    assert promql.labels(rule["expr"]) | named <= known | promql.TARGET_LABELS


@each_alert
def test_runbook(alert: Mapping[str, Any]) -> None:
    """Each alert has a runbook of its own, with every section."""
    text = (RUNBOOKS / f"{alert['alert']}.md").read_text()

    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [
        alert["alert"],
        "What it means",
        "What users of the Redis instance notice",
        "Check",
        "Do",
        "Silence",
    ]


def test_no_runbook_without_an_alert() -> None:
    """There is no runbook for an alert that is gone, and the table names all."""
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    table = re.findall(r"\[?(DCS\w+)\]?", (RUNBOOKS / "README.md").read_text())

    assert pages == set(table) == {alert["alert"] for alert in ALERTS}


def queries() -> list[tuple[str, str]]:
    """Return every query of every runbook."""
    return [
        (path.stem, query)
        for path in sorted(RUNBOOKS.glob("*.md"))
        for query in re.findall(r"```promql\n(.*?)```", path.read_text(), re.DOTALL)
    ]


def test_runbook_queries_are_real(described: Mapping[str, set[str]]) -> None:
    """Every metric and label in a runbook's queries is one that the exporter exposes."""
    known = set().union(*described.values()) | promql.TARGET_LABELS
    wrong = {
        (page, name)
        for page, query in queries()
        for name in (promql.metrics(query) - set(described)) | (promql.labels(query) - known)
    }

    assert queries()
    assert not wrong


@pytest.mark.real
def test_runbook_queries_run(prometheus: Path, tmp_path: Path) -> None:
    """Prometheus takes every query of every runbook."""
    with running(prometheus, tmp_path, f"http://127.0.0.1:{free_port()}") as server:
        server.wait_for("up == 0")
        for _page, query in queries():
            server.query(query)
