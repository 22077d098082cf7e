"""What is counted and logged of logins that fail."""

from __future__ import annotations

import logging

import pytest

from dcs_task_exporter.web.failed_logins import FailedLogins


def fields(caplog: pytest.LogCaptureFixture) -> list[tuple[object, ...]]:
    """Return the fields of each line."""
    return [tuple(record.__dict__["fields"].values()) for record in caplog.records]


def test_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Of many failed logins one line a second is logged, with the number of those since."""
    now = 100.0
    failed = FailedLogins(lambda: now)

    with caplog.at_level(logging.WARNING):
        for tick in range(35):
            now = 100.0 + tick / 10
            failed.note("grafana", "10.0.0.1")

    counts = [line[-1] for line in fields(caplog)]
    assert counts == [1, 10, 10, 10]
    assert failed.total == 35


def test_an_unknown_name_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line names a known user, the address and the count; an unknown name may be a secret."""
    now = 0.0
    failed = FailedLogins(lambda: now)

    failed.note("grafana", "10.0.0.1")
    now = 1.0
    failed.note(None, "10.0.0.2")

    assert fields(caplog) == [("grafana", "10.0.0.1", 1), ("unknown", "10.0.0.2", 1)]
