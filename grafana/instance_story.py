"""The Instance dashboard, which says what happened to one DCS instance."""

from __future__ import annotations

from typing import Final

import shared
from grafana_foundation_sdk.builders import dashboard
from panels import (
    EXPORTER,
    GREEN,
    INSTANCE,
    ORANGE,
    RED,
    AnyPanel,
    Query,
    base,
    instances,
    lines,
    link,
    marks,
    number,
    row,
    steps,
)

SCOPE: Final = 'job=~"$job",dcs_instance_id="$dcs_instance"'


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    made = (
        base(INSTANCE, "DCS tasks: Instance", "What happened to one DCS instance, and when?")
        .with_variable(instances(multi=False))
        .annotation(marks("Finished tasks", _finished(), ORANGE))
    )
    started = f"max(time() - dcs_tasks_active_oldest_start_timestamp_seconds{{{SCOPE}}})"
    for panel in (
        shared.scrape_targets(),
        number(
            "Read",
            "Whether the latest refresh of the instance succeeded.",
            Query(f"max(dcs_instance_up{{{SCOPE}}})"),
            thresholds=steps((1, GREEN), base=RED),
            texts={"0": ("no", RED), "1": ("yes", GREEN)},
            width=3,
            drill_down=link("Why", EXPORTER, panel="Instances in doubt"),
        ),
        shared.oldest_data(SCOPE, width=3),
        shared.still_failed(SCOPE, SCOPE, INSTANCE),
        shared.failures(SCOPE, INSTANCE),
        shared.active(SCOPE, SCOPE, INSTANCE, "Latest task of each name", width=3),
        number(
            "Active for",
            "How long the oldest active task has been running.",
            Query(shared.or_zero(started, SCOPE)),
            unit="s",
            texts={"0": ("nothing runs", GREEN)},
            thresholds=steps((7200, ORANGE), (14400, RED)),
            width=3,
            drill_down=link("Which", INSTANCE, panel="Latest task of each name"),
        ),
        shared.latest_tasks(SCOPE, "Latest task of each name", fleet=False, width=24, height=7),
        shared.failed_tasks(SCOPE, fleet=False, width=14),
        shared.runs(SCOPE, "{{task_name}}", most=10, width=10, height=8),
    ):
        made = made.with_panel(panel)
    return made.with_row(
        row(
            "Finished tasks, durations, capacity, and memory",
            shared.finished(SCOPE, SCOPE),
            _capacity(),
            shared.memory(SCOPE, "Memory, beside the tasks"),
            shared.durations(SCOPE, "{{task_name}} {{status}}"),
        )
    )


def _finished() -> str:
    """Return the times of finished tasks; grafana/README.md shows this query too."""
    by = "dcs_instance_name, task_name, status"
    return shared.times("dcs_task_last_end_timestamp_seconds", SCOPE, by)


def _capacity() -> AnyPanel:
    return lines(
        "Capacity by the latest resize",
        "Capacity before and after the latest successful EXTEND in the look-back window.",
        [
            Query(f"max(dcs_task_extend_{which}_capacity_bytes{{{SCOPE}}})", legend)
            for which, legend in (("old", "before"), ("new", "after"))
        ],
        unit="bytes",
    )
