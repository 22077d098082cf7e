"""Simulated clouds and exporters for the tests, with clocks that stand still."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.metrics.exposition import ScrapeRequest
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import Reply, json_reply
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.server import CloudServer
from tests.support.secrets import secret

PROJECT = "a4d31cb63d724fdc8ec96e3a41e47f71"
ACCESS_KEY = secret("TESTAK5F2D")
SECRET_KEY = secret("test-sk-0123456789abcdefghijk")
NOW = 1_750_000_000.0
DAY = 86_400.0


@dataclass
class SettableClock:
    """A wall clock and a monotonic clock that a test moves by hand."""

    wall: float = NOW
    steady: float = 1_000.0

    def advance(self, seconds: float) -> None:
        """Let time pass on both."""
        self.wall += seconds
        self.steady += seconds

    @property
    def clock(self) -> Clock:
        """Both, as the exporter takes them."""
        return Clock(now=lambda: self.wall, monotonic=lambda: self.steady)


@dataclass
class World:
    """A simulated cloud on a port, and the clock that it shares with the exporter."""

    cloud: SimulatedCloud
    server: CloudServer
    clock: SettableClock
    instances: list[str] = field(default_factory=list)

    def config_text(self, *, collector: Mapping[str, Any] | None = None, key: str = "") -> str:
        """Return a configuration that reads all instances."""
        settings = {
            "requests_per_second": 10_000,
            "timeout": "2s",
            "retries": 0,
            "min_refresh_interval": "1s",
            "first_value_hold": "0s",
            **(collector or {}),
        }
        rows = "\n".join(
            f"      - {{id: {row['instance_id']}, name: {row['name']}}}"
            for row in self.cloud.instances()
        )
        extra = "\n".join(f"  {name}: {value}" for name, value in settings.items())
        return (
            "projects:\n"
            "  - name: prod\n"
            "    region: cn-north-4\n"
            f"    project_id: {PROJECT}\n"
            f"    endpoint: {self.server.url}\n"
            f"    iam_endpoint: {self.server.url}\n"
            "    credentials:\n"
            "      type: access_key\n"
            f"      access_key: {ACCESS_KEY}\n"
            f"      secret_key: {key or SECRET_KEY}\n"
            f"    instances:\n{rows}\n"
            f"collector:\n{extra}\n"
        )

    @contextmanager
    def exporter(self, *, key: str = "", **collector: Any) -> Iterator[Exporter]:
        """Run an exporter over all instances."""
        with exporter_of(self, self.config_text(collector=collector, key=key)) as exporter:
            yield exporter


@contextmanager
def world(
    instances: int = 1, quirks: Quirks | None = None, clock: SettableClock | None = None
) -> Iterator[World]:
    """Run a simulated cloud with some instances; the ids are ``i0``, ``i1`` and so on."""
    clock = clock or SettableClock()
    cloud = SimulatedCloud(lambda: clock.wall, quirks)
    cloud.add_project(PROJECT, "cn-north-4")
    cloud.access.add_key(ACCESS_KEY, SECRET_KEY)
    for number in range(instances):
        cloud.add_instance(PROJECT, f"i{number}", f"cache-{number}")
    with CloudServer(cloud) as server:
        yield World(cloud, server, clock, [f"i{number}" for number in range(instances)])


@contextmanager
def exporter_of(
    here: World, text: str, environ: Mapping[str, str] | None = None
) -> Iterator[Exporter]:
    """Run an exporter with this configuration, by the clock of the world."""
    options = Options(environ or {}, here.clock.clock, process_metrics=False)
    exporter = Exporter(parse_config(text, "test", {}), options)
    try:
        yield exporter
    finally:
        exporter.stop()


def answer_with(here: World, reply: Reply) -> None:
    """Answer every request to the cloud with this."""
    here.cloud.faults.add(reply)


def hide_instances(here: World) -> None:
    """List no instance, as an API in a bad moment does, until the faults are cleared."""
    reply = json_reply(200, {"instance_num": 0, "instances": []})
    here.cloud.faults.add(reply, operation="list_instances")


def world_of_today(instances: int) -> AbstractContextManager[World]:
    """Run a simulated cloud by this machine's clock: another process has no other."""
    return world(instances, clock=SettableClock(wall=time.time()))


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(exporter: Exporter, clock: SettableClock | None = None, timeout: float = 20) -> Samples:
    """Refresh what is due after a scrape interval, and return all samples."""
    if clock is not None:
        clock.advance(15)
    exporter.fleet.refresh_and_wait(timeout)
    made = exporter.renderer.exposition(ScrapeRequest())
    exporter.refresher.delivered(made.counted, made.number)
    return samples(made.body.decode())


def samples(text: str) -> Samples:
    """Parse an exposition in the text format."""
    lines = (line.rpartition(" ") for line in text.split("\n") if line and line[0] != "#")
    return {_series_of(head): float(number) for head, _, number in lines}


@lru_cache(maxsize=1 << 16)
def _series_of(head: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Parse a sample without its value; each series is parsed once, not at each scrape."""
    (family,) = text_string_to_metric_families(f"{head} 0\n")
    (sample,) = family.samples
    return sample.name, frozenset(sample.labels.items())


def value(found: Samples, name: str, **labels: str) -> float | None:
    """Return the one sample with these labels among others, or None."""
    wanted = set(labels.items())
    matches = [
        number for (own, pairs), number in found.items() if own == name and wanted <= set(pairs)
    ]
    assert len(matches) <= 1, f"{len(matches)} samples of {name} with {labels}"
    return matches[0] if matches else None
