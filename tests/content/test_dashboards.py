"""The shipped dashboards: generated, laid out, linked, and answered by a real exporter."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.listing import timestamp
from dcs_task_exporter.tasks.statuses import STATUS_WORDS, Outcome
from tests.support import promql
from tests.support.real_exporter import CONFIGURED, cloud_of_two, exporting
from tests.support.real_parts import ROOT
from tests.support.real_prometheus import Prometheus, running

pytest.importorskip("grafana_foundation_sdk", reason="the dashboards' library needs Python 3.11")

import dashboards
import panels

from tests.support import board_reader
from tests.support.board_reader import BOARDS, FOLDER, Grafana
from tests.support.yaml_texts import load_yaml

PANELS = [(name, panel) for name in BOARDS for panel in board_reader.panels(name)]
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
IMPORTED = {name: json.loads((FOLDER / "import" / f"{name}.json").read_text()) for name in BOARDS}

FOREIGN = {"up", "huaweicloud_sys_dcs_memory_usage"}
"""Metrics that are not the exporter's: Prometheus' own, and cloudeye-exporter's."""

GIVEN_BY_QUERY = {"state", "problem", "answers", "note"}
"""Labels that a query itself gives to its rows."""


def each(*types: str, titles: str = "") -> pytest.MarkDecorator:
    """Return a mark: a test for each panel of these types (or all), whose title has `titles`."""
    found = [
        (name, panel)
        for name, panel in PANELS
        if (not types or panel["type"] in types) and titles in panel["title"]
    ]
    ids = [f"{name}: {panel['title']}" for name, panel in found]
    return pytest.mark.parametrize(("name", "panel"), found, ids=ids)


each_board = pytest.mark.parametrize("name", BOARDS)


def test_what_is_committed_is_generated() -> None:
    """The committed JSON is what the Python code makes, and nothing else lies beside it."""
    files = dashboards.generated()
    found = [*(FOLDER / "dashboards").iterdir(), *(FOLDER / "import").iterdir()]

    assert sorted(found) == sorted(files)
    assert not [path.name for path, text in files.items() if path.read_text() != text]


@each_board
def test_dashboard(name: str) -> None:
    """A board has a fixed uid, no id, and the current schema."""
    board = BOARDS[name]

    assert (board["id"], board["schemaVersion"]) == (None, 42)
    assert board["uid"] == f"dcs-tasks-{name}"


# What a person sees first.


@each_board
def test_the_answer_needs_no_scrolling(name: str) -> None:
    """What is open at first fits on 1440 x 900; all else is in closed rows below it."""
    bottoms = {
        panel["title"]: panel["gridPos"]["y"] + panel["gridPos"]["h"]
        for panel in BOARDS[name]["panels"]
        if panel["type"] != "row"
    }

    assert max(bottoms.values()) <= board_reader.FIRST_SCREEN, bottoms
    assert all(it["collapsed"] for it in BOARDS[name]["panels"] if it["type"] == "row")


@each_board
def test_the_first_panel_is_the_exporter(name: str) -> None:
    """The first panel of each board says whether the exporter is scraped."""
    first = board_reader.panels(name)[0]

    assert (first["title"], first["gridPos"]["x"], first["gridPos"]["y"]) == (
        "Scrape targets",
        0,
        0,
    )


@each_board
def test_no_panel_repeats_another(name: str) -> None:
    """No two panels of a board ask the same, and no two have the same title."""
    asked = [json.dumps([it["expr"] for it in each["targets"]]) for _, each in of_board(name)]
    titles = [each["title"] for _, each in of_board(name)]

    assert len(set(asked)) == len(asked)
    assert len(set(titles)) == len(titles)


def of_board(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(board, panel) for board, panel in PANELS if board == name]


@each()
def test_now_is_asked_of_now(name: str, panel: Mapping[str, Any]) -> None:
    """Numbers and tables are instant queries: a range query shows a dead exporter's last values."""
    del name
    of_now = panel["type"] in ("stat", "table")

    assert all(bool(it.get("instant")) == of_now for it in panel["targets"])
    assert all(bool(it.get("range")) != of_now for it in panel["targets"])


@each()
def test_the_text_for_nothing_claims_nothing(name: str, panel: Mapping[str, Any]) -> None:
    """Without data a number is unknown, and a table sends its reader to the first row."""
    del name
    defaults = panel["fieldConfig"]["defaults"]

    if panel["type"] == "stat":
        assert defaults["noValue"] == "unknown"
        assert defaults["mappings"][-1]["options"]["result"]["color"] == panels.UNKNOWN
        assert defaults["thresholds"]["steps"][0] == {"color": panels.UNKNOWN, "value": None}
    else:
        assert defaults["noValue"] == panels.NOTHING
        assert not re.search(r"\bno\b", defaults["noValue"])


@each("table")
def test_a_table_can_be_read(name: str, panel: Mapping[str, Any]) -> None:
    """A table has pages, headers in words, a time, and colors for its states."""
    del name
    allowed, arranged = (it["options"] for it in panel["transformations"])
    headers = arranged["renameByName"]
    looks = {
        override["matcher"]["options"]: {it["id"] for it in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }

    assert panel["options"]["footer"]["enablePagination"]
    assert set(allowed["include"]["names"]) == set(headers)
    assert all(re.fullmatch(r"[A-Z][a-z ]+", header) for header in headers.values())
    assert set(looks) <= set(headers.values())
    assert panel["options"]["sortBy"][0]["displayName"] in headers.values()
    if panel["title"] != "Scrape targets, each":
        assert any("unit" in look for look in looks.values())
    for header in {"State", "Status", "Problem", "Answers"} & set(headers.values()):
        assert {"mappings", "custom.cellOptions"} <= looks[header]


def test_every_status_has_its_color() -> None:
    """Each status word of the exporter has a color in the tables: good, bad, running, ended."""
    meant = {
        Outcome.SUCCESS: panels.GREEN,
        Outcome.FAILURE: panels.RED,
        Outcome.ACTIVE: panels.BLUE,
        Outcome.ENDED: panels.ORANGE,
    }
    for word, outcome in STATUS_WORDS.items():
        found = [color for words, color in panels.STATUS_COLORS.items() if word in words.split("|")]
        assert found == [meant[outcome]], word


def test_failures_are_the_exporters() -> None:
    """What the boards count as a failure is what the exporter does."""
    failures = {word for word, outcome in STATUS_WORDS.items() if outcome is Outcome.FAILURE}

    assert set(panels.FAILED.split("|")) == failures


@each(titles="Finished tasks")
def test_failed_bars_are_red(name: str, panel: Mapping[str, Any]) -> None:
    """Of bars by status, the failed ones are shades of red and the successes of green."""
    colors = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in panel["fieldConfig"]["overrides"]
    }

    assert colors["/ (FAILED|FAIL|ERROR)$/"] == panels.RED, name
    assert colors["/ (SUCCESS)$/"] == panels.GREEN


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("fleet", "Memory of the instances, beside their tasks"),
        ("instance", "Memory, beside the tasks"),
        ("exporter", "Scrapes"),
    ],
)
def test_two_units_have_two_axes(name: str, title: str) -> None:
    """A graph of two things that are not counted alike has an axis for each."""
    panel = board_reader.panel(name, title)
    (right,) = panel["fieldConfig"]["overrides"]
    own = {it["id"]: it["value"] for it in right["properties"]}

    assert right["matcher"] == {"id": "byFrameRefID", "options": "B"}
    assert own["custom.axisPlacement"] == "right"
    assert own["unit"] != panel["fieldConfig"]["defaults"]["unit"]


# Links.

LINK = re.compile(r"/d/dcs-tasks-(\w+)\?(.*)")


@each("stat", "table")
def test_drill_down(name: str, panel: Mapping[str, Any]) -> None:
    """Every number and row leads to what exists, with the time range and the variables."""
    (link,) = panel["fieldConfig"]["defaults"]["links"]
    found = LINK.fullmatch(link["url"])
    assert found
    parts = found[2].split("&")

    assert parts[:4] == [
        "${__url_time_range}",
        "${datasource:queryparam}",
        "${job:queryparam}",
        "${project:queryparam}",
    ]
    numbers = {str(it["id"]): it for it in board_reader.panels(found[1])}
    for part in parts[4:]:
        key, _, value = part.partition("=")
        if key == "viewPanel":
            assert numbers[value]["title"] != panel["title"] or found[1] != name
        else:
            column = re.fullmatch(r"\$\{__data\.fields\.(\w+)\}", value)
            assert key in {f"var-{it['name']}" for it in BOARDS[found[1]]["templating"]["list"]}
            assert column
            assert column[1] in panel["transformations"][1]["options"]["renameByName"].values()


# Variables.


@each_board
def test_every_variable_exists(name: str) -> None:
    """What a board, and its form for import, names as a variable is one, or is Grafana's own."""
    builtin = {"__rate_interval", "__interval", "__range", "__from", "__url_time_range", "__data"}
    for board in (BOARDS[name], IMPORTED[name]):
        own = {it["name"] for it in board["templating"]["list"]}
        inputs = {it["name"] for it in board.get("__inputs", ())}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(board)))

        assert used <= own | inputs | builtin
        assert own <= used


@each_board
def test_import(name: str) -> None:
    """The form for import by hand asks for a data source, and puts it into the variable."""
    board = IMPORTED[name]
    (variable,) = (it for it in board["templating"]["list"] if it["type"] == "datasource")

    assert [one["name"] for one in board["__inputs"]] == ["DS_PROMETHEUS"]
    assert variable["current"]["value"] == "${DS_PROMETHEUS}"
    assert len(board["templating"]["list"]) == len(BOARDS[name]["templating"]["list"])


# Provisioning.


@pytest.mark.parametrize("path", sorted(FOLDER.glob("provisioning/*/*.yaml")), ids=lambda p: p.name)
def test_provisioning(path: Path) -> None:
    """The provisioning files are of version 1; nobody changes the dashboards by hand."""
    content = load_yaml(path.read_text())

    assert content["apiVersion"] == 1
    assert all(not one.get("allowUiUpdates") for one in content.get("providers", []))


def test_the_scrape_interval_is_the_examples() -> None:
    """The data source and every query know the scrape interval of our own example."""
    example = load_yaml((ROOT / "prometheus" / "prometheus.example.yml").read_text())
    source = load_yaml((FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_text())
    interval = example["global"]["scrape_interval"]

    assert source["datasources"][0]["jsonData"]["timeInterval"] == interval
    assert {it["interval"] for _, each in PANELS for it in each["targets"]} == {interval}


# Every query against a real exporter.


@pytest.fixture(scope="module")
def described() -> Mapping[str, set[str]]:
    return promql.described()


@pytest.mark.parametrize(
    ("name", "title", "expression", "legend"),
    QUERIES,
    ids=[f"{name}: {title}" for name, title, _, _ in QUERIES],
)
def test_names_are_real(
    described: Mapping[str, set[str]], name: str, title: str, expression: str, legend: str
) -> None:
    """Every metric and label of every query is one that the exporter exposes."""
    del name, title
    process = {metric for metric in promql.metrics(expression) if metric.startswith("process_")}
    used = promql.metrics(expression) - process - FOREIGN
    base = {metric.removesuffix("_bucket") for metric in used}
    known = set().union(*described.values()) | promql.TARGET_LABELS
    # A cluster's nodes, in cloudeye-exporter's series.
    known |= {"dcs_cluster_redis_node", "dcs_cluster_proxy2_node"}

    assert base <= {metric.removesuffix("_bucket") for metric in described}
    assert promql.labels(expression) | set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known


@each("table")
def test_columns_are_real(
    described: Mapping[str, set[str]], name: str, panel: Mapping[str, Any]
) -> None:
    """Every column of a table is a label of the exporter's, or one that its query gives."""
    known = set().union(*described.values()) | promql.TARGET_LABELS | GIVEN_BY_QUERY
    columns = set(panel["transformations"][0]["options"]["include"]["names"])

    assert columns - known == ({"Value", "user_name"} & columns), name


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
    # One of them becomes unreadable, so that it can be shown.
    cloud.faults.add("forbidden", instance_id="i1")
    server.wait_for("dcs_instance_up == 0")


@pytest.mark.real
def test_every_query_returns_data(prometheus: Path, tmp_path: Path) -> None:
    """Every panel, annotation and variable has data of a real exporter."""
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
            chosen = {"dcs_instance": "i0"}
            grafana = Grafana(server.url, time.time(), 60, chosen, least="1s")
            fleet = Grafana(server.url, grafana.end, 60, {"dcs_instance": "i0|i1"}, least="1s")
            for name, panel in PANELS:
                viewer = grafana if name == "instance" else fleet
                shown = viewer.read_panel(panel)
                if not (shown.series and all(shown.lines)):
                    problems.append(f"{name}: {panel['title']}: {shown}")
            for name, variable in VARIABLES:
                if not grafana.options(name, variable["name"]):
                    problems.append(f"{name}: variable {variable['name']}")
            marked = fleet.marks("fleet"), grafana.marks("instance")

    assert not problems, "\n".join(problems)
    assert all(marked)


# The documentation.


@each_board
def test_the_readme_names_every_open_panel(name: str) -> None:
    """README.md says of each panel that is open at first why it is there, in their order."""
    text = (FOLDER / "README.md").read_text()
    part = text.partition(f"## {name.title()}:")[2].partition("\n## ")[0]
    named = re.findall(r"^\| ([^|]+) \|", part, re.MULTILINE)

    assert named[1:] == [it["title"] for it in BOARDS[name]["panels"] if it["type"] != "row"]


def test_the_readmes_queries_are_the_boards() -> None:
    """The queries of README.md read the metrics that the boards' own read."""
    queries = re.findall(r"```promql\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    ours = BOARDS["instance"]["annotations"]["list"][0]["expr"]

    assert len(queries) == 2
    assert promql.metrics(queries[0]) <= promql.metrics(ours)
    memory = board_reader.panel("fleet", "Memory of the instances, beside their tasks")
    assert promql.metrics(queries[1]) <= promql.metrics(memory["targets"][0]["expr"])
