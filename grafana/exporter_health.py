"""The Exporter dashboard: can the tasks be believed."""

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
    made = base(EXPORTER, "DCS tasks: Exporter", "Can the tasks be believed?")
    for panel in (*_first_row(), *_second_row(), _doubtful(), _targets(), _errors()):
        made = made.with_panel(panel)
    return (
        made.with_row(row("What does the cloud answer?", *_answers()))
        .with_row(row("Is the budget enough?", *_budget()))
        .with_row(row("The process itself", *_process()))
    )


def or_none(expression: str) -> str:
    """Return `expression`, or -1 where it is empty although an exporter answers."""
    return f"{expression} or 0 * count(dcs_task_exporter_build_info{{{JOB}}}) - 1"


def _first_row() -> tuple[stat.Panel, ...]:
    """Return whether the instances are read."""
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
            "Projects whose instances cannot be listed, or that have none to watch: their "
            "tasks may fail unseen.",
            Query(f"{searching} or 0 * count(dcs_project_instances_watched{{{SCOPE}}})"),
            thresholds=steps((1, RED)),
            drill_down=link("Why", EXPORTER, panel="Errors by kind"),
        ),
        number(
            "Cut listings",
            "Instances with more tasks than collector.max_pages holds.",
            Query(f"sum(max by (dcs_instance_id) (dcs_instance_tasks_truncated{{{SCOPE}}}))"),
            thresholds=steps((1, ORANGE)),
            drill_down=link("Which", EXPORTER, panel="Instances in doubt"),
        ),
        number(
            "Clock in doubt",
            "Projects for which an exporter's clock cannot be believed.",
            Query(f"sum(max by (project) (dcs_clock_in_doubt{{{SCOPE}}}))"),
            thresholds=steps((1, RED)),
            drill_down=link("Whose", EXPORTER, panel="Scrape targets, each"),
        ),
    )


def _second_row() -> tuple[stat.Panel, ...]:
    """Return what the exporter says of its own files."""
    errors = f"dcs_task_exporter_state_errors_total{{{JOB}}}"
    failed = f"round(sum(increase({errors}[$__range])))"
    expires = f"dcs_credentials_expiry_timestamp_seconds{{{SCOPE}}}"
    own = link("Which exporter", EXPORTER, panel="Scrape targets, each")
    in_memory = {"-1": ("in memory only", BLUE)}
    return (
        number(
            "Configuration",
            "Whether every exporter could load its latest configuration.",
            Query(f"min(dcs_task_exporter_config_last_reload_successful{{{JOB}}})"),
            thresholds=steps((1, GREEN), base=RED),
            texts={"0": ("refused", RED), "1": ("loaded", GREEN)},
            width=6,
            height=3,
            drill_down=own,
        ),
        number(
            "Counts saved",
            "How long ago the counts were saved; a quiet exporter saves every five minutes.",
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
            "Times that it could not be used or saved to, within the chosen time.",
            Query(or_none(f"({failed} > 0 or {failed} and on () count({errors}))")),
            thresholds=steps((1, RED)),
            texts=in_memory,
            width=6,
            height=3,
            drill_down=own,
        ),
        number(
            "Credentials expire in",
            "Of temporary credentials, the first to expire.",
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
        "Instances of which not everything is known, by the word of each exporter. The "
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
        f"Exporters and probes, those that do not answer first. At most {MOST_ROWS}.",
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
        "Requests to the cloud that failed: what reason means stands in docs/metrics.md.",
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
            "All HTTP requests to the cloud, of all exporters; error is one without an answer.",
            [_rate("dcs_api_requests_total", "project, operation, code")],
            unit="reqps",
        ),
        lines(
            "Latency of the API",
            "Half of the requests, and all but one in a hundred, took no longer; of the ten "
            "projects that were asked most.",
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
            "How long the latest refresh took, all pages and retries; of the slowest instances.",
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


def _budget() -> tuple[AnyPanel, ...]:
    took = f"dcs_task_exporter_scrape_duration_seconds{{{JOB}}}"
    slowest = at_end(took)
    joined = f"dcs_task_exporter_scrapes_coalesced_total{{{JOB}}}"
    by = "job, instance"
    return (
        lines(
            "Waiting for the budget",
            "Seconds that requests waited for a slot, per second; above 1, requests queue up.",
            [_rate("dcs_api_throttle_wait_seconds_total", "project")],
            unit="none",
        ),
        lines(
            "Asked again",
            "Retries of requests that may succeed later.",
            [_rate("dcs_api_retries_total", "project")],
            unit="reqps",
        ),
        shared.age(SCOPE),
        lines(
            "Scrapes",
            "How long the latest scrape took, and how many joined another's refresh.",
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
            "Resident memory of the exporters; it should stay flat.",
            [Query(at_most(by, f"max by ({by}) ({memory} {OURS})", largest), "{{instance}}")],
            unit="bytes",
        ),
        lines(
            "CPU",
            "Processor seconds per second of the exporters.",
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
