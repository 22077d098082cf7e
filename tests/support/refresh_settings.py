"""Settings of refreshes for the tests: those of the configuration, without its hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dcs_task_exporter.refresh.settings import RefreshSettings
from dcs_task_exporter.tasks.counting import CountingRules

WEEK = 7 * 86_400.0


def refresh_settings(lookback: float = WEEK, **changes: Any) -> RefreshSettings:
    """Return settings for a look-back window in seconds, with some of them changed."""
    usual = RefreshSettings(
        rules=CountingRules(lookback),
        min_refresh_interval=15.0,
        max_staleness=3600.0,
        refresh_time_limit=60.0,
        concurrency=8,
        requests_per_second=10.0,
        first_value_hold=0.0,
        task_progress=False,
    )
    return replace(usual, **changes)
