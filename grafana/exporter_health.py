"""The Exporter dashboard, which says whether you can trust the data."""

from __future__ import annotations

from typing import Final

import shared
from grafana_foundation_sdk.builders import dashboard, stat
from grafana_foundation_sdk.builders import table as table_panel
from panels import (
    BLUE,
    EXPORTER,
    FLEET,
    GREEN,
    ID,
    MOST_ROWS,
    NAME,
    ORANGE,
    RED,
    STORY,
    AnyPanel,
    Column,
    Query,
    ago,
    at_end,
    at_most,
    base,
    labeled,
    lines,
    link,
    number,
    row,
    steps,
    table,
)
from shared import JOB, TARGETS, WHOLE

SCOPE: Final = f'{JOB},project=~"$project"'
OURS: Final = f"and on (job, instance) dcs_task_exporter_build_info{{{JOB}}}"
EXPORTER_COLUMN: Final = Column("instance", "Exporter")


def build() -> dashboard.Dashboard:
    """Return the dashboard."""
    made = base(EXPORTER, "DCS tasks: Exporter", "Can I trust the data?")
    for panel in (*_first_row(), *_second_row(), _doubtful(), _targets(), _errors()):
        made = made.with_panel(panel)
    return (
        made.with_row(row("What does the cloud answer?", *_answers()))
        .with_row(row("Is the rate limit high enough?", *_rate_limit()))
        .with_row(row("The process itself", *_process()))
    )


def or_none(expression: str) -> str:
    """Return `expression`, or -1 if it is empty although an exporter answers."""
    return f"{expression} or 0 * count(dcs_task_exporter_build_info{{{JOB}}}) - 1"


def _first_row() -> tuple[stat.Panel, ...]:
    """Return the panels about the reading of instances."""
    searching = (
        f"count(min by (project) (dcs_discovery_up{{{SCOPE}}}) == 0 or "
        f"sum by (project) (dcs_project_instances_watched{{{SCOPE}}}) == 0)"
    )
    return (
        shared.scrape_targets(),
        shared.unreadable(SCOPE),
        shared.oldest_data(SCOPE),
        number(
            "Projects that find nothing",
            "Projects whose instances cannot be listed, and projects without a watched instance. "
            "Their tasks may fail unseen.",
            Query(f"{searching} or 0 * count(dcs_project_instances_watched{{{SCOPE}}})"),
            thresholds=steps((1, RED)),
            drill_down=link("Why", EXPORTER, panel="Errors by kind"),
        ),
        number(
            "Cut listings",
            "Instances whose listing has more pages than collector.max_pages.",
            Query(f"sum(max by (dcs_instance_id) (dcs_instance_tasks_truncated{{{SCOPE}}}))"),
            thresholds=steps((1, ORANGE)),
            drill_down=link("Which", EXPORTER, panel="Instances in doubt"),
        ),
        number(
            "Clock in doubt",
            "Projects for which an exporter does not trust its own clock.",
            Query(f"sum(max by (project) (dcs_clock_in_doubt{{{SCOPE}}}))"),
            thresholds=steps((1, RED)),
            drill_down=link("Whose", EXPORTER, panel="Scrape targets, each"),
        ),
    )


def _second_row() -> tuple[stat.Panel, ...]:
    """Return the panels about the files and credentials of the exporters."""
    errors = f"dcs_task_exporter_state_errors_total{{{JOB}}}"
    failed = f"round(sum(increase({errors}[$__range])))"
    expires = f"dcs_credentials_expiry_timestamp_seconds{{{SCOPE}}}"
    own = link("Which exporter", EXPORTER, panel="Scrape targets, each")
    in_memory = {"-1": ("in memory only", BLUE)}
    return (
        number(
            "Configuration",
            "Whether every exporter has loaded its latest configuration.",
            Query(f"min(dcs_task_exporter_config_last_reload_successful{{{JOB}}})"),
            thresholds=steps((1, GREEN), base=RED),
            texts={"0": ("refused", RED), "1": ("loaded", GREEN)},
            width=6,
            height=3,
            drill_down=own,
        ),
        number(
            "Counts saved",
            "Time since the counts were last saved. A quiet exporter saves every five minutes.",
            Query(
                or_none(
                    f"max(time() - dcs_task_exporter_state_last_save_timestamp_seconds{{{JOB}}})"
                )
            ),
            unit="s",
            thresholds=steps((900, ORANGE), (1800, RED)),
            texts=in_memory,
            width=6,
            height=3,
            drill_down=own,
        ),
        number(
            "Problems with the state file",
            "How often the state file could not be used or saved in the time range.",
            Query(or_none(f"({failed} > 0 or {failed} and on () count({errors}))")),
            thresholds=steps((1, RED)),
            texts=in_memory,
            width=6,
            height=3,
            drill_down=own,
        ),
        number(
            "Credentials expire in",
            "Time until the first temporary credentials expire.",
            Query(or_none(f"clamp_min(min({expires} - time()), 0)")),
            unit="s",
            thresholds=steps((3600, ORANGE), (14400, GREEN), base=RED),
            texts={"0": ("expired", RED), "-1": ("not temporary", BLUE)},
            width=6,
            height=3,
            drill_down=link("What is refused", EXPORTER, panel="Errors by kind"),
        ),
    )


def _doubtful() -> table_panel.Panel:
    by = f"{WHOLE}, instance"
    cut = f"max by ({by}) (dcs_instance_tasks_truncated{{{SCOPE}}}) > 0"
    down = f"max by ({by}) (dcs_instance_up{{{SCOPE}}}) == 0"
    read = f"max by ({by}) (dcs_instance_last_refresh_timestamp_seconds{{{SCOPE}}})"
    problems = (("cannot be read", down), ("listing cut", cut))
    expression = " or ".join(
        labeled(f"{read} and on ({by}) {which} or 0 * ({which})", "problem", text)
        for text, which in problems
    )
    gone = f"{shared.last_read(SCOPE)} unless on (dcs_instance_id) dcs_instance_up{{{SCOPE}}}"
    lost = labeled(gone, "problem", "its exporter is down")
    problem = Column(
        "problem",
        "Problem",
        165,
        colors={"cannot be read|its exporter is down": RED, "listing cut": ORANGE},
    )
    return table(
        "Instances in doubt",
        "Instances whose data is missing or incomplete, one row per exporter. The "
        f"{MOST_ROWS} that were read longest ago.",
        f"1000 * bottomk({MOST_ROWS}, {expression} or {lost})",
        (ago("Last read", "never"), NAME, problem, EXPORTER_COLUMN, ID),
        drill_down=STORY,
        sort={"Last read": False},
        width=11,
        height=9,
    )


def _targets() -> table_panel.Panel:
    answers = Column("answers", "Answers", 90, colors={"yes": GREEN, "no": RED})
    clock = f"max by (job, instance) (dcs_clock_in_doubt{{{SCOPE}}}) > 0"
    refused = f"dcs_task_exporter_config_last_reload_successful{{{JOB}}} == 0"
    notes = Column("note", "Note")
    down, alive = f"({TARGETS}) == 0", f"({TARGETS}) == 1"
    of_target = "on (job, instance)"
    marked = " or ".join(
        labeled(f"{alive} and {of_target} ({which})", "note", note)
        for note, which in (("clock in doubt", clock), ("configuration refused", refused))
    )
    answering = labeled(f"{marked} or {of_target} ({alive})", "answers", "yes")
    expression = f"{labeled(down, 'answers', 'no')} or {answering}"
    return table(
        "Scrape targets, each",
        f"Exporters and probes; those that do not answer come first. At most {MOST_ROWS}.",
        f"bottomk({MOST_ROWS}, {expression})",
        (Column("instance", "Target"), answers, notes, Column("job", "Job", 120)),
        drill_down=link("All tasks", FLEET),
        sort={"Answers": False},
        width=6,
        height=9,
    )


def _errors() -> AnyPanel:
    return lines(
        "Errors by kind",
        "Failed requests to the cloud. docs/metrics.md explains the reasons.",
        [_rate("dcs_api_errors_total", "project, operation, reason", " > 0")],
        unit="reqps",
        width=7,
    )


def _rate(counter: str, by: str, only: str = "") -> Query:
    """Return the rate of a counter by these labels, for the series that rose most."""
    series = f"{counter}{{{SCOPE}}}"
    rate = f"sum by ({by}) (rate({series}[$__rate_interval])){only}"
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Query(at_most(by, rate, f"increase({series}[$__range] @ end())"), legend)


def _answers() -> tuple[AnyPanel, ...]:
    bucket = f"dcs_api_request_duration_seconds_bucket{{{SCOPE}}}[$__rate_interval]"
    asked = f"increase(dcs_api_requests_total{{{SCOPE}}}[$__range] @ end())"
    refreshed = f"dcs_instance_refresh_duration_seconds{{{SCOPE}}}"
    instance = "dcs_instance_id, dcs_instance_name"
    return (
        lines(
            "Requests by status",
            "All HTTP requests to the cloud, by all exporters; error means no answer.",
            [_rate("dcs_api_requests_total", "project, operation, code")],
            unit="reqps",
        ),
        lines(
            "Latency of the API",
            "The median and the 99th percentile, for the ten projects with the most requests.",
            [
                Query(
                    at_most(
                        "project",
                        f"histogram_quantile({quantile}, sum by (le, project) (rate({bucket})))",
                        asked,
                        10,
                    ),
                    f"{{{{project}}}} {name}",
                )
                for quantile, name in ((0.5, "median"), (0.99, "99 %"))
            ],
            unit="s",
        ),
        lines(
            "Refresh of an instance",
            "Duration of the latest refresh with all pages and retries, for the slowest instances.",
            [
                Query(
                    at_most(
                        instance,
                        f"max by ({instance}) ({refreshed})",
                        at_end(refreshed),
                    ),
                    "{{dcs_instance_name}}",
                )
            ],
            unit="s",
        ),
    )


def _rate_limit() -> tuple[AnyPanel, ...]:
    took = f"dcs_task_exporter_scrape_duration_seconds{{{JOB}}}"
    slowest = at_end(took)
    joined = f"dcs_task_exporter_scrapes_coalesced_total{{{JOB}}}"
    by = "job, instance"
    return (
        lines(
            "Waiting for the rate limit",
            "Seconds of waiting for the rate limit, per second. Above 1, requests queue up.",
            [_rate("dcs_api_throttle_wait_seconds_total", "project")],
            unit="none",
        ),
        lines(
            "Retries",
            "Requests that were sent again after an error.",
            [_rate("dcs_api_retries_total", "project")],
            unit="reqps",
        ),
        shared.age(SCOPE),
        lines(
            "Scrapes",
            "Duration of the latest scrape, and scrapes that joined a running refresh.",
            [
                Query(at_most(by, f"max by ({by}) ({took})", slowest, 10), "{{instance}} took"),
                Query(
                    at_most(by, f"sum by ({by}) (rate({joined}[$__rate_interval]))", slowest, 10),
                    "{{instance}} joined per second",
                ),
            ],
            unit="s",
            right_unit="reqps",
        ),
    )


def _process() -> tuple[AnyPanel, ...]:
    memory, cpu = f"process_resident_memory_bytes{{{JOB}}}", f"process_cpu_seconds_total{{{JOB}}}"
    by = "job, instance"
    largest = f"{at_end(memory)} {OURS}"
    return (
        lines(
            "Memory",
            "Resident memory of the exporters. It should stay flat.",
            [Query(at_most(by, f"max by ({by}) ({memory} {OURS})", largest), "{{instance}}")],
            unit="bytes",
        ),
        lines(
            "CPU",
            "Processor time that the exporters use, in seconds per second.",
            [
                Query(
                    at_most(
                        by,
                        f"sum by ({by}) (rate({cpu}[$__rate_interval]) {OURS})",
                        largest,
                    ),
                    "{{instance}}",
                )
            ],
            unit="percentunit",
        ),
    )
