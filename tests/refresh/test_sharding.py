"""Shards: an even split that moves as little as it can, named by flags or by the pod."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.refresh.sharding import Shard, choose_shard
from dcs_task_exporter.simulator.listing import timestamp
from tests.support.clouds import scrape, value, world

IDS = [f"{number:08x}-cebf-4473-95c4-d1b573c16e79" for number in range(5000)]


def owner(instance_id: str, total: int) -> int:
    """Return the one shard that has the instance."""
    (index,) = [index for index in range(total) if Shard(index, total).has(instance_id)]
    return index


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_each_instance_has_one_shard(total: int) -> None:
    """No instance is read twice, and none is forgotten."""
    assert all(owner(instance_id, total) < total for instance_id in IDS)


@pytest.mark.parametrize("total", [2, 3, 7])
def test_even(total: int) -> None:
    """Each shard's share is within a tenth of the fair one."""
    shares = Counter(owner(instance_id, total) for instance_id in IDS)

    fair = len(IDS) / total
    assert all(abs(share - fair) < 0.1 * fair for share in shares.values())


@pytest.mark.parametrize("total", [2, 3, 7])
def test_little_moves(total: int) -> None:
    """A shard that is added takes its own share; nothing moves between the others."""
    before = {instance_id: owner(instance_id, total) for instance_id in IDS}
    after = {instance_id: owner(instance_id, total + 1) for instance_id in IDS}
    moved = {key for key in IDS if before[key] != after[key]}

    assert {after[key] for key in moved} == {total}
    assert len(moved) < 1.1 * len(IDS) / (total + 1)


def test_the_split_is_stable() -> None:
    """The split of a release is that of the next: these shards stay."""
    owners = "".join(str(owner(f"instance-{number}", 3)) for number in range(12))

    assert owners == "000121110122"


def test_there_and_back_again(tmp_path: Path) -> None:
    """What ends while another shard has the instance is counted by that one alone."""
    failed = {"dcs_instance_id": "i0", "task_name": "EXTEND", "status": "FAILED"}
    with world(1) as here:
        counted: dict[int, list[float | None]] = {0: [], 1: []}
        for index, total in ((0, 1), (1, 2), (0, 1)):
            for ours in range(total):
                text = f"{here.config_text()}state: {{path: {tmp_path / f'{ours}.db'}}}\n"
                options = Options(clock=here.clock.clock, shard=Shard(ours, total))
                exporter = Exporter(parse_config(text, "test", {}), options)
                scrape(exporter, here.clock)
                if ours == index:
                    ended = timestamp(here.clock.wall)
                    here.cloud.start_task("i0", "EXTEND", "FAILED", updated_at=ended)
                found = [scrape(exporter, here.clock) for _ in range(2)][-1]
                if ours == index:
                    counted[index].append(value(found, "dcs_tasks_finished_total", **failed))
                exporter.stop()

    assert owner("i0", 2) == 1
    assert counted == {0: [1, 2], 1: [1]}


@pytest.mark.parametrize(
    ("environ", "index"),
    [
        ({"POD_NAME": "dcs-task-exporter-2", "HOSTNAME": "other-1"}, 2),
        ({"HOSTNAME": "dcs-task-exporter-0"}, 0),
    ],
)
def test_pod_name(environ: dict[str, str], index: int) -> None:
    """The number at the end of the pod's name is the shard."""
    assert choose_shard(None, 3, environ) == Shard(index, 3)


def test_flag_first() -> None:
    """The flag is stronger than the pod's name."""
    assert choose_shard(1, 3, {"POD_NAME": "exporter-2"}) == Shard(1, 3)


def test_one_needs_no_name() -> None:
    """A single exporter has all instances, whatever its pod is called."""
    assert choose_shard(None, 1, {"HOSTNAME": "exporter-5"}) == Shard(0, 1)


@pytest.mark.parametrize(
    ("index", "total", "environ", "told"),
    [
        (None, 3, {}, "--shard: is missing, and POD_NAME or HOSTNAME is no pod name"),
        (None, 3, {"HOSTNAME": "laptop"}, "--shard: is missing"),
        (None, 3, {"POD_NAME": "exporter-3"}, "--shard: is 3, but with --total-shards=3"),
        (-1, 3, {}, "--shard: is -1"),
        (1, 1, {}, "--shard: is 1, but with --total-shards=1 shards are 0 to 0"),
        (0, 0, {}, "--total-shards: must be at least 1"),
    ],
)
def test_wrong_shards(index: int | None, total: int, environ: dict[str, str], told: str) -> None:
    """A shard that does not exist is refused: its instances would be nobody's."""
    with pytest.raises(ConfigError, match=told):
        choose_shard(index, total, environ)
