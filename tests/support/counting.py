"""Counting without its list of the newly counted tasks."""

from __future__ import annotations

from dcs_task_exporter.tasks.counting import CountingRules, count_new
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Listing


def count(
    state: InstanceState,
    listing: Listing,
    now: float,
    rules: CountingRules,
    *,
    in_doubt: bool = False,
) -> InstanceState:
    """Return the state after a listing that was read at `now`."""
    return count_new(state, listing, now, rules, in_doubt=in_doubt)[0]
