"""The memory of a process over thousands of scrapes, before each of which tasks start and end.

The exporter with its web server, a state file and a simulated cloud run in this process. The clock
advances by 15 seconds before each scrape, so that tasks also leave the look-back window of an hour.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from random import Random
from typing import Final

import requests

from bench.process_size import memory_now
from bench.task_play import TaskPlay
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import world

INSTANCES: Final = 2
SCRAPE_INTERVAL: Final = 15
MOST_ACTIVE: Final = 4
LISTED: Final = 60
REPORT_EVERY: Final = 2000


def change(play: TaskPlay, cloud: SimulatedCloud) -> None:
    """Start two tasks, end as many, and delete old tasks and requests from the cloud."""
    for _ in range(2):
        new = {"old_capacity": f"{play.random.random()}", "new_capacity": f"{play.random.random()}"}
        play.start(new)
    while play.active > MOST_ACTIVE:
        play.end()
    cloud.requests.clear()
    for rows in cloud._tasks.values():  # noqa: SLF001 - old ones
        while len(rows) > LISTED and rows[0]["status"] != "EXECUTING":
            rows.pop(0)


def main(scrapes: int) -> int:
    """Scrape, and print the memory, threads and descriptors now and then."""
    with world(INSTANCES) as here, tempfile.TemporaryDirectory() as folder:
        text = here.config_text(collector={"lookback": "1h", "concurrency": 4})
        text += f"state: {{path: {folder}/state.db}}\n"
        exporter = Exporter(parse_config(text, "bench", {}), Options(clock=here.clock.clock))
        web = WebServer(exporter.app(), [("127.0.0.1", 0)])
        web.start()
        tune_garbage_collection()
        play = TaskPlay(here.cloud, here.instances, Random(1))  # noqa: S311 - a fixed seed
        with requests.Session() as scraper:
            for number in range(1, scrapes + 1):
                here.clock.advance(SCRAPE_INTERVAL)
                change(play, here.cloud)
                scraper.get(f"{web.url}/metrics", timeout=60).raise_for_status()
                if number % REPORT_EVERY == 0:
                    sys.stdout.write(
                        f"{number:>6} scrapes: {memory_now():.1f} MB, "
                        f"{threading.active_count()} threads, "
                        f"{len(os.listdir('/proc/self/fd'))} descriptors\n"  # noqa: PTH208 - only counted
                    )
                    sys.stdout.flush()
        web.stop()
        exporter.stop()
    return 0
