"""An exposition is byte for byte the one that the client library would write anew."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import ScrapeRequest, choose_format
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from tests.support.clouds import samples, scrape, world
from tests.support.counting import count

NOW = 1_750_000_000.0
RULES = CountingRules(7 * 86_400.0)
FORMATS = [
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=underscores",
    "application/openmetrics-text;version=1.0.0;escaping=dots",
    "text/plain;version=1.0.0;escaping=values",
]
NASTY = st.sampled_from(
    [
        "EXTEND",
        "modify",
        'a"b',
        "a\\b",
        "a\nb",
        "# HELP dcs_tasks_recent x",
        "# EOF",
        "\u00e9",
        "\n#",
    ]
)
TASKS = st.lists(
    st.builds(
        Task,
        id=st.text("ab", min_size=1, max_size=3),
        name=NASTY,
        status=st.sampled_from(["SUCCESS", "FAILED", "EXECUTING", "PAUSED"]),
        created_at=st.floats(NOW - 86_400, NOW),
        updated_at=st.floats(NOW - 86_400, NOW),
        error_code=NASTY,
    ),
    max_size=4,
)
INSTANCES = st.builds(Instance, st.sampled_from("abcd"), NASTY, NASTY, status=NASTY)


def snapshot_of(instance: Instance, tasks: Sequence[Task] | None, at: float) -> Snapshot:
    """Return the snapshot of an instance that was read, or never was."""
    if tasks is None:
        return Snapshot(instance)
    listing = Listing(tuple(tasks), NOW - 86_400)
    state = reveal(count(InstanceState(), listing, NOW, RULES), ())
    return Snapshot(
        instance,
        up=True,
        metrics=task_metrics(state, listing, NOW, RULES),
        refreshed_at=at,
        attempted_at=at,
        refresh_duration=0.1,
    )


SNAPSHOTS = st.lists(
    st.builds(snapshot_of, INSTANCES, st.none() | TASKS, st.floats(NOW, NOW + 60)), max_size=5
)


class Source:
    """Snapshots, and a renderer of them beside one metric of the exporter itself."""

    def __init__(self, snapshots: Sequence[Snapshot] = ()) -> None:
        self.snapshots = snapshots
        own = CollectorRegistry()
        Gauge("dcs_own", "Own.", registry=own).set(1)
        tags = ("a-b", "\u00e9")
        collector = TaskCollector(lambda _: self.snapshots, personal=True, tags=tags)
        self.renderer = Renderer(collector, own)

    def scrape(self, accept: str, encoding: str = "") -> bytes:
        """Return the body of an answer."""
        return self.renderer.exposition(ScrapeRequest(accept, encoding)).body

    def library(self, accept: str) -> bytes:
        """Return what the library writes."""
        encoder, _ = choose_format(accept)
        return encoder(self.renderer.registry)


@pytest.mark.parametrize("accept", FORMATS)
@given(scrapes=st.lists(SNAPSHOTS, min_size=1, max_size=4))
def test_byte_for_byte(accept: str, scrapes: list[list[Snapshot]]) -> None:
    """Whatever comes, changes and goes between scrapes, the bytes are the library's."""
    source = Source()
    for number, snapshots in enumerate(scrapes):
        source.snapshots = [*snapshots, *scrapes[number - 1][:2]]

        assert source.scrape(accept) == source.library(accept)


def test_formats_do_not_mix() -> None:
    """Clients that want different formats get each its own, in turn."""
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    source = Source([snapshot_of(Instance("a", "a", "prod"), [task], NOW)])
    for accept in FORMATS * 2:
        assert source.scrape(accept) == source.library(accept)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the instances whose lines are written, as it happens."""
    ids: list[str] = []
    task_families = TaskCollector.task_families

    def noting(self: TaskCollector, snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
        ids.extend(snapshot.instance.id for snapshot in snapshots)
        return task_families(self, snapshots)

    monkeypatch.setattr(TaskCollector, "task_families", noting)
    return ids


def test_unchanged_is_not_written_again(written: list[str]) -> None:
    """An instance that shows the same is taken from memory; a changed one is written anew."""
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    kept = snapshot_of(Instance("a", "a", "prod"), [task], NOW)
    other = snapshot_of(Instance("b", "b", "prod"), [task], NOW)
    source = Source([kept, other])
    source.scrape("")
    written.clear()
    source.snapshots = [kept, replace(other, refreshed_at=NOW + 1)]
    source.scrape("")
    source.snapshots = [kept, replace(other, metrics=None)]
    source.scrape("")

    assert written == ["b"]


def test_what_left_is_forgotten(written: list[str]) -> None:
    """Of an instance that left nothing is kept: when it returns it is written anew."""
    kept = snapshot_of(Instance("a", "a", "prod"), [], NOW)
    source = Source([kept])
    source.scrape("")
    source.scrape("")
    assert written == ["a"]
    source.snapshots = []
    source.scrape("")
    source.snapshots = [kept]
    source.scrape("")

    assert written == ["a", "a"]


def test_a_probe_forgets_no_other(written: list[str]) -> None:
    """A probe of one instance leaves the lines of the others in memory."""
    shown = [snapshot_of(Instance(name, name, "prod"), [], NOW) for name in ("a", "b")]
    source = Source(shown)
    source.scrape("")
    source.snapshots = shown[:1]
    source.renderer.exposition(ScrapeRequest(target="a"))
    source.snapshots = shown
    source.scrape("")

    assert written == ["a", "b"]


@given(scrapes=st.lists(SNAPSHOTS, min_size=1, max_size=4))
def test_compressed(scrapes: list[list[Snapshot]]) -> None:
    """Compressed, the bytes are the library's all the same."""
    source = Source()
    for snapshots in scrapes:
        source.snapshots = snapshots
        for _ in range(2):
            body = source.scrape(FORMATS[2], "gzip")

            assert gzip.decompress(body) == source.library(FORMATS[2])


def test_one_member() -> None:
    """A compressed answer is a single gzip member: some clients read no second one."""
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    unpack.decompress(Source().scrape("", "gzip"))

    assert unpack.eof
    assert unpack.unused_data == b""


@pytest.mark.parametrize("names", [["dcs_instance_up"], ["dcs_own", "dcs_task_last_info"], ["no"]])
@pytest.mark.parametrize("accept", FORMATS)
def test_names(accept: str, names: list[str]) -> None:
    """With names, the bytes are the library's for these names."""
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    source = Source([snapshot_of(Instance("a", "a", "prod"), [task], NOW)])
    encoder, _ = choose_format(accept)
    expected = encoder(source.renderer.registry.restricted_registry(names))
    made = source.renderer.exposition(ScrapeRequest(accept, names=names))

    assert sorted(made.body.splitlines()) == sorted(expected.splitlines())


@pytest.mark.parametrize(
    ("parts", "shown"),
    [(["instances"], (True, False)), (["exporter"], (False, True))],
)
@pytest.mark.parametrize("accept", FORMATS)
def test_parts(accept: str, parts: list[str], shown: tuple[bool, bool]) -> None:
    """A part shows the instances only, or the exporter itself only."""
    source = Source([snapshot_of(Instance("a", "a", "prod"), [], NOW)])
    body = source.renderer.exposition(ScrapeRequest(accept, parts=parts)).body

    assert (b"instance" in body, b"own" in body.replace(b"known", b"")) == shown


def test_another_collector(written: list[str]) -> None:
    """Lines are written anew where another collector shows them in another way, and only there."""
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW, user_name="someone")
    source = Source([snapshot_of(Instance("a", "a", "prod"), [task], NOW)])
    tags = ("a-b", "\u00e9")
    first = source.scrape("")
    source.renderer.change(TaskCollector(lambda _: source.snapshots, personal=True, tags=tags))
    same = source.scrape("")
    source.renderer.change(TaskCollector(lambda _: source.snapshots))
    other = source.scrape("")

    assert (first == same, b"someone" in first, b"someone" in other) == (True, True, False)
    assert written == ["a", "a"]
    assert other == source.library("")


def test_the_parser_of_the_library_reads_it() -> None:
    """The library's parser reads a whole scrape, and finds the samples that the tests find."""
    with world(2) as here, here.exporter() as exporter:
        here.cloud.start_task("i0", "EXTEND", "FAILED")
        found = scrape(exporter, here.clock)
        text = exporter.renderer.exposition(ScrapeRequest()).body.decode()

    families = [*text_string_to_metric_families(text)]
    parsed = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert parsed.keys() == found.keys()
    assert parsed == samples(text)
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}
