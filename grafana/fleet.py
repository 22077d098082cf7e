"""The Fleet dashboard, which says whether something is wrong, and where."""

from __future__ import annotations

from typing import Final

import shared
from grafana_foundation_sdk.builders import dashboard
from panels import FLEET, RED, base, instances, marks, row, variable

SCOPE: Final = 'job=~"$job",project=~"$project",dcs_instance_id=~"$dcs_instance"'
NAMED: Final = f'{SCOPE},task_name=~"$task_name"'
LEGEND: Final = "{{dcs_instance_name}} {{task_name}}"


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    made = (
        base(FLEET, "DCS tasks: Fleet", "Is something wrong with the DCS instances, and where?")
        .with_variable(instances(multi=True))
        .with_variable(
            variable(
                "task_name",
                "Task",
                'label_values(dcs_tasks_finished_total{job=~"$job"}, task_name)',
            )
        )
        .annotation(marks("Failed tasks", _failures(), RED))
    )
    for panel in (
        shared.scrape_targets(),
        shared.unreadable(SCOPE),
        shared.oldest_data(SCOPE),
        shared.still_failed(NAMED, SCOPE, FLEET),
        shared.failures(NAMED, FLEET),
        shared.active(NAMED, SCOPE, FLEET, "Active tasks"),
        shared.failed_tasks(NAMED, fleet=True, width=17),
        shared.unread_instances(SCOPE, width=7, height=8),
        shared.active_tasks(NAMED, width=8, height=7),
        shared.runs(NAMED, LEGEND, most=10, width=8, height=7),
        shared.finished(NAMED, SCOPE, width=8, height=7),
    ):
        made = made.with_panel(panel)
    return made.with_row(
        row(
            "All tasks",
            shared.latest_tasks(
                NAMED, "Latest task of each instance and name", fleet=True, width=24, height=12
            ),
        )
    ).with_row(
        row(
            "Durations, age of the data, and memory of Redis",
            shared.durations(NAMED, f"{LEGEND} {{{{status}}}}"),
            shared.memory(SCOPE, "Memory of the instances, beside their tasks"),
            shared.age(SCOPE),
        )
    )


def _failures() -> str:
    by = "dcs_instance_id, dcs_instance_name, task_name"
    return shared.times("dcs_task_last_failure_timestamp_seconds", NAMED, by)
