"""Panels that several dashboards share; each dashboard passes its own label matchers.

Several exporters may show the same instance, so every query takes the maximum over exporters before
it sums. A query returns 0 only if an instance was read; otherwise it has no value, which the
dashboards show as "unknown".
"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders import statetimeline as state_timeline
from grafana_foundation_sdk.builders import table as table_panel
from grafana_foundation_sdk.builders import timeseries as time_series
from panels import (
    BLUE,
    ELSEWHERE,
    ERROR,
    EXPORTER,
    FAILED,
    GREEN,
    ID,
    MOST_ROWS,
    NAME,
    ORANGE,
    RED,
    STATUS,
    STORY,
    SUMMARY,
    TASK,
    TASK_ID,
    WHO,
    Column,
    Query,
    ago,
    at_end,
    at_most,
    labeled,
    lines,
    link,
    moment,
    number,
    steps,
    table,
    timeline,
)

JOB: Final = 'job=~"$job"'
OLD: Final = steps((300, ORANGE), (900, RED))
"""Seconds after which data is old: five scrapes, and the limit of the alert DCSDataStale."""

BARS: Final = 60
"""Most bars in a graph, so that each is at least 8 pixels wide."""

WHOLE: Final = "project, dcs_instance_id, dcs_instance_name"
TASK_OF: Final = "dcs_instance_id, task_name"
TARGETS: Final = (
    f"up{{{JOB}}} and on (job, instance) ("
    f"group by (job, instance) (last_over_time(dcs_task_exporter_build_info{{{JOB}}}[7d])) or "
    f"group by (job, instance) (last_over_time(dcs_instance_up{{{JOB}}}[$__range])))"
)
"""`up` of the exporters and the probed instances."""


def scrape_targets() -> stat.Panel:
    """Return the panel that says whether exporters answer; it comes first on every board."""
    return number(
        "Scrape targets",
        "Exporters and probes that Prometheus scrapes, and those that do not answer. If none "
        "answers, nothing on this board is current.",
        Query(f"sum({TARGETS}) or vector(0)", "answer"),
        Query(f"count(({TARGETS}) == 0) or vector(0)", "down"),
        thresholds=steps((1, GREEN), base=RED),
        second=steps((1, RED)),
        drill_down=link("Which", EXPORTER, panel="Scrape targets, each"),
    )


def unread(scope: str) -> str:
    """Return a 0 for each instance that no exporter can read, or whose exporter is down."""
    lost = (
        f"last_over_time(dcs_instance_up{{{scope}}}[$__range]) "
        f"and on (job, instance) (up{{{JOB}}} == 0)"
    )
    return (
        f"(max by ({WHOLE}) (dcs_instance_up{{{scope}}}) == 0 or 0 * max by ({WHOLE}) ({lost}) "
        f"unless on (dcs_instance_id) dcs_instance_up{{{scope}}})"
    )


def last_read(scope: str) -> str:
    """Return when each instance was last read, including instances whose exporter is down."""
    read = f"last_over_time(dcs_instance_last_refresh_timestamp_seconds{{{scope}}}[$__range])"
    known = f"(dcs_instance_up{{{scope}}} or on (dcs_instance_id) {unread(scope)})"
    return (
        f"topk by (dcs_instance_id) (1, max by ({WHOLE}) ({read})) and on (dcs_instance_id) {known}"
    )


def or_zero(expression: str, scope: str) -> str:
    """Return `expression`, or 0 if it is empty and some instance was read."""
    return f"{expression} or 0 * count(dcs_instance_tasks_listed{{{scope}}})"


def unreadable(scope: str, width: int = 4) -> stat.Panel:
    """Return how many instances are watched, and how many of them cannot be read."""
    return number(
        "Instances",
        "Instances that are watched, and those that no exporter can read: their tasks may fail "
        "unseen.",
        Query(
            f"count(count by (dcs_instance_id) (dcs_instance_up{{{scope}}})) or vector(0)",
            "watched",
        ),
        Query(
            f"count(count by (dcs_instance_id) ({unread(scope)})) or "
            f"0 * count(dcs_instance_up{{{scope}}})",
            "cannot be read",
        ),
        thresholds=steps((1, BLUE), base=RED),
        second=steps((1, RED)),
        width=width,
        drill_down=link("Which, and why", EXPORTER, panel="Instances in doubt"),
    )


def oldest_data(scope: str, width: int = 4) -> stat.Panel:
    """Return the age of the oldest data."""
    return number(
        "Oldest data",
        "Age of the oldest data of any instance.",
        Query(f"max(time() - ({last_read(scope)}))"),
        unit="s",
        thresholds=OLD,
        width=width,
        drill_down=link("How it came", EXPORTER, panel="Age of the data"),
    )


def still_failed(named: str, scope: str, board: str, width: int = 4) -> stat.Panel:
    """Return how many tasks, by instance and name, failed and have not succeeded since."""
    failing = f"sum({_last('failure', named)} > bool {_last('success', named)})"
    return number(
        "Still failed",
        "Tasks, by instance and name, whose latest result is a failure, however old.",
        Query(or_zero(failing, scope)),
        thresholds=steps((1, RED)),
        width=width,
        drill_down=link("Which", board, panel="Failed tasks"),
    )


def failures(named: str, board: str, width: int = 4) -> stat.Panel:
    """Return how many tasks failed in the time range."""
    counter = f'dcs_tasks_finished_total{{{named},status=~"{FAILED}"}}'
    kinds = f"max by ({TASK_OF}, status) (increase({counter}[$__range]))"
    counted = f"round(sum({kinds}))"
    return number(
        "Failures in this time",
        "Tasks that were counted as failed in the time range.",
        Query(f"{counted} > 0 or {counted} and on () count({counter})"),
        thresholds=steps((1, RED)),
        width=width,
        drill_down=link("Which", board, panel="Failed tasks"),
    )


def active(named: str, scope: str, board: str, panel: str, width: int = 4) -> stat.Panel:
    """Return how many tasks are active."""
    running = f"sum(max by ({TASK_OF}) (dcs_tasks_active{{{named}}}))"
    return number(
        "Active now",
        "Tasks that have not ended yet.",
        Query(or_zero(running, scope)),
        width=width,
        drill_down=link("Which", board, panel=panel),
    )


def times(metric: str, scope: str, by: str) -> str:
    """Return the times (milliseconds) that the series of `metric` hold, for marks on the graphs."""
    series = f"{metric}{{{scope}}}"
    return at_most(by, f"1000 * max by ({by}) ({series}) > $__from", at_end(series))


def _last(outcome: str, named: str) -> str:
    return f"max by ({TASK_OF}) (dcs_task_last_{outcome}_timestamp_seconds{{{named}}})"


def failed_tasks(named: str, *, fleet: bool, width: int, height: int = 8) -> table_panel.Panel:
    """Return the latest failed task of each instance and name, and whether one succeeded since."""
    of_exporter = f"on (job, instance, {TASK_OF})"
    dated = (
        f"1000 * topk by ({TASK_OF}) (1, dcs_task_last_failure_info{{{named}}} * {of_exporter} "
        f"group_left () dcs_task_last_failure_timestamp_seconds{{{named}}})"
    )
    still = f"on ({TASK_OF}) ({_last('failure', named)} > {_last('success', named)})"
    states = {"still failed": f"and {still}", "succeeded since": f"unless {still}"}
    expression = " or ".join(
        labeled(f"topk({MOST_ROWS}, {dated} {which})", "state", state)
        for state, which in states.items()
    )
    state = Column("state", "State", 135, colors={"still failed": RED, "succeeded since": GREEN})
    return table(
        "Failed tasks",
        "The latest failed task of each instance and name: what it tried, and whether a task of "
        f"this name has succeeded since. The latest {MOST_ROWS} of each state.",
        expression,
        (
            moment("Failed"),
            state,
            *((NAME,) if fleet else ()),
            TASK,
            SUMMARY,
            Column("reason", "Reason"),
            ERROR,
            *((ID,) if fleet else ()),
        ),
        drill_down=STORY if fleet else ELSEWHERE,
        sort={"State": False, "Failed": True},
        width=width,
        height=height,
    )


def latest_tasks(
    named: str, title: str, *, fleet: bool, width: int, height: int = 8
) -> table_panel.Panel:
    """Return the latest task of each instance and name."""
    info = f"dcs_task_last_info{{{named}}}"
    dated = (
        f"{info} * on (job, instance, {TASK_OF}, status) group_left () "
        f"dcs_task_last_start_timestamp_seconds{{{named}}}"
    )
    return table(
        title,
        "How each task ended, its error, what it changed or tried, and, with "
        f"collector.personal_labels, who started it. The latest {MOST_ROWS}.",
        f"1000 * topk({MOST_ROWS}, topk by ({TASK_OF}) (1, {dated} or 0 * {info}))",
        (
            moment("Started"),
            *((NAME,) if fleet else ()),
            TASK,
            STATUS,
            SUMMARY,
            WHO,
            ERROR,
            TASK_ID,
            *((ID,) if fleet else ()),
        ),
        drill_down=STORY if fleet else ELSEWHERE,
        sort={"Started": True},
        width=width,
        height=height,
    )


def active_tasks(named: str, *, width: int, height: int) -> table_panel.Panel:
    """Return the active tasks and their start."""
    by = f"{WHOLE}, task_name"
    since = f"max by ({by}) (dcs_tasks_active_oldest_start_timestamp_seconds{{{named}}})"
    running = f"max by ({by}) (dcs_tasks_active{{{named}}}) > 0"
    return table(
        "Active tasks",
        f"Tasks that are running, and since when. The latest {MOST_ROWS}.",
        f"1000 * topk({MOST_ROWS}, {since} and on ({by}) {running} or 0 * ({running}))",
        (ago("Since"), NAME, TASK, ID),
        drill_down=STORY,
        sort={"Since": False},
        width=width,
        height=height,
    )


def unread_instances(scope: str, *, width: int, height: int) -> table_panel.Panel:
    """Return the instances that no exporter can read, and when they were last read."""
    unread_now = unread(scope)
    read = f"{last_read(scope)} and on (dcs_instance_id) {unread_now}"
    return table(
        "Instances that cannot be read",
        f"Their data is not updated. The {MOST_ROWS} that were read longest ago.",
        f"1000 * bottomk({MOST_ROWS}, {read} or on (dcs_instance_id) {unread_now})",
        (ago("Last read", "never"), NAME, ID),
        drill_down=STORY,
        sort={"Last read": False},
        width=width,
        height=height,
    )


def counted(named: str, scope: str) -> str:
    """Return how many tasks were counted in each step, by instance, name and status.

    `increase()` over $__rate_interval would show a task in several steps, and as a fraction.
    """
    by = f"{TASK_OF}, status"
    now = f"dcs_tasks_finished_total{{{named}}} > 0"
    read = f"dcs_instance_tasks_listed{{{scope}}}"

    def grown(before: str, read_before: str) -> str:
        """Return the growth of each exporter's counts; a count that was missing was 0 if read.

        Leaving out zeros makes the query for 1,000 instances twenty times as fast.
        """
        was = f"({before} > 0)"
        return (
            f"max by ({by}) (({now}) - {was} > 0 or ({now}) unless {was} "
            f"and on (job, instance, dcs_instance_id) {read_before})"
        )

    before = f"dcs_tasks_finished_total{{{named}}} offset $__interval"
    read_before = f"{read} offset $__interval"
    # If two exporters count a task at different times, only the first one counts here.
    most, most_before = f"max by ({by}) ({now})", f"max by ({by}) ({before} > 0)"
    new = f"({most} > {most_before} or {most} unless {most_before})"
    seen = f"{grown(before, read_before)} and {new}"
    # Tasks that ended while no exporter was scraped count at the first scrape afterwards.
    missed = grown(
        f"last_over_time(dcs_tasks_finished_total{{{named}}}[15m] offset $__interval)",
        f"last_over_time({read}[15m] offset $__interval)",
    )
    return f"{seen} or {missed} unless on (dcs_instance_id) {read_before}"


def finished(named: str, scope: str, *, width: int = 12, height: int = 9) -> time_series.Panel:
    """Return the finished tasks at the time they were counted."""
    rank = f"increase(dcs_tasks_finished_total{{{named}}}[$__range] @ end())"
    each = f"sum by (task_name, status) ({counted(named, scope)})"
    return lines(
        "Finished tasks",
        "Finished tasks by name and status, each drawn once, when it was counted.",
        [Query(at_most("task_name, status", each, rank), "{{task_name}} {{status}}")],
        unit="none",
        style="bars",
        width=width,
        height=height,
    ).max_data_points(BARS)


def durations(named: str, legend: str) -> time_series.Panel:
    """Return how long tasks took."""
    by = f"{TASK_OF}, status"
    return lines(
        "How long the latest took",
        "Duration of the latest finished task by name and status, for the tasks that ended last.",
        [
            Query(
                at_most(
                    by,
                    f"max by (dcs_instance_name, {by}) (dcs_task_last_duration_seconds{{{named}}})",
                    at_end(f"dcs_task_last_end_timestamp_seconds{{{named}}}"),
                ),
                legend,
            )
        ],
        unit="s",
    )


def runs(named: str, legend: str, *, most: int, width: int, height: int) -> state_timeline.Panel:
    """Return the times at which tasks were active, a row for each instance and task name."""
    active_now = f"dcs_tasks_active{{{named}}}"
    # Take the maximum of each step, or a short task would fall between two steps.
    most_active = f"(max_over_time({active_now}[$__interval]) or {active_now})"
    running = f"max by (dcs_instance_name, {TASK_OF}) ({most_active}) > 0"
    started = at_end(f"dcs_task_last_start_timestamp_seconds{{{named}}}")
    return timeline(
        "What ran when",
        f"A bar while a task was active, to the precision of the scrapes; the {most} that "
        "started last.",
        Query(at_most(TASK_OF, running, started, most), legend),
        width=width,
        height=height,
    )


def age(scope: str) -> time_series.Panel:
    """Return the age of the oldest data over time."""
    series = f"dcs_instance_last_refresh_timestamp_seconds{{{scope}}}"
    read = f"max by (dcs_instance_id, dcs_instance_name) ({series})"
    return lines(
        "Age of the data",
        "Time since each instance was read, for those that were read longest ago.",
        [
            Query(
                at_most("dcs_instance_id", f"time() - {read}", f"-{at_end(series)}"),
                "{{dcs_instance_name}}",
            )
        ],
        unit="s",
        thresholds=steps((900, RED)),
    )


def memory(scope: str, title: str) -> time_series.Panel:
    """Return the memory of the instances that had tasks, with the tasks on a second axis."""
    named = "dcs_instance_id, dcs_instance_name"
    # A cluster's nodes and proxies share the metric of their instance, under their own labels.
    whole = 'dcs_cluster_redis_node="",dcs_cluster_proxy2_node=""'
    usage = (
        f"max by (dcs_instance_id) (huaweicloud_sys_dcs_memory_usage{{{whole}}}) "
        "* on (dcs_instance_id) group_left (dcs_instance_name) topk by (dcs_instance_id) "
        f"(1, max by ({named}) (dcs_instance_info{{{scope}}}))"
    )
    running = f"sum by ({named}) (max by ({named}, task_name) (dcs_tasks_active{{{scope}}})) > 0"
    started = at_end(f"dcs_task_last_start_timestamp_seconds{{{scope}}}")
    return lines(
        title,
        "Memory usage from Huawei's cloudeye-exporter, if it is scraped, and active tasks, for the "
        "ten instances whose tasks started last.",
        [
            Query(at_most("dcs_instance_id", usage, started, 10), "{{dcs_instance_name}} memory"),
            Query(at_most("dcs_instance_id", running, started, 10), "{{dcs_instance_name}} tasks"),
        ],
        unit="percent",
        right_unit="none",
    )
