"""Sections of the configuration for the tests."""

from __future__ import annotations

from typing import Any, Final

from dcs_task_exporter.config.model import CollectorConfig, ProjectConfig
from dcs_task_exporter.tasks.counting import CountingRules

WEEK: Final = 7 * 86_400.0

RULES: Final = CountingRules(WEEK)


def collector(**changes: Any) -> CollectorConfig:
    """Return the defaults without the hold, with some of them changed; they need not be valid."""
    return CollectorConfig().model_copy(update={"first_value_hold": 0.0, **changes})


def project(**changes: Any) -> ProjectConfig:
    """Return a project with some keys changed; they need not be valid."""
    known = {
        "name": "prod",
        "region": "r",
        "endpoint": "https://dcs",
        "iam_endpoint": "https://iam",
    }
    return ProjectConfig.model_construct(**{**known, **changes})
