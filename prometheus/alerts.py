"""Write dcs-tasks-alerts.yml; run `make alerts` after each change here.

Set the two addresses below to your own. Then adapt the table of tasks: it decides which failed tasks
are critical, which tasks change the access to an instance, and how long each task may take.
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
"""Seconds after which data is stale; keep it above `task_center.full_pass_interval`."""

FAILURE_WORDS: Final = "FAILED|FAIL|ERROR"
"""Statuses that mean failure; add those of your `status_words.failure`, if any."""

KNOWN_WORDS: Final = (
    f"SUCCESS|{FAILURE_WORDS}|CANCELLED|CANCELED|DELETED|CREATED|WAITING|EXECUTING|RUNNING|INIT"
)
"""Statuses that the exporter knows; add all those of your `status_words`."""

RENEWALS: Final = 'operation=~"create_token|assume_agency.*|metadata_.*|pod_identity"'
"""The operations by which the exporter renews credentials."""


@dataclass(frozen=True)
class Task:
    """How to treat the tasks of one name.

    `name` is a regular expression, `failed` the severity of a failure, `access` whether the task
    changes the access to an instance, `limit` how many seconds it may take.
    """

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
"""The failure of a task that is not listed here is critical, and it may take two hours."""


@dataclass(frozen=True)
class Alert:
    """One alerting rule; `wait` is its `for`, `keep` its `keep_firing_for`."""

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
    """Return a regular expression of the names of all tasks that match every given criterion."""
    return "|".join(
        task.name
        for task in TASKS
        if failed in ("", task.failed) and (task.access or not access) and limit in (0, task.limit)
    )


def latest(series: str) -> str:
    """Return the maximum of a gauge over replicas; a restart of up to 5 minutes leaves no gap."""
    return f"max without (instance, pod) (last_over_time({series}[5m]))"


def rise(series: str, period: str, over: str = "") -> str:
    """Return the increase of a counter: per exporter, summed `over` labels, then the replicas' maximum."""
    increase = f"increase({series}[{period}])"
    summed = f"sum without ({over}) ({increase})" if over else increase
    return f"max without (instance, pod) ({summed})"


def times(series: str, period: str, number: int) -> str:
    """Return the condition that a counter, summed over statuses, rose by at least `number`.

    `increase()` extrapolates: a single rise between the first two samples of a series can read as
    two. The difference between largest and smallest value does not extrapolate, but takes a
    restart for a rise. So both must hold.
    """
    seen = f"max_over_time({series}[{period}]) - min_over_time({series}[{period}])"
    return (
        f"{rise(series, period, 'status')} > {number - 0.5}\n"
        "and\n"
        f"max without (instance, pod) (sum without (status) ({seen})) >= {number}"
    )


def failed_task(severity: str) -> Alert:
    """Return the alert on failed tasks, for the task names whose failure has this severity."""
    matcher = f'task_name{"=~" if severity == "warning" else "!~"}"{names(failed="warning")}"'
    series = f"dcs_task_last_failure_timestamp_seconds{{{matcher}}}"
    shown = f"max without (instance, pod) ({series})"
    return Alert(
        "DCSTaskFailed",
        severity,
        # The counter tells a new failure from one before the exporter first read the instance.
        # ALERTS keeps the alert firing while an exporter without a state file restarts from 0.
        # After a rename, only the new name alerts, and a success under either name counts.
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
        "A background task of a DCS instance failed, and no task of its name has succeeded since.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        failed {{{{ $value | humanizeTimestamp }}}}
        {{{{- with printf "dcs_task_last_failure_info{{dcs_instance_id=%q,task_name=%q}}" $labels.dcs_instance_id $labels.task_name | query -}}}}
        {{{{- with (. | first).Labels }}}}: {{{{ or .summary "details unknown" }}}}
        {{{{- if .reason }}}}, {{{{ .reason }}}}{{{{ end }}}}
        {{{{- if .error_code }}}}, error {{{{ .error_code }}}}{{{{ end }}}} (task {{{{ .task_id }}}}){{{{ end }}}}{{{{ end }}}}.
        """,
        dashboard=INSTANCE,
    )


def active_too_long() -> str:
    """Return the expression for tasks that exceed the time limit of their name."""
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
    "$labels.project | query }} (API errors:\n"
    "        {{- range . }} {{ .Labels.reason }}{{ end }}){{ end }}"
)

TASK_ALERTS: Final = (
    failed_task("critical"),
    failed_task("warning"),
    Alert(
        "DCSTaskFailures",
        "warning",
        times(f'dcs_tasks_finished_total{{status=~"{FAILURE_WORDS}"}}', "1h", 3),
        "Background tasks of a DCS instance fail repeatedly.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        failed at least three times, counted within the last hour.
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
        {OWNER} swapped its master and
        standby, counted within the last 15 minutes
        {{{{- with printf "max(dcs_task_last_end_timestamp_seconds{{dcs_instance_id=%q,task_name=%q,status=%q}}) > 0" $labels.dcs_instance_id $labels.task_name "SUCCESS" | query }}}}; the latest swap
        ended {{{{ . | first | value | humanizeTimestamp }}}}{{{{ end }}}}. If nobody planned this, a node may have failed.
        """,
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSMasterStandbySwapsRepeat",
        "critical",
        times(SWAPS, "6h", 2),
        "The master and the standby of a DCS instance swap repeatedly.",
        f"""
        {OWNER} swapped its master and
        standby at least twice, counted within the last six hours.
        """,
        dashboard=INSTANCE,
    ),
    Alert(
        "DCSAccessChanged",
        "info",
        rise(f'dcs_tasks_finished_total{{task_name=~"{names(access=True)}"}}', "15m") + " > 0",
        "A task changed, or tried to change, the access to a DCS instance.",
        f"""
        {{{{ $labels.task_name }}}} of {OWNER}
        ended as {{{{ $labels.status }}}}, counted within the last 15 minutes
        {{{{- with printf "max(dcs_task_last_end_timestamp_seconds{{dcs_instance_id=%q,task_name=%q,status=%q}}) > 0" $labels.dcs_instance_id $labels.task_name $labels.status | query }}}}; the latest one
        ended {{{{ . | first | value | humanizeTimestamp }}}}{{{{ end }}}}
        {{{{- with printf "dcs_task_last_info{{dcs_instance_id=%q,task_name=%q,status=%q}}" $labels.dcs_instance_id $labels.task_name $labels.status | query -}}}}
        {{{{- with (. | first).Labels }}}}: {{{{ or .summary "details unknown" }}}} (task {{{{ .task_id }}}}){{{{ end }}}}{{{{ end }}}}.
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
        have the status {{{{ $labels.status }}}}. The exporter treats them as not finished until
        status_words in its configuration says what the status means.
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
        The listing of {OWNER}
        has more pages than collector.max_pages; older tasks are missing.
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
        "The cloud refuses the exporter's key, and no instance of a project can be read.",
        """
        The cloud refuses the requests of project {{ $labels.project }} ({{ $labels.reason }}). None of
        its instances can be read, so failed tasks go unseen.
        """,
        wait="2m",
        # It must end after every alert that it inhibits: some instances are read later than others.
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
        {{{{ $labels.project }}}} can be read; failed tasks of the others go unseen
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
        15 minutes; failed tasks go unseen. The exporter's log and status page show the error.
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
        "The data of DCS instances of a project is older than it should be.",
        f"""
        The data of {{{{ $value | printf "%.0f" }}}} instance(s) of project {{{{ $labels.project }}}} is
        older than {STALE_AFTER // 60} minutes although no attempt to read them failed. Usually a pass over
        the instances takes too long.
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
        discovery excludes all, or they cannot be listed. Tasks of the project go unseen.
        """,
        wait="10m",
        keep="5m",
    ),
    Alert(
        "DCSProjectNotWatched",
        "critical",
        # If an exporter answers but no longer shows the project, it was removed on purpose.
        f"""
        max by (job, project) (
          max_over_time({WATCHED}[1d]) > 0
          unless on (job, instance)
          up == 1
        )
        unless on (project)
        {WATCHED}
        """,
        "A project that was watched within the last day is no longer read by any exporter.",
        """
        An exporter of the job {{ $labels.job }} watched project {{ $labels.project }} within the last
        day. It is gone or does not answer, and no other exporter shows the project. Tasks of the
        project go unseen.
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
        {{ $value | printf "%.0f" }} instance(s) of project {{ $labels.project }} are watched. Within the
        last day there were more than twice as many. The others were deleted, or discovery no longer
        finds them.
        """,
        wait="10m",
    ),
    Alert(
        "DCSDiscoveryFailing",
        "warning",
        latest("dcs_discovery_up") + " == 0",
        "The DCS instances of a project cannot be listed.",
        """
        The instances of project {{ $labels.project }} have not been listed for 15 minutes. Tasks of
        new instances go unseen.
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
        throttled. The data gets older than it should.
        """,
        wait="15m",
    ),
    Alert(
        "DCSCredentialsExpireSoon",
        "warning",
        f"""
        min without (instance, pod) (
          (
            dcs_credentials_expiry_timestamp_seconds - time() < 3600
            unless ignoring (operation, code) dcs_api_requests_total{{{RENEWALS}}}
          )
          or (
            dcs_credentials_expiry_timestamp_seconds - time() < 3600
            and ignoring (operation, reason)
            sum without (operation, reason) (increase(dcs_api_errors_total{{{RENEWALS}}}[15m])) > 0
          )
        )
        """,
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
        """
        dcs_task_exporter_config_last_reload_successful == 0
        or
        dcs_task_exporter_web_config_last_reload_successful == 0
        """,
        "The exporter could not load its changed configuration.",
        """
        {{ $labels.instance }} continues with its old configuration. Its log lists the mistakes.
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
        {{ $labels.instance }} keeps its counts in memory only. After a restart they would start at 0.
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
        {{ $labels.instance }} of the job {{ $labels.job }} has not answered for five minutes. Tasks
        go unseen: those of all its instances if it is an exporter, its own if it is an instance
        that Prometheus probes.
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
        "One of several exporters that may read the same DCS instances does not answer or reads nothing.",
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
        has no target in the job dcs-tasks; all tasks go unseen
        {{- else -}}
        probes instances but does not scrape the exporters themselves (job dcs-task-exporter);
        refused keys and failing discovery go unseen
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
# Alerts on the background tasks of Huawei Cloud DCS, and on the exporter itself.
# Generated: do not edit. Change alerts.py and run `make alerts`. No other rule file is needed.
# Requires Prometheus 2.42 or later (keep_firing_for).
# The exporter's job must be named dcs-tasks. If that job probes instances (docs/scaling.md), the
# job that scrapes the exporters themselves must be named dcs-task-exporter.
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
