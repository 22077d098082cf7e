"""The details of a task in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from dcs_task_exporter.tasks.details import MAX_SUMMARY_LENGTH, TaskDetails
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


@pytest.mark.parametrize(
    ("details", "change"),
    [
        ({}, ""),
        ({"old_capacity": 0.125, "new_capacity": 0.25}, "capacity 0.125 -> 0.25 GB"),
        ({"old_resource_spec_code": "a", "new_resource_spec_code": "b"}, "spec a -> b"),
        ({"old_cache_mode": "single", "new_cache_mode": "ha"}, "mode single -> ha"),
        ({"old_cache_type": "a", "new_cache_type": "b"}, "type a -> b"),
        ({"old_replica_num": 0, "new_replica_num": 2}, "replicas 0 -> 2"),
        ({"old_port": 6379, "new_port": 6380}, "port 6379 -> 6380"),
        ({"old_port": 6379, "new_port": 6379}, ""),
        ({"old_cache_mode": "single"}, ""),
        ({"new_cache_mode": "ha"}, ""),
        ({"old_replica_num": 1}, ""),
        ({"enable_public_ip": True, "enable_ssl": False}, "public access on, SSL off"),
        ({"is_only_adjust_charging": True}, "charging mode only"),
        ({"rename_commands": ("KEYS", "FLUSHALL")}, "commands renamed: KEYS, FLUSHALL"),
        ({"updated_config_length": 3}, "3 settings"),
    ],
)
def test_change(details: dict[str, Any], change: str) -> None:
    """A task shows what it changes: each old value beside the new one, where they differ."""
    assert TaskDetails(**details).summary() == change


@pytest.mark.parametrize(
    ("details", "attempt"),
    [
        ({"old_resource_spec_code": "a", "new_resource_spec_code": "b"}, "spec from a to b"),
        ({"old_cache_mode": "single", "new_cache_mode": "ha"}, "mode from single to ha"),
        ({"old_cache_type": "a", "new_cache_type": "b"}, "type from a to b"),
        ({"is_only_adjust_charging": True}, "charging mode only"),
    ],
)
def test_attempt_of_one_change(details: dict[str, Any], attempt: str) -> None:
    """What has no verb of its own was tried to be changed."""
    assert TaskDetails(**details).summary(failed=True) == f"tried to change the {attempt}"


@pytest.mark.parametrize(
    ("details", "attempt"),
    [
        ({"old_capacity": 0.0, "new_capacity": 0.5}, "tried to extend from 0 GB to 0.5 GB"),
        ({"old_capacity": 0.5, "new_capacity": 0.0}, "tried to shrink from 0.5 GB to 0 GB"),
    ],
)
def test_a_capacity_of_nothing(details: dict[str, Any], attempt: str) -> None:
    """A capacity of 0 is one: less than half a GB."""
    assert TaskDetails(**details).summary(failed=True) == attempt


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ({"public_ip_address": "192.0.2.3"}, "public address 192.0.2.3"),
        ({"replica_ip": "192.0.2.4"}, "replica 192.0.2.4"),
        ({"source_ip": "192.0.2.1"}, ""),
        ({"target_ip": "192.0.2.1"}, ""),
        ({"source_ip": "192.0.2.1", "target_ip": "192.0.2.1"}, ""),
    ],
)
def test_who_and_where(details: dict[str, Any], told: str) -> None:
    """People and addresses are told on demand, an address that moved only with both ends."""
    named = TaskDetails(**details)

    assert (named.summary(personal=True), named.summary()) == (told, "")


def test_a_summary_is_cut() -> None:
    """A longer summary is cut."""
    details = TaskDetails(rename_commands=("KEYS",) * MAX_SUMMARY_LENGTH)

    assert len(details.summary()) == MAX_SUMMARY_LENGTH


def test_what_is_saved() -> None:
    """All that is set is saved, but nothing that is personal."""
    details = TaskDetails(
        old_capacity=1.0, enable_ssl=False, rename_commands=("KEYS",), account_name="alice"
    )

    assert details.to_json() == {
        "old_capacity": 1.0,
        "enable_ssl": False,
        "rename_commands": ("KEYS",),
    }
