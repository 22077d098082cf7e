"""Law 4: a scrape is answered in time, through HTTP, even while the cloud is silent."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import requests

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.web.app import TIMEOUT_HEADER
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import SettableClock, samples, value, world

INSTANCES = 100
PATIENCE = 25
"""Seconds that the client waits: less than the cloud is silent, more than a busy machine needs."""


def test_hundred_hanging_instances() -> None:
    """While the cloud is silent, two scrapes that allow 3 s are answered, and cost one request
    per instance at most; after it recovers, the next scrape is whole.
    """
    with world(INSTANCES, clock=SettableClock(wall=time.time())) as here:
        settings = {"timeout": "60s", "concurrency": INSTANCES, "min_refresh_interval": "0s"}
        config = parse_config(here.config_text(collector=settings), "test", {})
        clock = Clock(now=lambda: here.clock.wall)
        exporter = Exporter(config, Options(clock=clock, process_metrics=False))
        server = WebServer(exporter.app(), [("127.0.0.1", 0)])
        server.start()

        def scrape(_: int = 0) -> str:
            # The patience of the client is the test: it ends before the cloud's silence does.
            headers = {TIMEOUT_HEADER: "3"}
            answer = requests.get(f"{server.url}/metrics", headers=headers, timeout=PATIENCE)
            assert answer.status_code == requests.codes.ok
            return answer.text

        try:
            first = samples(requests.get(f"{server.url}/metrics", timeout=30).text)
            before = here.cloud.count()
            here.cloud.faults.add("silence")
            with ThreadPoolExecutor(2) as pool:
                during = [samples(text) for text in pool.map(scrape, range(2))]
            asked = Counter(request.instance_id for request in here.cloud.requests[before:])
            here.cloud.faults.clear()
            scrape()
            after = samples(scrape())
        finally:
            server.stop()
            exporter.stop()

    assert ups(first) == INSTANCES
    assert set(asked.values()) == {1}
    assert len(asked) == INSTANCES
    for found in during:
        labels = {"dcs_instance_id": "i7", "task_name": "EXTEND", "status": "FAILED"}
        assert value(found, "dcs_tasks_finished_total", **labels) == 0
    assert value(during[1], "dcs_task_exporter_scrapes_coalesced_total") == 1
    assert ups(after) == INSTANCES


def ups(found: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> float:
    return sum(number for (name, _), number in found.items() if name == "dcs_instance_up")
