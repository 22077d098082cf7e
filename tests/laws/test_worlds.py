"""Simulated worlds: what Prometheus sees is what happened, whatever the cloud and the clocks do.

One seed is one world. `make years` plays as many as wanted; a seed that breaks a law is replayed
with ``WORLD=<seed> WORLD_STEPS=<number> pytest tests/laws/test_worlds.py``, which prints the few
steps that are enough.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.support.world_cloud import Semantics, Weather
from tests.support.world_play import LawBrokenError, World, failure, shrunk, steps_of

SEEDS = (
    [int(os.environ["WORLD"])]
    if "WORLD" in os.environ
    else range(int(os.environ.get("WORLDS", "4")))
)
STEPS = int(os.environ.get("WORLD_STEPS", "300"))


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Thousands of failures that are meant to happen are not logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_world(seed: int) -> None:
    """In this world, no law breaks."""
    steps = steps_of(seed, STEPS)
    broken = failure(seed, steps)
    if broken is not None:
        fewer = shrunk(seed, steps)
        pytest.fail(f"{broken}\nreplay: WORLD={seed} WORLD_STEPS={STEPS}; enough are: {fewer}")


def test_a_seed_is_one_world() -> None:
    """The same seed makes the same cloud, the same steps, and the same requests."""
    first, again = World(5), World(5)
    for world in (first, again):
        world.play(steps_of(5, 60))

    assert first.semantics == again.semantics
    assert first.cloud.total == again.cloud.total
    assert [one.total for one in first.scrapers] == [one.total for one in again.scrapers]


def test_a_lie_is_found_and_shrinks() -> None:
    """A cloud that loses a task from its listings breaks a law here, and few steps show it."""

    class Liar(World):
        def check_nothing_twice(self, scraper: object) -> None:
            del scraper
            self.law(2, self.steps <= 7, "a lie")

    with pytest.raises(LawBrokenError, match="seed 3, step 8: law 2"):
        Liar(3).play([("scrape", 1)] * 20)


def test_a_normal_cloud_costs_one_request_an_instance() -> None:
    """Where `task_count` is a total, 400 refreshes cost at most 1.1 requests an instance."""
    world = World(1, Semantics(instances=3))
    world.cloud.weather = Weather()
    world.play([("scrape", number) for number in range(400)])

    assert world.cloud.total <= 1.1 * world.claims
