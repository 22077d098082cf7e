"""One switch for each thing that the API's documents leave open (`dcs-api.md` section 9)."""

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
    updated_at_while_active: Literal["absent", "null", "empty", "created", "now"] = "absent"
    max_limit: int = 1000
    over_limit: Literal["clamp", "reject"] = "reject"
    rate_limit: int | None = None
    extra_fields: bool = False
    empty_tasks: Literal["list", "null", "missing"] = "list"
    instance_count: Literal["total", "page"] = "total"
    instance_offset: bool = True
    numeric_capacities: bool = False
    misspelt_cache_mode: bool = False
    date: bool = True
    max_skew: float = 900.0
    center: Literal["served", "named", "blind", "404", "403"] = "served"
