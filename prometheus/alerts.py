"""Writes dcs-tasks-alerts.yml: run it after each change here (`make alerts`).

Set the two addresses below to your own. Then look at the table of tasks: it alone says which failed
task is critical, which task changes who can reach an instance, and how long a task may take.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Final

GRAFANA: Final = "https://grafana.example.com"
RUNBOOKS: Final = "https://runbooks.example.com"

HOUR: Final = 3600
STALE_AFTER: Final = 900
"""Seconds after which data are older than they should be; above `task_center.full_pass_interval`."""

FAILURE_WORDS: Final = "FAILED|FAIL|ERROR"
"""Statuses that mean failure; add the words of `status_words.failure`, if you have any."""

KNOWN_WORDS: Final = (
    f"SUCCESS|{FAILURE_WORDS}|CANCELLED|CANCELED|DELETED|CREATED|WAITING|EXECUTING|RUNNING|INIT"
)
"""Statuses that the exporter knows; add all the words of `status_words`."""


@dataclass(frozen=True)
class Task:
    """What is at stake with the tasks of a name, which is a regular expression."""

    name: str
    failed: str = "critical"
    access: bool = False
    limit: int = 2 * HOUR


TASKS: Final = (
    Task("EXTEND", limit=4 * HOUR),
    Task("AddReplica"),
    Task("DelReplica"),
    Task("masterStandbySwapJob", limit=600),
    Task("modify", failed="warning", access=True, limit=900),
    Task("UpdatePort", failed="warning", access=True, limit=900),
    Task("RemoveIpFromDns", failed="warning", access=True),
    Task("BindEip", failed="warning", access=True),
    Task("UnBindEip", failed="warning", access=True),
    Task("AddWhitelist", failed="warning", access=True),
    Task(".+Whitelist", failed="warning", access=True),
    Task(".+Acl", failed="warning", access=True),
)
"""A name that is not here: its failure is critical, and it may take two hours."""


@dataclass(frozen=True)
class Alert:
    """One rule; `about` says which dashboard and which labels its description uses."""

    name: str
    severity: str
    expr: str
    summary: str
    description: str
    wait: str = ""
    keep: str = ""
    dashboard: str = "dcs-tasks-exporter"


INSTANCE: Final = "dcs-tasks-instance?var-dcs_instance={{ $labels.dcs_instance_id }}"
OWNER: Final = (
    "{{ $labels.dcs_instance_name }} ({{ $labels.dcs_instance_id }}, project {{ $labels.project }})"
)


def names(*, failed: str = "", access: bool = False, limit: int = 0) -> str:
    """Return the names of the table's tasks for which all of this holds."""
    return "|".join(
        task.name
        for task in TASKS
        if failed in ("", task.failed) and (task.access or not access) and limit in (0, task.limit)
    )


def latest(series: str) -> str:
    """Return a gauge as the replicas of an exporter show it, also while one of them restarts."""
    return f"max without (instance, pod) (last_over_time({series}[5m]))"


def rise(series: str, period: str, over: str = "") -> str:
    """Return how much a counter rose: of each exporter, then its sum, then once for all replicas."""
    increase = f"increase({series}[{period}])"
    summed = f"sum without ({over}) ({increase})" if over else increase
    return f"max without (instance, pod) ({summed})"


def times(series: str, period: str, number: int) -> str:
    """Return a condition: a counter rose this often, summed over statuses.

    increase() alone reckons with what lies beyond its samples: one rise between the first two
    samples of a series can read as two. The largest value less the smallest cannot, but it takes
    a restart for a rise.
    """
    seen = f"max_over_time({series}[{period}]) - min_over_time({series}[{period}])"
    return (
        f"{rise(series, period, 'status')} > {number - 0.5}\n"
        "and\n"
        f"max without (instance, pod) (sum without (status) ({seen})) >= {number}"
    )


def failed_task(severity: str) -> Alert:
    """Return the alert on failed tasks of the names whose failure has this severity."""
    matcher = f'task_name{"=~" if severity == "warning" else "!~"}"{names(failed="warning")}"'
    series = f"dcs_task_last_failure_timestamp_seconds{{{matcher}}}"
    shown = f"max without (instance, pod) ({series})"
    return Alert(
        "DCSTaskFailed",
        severity,
        # The counter tells a new failure from what had failed before the exporter came. ALERTS
        # keeps the alert where an exporter without a state file restarts, and counts from 0.
        # An instance that was renamed has its new name alone, and one success for both names.
        f"""
        (
          {shown}
          or
          max without (instance, pod) (last_over_time({series}[1h]))
          unless on (project, dcs_instance_id, task_name)
          {shown}
        ) > time() - 7 * 86400
        unless on (project, dcs_instance_id, task_name)
        max by (project, dcs_instance_id, task_name) (last_over_time(dcs_task_last_success_timestamp_seconds[1h]))
        >= max by (project, dcs_instance_id, task_name) (last_over_time({series}[1h]))
        and on (dcs_instance_id, task_name) (
          max_over_time(dcs_tasks_finished_total{{status=~"{FAILURE_WORDS}"}}[1h]) > 0
          or
          last_over_time(ALERTS{{alertname="DCSTaskFailed",alertstate="firing"}}[1d])
        )
        """,
        "A background task of a DCS instance failed, and none of its kind succeeded since.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        failed {{{{ $value | humanizeTimestamp }}}}
        {{{{- with printf "dcs_task_last_failure_info{{dcs_instance_id=%q,task_name=%q}}" $labels.dcs_instance_id $labels.task_name | query -}}}}
        {{{{- with (. | first).Labels }}}}: {{{{ or .summary "what it attempted is not known" }}}}
        {{{{- if .reason }}}}, {{{{ .reason }}}}{{{{ end }}}}
        {{{{- if .error_code }}}}, error {{{{ .error_code }}}}{{{{ end }}}} (task {{{{ .task_id }}}}){{{{ end }}}}{{{{ end }}}}.
        """,
        dashboard=INSTANCE,
    )


def active_too_long() -> str:
    """Return the expression of tasks that take longer than their names may."""
    since = latest("dcs_tasks_active_oldest_start_timestamp_seconds{%s}")
    listed = "|".join(task.name for task in TASKS if task.limit != 2 * HOUR)
    limits = [
        (f'task_name=~"{names(limit=limit)}"', limit)
        for limit in sorted({task.limit for task in TASKS} - {2 * HOUR})
    ]
    limits.append((f'task_name!~"{listed}"', 2 * HOUR))
    parts = [f"time() - {since % matcher} > {limit}" for matcher, limit in limits]
    return "(\n" + "\nor\n".join(parts) + f"\n)\nand {latest('dcs_tasks_active')} > 0"


SWAPS: Final = 'dcs_tasks_finished_total{task_name="masterStandbySwapJob",status="SUCCESS"}'
EXPORTERS: Final = 'up{job=~"dcs-tasks|dcs-task-exporter"}'
PAIRED: Final = "max by (job) (dcs_task_exporter_total_shards) == 1"
WATCHED: Final = "dcs_project_instances_watched"
REASONS: Final = (
    '{{- with printf "sum by (reason) (increase(dcs_api_errors_total{project=%q}[15m])) > 0" '
    "$labels.project | query }} (errors of the API:\n"
    "        {{- range . }} {{ .Labels.reason }}{{ end }}){{ end }}"
)

TASK_ALERTS: Final = (
    failed_task("critical"),
    failed_task("warning"),
    Alert(
        "DCSTaskFailures",
        "warning",
        times(f'dcs_tasks_finished_total{{status=~"{FAILURE_WORDS}"}}', "1h", 3),
        "Background tasks of a DCS instance fail again and again.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        was seen to fail at least three times, counted within the last hour.
        """,
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSTaskActiveTooLong",
        "warning",
        active_too_long(),
        "A background task of a DCS instance has been active for too long.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        has been active for {{{{ $value | humanizeDuration }}}}.
        """,
        wait="5m",
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSMasterStandbySwap",
        "warning",
        rise(SWAPS, "15m", "status") + " > 0",
        "The master and the standby of a DCS instance were swapped.",
        f"""
        {OWNER} was seen to swap its
        master and standby, counted within the last 15 minutes
        {{{{- with printf "max(dcs_task_last_end_timestamp_seconds{{dcs_instance_id=%q,task_name=%q,status=%q}}) > 0" $labels.dcs_instance_id $labels.task_name "SUCCESS" | query }}}}; the latest swap
        ended {{{{ . | first | value | humanizeTimestamp }}}}{{{{ end }}}}. If nobody planned that, a node may have failed.
        """,
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSMasterStandbySwapsRepeat",
        "critical",
        times(SWAPS, "6h", 2),
        "The master and the standby of a DCS instance swap again and again.",
        f"""
        {OWNER} was seen to swap its
        master and standby at least twice, counted within the last six hours.
        """,
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSAccessChanged",
        "info",
        rise(f'dcs_tasks_finished_total{{task_name=~"{names(access=True)}"}}', "15m") + " > 0",
        "A task changed who can reach a DCS instance, and how, or tried to.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        was seen to end as {{{{ $labels.status }}}}, counted within the last 15 minutes
        {{{{- with printf "max(dcs_task_last_end_timestamp_seconds{{dcs_instance_id=%q,task_name=%q,status=%q}}) > 0" $labels.dcs_instance_id $labels.task_name $labels.status | query }}}}; the latest
        ended {{{{ . | first | value | humanizeTimestamp }}}}{{{{ end }}}}
        {{{{- with printf "dcs_task_last_info{{dcs_instance_id=%q,task_name=%q,status=%q}}" $labels.dcs_instance_id $labels.task_name $labels.status | query -}}}}
        {{{{- with (. | first).Labels }}}}: {{{{ or .summary "what changed is not known" }}}} (task {{{{ .task_id }}}}){{{{ end }}}}{{{{ end }}}}.
        """,
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSTaskUnknownStatus",
        "warning",
        "max without (instance, pod) (\n"
        "  sum without (task_name) "
        f'(last_over_time(dcs_tasks_recent{{status!~"{KNOWN_WORDS}"}}[5m]))\n'
        ") > 0",
        "A background task of a DCS instance has a status that the exporter does not know.",
        f"""
        {{{{ $value | printf "%.0f" }}}} task(s) of {OWNER}
        are {{{{ $labels.status }}}}, which counts as not finished
        until status_words in the exporter's configuration says what it means.
        """,
        wait="15m",
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSTaskListingTruncated",
        "warning",
        latest("dcs_instance_tasks_truncated") + " == 1",
        "A DCS instance has more background tasks than the exporter reads.",
        f"""
        The tasks of {OWNER}
        were cut by the page cap; older ones are missing.
        """,
        wait="15m",
        dashboard=INSTANCE,
    ),
)

READING_ALERTS: Final = (
    Alert(
        "DCSCredentialsRefused",
        "critical",
        """
        max without (instance, pod) (
          sum without (operation) (
            increase(dcs_api_errors_total{reason="auth"}[15m])
            or
            increase(dcs_api_errors_total{reason="forbidden",operation!~"list_instances|list_center_tasks|task_progress"}[15m])
          )
        ) > 0
        unless on (project)
        max by (project) (last_over_time(dcs_instance_up[5m])) == 1
        """,
        "The cloud refuses the exporter's key, and no instance of a project is read.",
        """
        Requests of project {{ $labels.project }} are refused ({{ $labels.reason }}); none of its
        instances is read, and whether their tasks fail is unknown.
        """,
        wait="2m",
        # Its end comes after the last of what it inhibits: an instance is read later than another.
        keep="10m",
    ),
    Alert(
        "DCSProjectUnreadable",
        "critical",
        f"""
        avg without (dcs_instance_id, dcs_instance_name) (
          {latest("dcs_instance_up")}
        ) < 0.5
        """,
        "Most DCS instances of a project cannot be read.",
        f"""
        Only {{{{ $value | humanizePercentage }}}} of the instances of project
        {{{{ $labels.project }}}} can be read; whether tasks of the others fail is unknown
        {REASONS}.
        """,
        wait="10m",
        keep="5m",
    ),
    Alert(
        "DCSInstanceUnreadable",
        "warning",
        latest("dcs_instance_up") + " == 0",
        "The background tasks of a DCS instance cannot be read.",
        f"""
        {OWNER} has not been read for
        15 minutes; whether its tasks fail is unknown. The exporter's log and status page say why.
        """,
        wait="15m",
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSDataStale",
        "warning",
        f"""
        count without (dcs_instance_id, dcs_instance_name) (
          time() - {latest("dcs_instance_last_refresh_timestamp_seconds")} > {STALE_AFTER}
          and
          {latest("dcs_instance_up")} == 1
        )
        """,
        "What is shown of the DCS instances of a project is older than it should be.",
        f"""
        The data of {{{{ $value | printf "%.0f" }}}} instance(s) of project {{{{ $labels.project }}}} are
        older than {STALE_AFTER // 60} minutes although no reading of them failed, usually because a pass
        over the instances takes too long.
        """,
        wait="5m",
    ),
    Alert(
        "DCSNoInstanceWatched",
        "critical",
        latest(WATCHED) + " == 0",
        "No DCS instance of a project is watched.",
        """
        The exporter watches no instance of project {{ $labels.project }}: the cloud lists none,
        discovery admits none, or they could not be listed. No task of the project is seen.
        """,
        wait="10m",
        keep="5m",
    ),
    Alert(
        "DCSProjectNotWatched",
        "critical",
        # An exporter that answers, and no longer shows a project, had it taken out.
        f"""
        max by (job, project) (
          max_over_time({WATCHED}[1d]) > 0
          unless on (job, instance)
          up == 1
        )
        unless on (project)
        {WATCHED}
        """,
        "No exporter that answers reads a project that was watched within the last day.",
        """
        An exporter of the job {{ $labels.job }} watched project {{ $labels.project }} within the last
        day, and is gone or does not answer; no other exporter shows the project. No task of the
        project is seen.
        """,
        wait="5m",
    ),
    Alert(
        "DCSInstancesLost",
        "critical",
        f"""
        {latest(WATCHED)}
        < 0.5 * max without (instance, pod) (max_over_time({WATCHED}[1d]))
        """,
        "Most DCS instances of a project are no longer watched.",
        """
        {{ $value | printf "%.0f" }} instance(s) of project {{ $labels.project }} are watched; within the
        last day there were more than twice as many. They were deleted, or discovery no longer finds
        them.
        """,
        wait="10m",
    ),
    Alert(
        "DCSDiscoveryFailing",
        "warning",
        latest("dcs_discovery_up") + " == 0",
        "The DCS instances of a project cannot be listed.",
        """
        The instances of project {{ $labels.project }} have not been listed for 15 minutes; no task
        of a new instance is seen.
        """,
        wait="15m",
    ),
    Alert(
        "DCSApiThrottled",
        "warning",
        """
        max without (instance, pod) (
          sum without (operation, reason) (increase(dcs_api_errors_total{reason="throttled"}[15m]))
          /
          sum without (operation, code) (increase(dcs_api_requests_total[15m]))
        ) > 0.1
        """,
        "The cloud throttles the exporter.",
        """
        {{ $value | humanizePercentage }} of the requests of project {{ $labels.project }} are
        throttled; data get older than they should.
        """,
        wait="15m",
    ),
    Alert(
        "DCSCredentialsExpireSoon",
        "warning",
        "min without (instance, pod) (dcs_credentials_expiry_timestamp_seconds) - time() < 3600",
        "The exporter's temporary credentials expire soon.",
        """
        The credentials of project {{ $labels.project }}
        {{ if lt $value 0.0 }}have expired{{ else }}expire in {{ $value | humanizeDuration }}{{ end }}.
        """,
    ),
)

EXPORTER_ALERTS: Final = (
    Alert(
        "DCSTaskExporterReloadFailed",
        "warning",
        "dcs_task_exporter_config_last_reload_successful == 0",
        "The exporter could not load its changed configuration.",
        """
        {{ $labels.instance }} goes on with its old configuration; its log lists the mistakes.
        """,
        wait="5m",
    ),
    Alert(
        "DCSTaskExporterStateNotSaved",
        "warning",
        """
        increase(dcs_task_exporter_state_errors_total[15m]) > 0
        unless
        time() - dcs_task_exporter_state_last_save_timestamp_seconds < 900
        or
        time() - dcs_task_exporter_state_last_save_timestamp_seconds > 1800
        and on (job, instance)
        sum by (job, instance) (increase(dcs_api_requests_total{operation="list_tasks",code="200"}[20m]))
        > 2 * sum by (job, instance) (increase(dcs_api_errors_total{operation="list_tasks",reason="invalid_response"}[20m]))
        """,
        "The exporter does not save its counts.",
        """
        {{ $labels.instance }} keeps its counts in memory only; a restart now would begin anew.
        """,
        wait="5m",
    ),
    Alert(
        "DCSTaskExporterDown",
        "critical",
        f"""
        {EXPORTERS} == 0
        unless on (job)
        {PAIRED}
        """,
        "The exporter of DCS background tasks does not answer.",
        """
        {{ $labels.instance }} of the job {{ $labels.job }} has not answered for five minutes. Where
        that is an exporter, nothing is known of the tasks that it reads; where it is an instance
        that Prometheus probes, nothing is known of its tasks.
        """,
        wait="5m",
    ),
    Alert(
        "DCSTaskExporterReplicaDown",
        "warning",
        f"""
        {EXPORTERS} == 0
        and on (job)
        {PAIRED}
        or
        max by (job, instance, project) (dcs_instance_up) == 0
        and on (job, instance)
        dcs_task_exporter_total_shards == 1
        and on (project)
        max by (project) (dcs_instance_up) == 1
        """,
        "One of several exporters that may read the same DCS instances does not answer, or reads none.",
        """
        {{ $labels.instance }} of the job {{ $labels.job }}
        {{ with $labels.project -}}
        reads no instance of project {{ . }}; another exporter does
        {{- else -}}
        does not answer; another exporter of the job does, and may read the same instances
        {{- end }}.
        """,
        wait="5m",
    ),
    Alert(
        "DCSTaskExporterAbsent",
        "critical",
        """
        absent(up{job="dcs-tasks"})
        or
        absent(dcs_task_exporter_build_info) and on () up{job="dcs-tasks"} == 1
        """,
        "No exporter of DCS background tasks is scraped.",
        """
        Prometheus {{ if $labels.job -}}
        has no target of the job dcs-tasks; nothing is known of any task
        {{- else -}}
        probes instances, but scrapes no exporter itself (the job dcs-task-exporter); whether
        keys are refused, or new instances found, is unknown
        {{- end }}.
        """,
        wait="10m",
    ),
)

GROUPS: Final = {
    "dcs-tasks.alerts": TASK_ALERTS,
    "dcs-tasks-reading.alerts": READING_ALERTS,
    "dcs-tasks-exporter.alerts": EXPORTER_ALERTS,
}

HEAD: Final = """\
# Alerts on the background tasks of Huawei Cloud DCS, and on the exporter that tells of them.
# Written by alerts.py: change that, and run it (`make alerts`). It needs no other rule file.
# It needs Prometheus 2.42 or later (keep_firing_for).
# The job of the exporter is expected to be named dcs-tasks; where that job probes instances
# (docs/scaling.md), the job of the exporters themselves dcs-task-exporter.
groups:
"""


def render_alert(alert: Alert) -> str:
    """Return one rule as YAML."""
    block = indent(dedent(alert.expr).strip(), " " * 10)
    text = f"      - alert: {alert.name}\n        expr: |\n{block}\n"
    if alert.wait:
        text += f"        for: {alert.wait}\n"
    if alert.keep:
        text += f"        keep_firing_for: {alert.keep}\n"
    description = indent(dedent(alert.description).strip(), " " * 12)
    return text + (
        f"        labels: {{severity: {alert.severity}}}\n"
        "        annotations:\n"
        f"          summary: {alert.summary}\n"
        f"          description: >-\n{description}\n"
        f"          runbook_url: {RUNBOOKS}/{alert.name}.md\n"
        f"          dashboard_url: {GRAFANA}/d/{alert.dashboard}\n"
    )


def render() -> str:
    """Return the rule file."""
    groups = [
        f"  - name: {name}\n    rules:\n" + "\n".join(map(render_alert, alerts))
        for name, alerts in GROUPS.items()
    ]
    return HEAD + "\n".join(groups)


if __name__ == "__main__":
    (Path(__file__).parent / "dcs-tasks-alerts.yml").write_text(render())
