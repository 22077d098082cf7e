"""The instances that are watched: configured and discovered ones, of this shard."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dcs_task_exporter.config.model import InstanceConfig, ProjectConfig
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.refresh.targets import Targets
from dcs_task_exporter.tasks.models import Instance
from tests.support.refresh_settings import project

ONE = Shard()


def configured(name: str = "prod", **instances: str) -> ProjectConfig:
    """Return a project with instances, by id and name."""
    items = tuple(InstanceConfig(id=key, name=value) for key, value in instances.items())
    return project(name=name, project_id=f"id-of-{name}", instances=items)


def targets(*projects: ProjectConfig, shard: Shard = ONE) -> tuple[Targets, list[str]]:
    """Return targets, and the ids that they hand over."""
    handed_over: list[str] = []
    return Targets(projects, shard, handed_over.append), handed_over


def test_a_configured_instance() -> None:
    """Of a configured instance its id, name and project are known."""
    own, _ = targets(configured(i0="orders"))

    assert own.current() == [Instance("i0", "orders", "prod", project_id="id-of-prod", region="r")]


def test_a_configured_instance_without_a_name() -> None:
    """An instance without a name has its id for a name."""
    own, _ = targets(configured(i0=""))

    assert [target.name for target in own.current()] == ["i0"]


@pytest.mark.parametrize(
    ("own_name", "found_name", "name"),
    [
        ("orders", "found", "orders"),
        ("", "found", "found"),
        ("", "", "i0"),
        ("orders", "", "orders"),
    ],
)
def test_the_name_of_both(own_name: str, found_name: str, name: str) -> None:
    """The configured name comes before the discovered one; all else is the discovered one's."""
    own, _ = targets(configured(i0=own_name))
    found = Instance("i0", found_name, "prod", "p", "r", "redis", "7.0", "spec", "RUNNING")
    (target,) = own.found("prod", [found])

    assert target == Instance("i0", name, "prod", "p", "r", "redis", "7.0", "spec", "RUNNING")


def test_configured_and_discovered() -> None:
    """Configured instances come first; discovered ones are added, and replaced by the next list."""
    own, _ = targets(configured(i0="a"))
    first = own.found("prod", [Instance("i1", "b", "prod"), Instance("i2", "c", "prod")])
    second = own.found("prod", [Instance("i2", "c", "prod")])

    assert [target.id for target in first] == ["i0", "i1", "i2"]
    assert [target.id for target in second] == ["i0", "i2"]
    assert own.current() == second


def test_each_project_has_its_own() -> None:
    """What is discovered in one project stays when another is searched."""
    own, _ = targets(configured("prod"), configured("test"))
    own.found("prod", [Instance("i0", "a", "prod")])
    found = own.found("test", [Instance("i1", "b", "test")])

    assert [(target.id, target.project) for target in found] == [("i0", "prod"), ("i1", "test")]


def test_an_instance_in_two_projects() -> None:
    """An id that two projects have belongs to the first one."""
    own, _ = targets(configured("prod", i0="a"), configured("test", i0="b"))

    assert [(target.name, target.project) for target in own.current()] == [("a", "prod")]


def test_the_numbers_of_all_shards() -> None:
    """The number of instances is told for each project, over all shards, also where it is 0."""
    known = {f"i{number}": "" for number in range(8)}
    own, _ = targets(configured(**known), configured("test"), shard=Shard(0, 2))
    assert own.numbers == {}
    mine = own.current()

    assert own.numbers == {"prod": 8, "test": 0}
    assert 0 < len(mine) < 8


def test_the_shards_share() -> None:
    """Each instance belongs to one shard."""
    known = {f"i{number}": "" for number in range(8)}
    parts = [targets(configured(**known), shard=Shard(index, 2))[0].current() for index in (0, 1)]

    assert sorted(target.id for part in parts for target in part) == sorted(known)


@pytest.mark.parametrize("later", [[], ["i9"]])
def test_what_is_anothers_is_handed_over_once(later: Sequence[str]) -> None:
    """Each instance of another shard is handed over when it appears, once."""
    shard = Shard(0, 2)
    known = [f"i{number}" for number in range(8)]
    own, handed_over = targets(configured(**dict.fromkeys(known, "")), shard=shard)
    own.current()
    assert sorted(handed_over) == [key for key in known if not shard.has(key)]
    del handed_over[:]
    own.found("prod", [Instance(key, key, "prod") for key in later])

    assert handed_over == [key for key in later if not shard.has(key)]


def test_what_returns_is_handed_over_again() -> None:
    """An instance of another shard that left and returns is handed over again."""
    shard = Shard(0, 2)
    other = next(key for key in map(str, range(99)) if not shard.has(key))
    own, handed_over = targets(configured(), shard=shard)
    for found in ([Instance(other, "a", "prod")], [], [Instance(other, "a", "prod")]):
        own.found("prod", found)

    assert handed_over == [other, other]
