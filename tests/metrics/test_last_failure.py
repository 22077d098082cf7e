"""Which failed task is named: the latest of each name, listed or not, and never a retry."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Listing, Task
from tests.support.clouds import DAY, NOW, Samples, scrape, world
from tests.support.counting import count

RULES = CountingRules(7 * DAY)
RESIZE = {"old_capacity": "0.125", "new_capacity": "0.25"}


def infos(found: Samples, name: str) -> list[dict[str, str]]:
    """Return the labels of each series of an info, without those of its instance."""
    own = {"project", "dcs_instance_id", "dcs_instance_name"}
    return [
        {label: text for label, text in labels if label not in own}
        for metric, labels in found
        if metric == name
    ]


def failed_after(*listings: list[Task], now: float = NOW, in_doubt: bool = False) -> dict[str, str]:
    """Return the id of the latest failed task of each name after these listings."""
    state = InstanceState()
    for tasks in listings:
        listing = Listing(tuple(tasks), NOW - 7 * DAY)
        state = count(state, listing, now, RULES, in_doubt=in_doubt)
    return {name: task.id for name, task in state.failed.items()}


def failed(key: str, end: float | None, name: str = "EXTEND", status: str = "FAILED") -> Task:
    return Task(key, name, status, None if end is None else end - 10, end)


def test_a_retry_that_runs() -> None:
    """While a retry runs, the failed task is named, with what it tried, and not the retry."""
    with world(1) as here, here.exporter() as exporter:
        scrape(exporter)
        first = here.cloud.start_task("i0", "EXTEND", details=RESIZE)
        here.cloud.finish_task("i0", first, "FAILED")
        scrape(exporter, here.clock)
        here.clock.advance(1)
        retry = here.cloud.start_task("i0", "EXTEND", details=RESIZE)
        found = scrape(exporter, here.clock)

    (told,) = infos(found, "dcs_task_last_failure_info")
    (latest,) = infos(found, "dcs_task_last_info")
    assert (told["task_id"], latest["task_id"]) == (first, retry)
    assert told == {
        "task_name": "EXTEND",
        "task_id": first,
        "error_code": told["error_code"],
        "reason": "",
        "summary": "tried to extend from 0.125 GB to 0.25 GB",
    }
    assert latest["summary"] == "capacity 0.125 -> 0.25 GB"


def test_the_latest_task_failed() -> None:
    """The summary of a latest task that failed says what it tried, not what it changed."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.start_task("i0", "EXTEND", "FAILED", details=RESIZE)
        found = scrape(exporter)

    (latest,) = infos(found, "dcs_task_last_info")
    assert latest["summary"] == "tried to extend from 0.125 GB to 0.25 GB"


def test_a_word_for_failure_of_the_configuration() -> None:
    """A status that the configuration calls a failure makes a failed task."""
    with world(1) as here:
        here.cloud.start_task("i0", "EXTEND", "BROKEN", details=RESIZE)
        text = f"{here.config_text()}status_words: {{failure: [BROKEN]}}\n"
        options = Options(clock=here.clock.clock, process_metrics=False)
        exporter = Exporter(parse_config(text, "test", {}), options)
        found = scrape(exporter)
        exporter.stop()

    tried = "tried to extend from 0.125 GB to 0.25 GB"
    assert [one["summary"] for one in infos(found, "dcs_task_last_failure_info")] == [tried]
    assert [one["summary"] for one in infos(found, "dcs_task_last_info")] == [tried]


def test_nothing_failed() -> None:
    """Where nothing failed, no failed task is named."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.start_task("i0", "EXTEND", "SUCCESS")
        found = scrape(exporter)

    assert infos(found, "dcs_task_last_failure_info") == []


def test_restart_without_the_record(tmp_path: Path) -> None:
    """After a restart the failed task is named as before, though its record is gone."""
    told: list[Any] = []
    with world(1) as here:
        text = f"{here.config_text()}state: {{path: {tmp_path}/state.db}}\n"
        config = parse_config(text, "test", {})
        task = here.cloud.start_task("i0", "EXTEND", "FAILED", details=RESIZE)
        for _ in range(2):
            exporter = Exporter(config, Options(clock=here.clock.clock, process_metrics=False))
            told.append(infos(scrape(exporter, here.clock), "dcs_task_last_failure_info"))
            exporter.stop()
            here.cloud.delete_task("i0", task)

    assert told[0] == told[1]
    assert [one["task_id"] for one in told[1]] == [task]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_the_latest_end(order: tuple[int, ...]) -> None:
    """Of several failures of a name the one that ended last is named, in whichever order listed."""
    tasks = [failed("a", NOW - 30), failed("z", NOW - 60), failed("b", NOW - 40, status="ERROR")]

    assert failed_after([tasks[at] for at in order]) == {"EXTEND": "a"}


def test_names_have_one_each() -> None:
    """Each name has a failed task of its own."""
    tasks = [failed("a", NOW - 30), failed("b", NOW - 60, name="DeleteAcl")]

    assert failed_after(tasks) == {"EXTEND": "a", "DeleteAcl": "b"}


def test_a_success_takes_no_failure_back() -> None:
    """A later success leaves the failed task named: it is still the latest that failed."""
    later = Task("b", "EXTEND", "SUCCESS", NOW - 20, NOW - 10)

    assert failed_after([failed("a", NOW - 30)], [later]) == {"EXTEND": "a"}


def test_counted_without_a_time() -> None:
    """A failure that is counted now and does not say when it ended is named, and stays so."""
    old, new = failed("a", NOW - 30), failed("b", None)

    assert failed_after([old], [old, new], [old, new]) == {"EXTEND": "b"}


def test_found_without_a_time() -> None:
    """A failure without a time that was there from the first takes no place of one with a time."""
    both = [failed("a", NOW - 30), failed("b", None)]

    assert failed_after(both, both) == {"EXTEND": "a"}


def test_what_is_known_later() -> None:
    """An error code that the listing shows only later is taken up."""
    first = failed("a", NOW - 30)
    state = InstanceState()
    for task in (first, replace(first, error_code="DCS.4001")):
        state = count(state, Listing((task,), NOW - 7 * DAY), NOW, RULES)

    assert state.failed["EXTEND"].error_code == "DCS.4001"


def test_impossible_end() -> None:
    """A failure of year 9999, counted by a wrong clock, does not stand before all later ones."""
    odd = InstanceState(baseline_at=NOW, failed={"EXTEND": failed("z", 253_370_764_800.0)})
    listing = Listing((failed("a", NOW - 30),), NOW - 7 * DAY)

    assert count(odd, listing, NOW, RULES).failed["EXTEND"].id == "a"


def test_who_ran_it_is_not_kept() -> None:
    """The name of the user who ran a failed task is not remembered."""
    task = replace(failed("a", NOW - 30), user_name="alice")
    state = count(InstanceState(), Listing((task,), NOW - 7 * DAY), NOW, RULES)

    assert state.failed["EXTEND"].user_name == ""
