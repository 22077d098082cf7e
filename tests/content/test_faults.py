"""The table of faults is whole: it has every fault, every reason and every alert."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import alerts
import fault_table
import pytest

from dcs_task_exporter.errors import API_ERRORS
from dcs_task_exporter.simulator.faults import FAULTS

ROWS: Final = fault_table.rows()
ALERTS: Final = {alert.name for group in alerts.GROUPS.values() for alert in group}
OF_A_TASK: Final = "tells of a task, and of no fault of the exporter"
EXCUSED: Final = {
    "DCSTaskFailed": OF_A_TASK,
    "DCSTaskFailures": OF_A_TASK,
    "DCSTaskActiveTooLong": OF_A_TASK,
    "DCSMasterStandbySwap": OF_A_TASK,
    "DCSMasterStandbySwapsRepeat": OF_A_TASK,
    "DCSAccessChanged": OF_A_TASK,
    "DCSTaskExporterReplicaDown": "is DCSTaskExporterDown where another exporter goes on",
}
"""The alerts that no fault of the table raises, and why."""

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.test)


def named(key: str) -> set[str]:
    """Return all words of a key of all rows."""
    return {word for row in ROWS for word in row.words(key)}


def test_every_fault_of_the_simulated_cloud() -> None:
    """The table has all that the simulated cloud can do."""
    assert set(FAULTS) <= named("causes")


def test_every_reason() -> None:
    """The table has every reason of `dcs_api_errors_total`, and no other."""
    shown = set(re.findall(r'reason="(\w+)"', " ".join(named("metrics"))))

    assert shown == {error.reason for error in API_ERRORS}


def test_every_alert() -> None:
    """The table has every alert, or there is a reason why not."""
    assert named("alerts") == ALERTS - EXCUSED.keys()
    assert EXCUSED.keys() <= ALERTS


@each_row
def test_the_keys(row: fault_table.Row) -> None:
    """A row is in a group of the table, and says what mends the fault."""
    assert row.keys["where"] in fault_table.GROUPS
    assert row.keys["recovers"]


def test_an_exporter_that_does_not_answer() -> None:
    """Whyever an exporter does not answer, the alerts are those of one that is gone."""
    silent = [row for row in ROWS if "up = 0" in row.words("metrics")]
    (gone,) = [row.words("alerts") for row in silent if row.test == "test_no_exporter"]

    assert [row.title for row in silent if row.words("alerts") != gone] == []


def test_no_fault_twice() -> None:
    """No two rows have the same name, and no two tests in a file."""
    titles = Counter(row.title for row in ROWS)
    tests = Counter((row.path, row.test) for row in ROWS)

    assert [name for name, number in (titles | tests).items() if number > 1] == []
