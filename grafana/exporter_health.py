"""The Exporter dashboard: how well the exporter reads the API."""

from __future__ import annotations

from typing import Final

import shared
from grafana_foundation_sdk.builders import dashboard
from panels import ORANGE, RED, AnyPanel, Query, base, lines, number, steps, variable

UID: Final = "dcs-tasks-exporter"
JOB: Final = 'job=~"$job"'
SCOPE: Final = f'{JOB},project=~"$project"'


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    made = base(UID, "DCS tasks: Exporter", "Requests, errors, latency, budget, freshness.")
    made = made.with_variable(
        variable("project", "Project", 'label_values(dcs_instance_info{job=~"$job"}, project)')
    )
    for part in (_now, _requests, _budget, _process):
        made = part(made)
    return made


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    panels = (
        shared.unreadable(JOB, width=4),
        shared.oldest_data(JOB, width=4),
        number(
            "Cut listings",
            "Instances with more tasks than collector.max_pages holds.",
            Query(f"sum(dcs_instance_tasks_truncated{{{JOB}}})"),
            thresholds=steps((1, ORANGE)),
            width=3,
        ),
        number(
            "Credentials expire in",
            "Of temporary credentials, the first to expire.",
            Query(f"min(dcs_credentials_expiry_timestamp_seconds{{{SCOPE}}} - time())"),
            unit="s",
            empty="not temporary",
            thresholds=steps((3600, ORANGE), (14400, "green"), base=RED),
            width=3,
        ),
        number(
            "Counts saved",
            "How long ago the counts were saved; a quiet exporter saves every five minutes.",
            Query(f"max(time() - dcs_task_exporter_state_last_save_timestamp_seconds{{{JOB}}})"),
            unit="s",
            empty="in memory only",
            thresholds=steps((900, ORANGE), (1800, RED)),
            width=3,
        ),
        number(
            "Searches that fail",
            "Projects whose instances cannot be listed: new ones are not seen.",
            Query(f"sum(1 - dcs_discovery_up{{{SCOPE}}})"),
            empty="no discovery",
            thresholds=steps((1, RED)),
        ),
        number(
            "Exporters",
            "Exporters that answer scrapes.",
            Query(f"count(dcs_task_exporter_build_info{{{JOB}}})"),
            width=3,
        ),
    )
    return _row(made, "Can the tasks be believed?", panels)


def _requests(made: dashboard.Dashboard) -> dashboard.Dashboard:
    bucket = f"dcs_api_request_duration_seconds_bucket{{{SCOPE}}}[$__rate_interval]"
    panels = (
        lines(
            "Errors by kind",
            "Requests to the cloud that failed: what reason means stands in docs/metrics.md.",
            [
                Query(
                    "sum by (project, operation, reason) "
                    f"(rate(dcs_api_errors_total{{{SCOPE}}}[$__rate_interval])) > 0",
                    "{{project}} {{operation}} {{reason}}",
                )
            ],
            unit="reqps",
            empty="no errors",
        ),
        lines(
            "Requests by status",
            "All HTTP requests to the cloud; error is one without an answer.",
            [
                Query(
                    "sum by (project, operation, code) "
                    f"(rate(dcs_api_requests_total{{{SCOPE}}}[$__rate_interval]))",
                    "{{project}} {{operation}} {{code}}",
                )
            ],
            unit="reqps",
        ),
        lines(
            "Latency of the API",
            "Half of the requests, and all but one in a hundred, took no longer.",
            [
                Query(
                    f"histogram_quantile({quantile}, sum by (le, project) (rate({bucket})))",
                    f"{{{{project}}}} {name}",
                )
                for quantile, name in ((0.5, "median"), (0.99, "99 %"))
            ],
            unit="s",
        ),
        lines(
            "Refresh of an instance",
            "How long the latest refresh of each instance took, all pages and retries.",
            [
                Query(
                    f"topk(10, dcs_instance_refresh_duration_seconds{{{JOB}}})",
                    "{{dcs_instance_name}}",
                )
            ],
            unit="s",
        ),
    )
    return _row(made, "What does the cloud answer?", panels)


def _budget(made: dashboard.Dashboard) -> dashboard.Dashboard:
    panels = (
        lines(
            "Waiting for the budget",
            "Seconds that requests waited for a slot, per second; above 1, requests queue up.",
            [
                Query(
                    "sum by (project) "
                    f"(rate(dcs_api_throttle_wait_seconds_total{{{SCOPE}}}[$__rate_interval]))",
                    "{{project}}",
                )
            ],
            unit="none",
        ),
        lines(
            "Asked again",
            "Retries of requests that may succeed later.",
            [
                Query(
                    f"sum by (project) (rate(dcs_api_retries_total{{{SCOPE}}}[$__rate_interval]))",
                    "{{project}}",
                )
            ],
            unit="reqps",
        ),
        lines(
            "Age of the data",
            "The ten instances that were read longest ago.",
            [
                Query(
                    f"topk(10, time() - dcs_instance_last_refresh_timestamp_seconds{{{JOB}}})",
                    "{{dcs_instance_name}}",
                )
            ],
            unit="s",
            thresholds=steps((900, RED)),
        ),
        lines(
            "Scrapes",
            "How long the latest scrape took, and how many joined another's refresh.",
            [
                Query(f"dcs_task_exporter_scrape_duration_seconds{{{JOB}}}", "{{instance}} took"),
                Query(
                    "sum by (instance) (rate("
                    f"dcs_task_exporter_scrapes_coalesced_total{{{JOB}}}[$__rate_interval]))",
                    "{{instance}} joined per second",
                ),
            ],
            unit="s",
        ),
    )
    return _row(made, "Is the budget enough?", panels)


def _process(made: dashboard.Dashboard) -> dashboard.Dashboard:
    panels = (
        lines(
            "Memory",
            "Resident memory of the exporter; it should stay flat.",
            [Query(f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}")],
            unit="bytes",
        ),
        lines(
            "CPU",
            "Processor seconds per second of the exporter.",
            [
                Query(
                    "sum by (instance) "
                    f"(rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            unit="percentunit",
        ),
        lines(
            "Problems with the state file",
            "Times that it could not be used or saved to.",
            [
                Query(
                    "sum by (instance) (increase("
                    f"dcs_task_exporter_state_errors_total{{{JOB}}}[$__rate_interval]))",
                    "{{instance}}",
                )
            ],
            empty="counts are in memory only",
        ),
        lines(
            "Configuration",
            "1 when the latest configuration could be loaded.",
            [Query(f"dcs_task_exporter_config_last_reload_successful{{{JOB}}}", "{{instance}}")],
        ),
    )
    return _row(made, "The process itself", panels)


def _row(
    made: dashboard.Dashboard, title: str, panels: tuple[AnyPanel, ...]
) -> dashboard.Dashboard:
    made = made.with_row(dashboard.Row(title))
    for panel in panels:
        made = made.with_panel(panel)
    return made
