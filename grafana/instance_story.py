"""The Instance dashboard: the story of one DCS instance."""

from __future__ import annotations

from typing import Final

import shared
from grafana_foundation_sdk.builders import dashboard, prometheus
from panels import (
    DATASOURCE,
    GREEN,
    ORANGE,
    RED,
    Query,
    base,
    lines,
    number,
    steps,
    table,
    variable,
)

UID: Final = "dcs-tasks-instance"
SCOPE: Final = 'job=~"$job",dcs_instance_id="$dcs_instance"'
COLUMNS: Final = ("task_name", "status", "summary", "error_code", "task_id")


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    instances = 'label_values(dcs_instance_info{job=~"$job",project=~"$project"}, dcs_instance_id)'
    made = (
        base(UID, "DCS tasks: Instance", "What happened to one DCS instance, and when.")
        .with_variable(
            variable("project", "Project", 'label_values(dcs_instance_info{job=~"$job"}, project)')
        )
        .with_variable(variable("dcs_instance", "Instance", instances, multi=False))
        .annotation(finished_tasks())
    )
    for part in (_now, _story, _before_and_after):
        made = part(made)
    return made


def finished_tasks() -> dashboard.AnnotationQuery:
    """Return the marks of finished tasks, to be pasted into any Redis dashboard."""
    query = (
        prometheus.Dataquery()
        .expr(f"increase(dcs_tasks_finished_total{{{SCOPE}}}[$__rate_interval]) > 0")
        .ref_id("Anno")
        .datasource(DATASOURCE)
        .legend_format("{{task_name}} {{status}}")
    )
    return (
        dashboard.AnnotationQuery()
        .name("Finished tasks")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(ORANGE)
        .expr(f"increase(dcs_tasks_finished_total{{{SCOPE}}}[$__rate_interval]) > 0")
        .title_format("{{task_name}} {{status}}")
        .target(query)
    )


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    started = f"max(time() - dcs_tasks_active_oldest_start_timestamp_seconds{{{SCOPE}}})"
    return (
        made.with_row(dashboard.Row("Now"))
        .with_panel(
            number(
                "Read",
                "1 when the latest attempt to read the tasks succeeded, else 0.",
                Query(f"min(dcs_instance_up{{{SCOPE}}})"),
                thresholds=steps((1, GREEN), base=RED),
            )
        )
        .with_panel(shared.oldest_data(SCOPE, width=4))
        .with_panel(shared.still_failed(SCOPE, width=4))
        .with_panel(shared.failures(SCOPE, width=4))
        .with_panel(shared.active(SCOPE, width=4))
        .with_panel(
            number(
                "Active for",
                "How long the oldest active task has run.",
                Query(started),
                unit="s",
                empty="nothing runs",
                thresholds=steps((7200, ORANGE), (14400, RED)),
            )
        )
    )


def _story(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("What happened"))
        .with_panel(
            table(
                "Latest task of each name",
                "How each ended, with which error, and what it changed.",
                Query(f"dcs_task_last_info{{{SCOPE}}}"),
                COLUMNS,
                empty="no tasks in the look-back window",
            )
        )
        .with_panel(shared.runs(SCOPE, "task_name"))
        .with_panel(shared.finished(SCOPE))
        .with_panel(shared.durations(SCOPE, "{{task_name}} {{status}}"))
    )


def _before_and_after(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Capacity and memory"))
        .with_panel(
            lines(
                "Capacity by the latest resize",
                "Capacity before and after the latest EXTEND of the look-back window.",
                [
                    Query(f"dcs_task_extend_old_capacity_bytes{{{SCOPE}}}", "before"),
                    Query(f"dcs_task_extend_new_capacity_bytes{{{SCOPE}}}", "after"),
                ],
                unit="bytes",
                empty="no resize in the look-back window",
            )
        )
        .with_panel(
            lines(
                "Memory usage",
                "As Huawei's cloudeye-exporter has it; the marks are finished tasks.",
                [
                    Query(
                        'huaweicloud_sys_dcs_memory_usage{dcs_instance_id="$dcs_instance"}',
                        "memory usage",
                    )
                ],
                unit="percent",
                empty="no cloudeye-exporter in this data source",
            )
        )
    )
