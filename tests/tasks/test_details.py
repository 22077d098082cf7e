"""The details of a task in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.models import Task
from dcs_task_exporter.tasks.statuses import Outcome


@pytest.mark.parametrize(
    ("details", "attempt"),
    [
        ({}, ""),
        (
            {"old_capacity": 0.125, "new_capacity": 0.25},
            "tried to extend from 0.125 GB to 0.25 GB",
        ),
        ({"old_capacity": 4.0, "new_capacity": 2.0}, "tried to shrink from 4 GB to 2 GB"),
        (
            {"old_replica_num": 1, "new_replica_num": 2, "old_port": 1, "new_port": 2},
            "tried to change the number of replicas from 1 to 2 and change the port from 1 to 2",
        ),
        (
            {"enable_ssl": True, "rename_commands": ("KEYS", "FLUSHALL")},
            "tried to switch SSL on and rename the commands KEYS, FLUSHALL",
        ),
        (
            {"enable_public_ip": False, "enable_ssl": False, "updated_config_length": 3},
            "tried to switch public access off, switch SSL off and change 3 settings",
        ),
        ({"new_capacity": 2.0}, ""),
        ({"account_name": "alice", "source_ip": "192.0.2.1", "target_ip": "192.0.2.2"}, ""),
    ],
)
def test_attempt(details: dict[str, Any], attempt: str) -> None:
    """A failed task shows what it attempted, never a change."""
    failed = Task("a", "EXTEND", "FAILED", details=TaskDetails(**details))

    assert failed.summary(Outcome.FAILURE) == attempt


def test_attempt_with_who_and_where() -> None:
    """The attempt names people and addresses only when that is wanted."""
    details = TaskDetails(account_name="alice", source_ip="192.0.2.1", target_ip="192.0.2.2")

    attempt = details.summary(failed=True, personal=True)

    assert attempt == "account alice, address 192.0.2.1 -> 192.0.2.2"
