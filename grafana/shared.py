"""Panels that several dashboards have, each for its own part of the series."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders import statetimeline as state_timeline
from grafana_foundation_sdk.builders import timeseries as time_series
from panels import FAILED, ORANGE, RED, Query, lines, number, steps, timeline

OLD: Final = steps((300, ORANGE), (900, RED))
"""When data are old: twenty scrapes of a quarter of a minute, and the limit of the alert."""


def unreadable(scope: str, width: int) -> stat.Panel:
    """Return how many instances cannot be read; nothing where no exporter is."""
    return number(
        "Instances that cannot be read",
        "Of these nothing is known: their tasks may fail unseen.",
        Query(f"sum(1 - dcs_instance_up{{{scope}}})"),
        thresholds=steps((1, RED)),
        width=width,
    )


def oldest_data(scope: str, width: int) -> stat.Panel:
    """Return the age of the oldest data."""
    return number(
        "Oldest data",
        "How long ago the instance that was read longest ago was read.",
        Query(f"max(time() - dcs_instance_last_refresh_timestamp_seconds{{{scope}}})"),
        unit="s",
        thresholds=OLD,
        width=width,
    )


def still_failed(scope: str, width: int) -> stat.Panel:
    """Return how many kinds of tasks failed and did not succeed since."""
    expression = (
        f"sum(dcs_task_last_failure_timestamp_seconds{{{scope}}} > bool "
        f"dcs_task_last_success_timestamp_seconds{{{scope}}})"
    )
    return number(
        "Failed, and not succeeded since",
        "Tasks by instance and name whose latest result is a failure, old ones included.",
        Query(expression),
        thresholds=steps((1, RED)),
        width=width,
    )


def failures(scope: str, width: int) -> stat.Panel:
    """Return how many tasks failed within the chosen time."""
    counter = f'dcs_tasks_finished_total{{{scope},status=~"{FAILED}"}}'
    return number(
        "Failures in this time",
        "Tasks that were counted as failed within the chosen time.",
        Query(f"sum(increase({counter}[$__range]))"),
        thresholds=steps((0.5, RED)),
        width=width,
    )


def active(scope: str, width: int) -> stat.Panel:
    """Return how many tasks run."""
    return number(
        "Active now",
        "Tasks that have not ended yet.",
        Query(f"sum(dcs_tasks_active{{{scope}}})"),
        width=width,
    )


def finished(scope: str) -> time_series.Panel:
    """Return the tasks that ended, as they were counted."""
    counter = f"dcs_tasks_finished_total{{{scope}}}"
    return lines(
        "Finished tasks",
        "Tasks as they were counted, by name and status.",
        [
            Query(
                f"sum by (task_name, status) (increase({counter}[$__rate_interval])) > 0",
                "{{task_name}} {{status}}",
            )
        ],
        style="bars",
        empty="no tasks ended",
    )


def durations(scope: str, legend: str) -> time_series.Panel:
    """Return how long tasks took."""
    return lines(
        "How long the latest took",
        "The duration of the latest finished task, by name and status.",
        [Query(f"dcs_task_last_duration_seconds{{{scope}}}", legend)],
        unit="s",
        empty="no tasks ended",
    )


def runs(scope: str, *by: str) -> state_timeline.Panel:
    """Return what ran when, a row for each value of the labels."""
    return timeline(
        "What ran when",
        "A bar from the start of a task until its end, as the scrapes saw it.",
        Query(
            f"sum by ({', '.join(by)}) (dcs_tasks_active{{{scope}}}) > 0",
            " ".join(f"{{{{{label}}}}}" for label in by),
        ),
        empty="no tasks ran",
    )
