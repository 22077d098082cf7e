"""The settings of refreshes. Their defaults stand in the configuration's model."""

from __future__ import annotations

from dataclasses import dataclass

from dcs_task_exporter.tasks.counting import CountingRules


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """How instances are refreshed; times in seconds."""

    rules: CountingRules
    min_refresh_interval: float
    max_staleness: float
    refresh_time_limit: float
    concurrency: int
    requests_per_second: float
    first_value_hold: float
    task_progress: bool
