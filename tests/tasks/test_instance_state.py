"""What counting remembers of an instance: what may be shown, and what a new owner forgets."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from dcs_task_exporter.tasks.instance_state import (
    KNOWN_SERIES,
    OTHER,
    InstanceState,
    handed_over,
    has_pending,
    label_of,
    names_had,
    renamed,
    reveal,
    seen_late,
    series_of,
)
from dcs_task_exporter.tasks.models import KNOWN_TASK_NAMES, Task
from dcs_task_exporter.tasks.naming import Naming
from tests.support.clouds import NOW

KNOWN = ("EXTEND", "FAILED")
UNFORESEEN = ("DeleteAcl", "CANCELLED")
TASK = Task("a", "DeleteAcl", "CANCELLED", NOW, NOW)
SEEN = InstanceState(
    baseline_at=NOW,
    baseline_partial=True,
    refreshed_at=NOW,
    forgotten_until=NOW,
    listed_since=NOW,
    names=(*KNOWN_TASK_NAMES, "DeleteAcl"),
    statuses=("SUCCESS", "FAILED", "CANCELLED"),
    counts={KNOWN: 2, UNFORESEEN: 1},
    shown={KNOWN: 2, UNFORESEEN: 1},
    counted={"a": NOW},
    unlisted=frozenset("b"),
    active={"c": TASK},
    missing={"d": TASK},
    last_success={"EXTEND": NOW},
    last_failure={"EXTEND": NOW},
    failed={"EXTEND": TASK},
)
QUIET = replace(SEEN, active={}, missing={}, unlisted=frozenset())


def test_a_count_waits_for_its_earlier_value() -> None:
    """A count is shown when its earlier value was delivered; until then the earlier one is."""
    state = InstanceState(counts={KNOWN: 3, UNFORESEEN: 1}, shown={KNOWN: 2})

    assert reveal(state, {KNOWN}).shown[KNOWN] == 3
    assert reveal(state, ()).shown[KNOWN] == 2
    assert reveal(state, {KNOWN}).shown[UNFORESEEN] == 0
    assert reveal(state, {UNFORESEEN}).shown[UNFORESEEN] == 1


def test_every_known_series_begins_at_0() -> None:
    """All documented names are shown at 0 as soon as an instance is known."""
    assert reveal(InstanceState(), ()).shown == dict.fromkeys(KNOWN_SERIES, 0)
    assert len(KNOWN_SERIES) == 2 * len(KNOWN_TASK_NAMES)


def test_handed_over() -> None:
    """What another exporter counts from now on is forgotten; counts and labels stay."""
    given = handed_over(SEEN)
    kept = {
        each.name for each in fields(SEEN) if getattr(given, each.name) == getattr(SEEN, each.name)
    }

    assert kept == {
        "refreshed_at", "names", "statuses", "counts", "shown", "last_success", "last_failure",
        "failed", "naming",
    }  # fmt: skip
    for name in {each.name for each in fields(SEEN)} - kept:
        assert getattr(given, name) == getattr(InstanceState(), name)


def test_nothing_pending() -> None:
    """Nothing is pending where nothing is followed and every count is shown."""
    assert not has_pending(QUIET)


@pytest.mark.parametrize(
    "change",
    [
        {"active": {"c": TASK}},
        {"missing": {"d": TASK}},
        {"unlisted": frozenset("b")},
        {"shown": {}},
        {"shown": {KNOWN: 1, UNFORESEEN: 1}},
        {"shown": {KNOWN: 2}},
    ],
)
def test_something_pending(change: dict[str, object]) -> None:
    """A followed task, an id that is not listed, or a count that is not shown is pending."""
    assert has_pending(replace(QUIET, **change))  # type: ignore[arg-type]


def test_labels_within_the_cap() -> None:
    """A name or status that has a label value is itself, and any other is `other`."""
    new = Task("e", "AddAcl", "PAUSED")

    assert (label_of(SEEN, TASK), series_of(SEEN, TASK)) == ("DeleteAcl", UNFORESEEN)
    assert (label_of(SEEN, new), series_of(SEEN, new)) == (OTHER, (OTHER, OTHER))


def test_names_had() -> None:
    """The names of an instance are those of its tasks, whether listed, followed or counted."""
    assert list(names_had(SEEN)) == ["DeleteAcl", "EXTEND"]
    assert list(names_had(InstanceState())) == []
    only = {
        "names": ("AddAcl",),
        "active": {"c": replace(TASK, name="BindEip")},
        "missing": {"d": replace(TASK, name="modify")},
        "counts": {("EXTEND", "FAILED"): 1},
        "last_success": {"UpdatePort": NOW},
        "last_failure": {"DelReplica": NOW},
        "failed": {"AddReplica": TASK},
    }
    expected = ["AddAcl", OTHER, "EXTEND", "UpdatePort", "DelReplica", "AddReplica"]
    assert list(names_had(replace(InstanceState(), **only))) == expected  # type: ignore[arg-type]


def test_no_count_yet() -> None:
    """A known series that was not counted is shown at 0, delivered or not."""
    assert reveal(InstanceState(), {KNOWN}).shown[KNOWN] == 0


def test_renamed() -> None:
    """The series of the name that is left end with what is shown."""
    state = replace(SEEN, naming=Naming("a"))

    assert renamed(state, "b") == replace(SEEN, naming=Naming("a").renamed("b", SEEN.shown))


def test_seen_late() -> None:
    """What a late answer of another name showed was seen; the series of this one do not move."""
    state = renamed(replace(SEEN, naming=Naming("a")), "b")

    seen = seen_late(state, "a", {KNOWN: 3})

    assert seen.shown == {KNOWN: 3, UNFORESEEN: 1}
    assert seen.naming.exposed(seen.shown) == SEEN.shown
    assert seen_late(state, "a", {KNOWN: 2}) is state
