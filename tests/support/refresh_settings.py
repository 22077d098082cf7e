"""Settings of refreshes for the tests: those of the configuration, without its hold."""

from __future__ import annotations

from typing import Any, Final

from dcs_task_exporter.config.model import CollectorConfig
from dcs_task_exporter.tasks.counting import CountingRules

WEEK: Final = 7 * 86_400.0

RULES: Final = CountingRules(WEEK)


def collector(**changes: Any) -> CollectorConfig:
    """Return the settings, with some of them changed; they need not be valid."""
    return CollectorConfig().model_copy(update={"first_value_hold": 0.0, **changes})
