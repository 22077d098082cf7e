"""The shipped alerts: unit tested by promtool, true to the collector, and each with its runbook."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import alerts
import pytest
import yaml

from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.tasks.models import KNOWN_TASK_NAMES
from dcs_task_exporter.tasks.statuses import STATUS_WORDS, Outcome
from tests.support import promql
from tests.support.promtool import accepts
from tests.support.real_parts import ROOT
from tests.support.real_prometheus import running
from tests.support.yaml_texts import load_yaml

FOLDER = ROOT / "prometheus"
RULE_FILE = FOLDER / "dcs-tasks-alerts.yml"
ALERTS = [rule for group in load_yaml(RULE_FILE.read_text())["groups"] for rule in group["rules"]]
UNIT_TEST_FILE = FOLDER / "tests" / "dcs-tasks-alerts.test.yml"
UNIT_TESTS = load_yaml(UNIT_TEST_FILE.read_text())["tests"]
EXAMPLE = load_yaml((FOLDER / "alertmanager.example.yml").read_text())
RUNBOOKS = ROOT / "docs" / "runbooks"
README = (RUNBOOKS / "README.md").read_text()
DASHBOARDS = ("dcs-tasks-fleet", "dcs-tasks-instance", "dcs-tasks-exporter")

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


@pytest.fixture(scope="module")
def described() -> Mapping[str, set[str]]:
    return promql.described()


@pytest.mark.real
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "dcs-tasks-alerts.yml"],
        ["check", "config", "prometheus.example.yml"],
        ["check", "config", "prometheus-probe.example.yml"],
    ],
    ids=" ".join,
)
def test_promtool(promtool: Path, command: list[str]) -> None:
    """Promtool finds nothing in the rules, and the examples are valid."""
    accepts(promtool, *command, folder=FOLDER)


@pytest.mark.real
@pytest.mark.long(15)
@pytest.mark.parametrize("prometheus_major", ["2"], indirect=True)
def test_the_unit_tests_of_the_rules(promtool: Path) -> None:
    """The unit tests pass; with Prometheus 3, those of the next test expect the same."""
    accepts(promtool, "test", "rules", "tests/dcs-tasks-alerts.test.yml", folder=FOLDER)


@pytest.mark.real
@pytest.mark.long(15)
@pytest.mark.parametrize("prometheus_major", ["3"], indirect=True)
def test_two_replicas_raise_each_alert_once(promtool: Path, tmp_path: Path) -> None:
    """With a second exporter that shows the same series, every unit test ends as with one.

    What an exporter says of its own state is left alone: two that fail are two alerts.
    """
    # All scalars as text: 0x60 are sixty samples here, and no number.
    file = yaml.load(UNIT_TEST_FILE.read_text(), yaml.BaseLoader)  # noqa: S506 - makes text only
    file["rule_files"] = [str(RULE_FILE)]
    twins = 0
    for case in file["tests"]:
        for sample in (each for check in case["promql_expr_test"] for each in check["exp_samples"]):
            sample["value"] = float(sample["value"])
        own = [row for row in case["input_series"] if 'instance="e"' in row["series"]]
        shared = [row for row in own if not row["series"].startswith("dcs_task_exporter_")]
        twins += len(shared)
        case["input_series"] += [
            {**row, "series": row["series"].replace('instance="e"', 'instance="f",pod="f"')}
            for row in shared
        ]
    (tmp_path / "twins.yml").write_text(yaml.safe_dump(file))

    assert twins > 50
    accepts(promtool, "test", "rules", "twins.yml", folder=tmp_path)


@pytest.mark.real
def test_amtool(alertmanager: Path) -> None:
    """Amtool accepts the example of Alertmanager's configuration."""
    tool = alertmanager.parent / "amtool"
    accepts(tool, "check-config", "alertmanager.example.yml", folder=FOLDER)


def test_the_rules_are_the_written_ones() -> None:
    """The rule file is what alerts.py writes."""
    assert RULE_FILE.read_text() == alerts.render()


def test_each_address_is_set_in_one_place() -> None:
    """A user puts in two addresses: each stands once in what the rules are written from."""
    source = (FOLDER / "alerts.py").read_text()

    assert [source.count(address) for address in (alerts.GRAFANA, alerts.RUNBOOKS)] == [1, 1]
    assert source.count("example.com") == 2
    for rule in ALERTS:
        assert rule["annotations"]["runbook_url"].startswith(f"{alerts.RUNBOOKS}/")
        assert rule["annotations"]["dashboard_url"].startswith(f"{alerts.GRAFANA}/d/")


def test_each_documented_task_has_its_row() -> None:
    """The table says of each documented task name what is at stake, and of none twice."""
    named = [task.name for task in alerts.TASKS]

    assert set(KNOWN_TASK_NAMES) <= set(named)
    assert len(named) == len(set(named))


def test_status_words_are_the_exporters() -> None:
    """What the rules take for a failure, and for known, is what the exporter does."""
    failures = {word for word, outcome in STATUS_WORDS.items() if outcome is Outcome.FAILURE}

    assert set(alerts.FAILURE_WORDS.split("|")) == failures
    assert set(alerts.KNOWN_WORDS.split("|")) == set(STATUS_WORDS)


def test_no_other_rule_file_is_needed() -> None:
    """No alert reads what a recording rule makes, so none is silent for want of one."""
    assert not [rule["alert"] for rule in ALERTS if promql.RECORDED.search(rule["expr"])]
    assert [path.name for path in FOLDER.glob("dcs-tasks-*.yml")] == [RULE_FILE.name]


def test_the_example_reminds_daily_at_most() -> None:
    """Nothing is repeated more often than daily, nor more seldom than Alertmanager remembers."""
    routes = [EXAMPLE["route"], *EXAMPLE["route"]["routes"]]
    repeats = [route["repeat_interval"] for route in routes if "repeat_interval" in route]

    assert "repeat_interval" in EXAMPLE["route"]
    assert all(1 <= int(repeat.removesuffix("d")) < 5 for repeat in repeats)


def test_the_example_inhibits_real_alerts() -> None:
    """Every alert that the example names exists, and none inhibits itself."""
    known = {rule["alert"] for rule in ALERTS}
    for rule in EXAMPLE["inhibit_rules"]:
        written = [rule[key][0].partition('"')[2][:-1] for key in rule if key.endswith("matchers")]
        sources, targets = (
            {name for name in known if re.fullmatch(pattern, name)} for pattern in written
        )

        assert sources
        assert len(targets) == written[1].count("|") + 1
        assert not sources & targets


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


@each_alert
def test_names_are_real(alert: Mapping[str, Any], described: Mapping[str, set[str]]) -> None:
    """Every metric and label of every alert is one that the exporter exposes."""
    texts = " ".join(alert["annotations"].values())
    used = promql.metrics(alert["expr"])
    asked = set(re.findall(r"\b(dcs_\w+)\{", texts))
    known = set().union(*(described[name] for name in used if name in described))
    named = set(re.findall(r"\$labels\.(\w+)", texts))

    assert used | asked <= set(described)
    assert promql.labels(alert["expr"]) | named <= known | promql.TARGET_LABELS


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
    table = re.findall(r"\[?(DCS\w+)\]?", README)

    assert pages == set(table) == {alert["alert"] for alert in ALERTS}


def test_severities_of_the_table() -> None:
    """The table of runbooks gives each alert the severities that its rules have."""
    rows = re.findall(r"^\| \[(DCS\w+)\]\S+ \| ([^|]+) \|", README, re.MULTILINE)
    severities: dict[str, list[str]] = {}
    for rule in ALERTS:
        severities.setdefault(rule["alert"], []).append(rule["labels"]["severity"])

    assert dict(rows) == {name: " or ".join(found) for name, found in severities.items()}


def test_runbooks_name_real_alerts() -> None:
    """Every alert that a runbook sends its reader to exists."""
    known = {alert["alert"] for alert in ALERTS}
    named = {
        (path.stem, name)
        for path in RUNBOOKS.glob("*.md")
        for name in re.findall(r"\bDCS[A-Z][a-z]\w+", path.read_text())
    }

    assert not [item for item in named if item[1] not in known]


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


@each_alert
def test_runbook_queries_are_in_step(alert: Mapping[str, Any]) -> None:
    """A runbook asks for what its alert is about, and chooses names and statuses as that does."""
    asked = "\n".join(query for page, query in queries() if page == alert["alert"])
    chosen = re.compile(r'(?:task_name|status)(?:=~|!~)"[^"]*"')
    rules = " ".join(rule["expr"] for rule in ALERTS if rule["alert"] == alert["alert"])
    read = promql.metrics(rules) | ({"up"} if "up{" in rules else set())

    assert [metric for metric in read if re.search(rf"\b{metric}\b", asked)]
    assert set(chosen.findall(asked)) <= set(chosen.findall(rules))


@pytest.mark.real
def test_runbook_queries_run(prometheus: Path, tmp_path: Path) -> None:
    """Prometheus takes every query of every runbook."""
    with running(prometheus, tmp_path, f"http://127.0.0.1:{free_port()}") as server:
        server.wait_for("up == 0")
        for _page, query in queries():
            server.query(query)
