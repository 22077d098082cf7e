"""Reads a dashboard as Grafana does: sends each panel's queries, and tells what the panel shows.

Only what our dashboards use: variables, `$__interval` and its kin, instant and range queries, value
mappings and thresholds, the two transformations of the tables, legends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.support.real_parts import ROOT

FOLDER = ROOT / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*"))
}
SCREEN_WIDTH = 1440
FIRST_SCREEN = 19
"""Rows of Grafana's grid (38 pixels each) on 900 pixels, below its own bars and the variables."""

ROUNDED = (
    *((1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60)),
    *((210, 120), (450, 300), (750, 600), (1050, 900), (1500, 1200), (2700, 1800)),
    *((5400, 3600), (9000, 7200), (16_200, 10_800), (32_400, 21_600), (86_400, 43_200)),
)
"""How Grafana rounds a step: below each first number of seconds, to the second."""

Row = dict[str, Any]
Points = list[tuple[float, float]]


def panels(board: str) -> list[dict[str, Any]]:
    """Return all panels, also those in closed rows, without the rows."""
    upper = BOARDS[board]["panels"]
    found = [it for panel in upper for it in (panel, *(panel.get("panels") or ()))]
    return [it for it in found if it["type"] != "row"]


def panel(board: str, title: str) -> dict[str, Any]:
    """Return the panel of this title."""
    return next(it for it in panels(board) if it["title"] == title)


@dataclass
class Shown:
    """What a panel shows: numbers and texts with their colors, rows of a table, or lines."""

    stats: dict[str, tuple[str, str]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    lines: dict[str, Points] = field(default_factory=dict)
    series: int = 0
    size: int = 0
    nothing: str = ""
    """The text of a table or graph that has no data."""

    def brief(self) -> str:
        """Return it in a few words, for a table in a report."""
        if self.stats:
            return ", ".join(
                f"{name} {text} ({color})".strip() for name, (text, color) in self.stats.items()
            )
        if self.columns:
            return f"{len(self.rows)} rows" if self.rows else "nothing known"
        return f"{len(self.lines)} lines" if self.lines else "nothing known"


@dataclass(frozen=True)
class Grafana:
    """A viewer of the dashboards, with a time range and values of the variables."""

    url: str
    end: float
    seconds: int
    values: Mapping[str, str] = field(default_factory=dict)
    least: str = ""
    """Put in place of the panels' own shortest step, where Prometheus scrapes more often."""

    def read(self, board: str, title: str) -> Shown:
        """Return what a panel shows."""
        return self.read_panel(panel(board, title))

    def read_panel(self, shown_panel: Mapping[str, Any]) -> Shown:
        """Return what a panel shows."""
        width = SCREEN_WIDTH * shown_panel["gridPos"]["w"] // 24
        width = shown_panel.get("maxDataPoints", width)
        shown = Shown()
        answers = []
        for target in shown_panel["targets"]:
            body, size = self._ask(target, width)
            shown.size += size
            shown.series += len(body)
            answers.append((target, body))
        if shown_panel["type"] == "stat":
            shown.stats = dict(_stats(shown_panel, answers))
        elif shown_panel["type"] == "table":
            shown.columns, shown.rows = _table(shown_panel, answers[0][1])
        else:
            shown.lines = dict(_lines(answers))
        shown.nothing = shown_panel["fieldConfig"]["defaults"]["noValue"]
        return shown

    def options(self, board: str, name: str) -> dict[str, str]:
        """Return the values of a variable by the texts that are offered."""
        found = next(it for it in BOARDS[board]["templating"]["list"] if it["name"] == name)
        query = str(found["query"])
        if match := re.fullmatch(r"label_values\((.*), (\w+)\)", query):
            times = {"start": self.end - self.seconds, "end": self.end}
            path = f"api/v1/label/{match[2]}/values"
            answer = self._get(path, {"match[]": self.filled(match[1], 60), **times}).json()
            return {text: text for text in answer["data"]}
        inside = re.fullmatch(r"query_result\((.*)\)", query)
        assert inside, query
        asked = {"query": self.filled(inside[1], 60), "time": self.end}
        pattern = re.compile(found["regex"].strip("/").replace("(?<", "(?P<"))
        offered = {}
        for row in self._get("api/v1/query", asked).json()["data"]["result"]:
            told = ",".join(f'{key}="{value}"' for key, value in row["metric"].items())
            match = pattern.search("{" + told + "}")
            assert match, told
            offered[match["text"]] = match["value"]
        return offered

    def marks(self, board: str) -> set[tuple[float, str]]:
        """Return the annotations: when, and their titles."""
        found = set()
        for one in BOARDS[board]["annotations"]["list"]:
            body, _size = self._ask(one["target"], 100)
            for row in body:
                title = _named(one["titleFormat"], row["metric"])
                found |= {(float(value) / 1000, title) for _at, value in row["values"]}
        return found

    def query(self, expression: str) -> list[Row]:
        """Return the samples of an expression at the end, with the variables put in."""
        asked = {"query": self.filled(expression, 60, "1m"), "time": self.end}
        found: list[Row] = self._get("api/v1/query", asked).json()["data"]["result"]
        return found

    def step(self, width: int, least: str) -> int:
        """Return the step of a range query, as Grafana makes it."""
        wanted = self.seconds / width
        rounded = next(step for below, step in ROUNDED if wanted < below)
        return max(rounded, _seconds(least))

    def filled(self, expression: str, step: int, least: str = "15s") -> str:
        """Return an expression with its variables put in."""
        scrape = _seconds(least)
        values = {
            "__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
            "__interval": f"{step}s",
            "__range": f"{self.seconds}s",
            "__from": f"{(self.end - self.seconds) * 1000:.0f}",
            **dict.fromkeys(("job", "project", "dcs_instance", "task_name"), ".+"),
            **self.values,
        }
        filled = re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)
        assert "$" not in filled, filled
        return filled

    def _ask(self, target: Mapping[str, Any], width: int) -> tuple[list[Row], int]:
        least = self.least or target.get("interval", "15s")
        step = self.step(width, least)
        expression = self.filled(target["expr"], step, least)
        if target.get("instant"):
            answer = self._get("api/v1/query", {"query": expression, "time": self.end})
        else:
            # Grafana moves the ends of the range to multiples of the step.
            start = (self.end - self.seconds) // step * step
            times = {"start": start, "end": self.end // step * step, "step": step}
            answer = self._get("api/v1/query_range", {"query": expression, **times})
        found: list[Row] = answer.json()["data"]["result"]
        return found, len(answer.content)

    def _get(self, path: str, values: Mapping[str, Any]) -> requests.Response:
        answer = requests.post(f"{self.url}/{path}", data=values, timeout=60)
        if answer.status_code == requests.codes.method_not_allowed:
            answer = requests.get(f"{self.url}/{path}", params=values, timeout=60)
        assert answer.ok, f"{values}: {answer.text}"
        return answer


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def _named(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def _lines(answers: Sequence[tuple[Mapping[str, Any], list[Row]]]) -> Iterator[tuple[str, Points]]:
    for target, body in answers:
        for row in body:
            points = [(at, float(value)) for at, value in row["values"]]
            yield _named(target["legendFormat"], row["metric"]), points


def _stats(
    shown_panel: Mapping[str, Any], answers: Sequence[tuple[Mapping[str, Any], list[Row]]]
) -> Iterator[tuple[str, tuple[str, str]]]:
    config = shown_panel["fieldConfig"]
    for target, body in answers:
        rules = dict(config["defaults"])
        for override in config["overrides"]:
            if override["matcher"] == {"id": "byFrameRefID", "options": target["refId"]}:
                rules |= {it["id"]: it["value"] for it in override["properties"]}
        assert len(body) <= 1, body
        # A range query shows its last value, however old that is.
        samples = [row.get("value") or row["values"][-1] for row in body]
        name = "" if target["legendFormat"] == "__auto" else target["legendFormat"]
        yield name, _painted(rules, float(samples[0][1]) if samples else None)


def _painted(rules: Mapping[str, Any], value: float | None) -> tuple[str, str]:
    """Return the text and the color of a number, or of none."""
    colors = [
        step["color"]
        for step in rules["thresholds"]["steps"]
        if step["value"] is None or (value is not None and step["value"] <= value)
    ]
    for mapping in rules.get("mappings", ()):
        if mapping["type"] == "value" and value is not None and f"{value:g}" in mapping["options"]:
            found = mapping["options"][f"{value:g}"]
            return found["text"], found["color"]
        if mapping["type"] == "special" and value is None:
            return mapping["options"]["result"]["text"], mapping["options"]["result"]["color"]
    return (rules["noValue"] if value is None else f"{value:g}"), colors[-1]


def _table(shown_panel: Mapping[str, Any], body: list[Row]) -> tuple[list[str], list[Row]]:
    """Return the headers, in order, and the rows."""
    frame = [
        {"Time": row["value"][0], **row["metric"], "Value": float(row["value"][1])} for row in body
    ]
    present = list(dict.fromkeys(name for row in frame for name in row))
    names = {name: name for name in present}
    for step in shown_panel["transformations"]:
        options = step["options"]
        if step["id"] == "filterFieldsByName":
            names = {name: name for name in names if name in options["include"]["names"]}
        elif step["id"] == "organize":
            order = options["indexByName"]
            kept = sorted(
                (name for name in names if not options["excludeByName"].get(name)),
                key=lambda name: order.get(name, len(order)),
            )
            names = {name: options["renameByName"].get(name, name) for name in kept}
        else:
            message = f"a transformation that nobody reads: {step['id']}"
            raise AssertionError(message)
    rows = [{header: row.get(name, "") for name, header in names.items()} for row in frame]
    for sort in reversed(shown_panel["options"].get("sortBy", ())):
        rows.sort(key=lambda row: str(row[sort["displayName"]]), reverse=bool(sort.get("desc")))
    return [*names.values()], rows
