"""The ledger of a soak sees what Prometheus would see, and every way in which it can be wrong."""

from __future__ import annotations

import pytest

from bench.ledger import Ledger, Page


def page(**values: int) -> Page:
    """Return a scrape with a counter of tasks for each name of an instance."""
    lines = (
        f'dcs_tasks_finished_total{{project="p",dcs_instance_id="i",dcs_instance_name="{name}",'
        f'task_name="EXTEND",status="SUCCESS"}} {value}\n'
        for name, value in values.items()
    )
    return Page("# HELP x y\n" + "".join(lines) + "dcs_api_up 1\n")


def ledger(ended: int, *pages: Page) -> Ledger:
    made = Ledger()
    for _ in range(ended):
        made.ended("i", "EXTEND", "SUCCESS")
    for one in pages:
        made.scraped(one)
    return made


def test_agrees() -> None:
    """Counts agree when the increases are the ends, whatever the first value was."""
    assert ledger(2, page(a=5), page(a=6), page(), page(a=7)).agrees


def test_rename() -> None:
    """A new series goes on for the old one, and its first value is no increase."""
    assert ledger(2, page(a=5), page(a=6), page(b=6), page(b=7)).agrees


@pytest.mark.parametrize(
    ("ended", "values", "what"),
    [
        (2, (0, 1), "1 lost"),
        (1, (0, 1, 2), "1 doubled"),
        (1, (3, 2, 3), "1 counters fell"),
        (0, (0, 1), "1 were ahead"),
    ],
)
def test_mistakes(ended: int, values: tuple[int, ...], what: str) -> None:
    """A lost task, a doubled one, a counter that falls, and one that is ahead are all told."""
    made = ledger(ended, *(page(a=value) for value in values))

    assert not made.agrees
    assert what in next(iter(made.report()))


def test_page() -> None:
    """A scrape's samples are found by their name, with or without labels."""
    found = page(a=5)

    assert found.value("dcs_api_up") == found.total("dcs_api_up") == 1
    assert found.value("dcs_tasks_finished_total") is None
    assert found.by_instance("dcs_tasks_finished_total") == {"i": 5}
