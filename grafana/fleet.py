"""The Fleet dashboard: is something wrong, what exactly, what runs, and can I believe it."""

from __future__ import annotations

from typing import Final

import shared
from grafana_foundation_sdk.builders import dashboard
from panels import FAILED, RED, Query, base, lines, steps, table, variable

UID: Final = "dcs-tasks-fleet"
SCOPE: Final = 'job=~"$job",dcs_instance_id=~"$dcs_instance"'
NAMED: Final = f'{SCOPE},task_name=~"$task_name"'
ACCESS: Final = "modify|AddWhitelist|UpdatePort|BindEip|UnBindEip|masterStandbySwapJob"
TASK_COLUMNS: Final = (
    "dcs_instance_name",
    "task_name",
    "status",
    "summary",
    "error_code",
    "task_id",
    "dcs_instance_id",
)


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    made = base(UID, "DCS tasks: Fleet", "Background tasks of all DCS instances.")
    for one in _variables():
        made = made.with_variable(one)
    for part in (_is_something_wrong, _what_exactly, _what_runs, _can_i_believe_it):
        made = part(made)
    return made


def _variables() -> tuple[dashboard.QueryVariable, ...]:
    instances = 'label_values(dcs_instance_info{job=~"$job",project=~"$project"}, dcs_instance_id)'
    return (
        variable("project", "Project", 'label_values(dcs_instance_info{job=~"$job"}, project)'),
        # "All" must stay within the project, so it is spelt out and not a pattern.
        variable("dcs_instance", "Instance", instances, all_value=None),
        variable(
            "task_name", "Task", 'label_values(dcs_tasks_finished_total{job=~"$job"}, task_name)'
        ),
    )


def _is_something_wrong(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Is something wrong?"))
        .with_panel(shared.unreadable(SCOPE, width=5))
        .with_panel(shared.still_failed(NAMED, width=5))
        .with_panel(shared.failures(NAMED, width=5))
        .with_panel(shared.active(NAMED, width=4))
        .with_panel(shared.oldest_data(SCOPE, width=5))
    )


def _what_exactly(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("What exactly?"))
        .with_panel(
            table(
                "Latest tasks that failed",
                "The latest task of each instance and name, where it failed, and what it was to "
                "change.",
                Query(f'dcs_task_last_info{{{NAMED},status=~"{FAILED}"}}'),
                TASK_COLUMNS,
                empty="no failed tasks",
                links=(_story(),),
            )
        )
        .with_panel(shared.finished(NAMED))
        .with_panel(shared.durations(NAMED, "{{dcs_instance_name}} {{task_name}} {{status}}"))
    )


def _what_runs(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("What runs, and who changed what?"))
        .with_panel(shared.runs(NAMED, "dcs_instance_name", "task_name"))
        .with_panel(
            table(
                "Last result of each instance and task",
                "The latest task of each name; the link opens the instance.",
                Query(f"dcs_task_last_info{{{NAMED}}}"),
                TASK_COLUMNS,
                empty="no tasks in the look-back window",
                links=(_story(),),
            )
        )
        .with_panel(
            table(
                "Who changed what",
                "Passwords, whitelists, ports, public access and switch-overs; accounts and "
                "addresses are shown with collector.personal_labels only.",
                Query(f'dcs_task_last_info{{{SCOPE},task_name=~"{ACCESS}"}}'),
                TASK_COLUMNS,
                empty="no such changes in the look-back window",
            )
        )
    )


def _story() -> dashboard.DashboardLink:
    """Return the link from a row to its instance, in the same data source and job."""
    return (
        dashboard.DashboardLink("This instance's story")
        .url(
            "/d/dcs-tasks-instance?var-dcs_instance=${__data.fields.dcs_instance_id}"
            "&${datasource:queryparam}&${job:queryparam}"
        )
        .target_blank(False)
    )


def _can_i_believe_it(made: dashboard.Dashboard) -> dashboard.Dashboard:
    memory = (
        'huaweicloud_sys_dcs_memory_usage{dcs_instance_id=~"$dcs_instance"} '
        "* on (dcs_instance_id) group_left (dcs_instance_name) "
        f"(dcs_instance_up{{{SCOPE}}} >= bool 0)"
    )
    return (
        made.with_row(dashboard.Row("Can I believe it, and what did Redis feel?"))
        .with_panel(
            lines(
                "Age of the data",
                "How long ago each instance was read; what happened since is not known.",
                [
                    Query(
                        f"time() - dcs_instance_last_refresh_timestamp_seconds{{{SCOPE}}}",
                        "{{dcs_instance_name}}",
                    )
                ],
                unit="s",
                thresholds=steps((900, RED)),
            )
        )
        .with_panel(
            lines(
                "Memory of the instances, beside their tasks",
                "Memory usage as Huawei's cloudeye-exporter has it, joined by dcs_instance_id, the "
                "label that both exporters give; multiplied by 1 to take the instance's name over.",
                [
                    Query(memory, "{{dcs_instance_name}} memory"),
                    Query(
                        f"sum by (dcs_instance_name) (dcs_tasks_active{{{SCOPE}}}) > 0",
                        "{{dcs_instance_name}} active tasks",
                    ),
                ],
                empty="no cloudeye-exporter in this data source",
            )
        )
    )
