"""Lints of the dashboards: dashboard-linter's rules that apply, and pint's main checks.

Both tools are written in Go and cannot be installed here. So these are rules of our own, under the
names of theirs, on the syntax tree of each expression. dashboard-linter's rules for Loki are left
out: there is no Loki.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import promql_parser as syntax
import pytest

from tests.support import board_reader, promql
from tests.support.board_reader import BOARDS, FOLDER
from tests.support.yaml_texts import load_yaml

EXCLUSIONS: dict[str, dict[str, Any]] = load_yaml((FOLDER / ".lint").read_text())["exclusions"]
PROBE = "17m"
"""A duration that stands for $__rate_interval; no query has it by itself."""

PUT_IN = {"$__rate_interval": PROBE, "$__interval": "18m", "$__range": "19m", "$__from": "1"}
RATES = {"rate", "increase", "irate"}
COUNTER = re.compile(r"\w+_(total|bucket)\b")
Found = tuple[str, str]
"""A board's title, and the title of a panel or the name of a variable."""

RULES: dict[str, Callable[[], Iterator[Found]]] = {}


def rule(check: Callable[[], Iterator[Found]]) -> Callable[[], Iterator[Found]]:
    """Add a rule: a function that yields where it is broken."""
    RULES[check.__name__.replace("_", "-") + "-rule"] = check
    return check


def parsed(expression: str) -> Any:
    """Return the syntax tree of an expression."""
    for name, value in PUT_IN.items():
        expression = expression.replace(name, value)
    return syntax.parse(expression)


def nodes(tree: Any) -> list[Any]:
    """Return all nodes of a tree; the selector inside a range is no node of its own."""
    found: list[Any] = []
    syntax.walk(tree, lambda node: found.append(node))  # noqa: PLW0108 - None means go on
    inside = [isinstance(before, syntax.MatrixSelector) for before in (None, *found)]
    return [node for node, in_range in zip(found, inside, strict=False) if not in_range]


def targets() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each query with its board's and its panel's title."""
    for name, board in BOARDS.items():
        for panel in board_reader.panels(name):
            for target in panel["targets"]:
                yield board["title"], panel["title"], target


def variables() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each variable with its board's title."""
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            yield board["title"], variable


def each_panel() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each panel with its board's title."""
    for name, board in BOARDS.items():
        for panel in board_reader.panels(name):
            yield board["title"], panel


@rule
def template_datasource() -> Iterator[Found]:
    """There is one data source variable, named datasource, of Prometheus, with the usual label."""
    for board in BOARDS.values():
        found = [it for it in board["templating"]["list"] if it["type"] == "datasource"]
        told = [(it["name"], it["label"], it["query"]) for it in found]
        if told != [("datasource", "Data source", "prometheus")]:
            yield board["title"], "datasource"


def _template(name: str) -> Iterator[Found]:
    for board in BOARDS.values():
        found = [it for it in board["templating"]["list"] if it["name"] == name]
        good = [it for it in found if it["multi"] and it["includeAll"] and it["allValue"] == ".+"]
        if not good or good[0]["datasource"]["uid"] != "${datasource}":
            yield board["title"], name


@rule
def template_job() -> Iterator[Found]:
    """There is a variable of jobs, several at once, and all of them."""
    yield from _template("job")


@rule
def template_instance() -> Iterator[Found]:
    """There is a variable of instances, several at once, and all of them."""
    yield from _template("instance")


@rule
def template_label_promql() -> Iterator[Found]:
    """A variable is a label_values() of PromQL."""
    for board, variable in variables():
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        if not match:
            yield board, variable["name"]
            continue
        parsed(match[1])


@rule
def template_on_time_change_reload() -> Iterator[Found]:
    """A variable is looked up anew when the time range changes."""
    for board, variable in variables():
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield board, variable["name"]


@rule
def panel_datasource() -> Iterator[Found]:
    """A panel and its queries use the data source variable."""
    for board, panel in each_panel():
        used = [panel["datasource"], *(it["datasource"] for it in panel["targets"])]
        if any(it != {"type": "prometheus", "uid": "${datasource}"} for it in used):
            yield board, panel["title"]


@rule
def panel_title_description() -> Iterator[Found]:
    """A panel has a title and a description."""
    for board, panel in each_panel():
        if not panel["title"] or not panel["description"].endswith("."):
            yield board, panel["title"]


@rule
def panel_units() -> Iterator[Found]:
    """A panel has a unit that Grafana knows."""
    known = {"none", "s", "percent", "percentunit", "bytes", "reqps", "string"}
    known |= {"dateTimeAsIsoNoDateIfToday", "dateTimeFromNow"}
    for board, panel in each_panel():
        config = panel["fieldConfig"]
        units = {config["defaults"].get("unit")}
        for override in config["overrides"]:
            units |= {it["value"] for it in override["properties"] if it["id"] == "unit"}
        if not units <= known:
            yield board, panel["title"]


@rule
def panel_no_targets() -> Iterator[Found]:
    """A panel asks something."""
    for board, panel in each_panel():
        if not panel["targets"]:
            yield board, panel["title"]


@rule
def target_promql() -> Iterator[Found]:
    """A query is PromQL."""
    for board, panel, target in targets():
        try:
            parsed(target["expr"])
        except ValueError:
            yield board, panel


def selectors(target: Mapping[str, Any]) -> list[Any]:
    """Return the selectors of a query, those of ranges too."""
    found = nodes(parsed(target["expr"]))
    ranges = [it.vector_selector for it in found if isinstance(it, syntax.MatrixSelector)]
    return ranges + [it for it in found if isinstance(it, syntax.VectorSelector)]


def _unmatched(name: str) -> Iterator[Found]:
    for board, panel, target in targets():
        for selector in selectors(target):
            matched = {(it.name, it.value) for it in selector.matchers.matchers}
            if (name, f"${name}") not in matched:
                yield board, panel


@rule
def target_job() -> Iterator[Found]:
    """A selector is limited to the chosen jobs."""
    yield from _unmatched("job")


@rule
def target_instance() -> Iterator[Found]:
    """A selector is limited to the chosen instances of exporters."""
    yield from _unmatched("instance")


@rule
def target_rate_interval() -> Iterator[Found]:
    """A rate is one over $__rate_interval; what only chooses the series may be of the range."""
    for board, panel, target in targets():
        for call in nodes(parsed(target["expr"])):
            if isinstance(call, syntax.Call) and call.func.name in RATES:
                (window,) = call.args
                chooses = window.vector_selector.at is not None
                if f"[{PROBE}]" not in window.prettify() and not chooses:
                    yield board, panel


@rule
def target_counter_agg() -> Iterator[Found]:
    """A counter is read by a rate; count() may ask whether there is one."""
    for board, panel, target in targets():
        found = nodes(parsed(target["expr"]))
        fine = [it.args[0] for it in found if isinstance(it, syntax.Call) and it.func.name in RATES]
        fine += [
            it.expr
            for it in found
            if isinstance(it, syntax.AggregateExpr) and str(it.op) == "count"
        ]
        fine_ones = {it.prettify() for it in fine}
        for it in found:
            plain = isinstance(it, syntax.VectorSelector | syntax.MatrixSelector)
            if plain and COUNTER.match(it.prettify()) and it.prettify() not in fine_ones:
                yield board, panel


@rule
def uneditable_dashboard() -> Iterator[Found]:
    """A board is not changed by hand."""
    for board in BOARDS.values():
        if board["editable"]:
            yield board["title"], ""


def excuses(entry: Mapping[str, str], found: Found) -> bool:
    """Return whether an entry is about a finding; without a panel it is about all of the board."""
    board, title = found
    return entry["dashboard"] == board and entry.get("panel", title) == title


def excluded(name: str, found: Found) -> bool:
    """Return whether a finding has a reason."""
    if name not in EXCLUSIONS:
        return False
    entries = EXCLUSIONS[name].get("entries")
    return entries is None or any(excuses(entry, found) for entry in entries)


@pytest.mark.parametrize("name", RULES)
def test_dashboard_linter(name: str) -> None:
    """The rule holds, but for the exceptions that have a reason."""
    assert not {found for found in RULES[name]() if not excluded(name, found)}


def test_every_exception_is_needed() -> None:
    """Each exception has a reason, and stands for something that the rule finds."""
    for name, exclusion in EXCLUSIONS.items():
        found = set(RULES[name]())
        assert exclusion["reason"], name
        assert found, name
        for entry in exclusion.get("entries", ()):
            assert any(excuses(entry, each) for each in found), entry


# pint's checks.


@pytest.fixture(scope="module")
def described() -> Mapping[str, set[str]]:
    return promql.described()


each_query = pytest.mark.parametrize(
    ("board", "panel", "target"),
    [*targets()],
    ids=[f"{board}: {panel}: {target['refId']}" for board, panel, target in targets()],
)


@each_query
def test_series(
    described: Mapping[str, set[str]], board: str, panel: str, target: Mapping[str, Any]
) -> None:
    """promql/series: each selector names a metric, with labels that this metric has."""
    del board, panel
    foreign = ("process_", "huaweicloud_", "up")
    for selector in selectors(target):
        if selector.name.startswith(foreign):
            continue
        matched = {it.name for it in selector.matchers.matchers}
        assert matched - {"job"} <= described[selector.name], selector.prettify()


@each_query
def test_rate(board: str, panel: str, target: Mapping[str, Any]) -> None:
    """promql/rate, promql/counter: a rate is of a counter, and of no sum."""
    del board, panel
    for call in nodes(parsed(target["expr"])):
        if isinstance(call, syntax.Call) and call.func.name in RATES:
            assert isinstance(call.args[0], syntax.MatrixSelector)
            assert COUNTER.match(call.args[0].prettify())
        assert not isinstance(call, syntax.SubqueryExpr)


@each_query
def test_vector_matching(
    described: Mapping[str, set[str]], board: str, panel: str, target: Mapping[str, Any]
) -> None:
    """promql/vector_matching, promql/impossible: what is matched by, both sides have."""
    del board, panel
    for node in nodes(parsed(target["expr"])):
        if not isinstance(node, syntax.BinaryExpr):
            continue
        sides = [labels_of(side, described) for side in (node.lhs, node.rhs)]
        if None in sides or str(node.op) == "or":
            continue
        left, right = (side or set() for side in sides)
        matching = node.modifier.matching if node.modifier else None
        if matching is None:
            assert left == right or str(node.op) in ("and", "unless"), node.prettify()
            assert left <= right or right <= left, node.prettify()
        else:
            by = set(matching.labels)
            assert by <= left, (by - left, node.lhs.prettify())
            assert by <= right, (by - right, node.rhs.prettify())


def labels_of(node: Any, described: Mapping[str, set[str]]) -> set[str] | None:
    """Return the labels that a vector may have, or None for a number."""
    if isinstance(node, syntax.ParenExpr | syntax.UnaryExpr):
        return labels_of(node.expr, described)
    if isinstance(node, syntax.AggregateExpr):
        inner = labels_of(node.expr, described)
        if str(node.op) in ("topk", "bottomk"):
            return inner
        return set(node.modifier.labels) if node.modifier else set()
    if isinstance(node, syntax.MatrixSelector):
        return labels_of(node.vector_selector, described)
    if isinstance(node, syntax.VectorSelector):
        name = str(node.name)
        foreign = {"dcs_instance_id"} if name.startswith("huaweicloud_") else set()
        return described.get(name, foreign) | {"job", "instance"}
    if isinstance(node, syntax.Call):
        return _labels_of_call(node, described)
    if isinstance(node, syntax.BinaryExpr):
        left, right = (labels_of(side, described) for side in (node.lhs, node.rhs))
        if str(node.op) == "or":
            return (left or set()) | (right or set())
        if left is None or right is None:
            return left if right is None else right
        group = node.modifier.group_labels if node.modifier else None
        return left | set(group.labels if group and hasattr(group, "labels") else group or ())
    return None


def _labels_of_call(node: Any, described: Mapping[str, set[str]]) -> set[str] | None:
    if node.func.name in ("time", "vector"):
        return set() if node.func.name == "vector" else None
    inner = labels_of(node.args[0], described)
    if node.func.name == "histogram_quantile":
        return (labels_of(node.args[1], described) or set()) - {"le"}
    if node.func.name == "label_replace":
        return (inner or set()) | {node.args[1].val}
    return inner


@each_query
def test_regexp(board: str, panel: str, target: Mapping[str, Any]) -> None:
    """promql/regexp: a pattern is one, and no plain text that = would match."""
    del board, panel
    for selector in selectors(target):
        for matcher in selector.matchers.matchers:
            if str(matcher.op) in ("MatchOp.Re", "MatchOp.NotRe"):
                re.compile(matcher.value)
                assert re.search(r"[$|.*+]", matcher.value), matcher.value


@each_query
def test_fragile(board: str, panel: str, target: Mapping[str, Any]) -> None:
    """promql/fragile: topk chooses once for the whole range, so its choice does not flicker."""
    del board, panel
    if not target.get("range"):
        return
    for node in nodes(parsed(target["expr"])):
        if not isinstance(node, syntax.AggregateExpr) or str(node.op) != "topk":
            continue
        if node.modifier:  # one of each group: this bounds nothing
            continue
        inside = [it for it in nodes(node) if isinstance(it, syntax.MatrixSelector)]
        assert any(it.vector_selector.at is not None for it in inside), node.prettify()


@each_query
def test_legend(
    described: Mapping[str, set[str]], board: str, panel: str, target: Mapping[str, Any]
) -> None:
    """alerts/template, for legends: a label that a legend names, the query's result has."""
    del board, panel
    named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))

    assert named <= (labels_of(parsed(target["expr"]), described) or set())


@pytest.mark.parametrize(
    ("check", "expression"),
    [
        (test_series, 'dcs_instance_up{task_name="EXTEND"}'),
        (test_rate, "rate(dcs_tasks_active[5m])"),
        (test_rate, "rate(sum(dcs_tasks_finished_total)[5m:1m])"),
        (test_vector_matching, "sum by (project) (dcs_instance_up) * on (dcs_instance_id) up"),
        (test_vector_matching, "dcs_instance_up * dcs_tasks_active"),
        (test_vector_matching, "max by (task_name) (dcs_tasks_active) and on (project) up"),
        (test_regexp, 'dcs_instance_up{project=~"prod"}'),
        (test_fragile, "topk(20, dcs_instance_up)"),
    ],
)
def test_each_check_finds_its_mistake(
    described: Mapping[str, set[str]], check: Callable[..., None], expression: str
) -> None:
    """Each of pint's checks fails for the mistake that it is there for."""
    target = {"expr": expression, "legendFormat": "__auto", "range": True}
    known = {"described": described} if check in (test_series, test_vector_matching) else {}

    with pytest.raises(AssertionError):
        check(board="", panel="", target=target, **known)
