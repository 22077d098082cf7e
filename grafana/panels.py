"""The panels that the dashboards are made of: one look, one data source, one idea of empty."""

from __future__ import annotations

from collections.abc import Sequence
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
FAILED: Final = "FAILED|FAIL|ERROR"
"""The status words of a failure, as a matcher; add those of `status_words.failure`."""

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"
AnyPanel = stat.Panel | time_series.Panel | table_panel.Panel | state_timeline.Panel


@dataclass(frozen=True)
class Query:
    """One PromQL expression, and the name that its series get."""

    expression: str
    legend: str = ""


def steps(*levels: tuple[float, str], base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Return thresholds: `base` up to the first level, then the color of each."""
    thresholds = [model.Threshold(color=base)]
    thresholds += [model.Threshold(value=value, color=color) for value, color in levels]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(thresholds)


def target(query: Query, number: int, *, instant: bool = False) -> prometheus.Dataquery:
    """Return a query as a panel holds it."""
    made = prometheus.Dataquery().expr(query.expression).ref_id(chr(ord("A") + number))
    made = made.legend_format(query.legend or "__auto").datasource(DATASOURCE)
    return made.instant().format(PromQueryFormat.TABLE) if instant else made.range()


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    thresholds: dashboard.ThresholdsConfig | None = None,
    empty: str = "no data",
    width: int = 4,
) -> stat.Panel:
    """Return a panel with one large number."""
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .thresholds(thresholds or steps(base=BLUE))
        .no_value(empty)
        .height(4)
        .span(width)
        .reduce_options(reduce)
        .color_mode(common_model.BigValueColorMode.BACKGROUND)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .with_target(target(query, 0))
    )


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str = "short",
    empty: str = "no data",
    width: int = 12,
    style: Literal["line", "bars"] = "line",
    thresholds: dashboard.ThresholdsConfig | None = None,
) -> time_series.Panel:
    """Return a panel of series over time."""
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_model.LegendDisplayMode.TABLE)
        .placement(common_model.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    drawn = common_model.GraphDrawStyle(style)
    panel = (
        time_series.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(empty)
        .height(9)
        .span(width)
        .min(0)
        .draw_style(drawn)
        .fill_opacity(60 if style == "bars" else 10)
        .legend(legend)
    )
    if thresholds is not None:
        shown = common.GraphThresholdsStyleConfig().mode(
            common_model.GraphThresholdsStyleMode.DASHED
        )
        panel = panel.thresholds(thresholds).thresholds_style(shown)
    for at, query in enumerate(queries):
        panel = panel.with_target(target(query, at))
    return panel


def table(
    title: str,
    description: str,
    query: Query,
    columns: Sequence[str],
    *,
    empty: str,
    links: Sequence[dashboard.DashboardLink] = (),
    width: int = 24,
) -> table_panel.Panel:
    """Return a table of the labels of series, in the order of `columns`."""
    order = {name: at for at, name in enumerate(columns)}
    hidden = dict.fromkeys(("Time", "Value", "__name__", "instance", "job"), True)
    arrange = model.DataTransformerConfig(
        id_val="organize", options={"excludeByName": hidden, "indexByName": order}
    )
    panel = (
        table_panel.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("string")
        .no_value(empty)
        .height(9)
        .span(width)
        .filterable(True)
        .with_target(target(query, 0, instant=True))
        .with_transformation(arrange)
    )
    return panel.data_links(list(links)) if links else panel


def timeline(title: str, description: str, query: Query, *, empty: str) -> state_timeline.Panel:
    """Return a panel of what was the case when."""
    return (
        state_timeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("short")
        .no_value(empty)
        .height(9)
        .span(24)
        .thresholds(steps((1, BLUE), (2, ORANGE)))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .with_target(target(query, 0))
    )


def variable(
    name: str, label: str, query: str, *, multi: bool = True, all_value: str | None = ".+"
) -> dashboard.QueryVariable:
    """Return a variable whose values are looked up, anew when the time range changes."""
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
    return made.all_value(all_value) if multi and all_value else made


def base(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """Return an empty dashboard with the data source, the job, and links to the others."""
    others = (
        dashboard.DashboardLink("DCS tasks")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["dcs"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
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
        .with_variable(variable("job", "Job", "label_values(dcs_task_exporter_build_info, job)"))
    )
