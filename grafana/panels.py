"""The panels that the dashboards are made of: one look, one data source, one idea of unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat
from grafana_foundation_sdk.builders import statetimeline as state_timeline
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.builders import timeseries as time_series
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE: Final = common_model.DataSourceRef(type_val="prometheus", uid="${datasource}")
SCRAPE_INTERVAL: Final = "1m"
"""As in prometheus/prometheus.example.yml; `$__rate_interval` is at least four times this."""

FLEET, INSTANCE, EXPORTER = "dcs-tasks-fleet", "dcs-tasks-instance", "dcs-tasks-exporter"
FAILED: Final = "FAILED|FAIL|ERROR"
"""A regular expression of the statuses that mean failure; add your `status_words.failure`."""

MOST_SERIES: Final = 20
MOST_ROWS: Final = 200

GREEN, ORANGE, RED, BLUE, PURPLE = "green", "orange", "red", "blue", "purple"
UNKNOWN: Final = PURPLE
"""Used for nothing else, so that an unknown value looks neither good nor bad."""

NOTHING: Final = "No data. The first row says whether the exporters answer."
"""The text of an empty table or graph, which may mean "none" or "not known"."""

STATUS_COLORS: Final = {
    "SUCCESS": GREEN,
    FAILED: RED,
    "CREATED|WAITING|EXECUTING|RUNNING|INIT": BLUE,
    "CANCELLED|CANCELED|DELETED": ORANGE,
}
AnyPanel = stat.Panel | time_series.Panel | table_panel.Panel | state_timeline.Panel
Text = tuple[str, str]
"""A text and its color."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and the legend of its series."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: its source (a label or `Value`), its header, and its look."""

    source: str
    header: str
    width: int = 0
    unit: str = ""
    texts: Mapping[str, Text] | None = None
    """Texts that replace values."""

    colors: Mapping[str, str] | None = None
    """Colors of the cell, by regular expressions of its text."""


NAME: Final = Column("dcs_instance_name", "Instance")
ID: Final = Column("dcs_instance_id", "Id", width=80)
TASK: Final = Column("task_name", "Task", width=140)
STATUS: Final = Column("status", "Status", width=110, colors=STATUS_COLORS)
SUMMARY: Final = Column("summary", "What")
ERROR: Final = Column("error_code", "Error", width=90)
WHO: Final = Column("user_name", "Who")
TASK_ID: Final = Column("task_id", "Task id", width=110)


def moment(header: str) -> Column:
    """Return a column that shows the value (Unix milliseconds, 0: unknown) as a time."""
    return Column("Value", header, 165, "dateTimeAsIsoNoDateIfToday", {"0": ("unknown", UNKNOWN)})


def ago(header: str, never: str = "unknown") -> Column:
    """Return a column that shows the value (Unix milliseconds, 0: `never`) as an age."""
    return Column("Value", header, 130, "dateTimeFromNow", {"0": (never, UNKNOWN)})


def steps(*levels: tuple[float, str], base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Return the colors of a number from 0 up: `base`, then the color of each level.

    Grafana gives the lowest color, UNKNOWN, to a number without a value.
    """
    thresholds = [model.Threshold(color=UNKNOWN), model.Threshold(value=0, color=base)]
    thresholds += [model.Threshold(value=value, color=color) for value, color in levels]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def at_end(series: str) -> str:
    """Return the last value of each series in the time range."""
    return f"last_over_time({series}[$__range] @ end())"


def labeled(expression: str, label: str, text: str) -> str:
    """Return `expression` with one label more."""
    return f'label_replace({expression}, "{label}", "{text}", "", "")'


def at_most(by: str, expression: str, rank: str, most: int = MOST_SERIES) -> str:
    """Return the series of `expression` whose `rank` is highest at the end of the time range.

    A plain `topk` chooses again at each step, and so draws every series it ever chose.
    """
    return f"{expression} and on ({by}) topk({most}, max by ({by}) ({rank}))"


def link(title: str, board: str, *, panel: str = "", **fields: str) -> dashboard.DashboardLink:
    """Return a link to a board or one of its panels that keeps the time range and the variables.

    `fields` maps variables to the columns of the clicked row that set them.
    """
    kept = ["${__url_time_range}", "${datasource:queryparam}", "${job:queryparam}"]
    kept += ["${project:queryparam}"]
    if panel:  # dashboards.py replaces the title by the panel's number
        kept.append(f"viewPanel={panel}")
    kept += [f"var-{name}=${{__data.fields.{column}}}" for name, column in fields.items()]
    return dashboard.DashboardLink(title).url(f"/d/{board}?{'&'.join(kept)}").target_blank(False)


STORY: Final = link("What happened to this instance", INSTANCE, dcs_instance="Id")
ELSEWHERE: Final = link("This task on all instances", FLEET, task_name="Task")


def _target(query: Query, number: int) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expression).ref_id(chr(ord("A") + number))
    made = made.legend_format(query.legend or "__auto").datasource(DATASOURCE)
    return made.interval(SCRAPE_INTERVAL)


def _texts(texts: Mapping[str, Text]) -> list[model.ValueMapping]:
    results = {
        value: model.ValueMappingResult(text=text, color=color, index=at)
        for at, (value, (text, color)) in enumerate(texts.items())
    }
    unknown = model.ValueMappingResult(text="unknown", color=UNKNOWN, index=len(results))
    special = model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NULL_AND_NAN, result=unknown
    )
    by_value: list[model.ValueMapping] = [model.ValueMap(options=results)] if results else []
    return [*by_value, model.SpecialValueMap(options=special)]


def _colors(colors: Mapping[str, str]) -> list[model.ValueMapping]:
    return [
        model.RegexMap(
            options=model.DashboardRegexMapOptions(
                pattern=f"^({pattern})$", result=model.ValueMappingResult(color=color, index=at)
            )
        )
        for at, (pattern, color) in enumerate(colors.items())
    ]


def number(
    title: str,
    description: str,
    *queries: Query,
    drill_down: dashboard.DashboardLink,
    unit: str = "none",
    thresholds: dashboard.ThresholdsConfig | None = None,
    second: dashboard.ThresholdsConfig | None = None,
    texts: Mapping[str, Text] | None = None,
    width: int = 4,
    height: int = 4,
) -> stat.Panel:
    """Return a panel with one or two current numbers; `second` colors the second one."""
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .thresholds(thresholds or steps(base=BLUE))
        .mappings(_texts(texts or {}))
        .no_value("unknown")
        .height(height)
        .span(width)
        .reduce_options(reduce)
        .color_mode(common_model.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .data_links([drill_down])
    )
    if unit == "none":
        panel = panel.decimals(0)
    if second is not None:
        panel = panel.override_by_query(
            "B", [model.DynamicConfigValue("thresholds", second.build())]
        )
    for at, query in enumerate(queries):
        panel = panel.with_target(_target(query, at).instant())
    return panel


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    right_unit: str = "",
    width: int = 12,
    height: int = 9,
    style: Literal["line", "bars"] = "line",
    thresholds: dashboard.ThresholdsConfig | None = None,
) -> time_series.Panel:
    """Return a graph over time; with `right_unit`, query B gets the right axis."""
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
    )
    panel = (
        time_series.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(NOTHING)
        .height(height)
        .span(width)
        .min(0)
        .draw_style(common_model.GraphDrawStyle(style))
        .fill_opacity(100 if style == "bars" else 10)
        .legend(legend)
    )
    if style == "bars":
        panel = panel.decimals(0).stacking(
            common.StackingConfig().mode(common_model.StackingMode.NORMAL)
        )
        for words, color in STATUS_COLORS.items():
            shades = {"mode": "shades", "fixedColor": color}
            panel = panel.override_by_regexp(
                f"/ ({words})$/", [model.DynamicConfigValue("color", shades)]
            )
    if right_unit:
        own_axis = {"unit": right_unit, "decimals": 0, "custom.axisPlacement": "right"}
        panel = panel.override_by_query(
            "B", [model.DynamicConfigValue(name, value) for name, value in own_axis.items()]
        )
    if thresholds is not None:
        shown = common.GraphThresholdsStyleConfig().mode(
            common_model.GraphThresholdsStyleMode.DASHED
        )
        panel = panel.thresholds(thresholds).thresholds_style(shown)
    for at, query in enumerate(queries):
        panel = panel.with_target(_target(query, at).range())
    return panel


def table(
    title: str,
    description: str,
    expression: str,
    columns: Sequence[Column],
    *,
    drill_down: dashboard.DashboardLink,
    sort: Mapping[str, bool],
    width: int = 24,
    height: int = 8,
) -> table_panel.Panel:
    """Return a table of current values with exactly these columns.

    `sort` maps column headers to whether they sort in descending order.
    """
    allowed = {"include": {"names": [column.source for column in columns]}}
    arranged = {
        "excludeByName": {},
        "indexByName": {column.source: at for at, column in enumerate(columns)},
        "renameByName": {column.source: column.header for column in columns},
    }
    panel = (
        table_panel.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("string")
        .no_value(NOTHING)
        .height(height)
        .span(width)
        .filterable(True)
        .footer(common.TableFooterOptions().show(False).enable_pagination(True))
        .sort_by(
            [
                common.TableSortByFieldState().display_name(by).desc(descending)
                for by, descending in sort.items()
            ]
        )
        .data_links([drill_down])
        .with_target(
            _target(Query(expression), 0).instant().format(PromQueryFormat.TABLE),
        )
        .with_transformation(model.DataTransformerConfig("filterFieldsByName", options=allowed))
        .with_transformation(model.DataTransformerConfig("organize", options=arranged))
    )
    for column in columns:
        if look := _look(column):
            panel = panel.override_by_name(column.header, look)
    return panel


def _look(column: Column) -> list[model.DynamicConfigValue]:
    look: dict[str, object] = {}
    if column.width:
        look["custom.width"] = column.width
    if column.unit:
        look["unit"] = column.unit
    if column.texts:
        look["mappings"] = _texts(column.texts)
    if column.colors:
        look["mappings"] = _colors(column.colors)
        look["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    return [model.DynamicConfigValue(name, value) for name, value in look.items()]


def timeline(
    title: str, description: str, query: Query, *, width: int = 24, height: int = 9
) -> state_timeline.Panel:
    """Return a state timeline."""
    return (
        state_timeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("none")
        .no_value(NOTHING)
        .height(height)
        .span(width)
        .thresholds(steps((1, BLUE), (2, ORANGE)))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(common_model.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(False))
        .with_target(_target(query, 0).range())
    )


def variable(
    name: str, label: str, query: str, *, multi: bool = True, regex: str = ""
) -> dashboard.QueryVariable:
    """Return a variable whose values are queried again whenever the time range changes."""
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi)
        .include_all(multi)
    )
    if regex:
        made = made.regex(regex)
    return made.all_value(".+") if multi else made


def instances(*, multi: bool) -> dashboard.QueryVariable:
    """Return the variable for instances, which shows names and holds ids."""
    found = 'last_over_time(dcs_instance_info{job=~"$job",project=~"$project"}[$__range])'
    return variable(
        "dcs_instance",
        "Instance",
        f"query_result(max by (dcs_instance_id, dcs_instance_name) ({found}))",
        multi=multi,
        regex='/dcs_instance_id="(?<value>[^"]+)",dcs_instance_name="(?<text>[^"]+)"/',
    )


def marks(name: str, expression: str, color: str) -> dashboard.AnnotationQuery:
    """Return annotations at the times (Unix milliseconds) that the series hold."""
    query = Query(expression)
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(expression)
        .step(SCRAPE_INTERVAL)
        .title_format("{{dcs_instance_name}}: {{task_name}} {{status}}")
        .target(_target(query, 0).range())
    )


def base(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """Return an empty dashboard with the common variables and links to the other dashboards."""
    others = (
        dashboard.DashboardLink("DCS tasks")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["dcs"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    ours = '{__name__=~"dcs_instance_up|dcs_task_exporter_build_info"}'
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["dcs"])
        .readonly()
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("1m")
        .time("now-24h", "now")
        .link(others)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(variable("job", "Job", f"label_values({ours}, job)"))
        .with_variable(
            variable("project", "Project", 'label_values(dcs_instance_up{job=~"$job"}, project)')
        )
    )


def row(title: str, *panels: AnyPanel) -> dashboard.Row:
    """Return a closed row, whose panels query nothing until it is opened."""
    made = dashboard.Row(title)
    for panel in panels:
        made = made.with_panel(panel)
    return made
