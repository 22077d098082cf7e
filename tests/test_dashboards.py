"""The shipped dashboards: generated, linted, and every query answered by a real Prometheus."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import promql
import pytest
import requests
import yaml
from real_exporter import CONFIGURED, cloud_of_two, exporting
from real_prometheus import Prometheus, running

from dcs_task_exporter.simulator import SimulatedCloud
from dcs_task_exporter.simulator.cloud import timestamp

pytest.importorskip("grafana_foundation_sdk", reason="the dashboards' library needs Python 3.11")

import dashboards

FOLDER = Path(dashboards.__file__).parent
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*"))
}
PANELS = [
    (name, panel)
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
QUERIES = [
    (name, panel["title"], target["expr"], target["legendFormat"])
    for name, panel in PANELS
    for target in panel["targets"]
]
VARIABLES = [
    (name, variable)
    for name, board in BOARDS.items()
    for variable in board["templating"]["list"]
    if variable["type"] == "query"
]

NO_JOB = {"huaweicloud_sys_dcs_memory_usage": "another exporter's metric, of another job"}
"""Metrics whose queries need no job matcher, with the reason."""

NO_AGGREGATION = {
    "Finished tasks": "each series is a kind of event of its own",
}
"""Panels whose counters need no aggregation, with the reason."""

ALL_VALUE = {"dcs_instance": '"All" must stay within the chosen project'}
"""Variables without the allValue .+, with the reason."""

each_panel = pytest.mark.parametrize(
    ("name", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS]
)
each_query = pytest.mark.parametrize(
    ("name", "title", "expression", "legend"),
    QUERIES,
    ids=[f"{name}: {title}" for name, title, _, _ in QUERIES],
)


def test_what_is_committed_is_generated() -> None:
    """The committed JSON is what the Python code makes, and nothing else lies beside it."""
    files = dashboards.generated()
    found = [*(FOLDER / "dashboards").iterdir(), *(FOLDER / "import").iterdir()]

    assert sorted(found) == sorted(files)
    assert not [path.name for path, text in files.items() if path.read_text() != text]


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard(name: str) -> None:
    """uneditable-dashboard, template-datasource, template-job; a fixed uid, the current schema."""
    board = BOARDS[name]
    by_name = {variable["name"]: variable for variable in board["templating"]["list"]}

    assert (board["id"], board["editable"], board["schemaVersion"]) == (None, False, 42)
    assert board["uid"] == f"dcs-tasks-{name}"
    assert (by_name["datasource"]["type"], by_name["datasource"]["label"]) == (
        "datasource",
        "Data source",
    )
    assert by_name["job"]["allValue"] == ".+"


@pytest.mark.parametrize(
    ("name", "variable"), VARIABLES, ids=[f"{name}: {item['name']}" for name, item in VARIABLES]
)
def test_variable(name: str, variable: Mapping[str, Any]) -> None:
    """template-on-time-change-reload, template-label-promql, the data source, what All is."""
    del name
    assert variable["refresh"] == 2
    assert variable["datasource"]["uid"] == "${datasource}"
    assert variable["query"].startswith("label_values(dcs_")
    if variable.get("multi") and variable["name"] not in ALL_VALUE:
        assert variable["allValue"] == ".+"


@each_panel
def test_panel(name: str, panel: Mapping[str, Any]) -> None:
    """panel-datasource, panel-title-description, panel-units, panel-no-targets; an empty state."""
    del name
    defaults = panel["fieldConfig"]["defaults"]

    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert defaults["unit"]
    assert defaults["noValue"]
    assert panel["targets"]
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    if panel["type"] == "stat":
        assert defaults["thresholds"]["steps"]


@each_query
def test_query(name: str, title: str, expression: str, legend: str) -> None:
    """target-job, target-rate-interval, target-counter-agg."""
    del name, legend
    used = promql.metrics(expression)
    counters = [metric for metric in used if metric.endswith("_total")]

    assert used
    if not used <= set(NO_JOB):
        assert 'job=~"$job"' in expression
    for function in re.findall(r"(?:rate|increase)\([^\[]*\[([^\]]*)\]", expression):
        assert function in ("$__rate_interval", "$__range")
    if counters and title not in NO_AGGREGATION:
        assert re.search(r"\bsum\b", expression)


@pytest.fixture(scope="module")
def described() -> Mapping[str, set[str]]:
    return promql.described()


@each_query
def test_names_are_real(
    described: Mapping[str, set[str]], name: str, title: str, expression: str, legend: str
) -> None:
    """Every metric and label of every query is one that the exporter exposes."""
    del name, title
    foreign = {metric for metric in promql.metrics(expression) if metric.startswith("process_")}
    used = promql.metrics(expression) - foreign - set(NO_JOB)
    base = {metric.removesuffix("_bucket") for metric in used}
    known = set().union(*described.values()) | promql.TARGET_LABELS

    assert base <= {metric.removesuffix("_bucket") for metric in described}
    assert promql.labels(expression) | set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known


@pytest.mark.parametrize("path", sorted(FOLDER.glob("provisioning/*/*.yaml")), ids=lambda p: p.name)
def test_provisioning(path: Path) -> None:
    """The provisioning files are of version 1; nobody changes the dashboards by hand."""
    content = yaml.safe_load(path.read_text())

    assert content["apiVersion"] == 1
    assert all(not one.get("allowUiUpdates") for one in content.get("providers", []))


@pytest.mark.parametrize("name", BOARDS)
def test_import(name: str) -> None:
    """The form for import by hand asks for a data source, and has no variable for it."""
    board = json.loads((FOLDER / "import" / f"{name}.json").read_text())

    assert [one["name"] for one in board["__inputs"]] == ["DS_PROMETHEUS"]
    assert "${datasource}" not in json.dumps(board)


# Every query against a real Prometheus.

MEMORY = 'huaweicloud_sys_dcs_memory_usage{{dcs_instance_id="{id}"}} 42\n'


@contextmanager
def cloudeye() -> Iterator[str]:
    """Serve what Huawei's cloudeye-exporter would, of the same instances."""
    body = "".join(MEMORY.format(id=key) for key in ("i0", "i1")).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def play(cloud: SimulatedCloud, server: Prometheus) -> None:
    """Play tasks of every kind that the dashboards show, each seen by a scrape."""
    details = {"old_capacity": "1", "new_capacity": "2"}
    server.wait_for("dcs_instance_up == 1", lambda found: len(found) == 2)
    cloud.faults.add("internal", times=1)
    for instance in ("i0", "i1"):
        ended = timestamp(time.time() + 5)
        cloud.start_task(instance, "EXTEND", "SUCCESS", details=details, updated_at=ended)
        cloud.start_task(instance, "UpdatePort", "FAILED", error_code="DCS.4842")
        cloud.start_task(instance, "masterStandbySwapJob", "SUCCESS")
        cloud.start_task(instance, "AddReplica")
    server.wait_for(
        'increase(dcs_tasks_finished_total{task_name="UpdatePort",status="FAILED"}[30s]) > 0',
        lambda found: len(found) == 2,
    )
    server.wait_for("increase(dcs_api_errors_total[30s]) > 0")


def substituted(expression: str) -> str:
    """Return an expression with Grafana's variables as they would be."""
    values = {
        "$__rate_interval": "30s",
        "$__range": "5m",
        '=~"$dcs_instance"': '=~"i0|i1"',
        "$dcs_instance": "i0",
        "$job": ".+",
        "$project": ".+",
        "$task_name": ".+",
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


@pytest.mark.real
def test_every_query_returns_data(prometheus: Path, tmp_path: Path) -> None:
    """Every panel, annotation and variable query returns data, with the labels of its legend."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    problems: list[str] = []
    cloud, state = cloud_of_two(), f"state: {{path: {tmp_path / 'state.db'}}}\n"
    searching = f"    discovery: {{enabled: true}}\n{CONFIGURED}"
    with exporting(cloud, state, instances=searching) as url, cloudeye() as other:
        job = f"  - job_name: cloudeye\n    static_configs: [{{targets: ['{other}']}}]\n"
        with running(prometheus, folder, url, job) as server:
            play(cloud, server)
            server.wait_for("huaweicloud_sys_dcs_memory_usage", lambda found: len(found) == 2)
            table = []
            for name, title, expression, legend in QUERIES:
                found = server.query(substituted(expression))
                wanted = set(re.findall(r"\{\{(\w+)\}\}", legend))
                table.append(f"| {name} | {title} | {len(found)} |")
                if not found or not all(wanted <= set(row["metric"]) for row in found):
                    problems.append(f"{name}: {title}: {expression} -> {found}")
            for name, variable in VARIABLES:
                if not values(server, variable["query"]):
                    problems.append(f"{name}: variable {variable['name']}")
            annotation = BOARDS["instance"]["annotations"]["list"][0]["expr"]
            if not server.query(substituted(annotation)):
                problems.append(f"annotation: {annotation}")
    (tmp_path / "table.md").write_text("\n".join(table))

    assert not problems, "\n".join(problems)


def values(server: Prometheus, query: str) -> list[str]:
    """Return what Grafana's label_values() would."""
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    assert match
    ask: Callable[..., requests.Response] = partial(requests.get, timeout=10)
    selector = substituted(match[1])
    answer = ask(f"{server.url}/api/v1/label/{match[2]}/values", params={"match[]": selector})
    found: list[str] = answer.json()["data"]
    return found
