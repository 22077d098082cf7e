"""The table of docs/sizing.md follows from its formulas, and these from what was measured."""

from __future__ import annotations

import re

import pytest

from dcs_task_exporter.config.model import CollectorConfig
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

DOCS = ROOT / "docs"
PAGE = (DOCS / "sizing.md").read_text()
PERFORMANCE = " ".join((DOCS / "performance.md").read_text().split())
METRICS = " ".join((DOCS / "metrics.md").read_text().split())
VALUES = load_yaml((ROOT / "deploy" / "helm" / "dcs-task-exporter" / "values.yaml").read_text())

BASE_MB, MB_PER_INSTANCE = 50, 0.05
PERCENT_PER_RATE = 0.16
QUIET_SERIES, SERIES_PER_NAME, SERIES_PER_STATUS = 30, 10, 5
ROWS = re.findall(
    r"^\| ([\d,]+) \| (\d+)[^|]* \| (\d+) s \| (\d+) MB \| ([\d.]+) % \| ([\d,]+) \|$",
    PAGE,
    re.MULTILINE,
)


def number(text: str) -> float:
    """Return a number as the documents write it."""
    return float(text.replace(",", ""))


def test_the_formulas_are_those_of_this_test() -> None:
    """The page has the formulas that its table is derived from."""
    assert f"| {BASE_MB} + {MB_PER_INSTANCE} x instances |" in PAGE
    assert f"| {PERCENT_PER_RATE} x requests per second |" in PAGE
    assert f"| instances x ({QUIET_SERIES} + {SERIES_PER_NAME} x task names) |" in PAGE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_rows(row: tuple[str, ...]) -> None:
    """Each row of the table follows from the formulas."""
    instances, rate, seconds, memory, processor, series = map(number, row)

    assert seconds == instances / rate
    assert memory == BASE_MB + MB_PER_INSTANCE * instances
    assert processor == pytest.approx(PERCENT_PER_RATE * rate)
    assert series == instances * (QUIET_SERIES + SERIES_PER_NAME * 3)


def test_the_table_is_read() -> None:
    """The table has its rows, and the first one is the default."""
    assert len(ROWS) == 6
    assert number(ROWS[0][1]) == CollectorConfig().requests_per_second


def test_memory_is_rounded_up() -> None:
    """The formula says at least what was measured with 5,000 instances, and not much more."""
    found = re.search(
        r"memory of the process with 5,000 instances[^|]*\|[^|]*\| (\d+) \| (\d+) \|", PERFORMANCE
    )
    assert found
    measured = max(map(float, found.groups()))

    assert measured <= BASE_MB + MB_PER_INSTANCE * 5_000 <= 1.3 * measured
    assert f"at most {measured:g} MB" in PAGE


def test_the_processor_is_as_measured() -> None:
    """The formula says at least what 5,000 instances at 50 requests a second used."""
    found = re.search(r"exporter used \d+ MB and (\d+) % of one processor", PERFORMANCE)

    assert found
    assert float(found[1]) <= PERCENT_PER_RATE * 50 <= 1.5 * float(found[1])
    assert f"{found[1]} % of one processor" in " ".join(PAGE.split())


def test_series_are_those_of_the_metrics() -> None:
    """The formula counts series as the page of the metrics does."""
    told = re.search(r"at most (\d+) series, .*? at most (\d+) series .*? and (\d+) with", METRICS)

    assert told
    assert [int(each) for each in told.groups()] == [
        QUIET_SERIES,
        SERIES_PER_NAME,
        SERIES_PER_STATUS,
    ]


def test_the_chart_has_room() -> None:
    """The page gives the chart's memory, which is enough for the largest row."""
    asked, most = (VALUES["resources"][key]["memory"] for key in ("requests", "limits"))

    assert f"asks for {asked.replace('Mi', ' MB')} and allows {most.replace('Mi', ' MB')}" in PAGE
    assert float(most.removesuffix("Mi")) > max(number(row[3]) for row in ROWS)
