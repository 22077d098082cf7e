"""Switches for what the API's documents leave open (`dcs-api.md` section 9).

What they leave open of a single task needs none: `SimulatedCloud.start_task` takes any field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Quirks:
    """The behavior that the documents leave open; the defaults are the likely ones."""

    start_parameter: Literal["start_time", "begin_time", "both", "neither"] = "start_time"
    order: Literal["newest", "oldest", "shuffled"] = "newest"
    task_count: Literal["total", "page", "missing"] = "total"
    task_count_as_text: bool = False
    max_limit: int = 1000
    over_limit: Literal["clamp", "reject"] = "reject"
    rate_limit: int | None = None
    empty_tasks: Literal["list", "null", "missing"] = "list"
    instance_count: Literal["total", "page"] = "total"
    instance_offset: bool = True
    date: bool = True
    max_skew: float = 900.0
    center_names_instances: bool = False
    token_life: float = 86_400.0
    key_life: float = 86_400.0
    key_overlap: float = 3_600.0
    metadata: Literal["1", "2", "both"] = "both"
