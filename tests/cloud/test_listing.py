"""A listing is whole, or it is no listing: laws 1 and 2 against what the API leaves open.

The clouds here are a function from a request's query to its body, so that each can contradict
itself in its own way.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.client import DcsClient
from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.cloud.evidence import StartParameter
from dcs_task_exporter.cloud.listing import ListingReader, Window
from dcs_task_exporter.cloud.paging import Fetched, Place, check_interval
from dcs_task_exporter.cloud.parsing import TaskPage
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.reading import Reading
from dcs_task_exporter.cloud.request import ApiCaller, Retries
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.credentials.fixed import FixedSource
from dcs_task_exporter.errors import (
    ApiError,
    IncompleteListingError,
    InvalidResponseError,
    ServerError,
    TooLargeError,
)
from dcs_task_exporter.metrics.telemetry import ApiTelemetry
from dcs_task_exporter.tasks.models import EARLIEST_TIME, Task
from tests.support.clouds import NOW, scrape, value, world
from tests.support.refresh_settings import collector, project
from tests.support.world_cloud import iso

DAY = 86_400.0
Query = dict[str, str]
Body = dict[str, Any]


KEY = AccessKey("AK", "SK")


@dataclass
class Scripted:
    """A cloud that answers by a function, and a client that reads it."""

    answer: Callable[[Query], Body]
    page_size: int = 10
    max_pages: int = 50
    queries: list[Query] = field(default_factory=list)

    def __post_init__(self) -> None:
        telemetry = self.telemetry = ApiTelemetry()
        clock = Clock(lambda: NOW, lambda: 0.0)
        limit = RateLimit(1e9, clock, lambda _: False)
        retries = Retries(0, lambda _: False, lambda: 0.5)
        caller = ApiCaller("prod", self, FixedSource(lambda: KEY), limit, telemetry, retries, clock)  # type: ignore[arg-type]
        settings = collector(page_size=self.page_size, max_pages=self.max_pages)
        self.client = DcsClient(project(project_id="p"), settings, caller, clock, lambda: NOW)

    def send(self, url: str, auth: object, *_: object) -> Answer:
        del auth
        query = dict(parse_qsl(urlsplit(url).query))
        self.queries.append(query)
        return Answer(200, {}, json.dumps(self.answer(query)).encode())

    def listed(self, start: float = NOW - 7 * DAY) -> list[str]:
        """Return the ids of the tasks, newest first."""
        return [task.id for task in self.client.list_tasks("i0", start, 60.0).tasks]

    def requests(self, start: float = NOW - 7 * DAY) -> int:
        """Read once, and return how many requests that took."""
        before = len(self.queries)
        self.listed(start)
        return len(self.queries) - before


def row(number: int, age: float | None = None, **more: Any) -> Body:
    began = NOW - (1000 - number if age is None else age)
    return {
        "id": f"t{number}",
        "name": "EXTEND",
        "status": "SUCCESS",
        "created_at": iso(began),
    } | more


def page(rows: Sequence[Body], query: Query, cap: int = 1000) -> list[Body]:
    offset = int(query["offset"])
    return list(rows[offset : offset + min(cap, int(query["limit"]))])


def newest_first(number: int) -> list[Body]:
    return [row(at) for at in reversed(range(number))]


def ids(rows: Sequence[Body]) -> list[str]:
    return [one["id"] for one in rows]


def test_one_count_above_its_rows_is_no_total() -> None:
    """A record deleted between count and list does not make a page's count pass for a total."""
    rows = newest_first(5)
    torn = [True]

    def answer(query: Query) -> Body:
        shown = page(rows, query, cap=10)
        return {"tasks": shown, "task_count": len(shown) + (torn.pop() if torn else 0)}

    cloud = Scripted(answer, page_size=100)
    cloud.listed()
    rows[:] = newest_first(30)

    assert len(cloud.listed()) == 30


def test_a_total_is_tested_again_and_unlearnt() -> None:
    """A cloud that begins to count pages is found out after at most twenty listings."""
    rows = newest_first(5)
    honest = [True]

    def answer(query: Query) -> Body:
        shown = page(rows, query, cap=10)
        return {"tasks": shown, "task_count": len(rows) if honest else len(shown)}

    cloud = Scripted(answer, page_size=100)
    for _ in range(5):
        cloud.listed()
    honest.clear()
    rows[:] = [row(at) for at in range(30)]
    lengths = [len(cloud.listed()) for _ in range(21)]

    assert lengths[-1] == 30
    assert cloud.requests() > 1


def test_a_believed_total_costs_one_request() -> None:
    """Once the count has shown that it is a total, 19 of 20 listings cost one request."""
    rows = newest_first(7)
    cloud = Scripted(lambda query: {"tasks": page(rows, query), "task_count": 7})
    cloud.listed()

    assert sum(cloud.requests() for _ in range(100)) == 105


@pytest.mark.parametrize("count", [0, -1, "10"])
def test_a_count_on_a_full_page_that_cannot_be(count: object) -> None:
    """A wrong count on a full page does not hide the rest, although totals are believed."""
    rows = newest_first(30)
    wrong: list[object] = []

    def answer(query: Query) -> Body:
        return {"tasks": page(rows, query), "task_count": wrong[0] if wrong else len(rows)}

    cloud = Scripted(answer)
    for _ in range(3):
        cloud.listed()
    wrong.append(count)

    assert len(cloud.listed()) == 30


def test_rows_that_vanish_are_looked_for() -> None:
    """A listing that lacks rows of the one before is read to its end before it is believed."""
    rows = newest_first(8)
    cut: list[int] = []

    def answer(query: Query) -> Body:
        shown = page(rows, query, cap=cut[0] if cut else 1000)
        return {"tasks": shown, "task_count": len(shown) if cut else len(rows)}

    cloud = Scripted(answer, page_size=100)
    for _ in range(3):
        cloud.listed()
    cut.append(5)

    assert cloud.listed() == ids(rows)


def test_a_deleted_record_costs_one_more_reading() -> None:
    """Rows that are gone for good are believed, and looked for once."""
    rows = newest_first(8)
    cloud = Scripted(lambda query: {"tasks": page(rows, query), "task_count": len(rows)})
    for _ in range(3):
        cloud.listed()
    del rows[3]

    assert [cloud.requests(), cloud.requests()] == [2, 1]


@pytest.mark.parametrize("first", [{"start_time"}, {"begin_time"}, {"start_time", "begin_time"}])
def test_the_parameter_that_is_honoured_is_found(
    first: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    """600 old tasks, oldest first, pages of 10: the newest is shown whichever parameter works."""
    rows = [row(at, age=(700 - at) * DAY) for at in range(600)] + [row(600, age=60)]

    def answer(query: Query) -> Body:
        honoured = first <= query.keys()
        shown = [rows[-1]] if honoured else rows
        return {"tasks": page(shown, query, cap=10)}

    cloud = Scripted(answer)
    found = [cloud.listed() for _ in range(3)]

    assert found == [["t600"]] * 3
    said = [line for line in caplog.messages if "the cloud ignores" in line]
    assert len(said) == len(set(said)) <= 2


def test_a_refused_parameter_is_not_sent_again() -> None:
    """A cloud that ignores one parameter and refuses the other is asked with the first one."""
    rows = [row(1, age=30 * DAY), row(2, age=60)]

    def answer(query: Query) -> Body:
        if "begin_time" in query:
            return {"error_code": "DCS.4062", "error_msg": "Invalid begin_time."}
        return {"tasks": page(rows, query)}

    class Refusing(Scripted):
        def send(self, url: str, auth: object, *_: object) -> Answer:
            answer = super().send(url, auth)
            return Answer(400, {}, answer.body) if b"DCS.4062" in answer.body else answer

    cloud = Refusing(answer)

    assert [cloud.listed() for _ in range(3)] == [["t2"]] * 3
    assert sum("begin_time" in query for query in cloud.queries) == 1


def test_the_newest_end_is_read_first() -> None:
    """Of a list too long to be read that begins with the oldest, the newest end is read."""
    rows = [row(at, age=(700 - at) * 60) for at in range(600)]
    cloud = Scripted(lambda query: {"tasks": page(rows, query), "task_count": 600}, max_pages=5)
    listing = cloud.client.list_tasks("i0", NOW - 7 * DAY, 60.0)

    assert listing.truncated
    assert listing.tasks[0].id == "t599"
    assert len(cloud.queries) <= 5


def test_what_a_cut_listing_had_is_looked_for() -> None:
    """After a listing that was cut, too, a cloud that begins to count pages loses no task."""
    few, many = newest_first(5), [row(at, age=(700 - at) * 60) for at in range(40)]
    rows, total = few, True

    def answer(query: Query) -> Body:
        shown = page(rows, query, cap=1000 if total else 5)
        return {"tasks": shown, "task_count": len(rows) if total else len(shown)}

    cloud = Scripted(answer, max_pages=4)
    for _ in range(5):
        cloud.listed()
    rows = many
    assert cloud.client.list_tasks("i0", NOW - 7 * DAY, 60.0).truncated
    total = False

    with pytest.raises(IncompleteListingError):
        cloud.listed()


@pytest.mark.parametrize("order", ["oldest", "mixed"])
def test_a_cut_that_may_lack_the_newest_is_no_listing(order: str) -> None:
    """A listing that the page cap cuts before it reached now fails, with a reason of its own."""
    rows = [row(at, age=(700 - at) * 60) for at in range(600)]
    if order == "mixed":
        rows = rows[1::2] + rows[::2]
    cloud = Scripted(lambda query: {"tasks": page(rows, query)}, max_pages=5)
    with pytest.raises(
        ApiError, match=r"may lack the newest tasks: raise collector.max_pages"
    ) as it:
        cloud.listed()

    assert it.value.reason == "incomplete_listing"
    counted = {
        sample.labels["reason"]: sample.value
        for family in cloud.telemetry.collect()
        for sample in family.samples
        if sample.name == "dcs_api_errors_total"
    }
    assert counted == {"incomplete_listing": 1}


def test_a_cut_listing_shows_no_zeros() -> None:
    """Of an instance whose listing was cut before it reached now, nothing is shown but `up` 0."""
    with world(1) as here, here.exporter(page_size=5, max_pages=2) as exporter:
        for _ in range(20):
            here.cloud.start_task("i0", "EXTEND")
        found = scrape(exporter)

    assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 0
    assert not [name for name, _ in found if name.startswith("dcs_tasks")]


def test_data_beside_an_error() -> None:
    """An answer with tasks and an error code is an error at once."""
    cloud = Scripted(lambda _: {"tasks": [], "error_code": "DCS.5000"})
    with pytest.raises(InvalidResponseError, match=r"holds data and an error: DCS\.5000"):
        cloud.listed()

    assert len(cloud.queries) == 1


def test_a_count_above_the_rows() -> None:
    """A count above the rows of a listing read to its end is read once more, and then an error."""
    cloud = Scripted(lambda _: {"tasks": [], "task_count": 7})
    with pytest.raises(InvalidResponseError, match="it counts 7, and lists 0"):
        cloud.listed()

    assert len(cloud.queries) == 2


def test_a_count_above_the_rows_once() -> None:
    """Once, a count above the rows is a record that was deleted meanwhile."""
    rows = newest_first(3)
    counts = [4, 4]

    def answer(query: Query) -> Body:
        return {"tasks": page(rows, query), "task_count": counts.pop() if counts else 3}

    assert Scripted(answer).listed() == ids(rows)


def test_records_deleted_between_two_pages() -> None:
    """A list that loses records while it is read is read again: no page hides a row."""
    rows = newest_first(25)
    deletions = [True]

    def answer(query: Query) -> Body:
        if query["offset"] != "0" and deletions:
            deletions.pop()
            del rows[2:5]
        return {"tasks": page(rows, query)}

    assert Scripted(answer).listed() == ids(rows)


def test_many_tasks_that_start_between_two_pages() -> None:
    """A list that grows by more than a page while it is read hides none of its old rows."""
    rows = newest_first(12)
    new = [row(100 + at) for at in range(7)]

    def answer(query: Query) -> Body:
        if query["offset"] != "0" and new:
            rows[:0] = [new.pop() for _ in range(7)]
        return {"tasks": page(rows, query, cap=5)}

    assert set(ids(newest_first(12))) <= set(Scripted(answer, page_size=100).listed())


def test_an_empty_answer_in_place_of_a_later_page() -> None:
    """An empty answer behind the second page, each time, does not end a listing."""
    rows = newest_first(12)

    def answer(query: Query) -> Body:
        if int(query["offset"]) > 5:
            return {"tasks": [], "task_count": 7}
        return {"tasks": page(rows, query)}

    with pytest.raises(InvalidResponseError, match="changes while its pages are read"):
        Scripted(answer, page_size=5).listed()


@pytest.mark.parametrize("counts", [{"task_count": 5}, {"task_count": 0}, {}])
def test_a_cloud_with_one_page(counts: Body) -> None:
    """A cloud that has nothing but its first page is read, and soon without asking twice."""
    rows = newest_first(5)

    def answer(query: Query) -> Body:
        return {"tasks": rows, **counts} if query["offset"] == "0" else {"tasks": [], **counts}

    cloud = Scripted(answer)

    assert [cloud.listed() for _ in range(3)] == [ids(rows)] * 3
    assert cloud.requests() <= 2


def test_a_cloud_that_ignores_the_offset() -> None:
    """A full page that comes again and again is no whole listing."""
    rows = newest_first(25)
    with pytest.raises(InvalidResponseError, match="changes while its pages are read"):
        Scripted(lambda _: {"tasks": rows[:10]}).listed()


def test_nothing_behind_a_full_page() -> None:
    """Nothing behind a full page, not even its last row, is no end: there may be more rows."""
    rows = newest_first(9)

    def answer(query: Query) -> Body:
        return {"tasks": page(rows, query) if query["offset"] == "0" else [], "task_count": "0"}

    with pytest.raises(InvalidResponseError, match="changes while its pages are read"):
        Scripted(answer, page_size=3).listed()


def test_nothing_behind_pages_that_differ() -> None:
    """Two first pages with nothing behind them are no proof if they differ."""
    turns = itertools.count(3)

    def answer(query: Query) -> Body:
        first = newest_first(next(turns)) if query["offset"] == "0" else []
        return {"tasks": first, "task_count": "0"}

    with pytest.raises(InvalidResponseError, match="changes while its pages are read"):
        Scripted(answer).listed()


def test_a_task_that_cannot_be_told_fails_its_listing() -> None:
    """A row without an id may be the task that failed: such a listing is not whole."""
    rows = [row(1), None]
    with pytest.raises(InvalidResponseError, match="a task is NoneType"):
        Scripted(lambda _: {"tasks": rows, "task_count": 2}).listed()


@pytest.mark.parametrize("odd", ["0001-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z"])
def test_a_failure_without_an_end_that_can_be(odd: str) -> None:
    """A failure whose end is the year 1, or the epoch, is counted all the same."""
    with world(1) as here, here.exporter() as exporter:
        scrape(exporter)
        task = here.cloud.start_task("i0", "EXTEND")
        here.cloud.set_status("i0", task, "FAILED", updated_at=odd)
        labels = {"task_name": "EXTEND", "status": "FAILED"}
        found = [scrape(exporter, here.clock) for _ in range(3)][-1]

    assert value(found, "dcs_tasks_finished_total", **labels) == 1


def test_a_failure_without_a_start_that_can_be(caplog: pytest.LogCaptureFixture) -> None:
    """A failure whose start is the epoch is shown and counted; that is said once."""
    with world(1) as here, here.exporter() as exporter:
        scrape(exporter)
        here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at=iso(NOW + 1))
        here.cloud._tasks["i0"][0]["created_at"] = "1970-01-01T00:00:00.000Z"  # noqa: SLF001
        here.cloud.quirks = type(here.cloud.quirks)(start_parameter="neither")
        labels = {"task_name": "EXTEND", "status": "FAILED"}
        found = [scrape(exporter, here.clock) for _ in range(3)][-1]

    assert value(found, "dcs_tasks_finished_total", **labels) == 1
    assert value(found, "dcs_tasks_recent", **labels) == 1
    assert sum("before 2010 or in the future" in line for line in caplog.messages) == 1


def test_a_task_that_waits_since_the_epoch() -> None:
    """A task that waits, and whose start is the epoch, is active."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.start_task("i0", "EXTEND", "WAITING")
        here.cloud._tasks["i0"][0]["created_at"] = "1970-01-01T00:00:00.000Z"  # noqa: SLF001
        here.cloud.quirks = type(here.cloud.quirks)(start_parameter="neither")
        found = scrape(exporter)

    assert value(found, "dcs_tasks_active", task_name="EXTEND") == 1


def test_a_success_of_the_year_9999() -> None:
    """A success that ends in the year 9999 is never the last one: failures are seen after it."""
    with world(1) as here, here.exporter() as exporter:
        scrape(exporter)
        odd = here.cloud.start_task("i0", "EXTEND")
        here.cloud.set_status("i0", odd, "SUCCESS", updated_at="9999-12-31T23:59:59.999Z")
        scrape(exporter, here.clock)
        task = here.cloud.start_task("i0", "EXTEND")
        here.cloud.finish_task("i0", task, "FAILED")
        found = scrape(exporter, here.clock)
        success = value(found, "dcs_task_last_success_timestamp_seconds", task_name="EXTEND")
        failure = value(found, "dcs_task_last_failure_timestamp_seconds", task_name="EXTEND")

    assert success is not None
    assert failure is not None
    assert success < failure


def test_an_instance_row_costs_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A null row, one without an id, and an id that leads elsewhere cost themselves only."""
    rows = [None, {"name": "no id"}, {"instance_id": ".."}, {"instance_id": "i1", "name": "one"}]
    cloud = Scripted(lambda query: {"instances": page(rows, query), "instance_num": 4})  # type: ignore[arg-type]

    assert [item.id for item in cloud.client.list_instances(60.0)] == ["i1"]
    assert sum("is left out" in line for line in caplog.messages) == 1


def test_a_listing_of_instances_that_contradicts_itself() -> None:
    """Instances that are counted and not listed, twice, are an error: some would be unwatched."""
    cloud = Scripted(lambda _: {"instances": [], "instance_num": 3})
    with pytest.raises(InvalidResponseError, match="counts 3, and lists 0"):
        cloud.client.list_instances(60.0)


@pytest.mark.parametrize(
    ("instances", "interval"), [(1, 20), (100, 20), (300, 60), (500, 100), (5000, 100)]
)
def test_many_instances_are_checked_less_often_each(instances: int, interval: int) -> None:
    """One listing in 20 is read to its end, one in 100 where five a sweep are left even so."""
    assert check_interval(instances) == interval


# Pages that are too large: fewer rows are asked for, and a listing is as whole as ever.

BOUND = 1000
"""Bytes that these clouds' answers may have, in place of 2 MB."""


class Bounded(Scripted):
    """A cloud whose large answers are not read."""

    def send(self, url: str, auth: object, *_: object) -> Answer:
        answer = super().send(url, auth)
        if len(answer.body) > BOUND:
            message = "the answer is larger than 2 MB"
            raise TooLargeError(message, status=200)
        return answer

    @property
    def limits(self) -> list[int]:
        """How many rows were asked for, in each request."""
        return [int(query["limit"]) for query in self.queries]


def fat(number: int, size: int) -> Body:
    return row(number, fat="x" * size)


def test_a_page_that_is_too_large_is_asked_for_in_parts() -> None:
    """Of pages that are too large half is asked for, again and again; every row is listed."""
    rows = [fat(at, 100) for at in reversed(range(30))]
    cloud = Bounded(lambda query: {"tasks": page(rows, query)}, page_size=32)

    assert cloud.listed() == ids(rows)
    assert cloud.limits[:5] == [32, 16, 8, 4, 4]


def test_the_size_that_can_be_read_is_remembered() -> None:
    """Nineteen of twenty listings of an instance begin with the size of page that worked."""
    rows = [fat(at, 150) for at in reversed(range(30))]
    cloud = Bounded(lambda query: {"tasks": page(rows, query)}, page_size=32)
    cloud.listed()
    cloud.queries.clear()
    for _ in range(20):
        cloud.listed()

    assert cloud.limits.count(32) == 1


def test_a_fat_row_among_many() -> None:
    """One row that fills a page alone, behind the first page, costs no other row."""
    rows = [row(at) for at in reversed(range(5))]
    rows[4:4] = [fat(100, 850)]
    rows[2:2] = [fat(101, 700)]
    cloud = Bounded(lambda query: {"tasks": page(rows, query)}, page_size=4)

    assert set(cloud.listed()) == set(ids(rows))


def test_a_row_that_cannot_be_read() -> None:
    """A row that is too large alone is a failed read, which says so."""
    rows = [row(1), fat(2, 2000), row(3)]
    cloud = Bounded(lambda query: {"tasks": page(rows, query)}, page_size=8)
    with pytest.raises(TooLargeError, match="larger than 2 MB, although it was asked for one row"):
        cloud.listed()

    assert cloud.limits[:4] == [8, 4, 2, 1]


def test_other_instances_are_asked_for_full_pages() -> None:
    """An instance with large rows changes nothing for the others of its project."""
    large, small = [fat(at, 150) for at in range(9)], [row(at) for at in range(9)]
    rows = large

    def answer(query: Query) -> Body:
        return {"tasks": page(rows, query), "task_count": len(rows)}

    cloud = Bounded(answer, page_size=10)
    for _ in range(5):
        cloud.client.list_tasks("fat", NOW - 7 * DAY, 60.0)
    rows = small
    for _ in range(5):
        cloud.listed()
    cloud.queries.clear()
    cloud.listed()

    assert cloud.limits == [10]


@settings(deadline=None)
@example(sizes=[10, 10], page_size=1, counts="page", changes=["", "delete first"])
@given(
    sizes=st.lists(st.sampled_from([10, 100, 300, 500, 850]), max_size=12),
    page_size=st.integers(1, 12),
    counts=st.sampled_from(["total", "page", "none"]),
    changes=st.lists(st.sampled_from(["", "", "", "start", "delete first", "delete last"])),
)
def test_no_row_is_lost_between_small_pages(
    sizes: list[int], page_size: int, counts: str, changes: list[str]
) -> None:
    """Rows of any size, in a list that grows and shrinks while it is read, are all listed.

    Those, at least, that were there before and are there afterwards; or the read fails.
    """
    rows = [fat(at, size) for at, size in reversed(list(enumerate(sizes)))]
    fresh = iter(range(100, 1000))
    pending = list(changes)

    def answer(query: Query) -> Body:
        change = pending.pop(0) if pending else ""
        if change == "start":
            rows[:0] = [row(next(fresh), age=1)]
        elif change and rows:
            del rows[0 if change == "delete first" else -1]
        shown = page(rows, query)
        count = {"total": {"task_count": len(rows)}, "page": {"task_count": len(shown)}}
        return {"tasks": shown, **count.get(counts, {})}

    cloud = Bounded(answer, page_size=page_size)
    before = set(ids(rows))
    try:
        listed = set(cloud.listed())
    except InvalidResponseError:
        return

    assert before & set(ids(rows)) <= listed


def test_rows_of_a_hundred_kilobytes() -> None:
    """Sixty tasks of 100 KB each, in a simulated cloud, are all counted, and none twice."""
    labels = {"task_name": "EXTEND", "status": "FAILED"}
    with world(1) as here, here.exporter() as exporter:
        scrape(exporter, here.clock)
        for _ in range(60):
            here.cloud.start_task("i0", "EXTEND", "FAILED", user_name="x" * 100_000)
        found = [scrape(exporter, here.clock) for _ in range(3)][-1]

    assert value(found, "dcs_tasks_finished_total", **labels) == 60
    assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 1


def test_instances_of_a_hundred_kilobytes() -> None:
    """A listing of instances whose pages are too large is read in smaller ones, whole."""
    rows = [
        {"instance_id": f"i{at}", "name": f"cache-{at}", "description": "x" * 300}
        for at in range(11)
    ]

    def answer(query: Query) -> Body:
        return {"instances": page(rows, query), "instance_num": len(rows)}

    found = Bounded(answer, page_size=8).client.list_instances(60.0)

    assert [instance.id for instance in found] == [f"i{at}" for at in range(11)]


def test_an_old_row_alone_does_not_end_a_listing() -> None:
    """A page with an old row that is not the last one, and nothing else, hides no row behind it."""
    rows = newest_first(12)
    places = {"0": rows[:3], "2": rows[1:2], "3": rows[3:6]}

    def answer(query: Query) -> Body:
        return {"tasks": places.get(query["offset"], page(rows, query, cap=3))}

    assert Scripted(answer).listed() == ids(rows)


def test_old_rows_do_not_end_a_listing() -> None:
    """Rows from before the window may come first where a cloud does not filter: all are read."""
    old = [row(100 + at, age=(30 + at) * DAY) for at in range(12)]
    rows = [*old, *newest_first(3)]
    cloud = Scripted(lambda query: {"tasks": page(rows, query, cap=5)})

    assert [cloud.listed() for _ in range(2)] == [ids(newest_first(3))] * 2


class Failing(Scripted):
    """A cloud whose answers fail where its function returns nothing."""

    def send(self, url: str, auth: object, *_: object) -> Answer:
        answer = super().send(url, auth)
        return Answer(500, {}, b"{}") if answer.body == b"{}" else answer


@pytest.mark.parametrize("count", [3, 0])
def test_a_contradicted_total_is_given_up(count: int) -> None:
    """A count below the rows ends the belief in totals, even if that listing fails afterwards."""
    rows = newest_first(7)
    odd: list[int] = []

    def answer(query: Query) -> Body:
        if odd and query["offset"] != "0":
            return {}
        return {"tasks": page(rows, query), "task_count": odd[0] if odd else len(rows)}

    cloud = Failing(answer)
    cloud.listed()
    assert cloud.requests() == 1
    odd.append(count)
    with pytest.raises(ServerError):
        cloud.listed()
    odd.clear()

    assert cloud.requests() == 2


# The reader alone, over rows that it is given by places.


class Rows:
    """A list of rows that a reader reads, by pages of `limit` rows."""

    def __init__(self, rows: Sequence[Task], max_pages: int = 5, limit: int = 10) -> None:
        self.limit = limit
        self.rows = list(rows)
        self.count: int | None = None
        self.places: list[int] = []
        self.names: list[tuple[str, ...]] = []
        self.failed: list[ApiError] = []
        self.warnings: list[str] = []
        start = StartParameter("start_time", self.warnings.append)
        self.reader: ListingReader[Task] = ListingReader(start, max_pages, self.failed.append)

    def fetch(self, place: Place, names: tuple[str, ...]) -> Fetched[TaskPage[Task]]:
        """Return a page."""
        offset = place.offset(self.limit)
        self.places.append(offset)
        self.names.append(names)
        count = len(self.rows) if self.count is None else self.count
        rows = tuple(self.rows[offset : offset + self.limit])
        return Fetched(TaskPage(rows, None if count < 0 else count), self.limit, None)

    def read(self, **window: Any) -> Reading[Task]:
        """Read it once more."""
        self.places.clear()
        return self.reader.read(self.fetch, Window(window.pop("since", NOW - DAY), **window))

    def believe(self) -> None:
        """Show that the count is a total."""
        rows, self.rows = self.rows, self.rows[:15]
        self.read()
        self.rows = rows


def oldest_first(number: int) -> list[Task]:
    return [Task(f"t{at:03}", "EXTEND", "SUCCESS", NOW - 3600 + at) for at in range(number)]


@pytest.mark.parametrize("number", [44, 45])
def test_a_list_that_fits(number: int) -> None:
    """A list that begins with the oldest rows is read whole, where the pages have room for it."""
    here = Rows(oldest_first(number))
    here.believe()
    whole = here.read()

    assert list(whole.rows) == [task.id for task in here.rows]
    assert (whole.truncated, here.places) == (False, [0, 9, 18, 27, 36])


def test_a_list_that_does_not_fit() -> None:
    """Of one that is longer, its newest end is read, and its first page."""
    here = Rows(oldest_first(100))
    here.believe()
    cut = here.read()

    assert list(cut.rows) == [task.id for task in (*here.rows[:10], *here.rows[73:])]
    assert cut.truncated is True
    assert here.places == [0, 73, 82, 91, 99]


def test_a_list_just_longer_than_its_room() -> None:
    """The newest end never begins within the first page."""
    here = Rows(oldest_first(12), max_pages=3)
    here.rows.extend(oldest_first(40)[12:])
    cut = here.read()

    assert here.places == [0, 31, 39]
    assert [len(cut.rows), cut.truncated] == [19, True]


@pytest.mark.parametrize("count", [-1, 40])
def test_a_long_list_without_a_count(count: int) -> None:
    """Where no count says how long a list is, what does not fit is no listing."""
    here = Rows(oldest_first(100))
    here.count = count
    with pytest.raises(IncompleteListingError):
        here.read()

    assert here.places == [0, 9, 18, 27, 36]
    assert [type(error) for error in here.failed] == [IncompleteListingError]


def test_a_newest_end_that_is_no_end() -> None:
    """A list that has more rows than it counts may lack the newest."""
    here = Rows(oldest_first(200))
    here.count = 100
    with pytest.raises(IncompleteListingError):
        here.read()

    assert here.places == [0, 73, 82, 91, 100]


def test_a_newest_end_out_of_order() -> None:
    """A list that only begins in order may have its newest rows anywhere."""
    rows = oldest_first(100)
    here = Rows([*rows[:10], *reversed(rows[10:])])
    with pytest.raises(IncompleteListingError):
        here.read()


def test_a_list_that_counts_too_much() -> None:
    """A newest end without any row is none."""
    here = Rows(oldest_first(20))
    here.count = 1000
    with pytest.raises(IncompleteListingError):
        here.read()


def test_rows_that_began_at_once() -> None:
    """Rows with one start show no order."""
    here = Rows([Task(f"t{at:03}", "EXTEND", "SUCCESS", NOW - 60) for at in range(100)])
    with pytest.raises(IncompleteListingError):
        here.read()

    assert here.places == [0, 9, 18, 27, 36]


@pytest.mark.parametrize(
    ("began", "is_older"),
    [
        (NOW - DAY - 1.5, True),
        (NOW - DAY - 1.0, False),
        (EARLIEST_TIME, True),
        (EARLIEST_TIME - 1, False),
        (None, False),
    ],
)
def test_what_shows_that_a_cloud_does_not_filter(began: float | None, *, is_older: bool) -> None:
    """A row from more than a second before the window does, if its start can be."""
    here = Rows([Task("a", "EXTEND", "SUCCESS", began)])
    here.read()

    assert (("begin_time",) in here.names) is is_older
    assert bool(here.warnings) is is_older


def test_a_known_row_that_is_not_listed_is_looked_for() -> None:
    """A believed total ends no listing that lacks a known row of the window, or one in doubt."""
    here = Rows(oldest_first(5))
    here.believe()
    gone = Task("gone", "EXTEND", "SUCCESS", NOW - DAY)
    here.rows = oldest_first(20)[:12]
    here.read()
    known = tuple(here.rows)
    here.read(known=known)
    few = list(here.places)
    here.read(known=(*known, gone))
    looked = list(here.places)
    here.read(known=(*known, replace(gone, created_at=NOW - DAY - 0.5)))
    early = list(here.places)
    here.read(known=(*known, replace(gone, created_at=None)))
    timeless = list(here.places)
    here.read(known=known, exhaustive=True)

    assert few == early == [0, 9]
    assert looked == timeless == here.places == [0, 9, 11]


def test_a_problem_is_counted_and_told() -> None:
    """A list that counts more than it lists is read twice, and then counted as an error."""
    here = Rows(oldest_first(3))
    here.count = 4
    with pytest.raises(InvalidResponseError) as raised:
        here.read()

    assert raised.value.message == "the listing contradicts itself: it counts 4, and lists 3"
    assert here.failed == [raised.value]
    assert here.places == [0, 2, 0, 2]


def test_a_long_list_of_small_pages() -> None:
    """Pages of two rows have room for one new row each."""
    here = Rows(oldest_first(8), limit=2)
    cut = here.read()

    assert here.places == [0, 5, 6, 7]
    assert (len(cut.rows), cut.truncated) == (5, True)
