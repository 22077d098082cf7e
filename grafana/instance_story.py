"""The Instance dashboard: the story of one DCS instance."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus
from panels import (
    BLUE,
    DATASOURCE,
    FAILED,
    GREEN,
    ORANGE,
    RED,
    Query,
    base,
    lines,
    number,
    steps,
    table,
    timeline,
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
    failing = (
        f"sum(dcs_task_last_failure_timestamp_seconds{{{SCOPE}}} > bool "
        f"dcs_task_last_success_timestamp_seconds{{{SCOPE}}})"
    )
    failures = f'sum(increase(dcs_tasks_finished_total{{{SCOPE},status=~"{FAILED}"}}[$__range]))'
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
        .with_panel(
            number(
                "Age of the data",
                "How long ago the tasks were read.",
                Query(f"max(time() - dcs_instance_last_refresh_timestamp_seconds{{{SCOPE}}})"),
                unit="s",
                thresholds=steps((300, ORANGE), (900, RED)),
            )
        )
        .with_panel(
            number(
                "Failed, and not succeeded since",
                "Names of tasks whose latest result is a failure.",
                Query(failing),
                thresholds=steps((1, RED)),
            )
        )
        .with_panel(
            number(
                "Failures in this time",
                "Tasks that were counted as failed within the chosen time.",
                Query(failures),
                thresholds=steps((0.5, RED)),
            )
        )
        .with_panel(
            number(
                "Active now",
                "Tasks that have not ended yet.",
                Query(f"sum(dcs_tasks_active{{{SCOPE}}})"),
                thresholds=steps(base=BLUE),
            )
        )
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
        .with_panel(
            timeline(
                "What ran when",
                "A bar from the start of a task until its end, as the scrapes saw it.",
                Query(f"sum by (task_name) (dcs_tasks_active{{{SCOPE}}}) > 0", "{{task_name}}"),
                empty="no tasks ran",
            )
        )
        .with_panel(
            lines(
                "Finished tasks",
                "Tasks as they were counted, by name and status.",
                [
                    Query(
                        "sum by (task_name, status) "
                        f"(increase(dcs_tasks_finished_total{{{SCOPE}}}[$__rate_interval])) > 0",
                        "{{task_name}} {{status}}",
                    )
                ],
                style="bars",
                empty="no tasks ended",
            )
        )
        .with_panel(
            lines(
                "How long the latest took",
                "The duration of the latest finished task of each name and status.",
                [Query(f"dcs_task_last_duration_seconds{{{SCOPE}}}", "{{task_name}} {{status}}")],
                unit="s",
                empty="no tasks ended",
            )
        )
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
