"""What is kept of an exposition is byte for byte what the library would write anew."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from dcs_task_exporter.metrics.blocks import InstanceBlocks
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import choose_format
from dcs_task_exporter.metrics.gzip_parts import Part, parts_of, stream
from dcs_task_exporter.tasks.counting import CountingRules
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing, Task
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from tests.support.counting import count

NOW = 1_750_000_000.0
RULES = CountingRules(7 * 86_400.0)
FORMATS = [
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=underscores",
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


def library(snapshots: Sequence[Snapshot], accept: str) -> bytes:
    """Return what the library writes of these."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(TaskCollector(lambda: snapshots))
    encoder, _ = choose_format(accept)
    return encoder(registry).removesuffix(b"# EOF\n")


@pytest.mark.parametrize("accept", FORMATS)
@given(scrapes=st.lists(SNAPSHOTS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_byte_for_byte(accept: str, scrapes: list[list[Snapshot]]) -> None:
    """Whatever comes, changes and goes between scrapes, the bytes are the library's."""
    blocks = InstanceBlocks(TaskCollector(lambda: ()))
    encoder, content_type = choose_format(accept)
    for number, snapshots in enumerate(scrapes):
        again = [*snapshots, *scrapes[number - 1][:2]]

        assert blocks.render(again, encoder, content_type) == library(again, accept)
        blocks.forget_all_but({one.instance.id for one in again})


def test_formats_do_not_mix() -> None:
    """Clients that want different formats get each its own, in turn."""
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    snapshots = [snapshot_of(Instance("a", "a", "prod"), [task], NOW)]
    blocks = InstanceBlocks(TaskCollector(lambda: ()))
    for accept in FORMATS * 2:
        encoder, content_type = choose_format(accept)
        assert blocks.render(snapshots, encoder, content_type) == library(snapshots, accept)


def test_unchanged_is_not_written_again() -> None:
    """An instance that shows the same is taken from memory; a changed one is written anew."""
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    kept = snapshot_of(Instance("a", "a", "prod"), [task], NOW)
    other = snapshot_of(Instance("b", "b", "prod"), [task], NOW)
    written: list[Sequence[str]] = []

    class Noting(TaskCollector):
        def steady(self, snapshots: Sequence[Snapshot]) -> list[object]:  # type: ignore[override]
            written.append([snapshot.instance.id for snapshot in snapshots])
            return list(super().steady(snapshots))

    blocks = InstanceBlocks(Noting(lambda: ()))
    encoder, content_type = choose_format("")
    blocks.render([kept, other], encoder, content_type)
    written.clear()
    blocks.render([kept, replace(other, refreshed_at=NOW + 1)], encoder, content_type)
    blocks.render([kept, replace(other, metrics=None)], encoder, content_type)

    assert written == [["b"]]


def test_what_left_is_forgotten() -> None:
    """Of an instance that left nothing is kept: when it returns it is written anew."""
    kept = snapshot_of(Instance("a", "a", "prod"), [], NOW)
    written: list[int] = []

    class Noting(TaskCollector):
        def steady(self, snapshots: Sequence[Snapshot]) -> list[object]:  # type: ignore[override]
            written.append(len(snapshots))
            return list(super().steady(snapshots))

    blocks = InstanceBlocks(Noting(lambda: ()))
    encoder, content_type = choose_format("")
    blocks.render([kept], encoder, content_type)
    written.clear()
    blocks.forget_all_but({"a"})
    blocks.render([kept], encoder, content_type)
    assert written == []
    blocks.forget_all_but(set())
    blocks.render([kept], encoder, content_type)

    assert written == [1]


def test_only_what_changed_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the groups only the one with a change is compressed, and only the families in it."""
    compressed: list[int] = []

    def noting(texts: Iterable[bytes]) -> tuple[Part, ...]:
        made = parts_of(texts)
        compressed.append(len(made))
        return made

    monkeypatch.setattr("dcs_task_exporter.metrics.blocks.parts_of", noting)
    task = Task("a", "EXTEND", "FAILED", NOW - 60, NOW)
    names = ("a", "b", "c", "d")
    shown = [snapshot_of(Instance(name, name, "prod"), [task], NOW) for name in names]
    blocks = InstanceBlocks(TaskCollector(lambda: ()), group=2)
    encoder, content_type = choose_format("")
    blocks.render_gzip(shown, encoder, content_type)
    families = compressed[0]
    compressed.clear()
    blocks.render_gzip([replace(one, refreshed_at=NOW + 1) for one in shown], encoder, content_type)
    unchanged = list(compressed)
    later = replace(task, updated_at=NOW + 1)
    shown[3] = snapshot_of(shown[3].instance, [later], NOW)
    blocks.render_gzip(shown, encoder, content_type)

    assert unchanged == []
    assert len(compressed) == 1
    assert 0 < compressed[0] < families


@given(
    scrapes=st.lists(SNAPSHOTS, min_size=1, max_size=4),
    rest=st.binary(max_size=50),
    group=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_compressed(scrapes: list[list[Snapshot]], rest: bytes, group: int) -> None:
    """Compressed in parts, of which most are kept, the bytes are the library's all the same."""
    blocks = InstanceBlocks(TaskCollector(lambda: ()), group)
    accept = FORMATS[2]
    encoder, content_type = choose_format(accept)
    for snapshots in scrapes:
        for _ in range(2):
            beginning, passing = blocks.render_gzip(snapshots, encoder, content_type)
            whole = gzip.decompress(stream(beginning, passing + rest))

            assert whole == library(snapshots, accept) + rest
