"""What the dashboards say in each world, read from a real Prometheus on back-filled blocks."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import board_reader, board_worlds, promql
from tests.support.board_reader import BOARDS, Grafana, Shown
from tests.support.board_worlds import HOUR, MINUTE, World
from tests.support.real_parts import ROOT, real_part
from tests.support.real_prometheus import running_config

pytestmark = pytest.mark.real

WORLDS = board_worlds.worlds()
FOREIGN = "node:910"
MOST_BYTES = 1_000_000
DAY = 24 * HOUR
GOOD = "green"
BOARD_OF_INSTANCE = "instance"
PANELS = [(board, it["title"]) for board in BOARDS for it in board_reader.panels(board)]
STATS = [
    (board, it["title"])
    for board in BOARDS
    for it in board_reader.panels(board)
    if it["type"] == "stat"
]
TABLES = [key for key in PANELS if board_reader.panel(*key)["type"] == "table"]
GRAPHS = [
    key for key in PANELS if board_reader.panel(*key)["type"] in ("timeseries", "state-timeline")
]
LARGE = ("fifty", "thousand")
ON_ONE = pytest.mark.parametrize("url", ["3"], indirect=True)
"""How large the answers are is the same for each Prometheus, and long in coming."""

SMALL = pytest.mark.parametrize("name", [name for name in WORLDS if name not in LARGE])
Reader = Callable[..., Grafana]


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blocks of all worlds, made once, whichever of the test processes comes first."""
    promtool = real_part(ROOT / ".tools" / "prometheus-2" / "promtool", "promtool 2")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "board-worlds"
    with (base / "board-worlds.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = base / "board-worlds.new"
            for world in WORLDS.values():
                _fill(promtool, world, made)
            made.rename(folder)
    return folder


def _fill(promtool: Path, world: World, folder: Path) -> None:
    file = folder.with_suffix(".txt")
    with file.open("w") as text:
        text.writelines(world.text())
        text.write("# EOF\n")
    command = [str(promtool), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    command += ["--max-block-duration=24h", str(file), str(folder)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a test's own
    file.unlink()


@pytest.fixture(scope="module", params=["2", "3"])
def url(
    request: pytest.FixtureRequest, blocks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Prometheus of each major version on those blocks."""
    name = f"Prometheus {request.param}"
    binary = real_part(ROOT / ".tools" / f"prometheus-{request.param}" / "prometheus", name)
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(blocks, folder / "data", copy_function=os.link)
    # Blocks stay what they are: they are years old, and are not merged.
    options = ["--storage.tsdb.retention.time=100y"]
    options += [f"--storage.tsdb.{each}-block-duration=2h" for each in ("min", "max")]
    with running_config(binary, folder, "global: {}\n", options) as server:
        server.wait_for("vector(1)")
        yield server.url


@pytest.fixture
def look(url: str) -> Reader:
    """Look at a world through Grafana, at its end."""

    def looking(name: str, seconds: int = 0, **values: str) -> Grafana:
        world = WORLDS[name]
        span = seconds or (HOUR if world.hours < 2 else DAY)
        return Grafana(url, world.end, span, {"dcs_instance": _first(world), **values})

    return looking


def _first(world: World) -> str:
    return next(each.id for target in world.targets for each in target.instances)


def viewer(look: Reader, name: str, board: str, **values: Any) -> Grafana:
    """Look at a board: all instances but where the board is of one."""
    if board != BOARD_OF_INSTANCE:
        values = {"dcs_instance": ".+", **values}
    return look(name, **values)


def stats(grafana: Grafana, board: str) -> dict[str, str]:
    """Return the texts and colors of all numbers of a board, by panel and name."""
    found = {}
    for title in (title for name, title in STATS if name == board):
        for name, (text, color) in grafana.read(board, title).stats.items():
            found[f"{title}: {name}".removesuffix(": ")] = f"{text} {color}"
    return found


def colors(told: Mapping[str, str]) -> set[str]:
    return {text.rpartition(" ")[2] for text in told.values()}


def counted(shown: Shown) -> dict[str, float]:
    """Return the sum of each series of bars."""
    return {name: sum(value for _at, value in points) for name, points in shown.lines.items()}


# A dead exporter.


@pytest.mark.parametrize("board", BOARDS)
def test_a_dead_exporter_looks_dead(look: Reader, board: str) -> None:
    """Six hours after the exporter's death the first panel of each board is red: none answers."""
    first = board_reader.panels(board)[0]

    shown = viewer(look, "dead", board).read_panel(first)

    assert shown.stats == {"answer": ("0", "red"), "down": ("1", "red")}


@pytest.mark.parametrize("board", BOARDS)
def test_a_dead_exporter_says_nothing_good(look: Reader, board: str) -> None:
    """No number of a dead exporter is green, and what nobody knows is said to be unknown."""
    told = stats(viewer(look, "dead", board), board)

    assert colors(told) == {"red", "purple"}
    assert {text for text in told.values() if text.endswith("purple")} == {"unknown purple"}


def test_a_dead_exporters_numbers(look: Reader) -> None:
    """Of a dead exporter nothing is watched, all is unread, and what is active is unknown.

    What had failed in the time range had failed, and is still said.
    """
    assert stats(viewer(look, "dead", "fleet"), "fleet") == {
        "Scrape targets: answer": "0 red",
        "Scrape targets: down": "1 red",
        "Instances: watched": "0 red",
        "Instances: cannot be read": "3 red",
        "Oldest data": "21630 red",
        "Still failed": "unknown purple",
        "Failures in this time": "1 red",
        "Active now": "unknown purple",
    }


def test_a_dead_exporter_did_not_see_no_failures(look: Reader) -> None:
    """Where nothing had failed before the exporter died, the failures are unknown and not 0."""
    board = viewer(look, "dead", "fleet", task_name="AddReplica")

    assert board.read("fleet", "Failures in this time").stats == {"": ("unknown", "purple")}


def test_a_dead_exporters_tables(look: Reader) -> None:
    """No table shows a dead exporter's tasks as current; two say which instances are unread."""
    rows = {
        (board, title): len(viewer(look, "dead", board).read(board, title).rows)
        for board, title in TABLES
    }

    assert {key: count for key, count in rows.items() if count} == {
        ("fleet", "Instances that cannot be read"): 3,
        ("exporter", "Instances in doubt"): 3,
        ("exporter", "Scrape targets, each"): 1,
    }


def test_a_dead_exporter_in_a_short_range(look: Reader) -> None:
    """Of an exporter that died before the time range, nothing is said to be well."""
    told = stats(viewer(look, "dead", "fleet", seconds=HOUR), "fleet")

    assert told["Scrape targets: answer"] == "0 red"
    assert told["Scrape targets: down"] == "1 red"
    assert colors(told) == {"red", "purple"}


def test_lines_of_a_dead_exporter_end(look: Reader) -> None:
    """No line goes on after the exporter's death."""
    death = WORLDS["dead"].end - 6 * HOUR + 6 * MINUTE
    for board, title in PANELS:
        shown = viewer(look, "dead", board).read(board, title)
        late = [name for name, points in shown.lines.items() if points[-1][0] > death]
        assert not late, (board, title)


# An exporter that is alive, and cannot read anything.


def test_an_outage_of_the_api_is_not_calm(look: Reader) -> None:
    """After two hours without an answer of the API the exporter answers, and knows nothing."""
    assert stats(viewer(look, "outage", "fleet"), "fleet") == {
        "Scrape targets: answer": "1 green",
        "Scrape targets: down": "0 green",
        "Instances: watched": "3 blue",
        "Instances: cannot be read": "3 red",
        "Oldest data": "7200 red",
        "Still failed": "unknown purple",
        "Failures in this time": "unknown purple",
        "Active now": "unknown purple",
    }


def test_what_is_unread_in_an_outage(look: Reader) -> None:
    """In an outage the fleet's only table with rows is that of the unread instances."""
    board = viewer(look, "outage", "fleet")
    rows = {title: board.read("fleet", title).rows for name, title in TABLES if name == "fleet"}

    assert {title for title, found in rows.items() if found} == {"Instances that cannot be read"}
    assert len(rows["Instances that cannot be read"]) == 3


def test_an_exporter_in_trouble_says_so(look: Reader) -> None:
    """The exporter's board says that its search, clock, files and key are in trouble, and whose."""
    board = viewer(look, "outage", "exporter")
    told = stats(board, "exporter")

    assert told["Projects that find nothing"] == "1 red"
    assert told["Clock in doubt"] == "1 red"
    assert told["Configuration"] == "refused red"
    assert told["Problems with the state file"] == "6 red"
    assert told["Credentials expire in"] == "expired red"
    assert {row["Note"] for row in board.read("exporter", "Scrape targets, each").rows} == {
        "clock in doubt",
        "configuration refused",
    }


# Calm and failed.


@pytest.mark.parametrize("board", BOARDS)
def test_calm_is_calm(look: Reader, board: str) -> None:
    """Where all is well, no number is red, orange or unknown."""
    assert colors(stats(viewer(look, "calm", board), board)) <= {"green", "blue"}


def test_a_zero_is_read(look: Reader) -> None:
    """In a calm fleet zero is said as a number: somebody has looked."""
    assert stats(viewer(look, "calm", "fleet"), "fleet") == {
        "Scrape targets: answer": "1 green",
        "Scrape targets: down": "0 green",
        "Instances: watched": "3 blue",
        "Instances: cannot be read": "0 green",
        "Oldest data": "30 green",
        "Still failed": "0 green",
        "Failures in this time": "0 green",
        "Active now": "1 blue",
    }


def test_a_task_that_no_instance_had(look: Reader) -> None:
    """Of a task name that no instance has had, the numbers are 0 and not unknown."""
    board = viewer(look, "calm", "fleet", task_name="BindEip")

    assert board.read("fleet", "Still failed").stats[""][0] == "0"
    assert board.read("fleet", "Active now").stats[""][0] == "0"


def test_failures_are_told(look: Reader) -> None:
    """The fleet says how many failed, how many still do, and how many instances are unread."""
    told = stats(viewer(look, "failed", "fleet"), "fleet")

    assert told["Still failed"] == "1 red"
    assert told["Failures in this time"] == "2 red"
    assert told["Instances: cannot be read"] == "1 red"
    assert told["Oldest data"] == "1200 red"


def test_which_tasks_failed(look: Reader) -> None:
    """A table says which tasks failed, when, what they tried, and which was mended since."""
    shown = viewer(look, "failed", "fleet").read("fleet", "Failed tasks")

    end = WORLDS["failed"].end
    assert [list(row.values()) for row in shown.rows] == [
        [
            (end - 40 * MINUTE) * 1000,
            "still failed",
            "orders",
            "UpdatePort",
            "tried to change the port",
            "DCS.4842",
            "i0",
        ],
        [
            (end - 5 * HOUR) * 1000,
            "succeeded since",
            "carts",
            "EXTEND",
            "tried to extend",
            "DCS.4800",
            "i1",
        ],
    ]


@pytest.mark.parametrize(
    ("board", "title"),
    [("fleet", "Instances that cannot be read"), ("exporter", "Instances in doubt")],
)
def test_which_instances_cannot_be_read(look: Reader, board: str, title: str) -> None:
    """A table says which instances cannot be read, and since when."""
    rows = viewer(look, "failed", board).read(board, title).rows

    assert [(row["Instance"], row["Last read"]) for row in rows] == [
        ("sessions", (WORLDS["failed"].end - 20 * MINUTE) * 1000)
    ]


def test_what_runs(look: Reader) -> None:
    """A table says what runs, and since when."""
    rows = viewer(look, "failed", "fleet").read("fleet", "Active tasks").rows

    assert [(row["Instance"], row["Task"], row["Since"]) for row in rows] == [
        ("carts", "AddReplica", (WORLDS["failed"].end - 20 * MINUTE) * 1000)
    ]


def test_failures_are_marked_when_they_were(look: Reader) -> None:
    """The fleet's marks stand where the failed tasks ended, to the second."""
    end = WORLDS["failed"].end

    assert viewer(look, "failed", "fleet").marks("fleet") == {
        (end - 40 * MINUTE, "orders: UpdatePort "),
        (end - 5 * HOUR, "carts: EXTEND "),
    }


@pytest.mark.parametrize("hours", [1, 4, 6, 24, 7 * 24])
def test_each_task_is_drawn_once(look: Reader, hours: int) -> None:
    """Whatever the time range, each finished task is in one bar, and a bar is a whole number."""
    shown = viewer(look, "failed", "fleet", seconds=hours * HOUR).read("fleet", "Finished tasks")
    ended = [("UpdatePort FAILED", 0.7), ("EXTEND SUCCESS", 3), ("EXTEND SUCCESS", 4.4)]
    ended += [("EXTEND FAILED", 5)]
    expected = Counter(name for name, ago in ended if ago < hours)

    assert counted(shown) == expected
    assert all(value == int(value) for points in shown.lines.values() for _at, value in points)


def test_a_short_task_is_drawn(look: Reader) -> None:
    """A task of two minutes has its bar among what ran when, also over nine days."""
    shown = viewer(look, "failed", "fleet", seconds=9 * DAY).read("fleet", "What ran when")

    assert set(shown.lines) >= {"orders UpdatePort", "carts EXTEND"}


def test_errors_are_drawn(look: Reader) -> None:
    """The exporter's board shows the errors of the API with their reason."""
    shown = viewer(look, "failed", "exporter").read("exporter", "Errors by kind")

    assert set(shown.lines) == {"prod list_tasks forbidden"}


# The scrape interval of our own example.


@pytest.mark.parametrize(("board", "title"), GRAPHS)
def test_no_graph_is_empty(look: Reader, board: str, title: str) -> None:
    """With a scrape a minute, and a time range of one hour, each graph has data."""
    assert viewer(look, "failed", board, seconds=HOUR).read(board, title).lines


# Two exporters.


def test_two_exporters_do_not_double(look: Reader) -> None:
    """With two exporters every number of the fleet is as with one."""
    assert stats(viewer(look, "pair", "fleet"), "fleet") == {
        "Scrape targets: answer": "2 green",
        "Scrape targets: down": "0 green",
        "Instances: watched": "3 blue",
        "Instances: cannot be read": "0 green",
        "Oldest data": "30 green",
        "Still failed": "1 red",
        "Failures in this time": "1 red",
        "Active now": "1 blue",
    }


@pytest.mark.parametrize("board", ["fleet", "instance"])
def test_two_exporters_draw_a_task_once(look: Reader, board: str) -> None:
    """A task that one exporter sees end two minutes after the other is in one bar."""
    for seconds in (HOUR, 6 * HOUR, DAY):
        shown = viewer(look, "pair", board, seconds=seconds).read(board, "Finished tasks")
        assert counted(shown)["UpdatePort FAILED"] == 1


def test_two_exporters_make_one_row(look: Reader) -> None:
    """No table of the fleet has a row for each exporter."""
    board = viewer(look, "pair", "fleet")
    for title in ("Failed tasks", "Active tasks", "Latest task of each instance and name"):
        found = [(row["Id"], row["Task"]) for row in board.read("fleet", title).rows]
        assert found
        assert len(found) == len(set(found)), title


def test_which_exporter_cannot_read(look: Reader) -> None:
    """An instance that one of two exporters cannot read is in doubt, and the exporter is named."""
    rows = viewer(look, "pair", "exporter").read("exporter", "Instances in doubt").rows

    assert [(row["Instance"], row["Problem"], row["Exporter"]) for row in rows] == [
        ("sessions", "cannot be read", "10.0.0.2:39327")
    ]


@pytest.mark.parametrize(("board", "title"), TABLES)
def test_tables_have_only_their_columns(look: Reader, board: str, title: str) -> None:
    """A label that Kubernetes adds, like pod, makes no column."""
    shown = viewer(look, "pair", board).read(board, title)
    renamed = board_reader.panel(board, title)["transformations"][1]["options"]["renameByName"]

    assert set(shown.columns) <= set(renamed.values())


def test_the_join_takes_the_instance(look: Reader) -> None:
    """With two exporters the memory is there, and is the instance's and not a cluster node's."""
    shown = viewer(look, "pair", "fleet").read(
        "fleet", "Memory of the instances, beside their tasks"
    )

    assert {name: points[-1][1] for name, points in shown.lines.items()} == {
        "orders memory": 61,
        "carts memory": 42,
        "orders tasks": 1,
        "carts tasks": 1,
    }


# One instance.


def test_who_did_it(look: Reader) -> None:
    """Who did it is a column where personal labels are on, and no column elsewhere."""
    title = "Latest task of each instance and name"
    with_names = viewer(look, "one", "fleet").read("fleet", title)
    without = viewer(look, "calm", "fleet").read("fleet", title)

    assert [row["Who"] for row in with_names.rows] == ["bob", "ann"]
    assert "Who" not in without.columns


def test_a_cut_listing_is_in_doubt(look: Reader) -> None:
    """An instance whose listing was cut is counted and named on the exporter's board."""
    board = viewer(look, "one", "exporter")

    assert board.read("exporter", "Cut listings").stats == {"": ("1", "orange")}
    assert [row["Problem"] for row in board.read("exporter", "Instances in doubt").rows] == [
        "listing cut"
    ]


def test_an_instance_is_chosen_by_name(look: Reader) -> None:
    """The variable offers names and puts in ids; of a dead exporter, too."""
    for name in ("failed", "dead"):
        for board in ("fleet", "instance"):
            offered = viewer(look, name, board).options(board, "dcs_instance")
            assert offered == {"orders": "i0", "carts": "i1", "sessions": "i2"}


# Many instances.


@ON_ONE
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize(("board", "title"), PANELS)
def test_many_instances_fit(look: Reader, name: str, board: str, title: str) -> None:
    """Of many instances no graph draws more than 20 series, and no panel sends more than 1 MB."""
    shown = viewer(look, name, board).read(board, title)

    assert len(shown.lines) <= 20
    assert shown.size < MOST_BYTES
    assert len(shown.rows) <= 400
    assert FOREIGN not in f"{shown.lines} {shown.rows}"


def test_a_thousand_are_counted(look: Reader) -> None:
    """The numbers of a thousand instances are right."""
    told = stats(viewer(look, "thousand", "fleet"), "fleet")

    assert told["Instances: watched"] == "1000 blue"
    assert told["Instances: cannot be read"] == "40 red"
    assert told["Still failed"] == "30 red"
    assert told["Failures in this time"] == "30 red"
    assert told["Active now"] == "50 blue"


def test_which_of_a_thousand(look: Reader) -> None:
    """The tables name all of a thousand that failed, cannot be read, or have an active task."""
    board = viewer(look, "thousand", "fleet")
    found = {
        title: len({row["Id"] for row in board.read("fleet", title).rows})
        for title in ("Failed tasks", "Instances that cannot be read", "Active tasks")
    }

    assert found == {"Failed tasks": 30, "Instances that cannot be read": 40, "Active tasks": 50}


# Probes.


def test_jobs_of_the_probe_set_up(look: Reader) -> None:
    """The job variable offers the probes and the exporters."""
    for board in BOARDS:
        assert set(viewer(look, "probe", board).options(board, "job")) == {
            "dcs-tasks",
            "dcs-task-exporter",
        }


@pytest.mark.parametrize("job", [".+", "dcs-tasks"])
def test_the_fleet_of_the_probe_set_up(look: Reader, job: str) -> None:
    """With probes the fleet is as without, whether all jobs are chosen or that of the probes."""
    told = stats(viewer(look, "probe", "fleet", job=job), "fleet")
    targets = "5" if job == ".+" else "3"

    assert told == {
        "Scrape targets: answer": f"{targets} green",
        "Scrape targets: down": "0 green",
        "Instances: watched": "3 blue",
        "Instances: cannot be read": "0 green",
        "Oldest data": "30 green",
        "Still failed": "1 red",
        "Failures in this time": "1 red",
        "Active now": "1 blue",
    }


# A restart.


def test_a_failure_during_a_restart_is_told(look: Reader) -> None:
    """What failed while the exporter was down is counted, listed, drawn once, and marked."""
    board = viewer(look, "restart", "fleet")
    for seconds in (HOUR, 6 * HOUR, DAY):
        shown = viewer(look, "restart", "fleet", seconds=seconds)
        assert counted(shown.read("fleet", "Finished tasks"))["UpdatePort FAILED"] == 1
    assert board.read("fleet", "Failures in this time").stats[""][0] == "1"
    assert [row["Task"] for row in board.read("fleet", "Failed tasks").rows] == ["UpdatePort"]
    assert board.marks("fleet") == {(WORLDS["restart"].end - 35 * MINUTE, "orders: UpdatePort ")}


# README.md.


def test_the_readmes_queries(look: Reader) -> None:
    """The README's marks are those of the Instance board; its join takes the name over."""
    marks, memory = re.findall(
        r"```promql\n(.*?)```", (board_reader.FOLDER / "README.md").read_text(), re.DOTALL
    )
    grafana = viewer(look, "pair", "instance")
    when = {int(float(row["value"][1]) / 1000) for row in grafana.query(marks)}

    assert when == {int(at) for at, _title in grafana.marks("instance")}
    assert {
        row["metric"]["dcs_instance_name"]: row["value"][1] for row in grafana.query(memory)
    } == {
        "orders": "61",
        "carts": "42",
        "sessions": "7",
    }


# All worlds.


@SMALL
@pytest.mark.parametrize("board", BOARDS)
def test_every_panel_can_be_read(look: Reader, name: str, board: str) -> None:
    """In every world Prometheus answers every panel, and nothing of other jobs is shown."""
    grafana = viewer(look, name, board)
    for it in board_reader.panels(board):
        shown = grafana.read_panel(it)
        assert FOREIGN not in f"{shown.lines} {shown.rows}", it["title"]


def test_the_worlds_are_the_exporters() -> None:
    """Every series of the worlds has the name and the labels that the exporter gives it."""
    described = promql.described()
    moment = 1_750_000_000.0
    for world in WORLDS.values():
        for target in world.targets:
            found = [*board_worlds.exporter_samples(target, 60, moment)]
            for each in target.instances[:50]:
                known = replace(each, blind=0)
                found += [*board_worlds.instance_samples(target, known, 60, moment)]
            for metric, labels, _value in found:
                if metric.startswith("process_"):
                    continue
                own = set(labels) - ({"user_name"} if target.personal else set())
                assert own <= described[metric], (metric, own - described[metric])
                assert described[metric] - own <= {"error_code", "reason", "summary", "le"}, metric
