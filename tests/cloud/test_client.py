"""The client against every side of what the API's documents leave open."""

from __future__ import annotations

import contextlib
import json
import random
import zlib
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud import client
from dcs_task_exporter.cloud.calls import Call, Reply
from dcs_task_exporter.cloud.client import DcsClient
from dcs_task_exporter.cloud.parsing import parse_details, parse_page, parse_task
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.errors import ApiError, InvalidResponseError, NotFoundError
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.instance_state import InstanceState
from dcs_task_exporter.tasks.models import Progress, Task
from tests.support.clouds import ACCESS_KEY, DAY, PROJECT, SECRET_KEY, World, exporter_of, world
from tests.support.counting import count
from tests.support.real_parts import TESTDATA
from tests.support.refresh_settings import collector, project

CHOICES: dict[str, tuple[Any, ...]] = {
    "start_parameter": ("start_time", "begin_time", "both", "neither"),
    "order": ("newest", "oldest"),
    "task_count": ("total", "page", "missing"),
    "task_count_as_text": (False, True),
}
QUIRKS = [
    Quirks(**dict(zip(CHOICES, values, strict=True))) for values in product(*CHOICES.values())
]
ODD_QUIRKS = [
    Quirks(max_limit=10, over_limit="clamp"),
    Quirks(max_limit=10, over_limit="clamp", task_count="page"),
    Quirks(max_limit=10, over_limit="reject"),
]
ODD_FIELDS: list[dict[str, Any]] = [
    {"updated_at": None},
    {"updated_at": ""},
    {"updated_at": "2025-06-15T15:06:40.000Z"},
    {"error_code": "", "job_id": "8abf6e1e72c12e7c0172c15b508500aa"},
    {"details": {"old_capacity": 0.125, "new_capacity": 0.25}},
    {"details": {"new_cahce_mode": "ha"}},
]


def listed(here: World, **collector: Any) -> list[Task]:
    """Return the tasks of the first instance as the exporter's client lists them."""
    with here.exporter(**collector) as exporter:
        start = here.clock.wall - 7 * 86_400
        client = exporter.clients["prod"]
        return list(client.list_tasks("i0", start, here.clock.steady + 60).tasks)


@pytest.mark.parametrize("quirks", [*QUIRKS, *ODD_QUIRKS])
def test_whole_listing(quirks: Quirks) -> None:
    """Whatever the cloud makes of paging, time and counts, each task of the window comes once.

    Of none, one, a page that is full where the cloud allows 10, and more.
    """
    with world(1, quirks) as here, here.exporter() as exporter:
        start = here.clock.wall - 7 * 86_400
        here.cloud.start_task("i0", "EXTEND", created_at=start - 86_400)
        wanted: list[str] = []
        for number in (0, 1, 10, 25):
            for at in range(len(wanted), number):
                began = here.clock.wall - 3600 * at
                wanted.append(here.cloud.start_task("i0", "EXTEND", created_at=began))
            listing = exporter.clients["prod"].list_tasks("i0", start, here.clock.steady + 60)

            assert [task.id for task in listing.tasks] == wanted


@pytest.mark.parametrize("fields", ODD_FIELDS)
def test_odd_fields(fields: dict[str, Any]) -> None:
    """Whatever else the cloud may say of an active task, it is listed as the task that it is."""
    with world(1) as here:
        wanted = here.cloud.start_task("i0", "EXTEND", **fields)
        (task,) = listed(here)

    assert (task.id, task.name, task.status) == (wanted, "EXTEND", "EXECUTING")


@pytest.mark.parametrize("empty", ["list", "null", "missing"])
def test_no_tasks(empty: Any) -> None:
    """An instance without tasks lists none, however the cloud says so."""
    with world(1, Quirks(empty_tasks=empty)) as here:
        assert listed(here) == []


@pytest.mark.parametrize(
    ("empty", "task_count"),
    [("null", "total"), ("null", "page"), ("null", "missing"), ("missing", "total")],
)
def test_last_page_without_tasks(empty: Any, task_count: Any) -> None:
    """A page beyond the last may have no tasks beside a total: that is the end, no error."""
    with world(1, Quirks(empty_tasks=empty, task_count=task_count)) as here:
        wanted = {here.cloud.start_task("i0", "EXTEND") for _ in range(4)}

        assert {task.id for task in listed(here, page_size=2)} == wanted


@given(
    tasks=st.lists(
        st.tuples(st.sampled_from(["EXTEND", "modify"]), st.sampled_from(["SUCCESS", "CREATED"])),
        max_size=8,
    ),
    page_sizes=st.tuples(st.integers(1, 10), st.integers(1, 10)),
)
@settings(max_examples=settings().max_examples // 4)
def test_order_and_page_size_do_not_matter(
    tasks: list[tuple[str, str]], page_sizes: tuple[int, int]
) -> None:
    """Whatever the order of the listing and the size of its pages, counting gives one state."""
    states = []
    for quirks, size in zip((Quirks(), Quirks(order="oldest")), page_sizes, strict=True):
        with world(1, quirks) as here, here.exporter(page_size=size) as exporter:
            client, now = exporter.clients["prod"], here.clock.wall
            state = InstanceState()
            for number, (name, status) in enumerate([("modify", "SUCCESS"), *tasks]):
                here.cloud.start_task("i0", name, status, created_at=now - 100 + number)
                listing = client.list_tasks("i0", now - DAY, here.clock.steady + 60)
                state = count(state, listing, now, CountingRules(7 * DAY))
            states.append(state)

    assert states[0] == states[1]


def test_page_cap_is_visible() -> None:
    """The page cap cuts a listing behind the newest tasks, and says so."""
    with world(1) as here, here.exporter(page_size=5, max_pages=2) as exporter:
        for age in range(20):
            here.cloud.start_task("i0", "EXTEND", created_at=here.clock.wall - age)
        exporter.fleet.refresh_and_wait(10)

        assert [snapshot.truncated for snapshot in exporter.refresher.snapshots()] == [True]


def test_small_listing_costs_one_request_once_the_count_is_known() -> None:
    """Once the cloud has shown that task_count is a total, a short list costs one request."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.start_task("i0", "EXTEND")
        client, start = exporter.clients["prod"], here.clock.wall - 10
        client.list_tasks("i0", start, here.clock.steady + 60)
        before = here.cloud.count()
        client.list_tasks("i0", start, here.clock.steady + 60)

        assert here.cloud.count() - before == 1


def test_listing_shifts_while_it_is_paged() -> None:
    """A listing in another order at each request has every task once, or is an error."""
    with world(1, Quirks(order="shuffled")) as here:
        wanted = {here.cloud.start_task("i0", "EXTEND") for _ in range(4)}
        for _ in range(20):
            with contextlib.suppress(InvalidResponseError):
                ids = [task.id for task in listed(here, page_size=3)]
                assert sorted(ids) == sorted(wanted)


def test_retry() -> None:
    """A failure that may pass is asked again, re-signed, and counted as a retry."""
    with world(1) as here:
        here.cloud.faults.add("unavailable", times=1)
        assert listed(here, retries=2) == []
        assert here.cloud.count() == 2


@pytest.mark.parametrize("fault", ["forbidden", "no_such_instance", "bad_signature", "bad_offset"])
def test_no_retry(fault: str) -> None:
    """What asking again cannot mend is asked once."""
    with world(1) as here, here.exporter(retries=5) as exporter:
        here.cloud.faults.add(fault)
        exporter.fleet.refresh_and_wait(10)

        assert here.cloud.count() == 1


def test_project_id_is_looked_up() -> None:
    """Without a project id, it is looked up by the region's name, once."""
    with world(2) as here:
        text = here.config_text().replace(f"    project_id: {PROJECT}\n", "")
        with exporter_of(here, text) as exporter:
            exporter.fleet.refresh_and_wait(10)

            assert [snapshot.up for snapshot in exporter.refresher.snapshots()] == [True, True]
        assert here.cloud.count("list_projects") == 1


def test_ambiguous_project() -> None:
    """Two projects of one name are an error that says what to set."""
    with world(1) as here:
        here.cloud.add_project("another", "cn-north-4")
        text = here.config_text().replace(f"    project_id: {PROJECT}\n", "")
        with (
            exporter_of(here, text) as exporter,
            pytest.raises(NotFoundError, match="2 projects are named cn-north-4: set project_id"),
        ):
            exporter.clients["prod"].list_instances(here.clock.steady + 60)


def test_list_instances() -> None:
    """All pages of the instances are read."""
    with world(25) as here, here.exporter(page_size=10) as exporter:
        found = exporter.clients["prod"].list_instances(here.clock.steady + 60)

    assert [instance.id for instance in found] == [f"i{number}" for number in range(25)]


def test_token_credentials() -> None:
    """A fixed token is accepted by the cloud."""
    with world(1) as here:
        here.cloud.access.add_token("MIIatAYJKoZI")
        old = here.config_text()
        head, tail = old.split("    credentials:\n")
        rest = tail[tail.index("    instances:") :]
        text = f"{head}    credentials: {{type: token, token: MIIatAYJKoZI}}\n{rest}"
        with exporter_of(here, text) as exporter:
            exporter.fleet.refresh_and_wait(10)

            assert exporter.refresher.snapshots()[0].up


@pytest.mark.parametrize(
    "names", [("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"), ("CLOUD_SDK_AK", "CLOUD_SDK_SK")]
)
def test_environment_credentials(names: tuple[str, str]) -> None:
    """The key comes from the environment under the SDK's names, or those of the samples."""
    with world(1) as here:
        head, tail = here.config_text().split("    credentials:\n")
        rest = tail[tail.index("    instances:") :]
        text = f"{head}    credentials: {{type: environment}}\n{rest}"
        environ = dict(zip(names, (ACCESS_KEY, SECRET_KEY), strict=True))
        with exporter_of(here, text, environ) as exporter:
            exporter.fleet.refresh_and_wait(10)

            assert exporter.refresher.snapshots()[0].up


def test_rotated_secret_file(tmp_path: Path) -> None:
    """A secret file that changes is used at once, without a restart and without the pause."""
    file = tmp_path / "sk"
    file.write_text("wrong\n")
    with world(1) as here:
        text = here.config_text().replace(f"secret_key: {SECRET_KEY}", f"secret_key_file: {file}")
        with exporter_of(here, text) as exporter:
            exporter.fleet.refresh_and_wait(10)
            file.write_text(f"{SECRET_KEY}\n")
            here.clock.advance(15)
            exporter.fleet.refresh_and_wait(10)

            assert exporter.refresher.snapshots()[0].up


SEED = json.loads((TESTDATA / "seed_example.json").read_bytes())


def test_every_detail_is_read() -> None:
    """All 26 fields of the details are read, as numbers or as text."""
    details = parse_details(
        {**SEED["tasks"][0]["details"], "enable_public_ip": "true", "enable_ssl": True}
        | {"public_ip_id": "id", "public_ip_address": "192.0.2.1", "rename_commands": ["KEYS"]}
    )

    names = TaskDetails.__dataclass_fields__
    assert len(names) == 26
    assert not [name for name in names if getattr(details, name) in (None, "", ())]


def test_what_a_total_is_in_one_listing_it_need_not_be_in_another() -> None:
    """That the task centre counts all tasks does not make an instance's listing end early."""
    with world(1) as here, here.exporter(page_size=2) as exporter:
        for _ in range(3):
            here.cloud.start_task("i0", "EXTEND")
        client, deadline = exporter.clients["prod"], here.clock.steady + 60
        client.list_center_tasks(0, deadline)
        here.cloud.quirks = Quirks(task_count="page")

        assert len(client.list_tasks("i0", 0, deadline).tasks) == 3


def test_answers_of_others_are_forgotten() -> None:
    """The answer of an instance that is not watched any more is not kept."""
    with world(2) as here, here.exporter() as exporter:
        client, deadline = exporter.clients["prod"], here.clock.steady + 60
        for name in ("i0", "i1"):
            client.list_tasks(name, 0, deadline)
        client.forget_all_but({"i0"})

        assert client._memories.keys() == {"i0"}  # noqa: SLF001 - what is held shows nowhere


def test_any_json_is_a_page_or_a_clear_error() -> None:
    """No JSON at all breaks the parser: it is a page, or an error that says why."""
    chance = random.Random(7)  # noqa: S311 - repeatable
    leaves = [None, True, 0, -1, 1.5, "x", "", [], {}, {"id": 3}, ["a"], "1e999"]
    for _ in range(3000):
        row = {
            key: chance.choice(leaves)
            for key in (*SEED["tasks"][0], "error_code", "job_id")
            if chance.random() < 0.8
        }
        body = {"tasks": [row, chance.choice(leaves)][: chance.randint(0, 2)]}
        try:
            page = parse_page(body, parse_task)
        except InvalidResponseError:
            continue
        else:
            assert all(task.id and task.name and task.status for task in page.tasks)


class Asked:
    """A caller that notes each call, and answers with an empty body that fits all."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    def get(self, call: Call[Any]) -> Reply[Any]:
        self.calls.append(call)
        body = {"tasks": [], "task_count": 0, "instances": [], "progress": 50}
        return Reply(call.parse(body), None)

    def count_error(self, operation: str, error: ApiError) -> None:
        message = f"no error was expected: {operation} {error}"
        raise AssertionError(message)

    def client(self) -> DcsClient:
        """Return a client of a project whose id must be encoded."""
        caller = cast("ApiCaller", self)
        own = project(project_id="p/1")
        return DcsClient(own, collector(), caller, Clock(), lambda: 0.0)


def test_the_progress_of_a_task_is_asked_for() -> None:
    """The ids in the path are encoded, slashes too; the call is for its instance."""
    asked = Asked()
    found = asked.client().task_progress("i/0", "t/0", 9.0)
    (call,) = asked.calls

    assert found == Progress(0.5, None)
    assert call.url == "https://dcs/v2/p%2F1/instances/i%2F0/tasks/t%2F0/progress"
    assert (call.operation, call.deadline) == ("task_progress", 9.0)
    assert (call.project_id, call.subject, call.query) == ("p/1", "i/0", {})


def test_the_tasks_of_an_instance_are_asked_for() -> None:
    """The window begins at a whole second in UTC, and never before 1970."""
    asked = Asked()
    client = asked.client()
    client.list_tasks("i/0", 1_750_000_000.9, 9.0)
    client.list_tasks("i/0", -1.0, 9.0)
    first, second = asked.calls

    assert first.url == "https://dcs/v2/p%2F1/instances/i%2F0/tasks"
    assert (first.operation, first.subject, first.project_id) == ("list_tasks", "i/0", "p/1")
    assert first.query == {"start_time": "20250615150640", "limit": "100", "offset": "0"}
    assert second.query["start_time"] == "19700101000000"


def test_the_tasks_of_a_project_are_asked_for() -> None:
    """The task center's calls are for no instance."""
    asked = Asked()
    assert asked.client().list_center_tasks(0.0, 9.0) == ((), False)
    (call,) = asked.calls

    assert call.url == "https://dcs/v2/p%2F1/tasks"
    assert (call.operation, call.subject) == ("list_center_tasks", "")


def test_the_instances_of_a_project_are_asked_for() -> None:
    """Instances are asked for by pages, for no instance."""
    asked = Asked()
    assert asked.client().list_instances(9.0) == ()
    (call,) = asked.calls

    assert call.url == "https://dcs/v2/p%2F1/instances"
    assert (call.operation, call.subject, call.deadline) == ("list_instances", "", 9.0)
    assert call.query == {"limit": "100", "offset": "0"}


class Instances(Asked):
    """A caller whose pages of instances a test chooses; the total is that of all rows."""

    def __init__(self, rows: list[object], counted: int | None = None) -> None:
        super().__init__()
        self.rows, self.counted = rows, len(rows) if counted is None else counted
        self.errors: list[str] = []

    def get(self, call: Call[Any]) -> Reply[Any]:
        self.calls.append(call)
        offset, limit = int(call.query["offset"]), int(call.query["limit"])
        rows = self.rows[offset : offset + limit]
        return Reply(call.parse({"instances": rows, "instance_num": self.counted}), None)

    def count_error(self, operation: str, error: ApiError) -> None:
        self.errors.append(f"{operation} {error}")

    def found(self, page_size: int = 2) -> list[str]:
        """Return the ids that are listed, by pages of two."""
        caller = cast("ApiCaller", self)
        own = project(project_id="p")
        client = DcsClient(own, collector(page_size=page_size), caller, Clock(), lambda: 0.0)
        return [instance.id for instance in client.list_instances(9.0)]

    @property
    def offsets(self) -> list[str]:
        """Where the pages began."""
        return [call.query["offset"] for call in self.calls]


def ids(*names: str) -> list[object]:
    return [{"instance_id": name} for name in names]


def test_a_page_of_instances_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """A full page without any readable row hides none behind it; the rows are told once."""
    asked = Instances([None, None, *ids("a", "b"), None])
    assert asked.found() == ["a", "b"]
    assert asked.offsets == ["0", "2", "4"]
    (line,) = caplog.records
    fields = vars(line)["fields"]
    assert fields == {"project": "prod", "problem": "an instance is NoneType, not an object"}


def test_instances_are_read_to_their_end() -> None:
    """The listing ends with a page without any row, or without a new one."""
    asked = Instances(ids("a", "b", "c", "d"))
    assert asked.found() == ["a", "b", "c", "d"]
    assert asked.offsets == ["0", "2", "4"]


def test_instances_that_are_counted_twice() -> None:
    """Where more are counted than listed, all are read once more, and then that is an error."""
    asked = Instances(ids("a", "b", "c"), counted=4)
    with pytest.raises(InvalidResponseError) as raised:
        asked.found()

    told = "the listing of instances counts 4, and lists 3"
    assert raised.value.message == told
    assert asked.errors == [f"list_instances {told}"]
    assert asked.offsets == ["0", "2", "3"] * 2


def test_a_listing_of_instances_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that does not end is an error."""
    monkeypatch.setattr(client, "MAX_INSTANCES", 4)
    with pytest.raises(InvalidResponseError, match="does not end after 4"):
        Instances(ids("a", "b", "c", "d", "e")).found()


def test_where_checks_begin() -> None:
    """Instances are checked at different times, the same ones in each life."""
    made = Asked().client()
    counts = [made._memory_of(f"i{at}")._count for at in range(50)]  # noqa: SLF001 - shows nowhere

    assert counts == [zlib.crc32(f"i{at}".encode()) % 100 for at in range(50)]
    assert made._memory_of("i1") is made._memory_of("i1")  # noqa: SLF001


class Tasks(Asked):
    """A caller that answers with pages of tasks."""

    def __init__(self, *rows: dict[str, str]) -> None:
        super().__init__()
        self.rows = rows

    def get(self, call: Call[Any]) -> Reply[Any]:
        self.calls.append(call)
        offset = int(call.query["offset"])
        return Reply(call.parse({"tasks": list(self.rows[offset : offset + 2])}), None)


def test_only_a_first_page_is_remembered() -> None:
    """The first page of a listing has a memory, the same in the next one; later pages have none."""
    asked = Tasks(*({"id": key, "status": "SUCCESS"} for key in "abc"))
    own = asked.client()
    for _ in range(2):
        assert len(own.list_tasks("i0", 0.0, 9.0).tasks) == 3
    memories = [call.memory for call in asked.calls]

    assert [call.query["offset"] for call in asked.calls] == ["0", "1", "2"] * 2
    assert memories[1:3] == memories[4:] == [None, None]
    assert memories[0] is not None
    assert memories[0] is memories[3]


def test_an_odd_time_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line about an odd time names the first task that has one, and its instance."""
    odd = "9999-12-31T23:59:59.999Z"
    asked = Tasks({"id": "a"}, {"id": "b", "created_at": odd}, {"id": "c", "created_at": odd})
    asked.client().list_tasks("i0", 0.0, 9.0)

    (line,) = caplog.records
    fields = vars(line)["fields"]
    assert fields == {"project": "prod", "dcs_instance_id": "i0", "task_id": "b"}


def test_an_id_that_is_no_text() -> None:
    """An id with half a character is one like any other."""
    assert Asked().client()._memory_of("\ud800").rows is None  # noqa: SLF001 - shows nowhere
