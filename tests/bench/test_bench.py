"""The benchmark measures what it says: its exporters run, and what is to change does."""

from __future__ import annotations

import pytest

from bench.clients import SETUPS, exporter, sweep_of
from bench.cloud import BenchCloud
from bench.load import Load
from bench.measuring import INFORMATION, Row, measured
from bench.process_size import memory_now, memory_peak
from bench.rendering import refreshed, snapshot_of
from bench.sdk import sdk_client, sdk_request
from bench.table import PARTS, main
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.metrics.exposition import ScrapeRequest

INSTANCES = 20
THREADS = 4


def changes(made: Exporter) -> int:
    """Refresh, and return how many instances have other metrics than before."""
    before = [snapshot.metrics for snapshot in made.refresher.snapshots()]
    sweep_of(made)()
    after = made.refresher.snapshots()
    assert all(snapshot.up and snapshot.metrics for snapshot in after)
    return sum(snapshot.metrics is not known for snapshot, known in zip(after, before, strict=True))


def finished(made: Exporter) -> int:
    """Return how many tasks the counters show."""
    return sum(
        number
        for snapshot in made.refresher.snapshots()
        if snapshot.metrics
        for number in snapshot.metrics.finished.values()
    )


@pytest.mark.parametrize("setup", SETUPS)
def test_each_setup_reads(setup: str) -> None:
    """The exporter of each part can be built, and reads all its instances."""
    with BenchCloud(Load()) as cloud, exporter(cloud, 3, THREADS, setup=setup) as made:
        assert changes(made) == 3
        assert (made.status().state is not None) == SETUPS[setup].saves


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_changing_share(share: float) -> None:
    """What changes is kept: as many metrics are new as are to change, and are shown anew."""
    request = ScrapeRequest("application/openmetrics-text;version=1.0.0")
    load = Load(changing=share)
    with BenchCloud(load) as cloud, exporter(cloud, INSTANCES, THREADS) as made:
        assert changes(made) == INSTANCES
        for _ in range(3):
            before = set(_latest(made.renderer.exposition(request).body))
            assert changes(made) == round(share * INSTANCES)
            new = set(_latest(made.renderer.exposition(request).body)) - before
            assert len(new) == round(share * INSTANCES)


def _latest(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines() if line.startswith(b"dcs_task_last_info{")]


def test_finishing() -> None:
    """Where a change is a task that has finished, it is counted."""
    load = Load(changing=1.0, finishing=True)
    with BenchCloud(load) as cloud, exporter(cloud, INSTANCES, THREADS, setup="saving") as made:
        for _ in range(4):
            sweep_of(made)()
            seen_scrape(made)
        assert finished(made) >= 2 * INSTANCES


def seen_scrape(made: Exporter) -> None:
    shown = made.renderer.exposition(ScrapeRequest())
    made.refresher.delivered(shown.counted, shown.number)


def test_nothing_finishes_elsewhere() -> None:
    """Where a change is none of a count, nothing is counted."""
    with BenchCloud(Load(changing=1.0)) as cloud, exporter(cloud, 3, THREADS) as made:
        for _ in range(3):
            sweep_of(made)()
            seen_scrape(made)
        assert finished(made) == 0


def test_hang_up() -> None:
    """After the cloud hung up, a sweep makes new connections; before that, none."""
    with BenchCloud(Load(latency=0.05)) as cloud:
        with exporter(cloud, INSTANCES, THREADS) as made:
            assert measured(cloud, sweep_of(made)).connections == THREADS
            assert measured(cloud, sweep_of(made)).connections == 0
            cloud.hang_up()
            assert measured(cloud, sweep_of(made)).connections == THREADS
            assert all(snapshot.up for snapshot in made.refresher.snapshots())
        cloud.hang_up()


def test_failing_sweep() -> None:
    """A sweep in which an instance could not be read is not taken for a fast one."""
    with BenchCloud(Load(limit=0)) as cloud, exporter(cloud, 2, THREADS) as made:
        with pytest.raises(RuntimeError, match="no sweep"):
            sweep_of(made)()
        assert cloud.refused == cloud.served > 0


def test_sdk_reads_the_same() -> None:
    """The SDK gets a listing of the same cloud, over a connection that is kept."""
    with BenchCloud(Load(tasks=3)) as cloud:
        client = sdk_client(cloud, 1)
        answers = [str(sdk_request(client, 7)) for _ in range(2)]
        assert cloud.connections == 1
    assert all(answer.count("user_name") == 3 for answer in answers)


def test_refreshed_snapshots() -> None:
    """A refresh makes all snapshots anew; in a hundred, the metrics of one are new."""
    before = [snapshot_of(number) for number in range(200)]
    for run in (1, 2):
        after = refreshed(before, run)
        pairs = list(zip(after, before, strict=True))
        assert all(new is not old for new, old in pairs)
        changed = [(new, old) for new, old in pairs if new.metrics is not old.metrics]
        assert len(changed) == 2
        assert all(new.metrics != old.metrics for new, old in changed)
        before = after


@pytest.mark.parametrize(
    ("wanted", "ours", "verdict"),
    [
        ("<= 0.50", 0.5, ""),
        ("<= 0.50", 0.5001, "falls short"),
        ("< 0.02", 0.02, "falls short"),
        ("0", 0, ""),
        ("32", 31, "falls short"),
        (INFORMATION, 9, ""),
    ],
)
def test_verdict(wanted: str, ours: float, verdict: str) -> None:
    """A figure is judged as it is, not as it is rounded."""
    assert Row("what", wanted, ours).verdict == verdict


def test_unknown_part(capsys: pytest.CaptureFixture[str]) -> None:
    """A part that is none is told, with those that there are."""
    assert main(["nonsense"]) == 2
    told = capsys.readouterr().out
    assert all(name in told for name in PARTS)


def test_memory() -> None:
    """A process holds something, and never more than its peak."""
    assert 0 < memory_now() <= memory_peak()
