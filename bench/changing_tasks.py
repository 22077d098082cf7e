"""What a process holds after thousands of scrapes, before each of which tasks start and end.

The exporter with its web server, a state file and a simulated cloud in one process; the clock goes
on by 15 seconds before each scrape, so that tasks leave the look-back window of an hour as well.
Prints RSS, threads and descriptors, of all of them together:

    python -m bench.changing_tasks 20000
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

import requests

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from bench.held import memory_now  # noqa: E402 - found beside this file
from dcs_task_exporter.commands.serve import tune_garbage_collection  # noqa: E402
from dcs_task_exporter.config.model import parse_config  # noqa: E402
from dcs_task_exporter.exporter import Exporter, Options  # noqa: E402
from dcs_task_exporter.web.server import WebServer  # noqa: E402
from tests.support.clouds import World, world  # noqa: E402 - found beside the tests

NAMES: Final = ("EXTEND", "masterStandbySwapJob", "UpdatePort", "DeleteAcl")
INSTANCES: Final = 2
SCRAPE_INTERVAL: Final = 15
MOST_ACTIVE: Final = 4
LISTED: Final = 60
TELL_EVERY: Final = 2000


class Changes:
    """Lets two tasks start and as many end, with details that no other task has."""

    def __init__(self, here: World) -> None:
        self._cloud = here.cloud
        self._instances = here.instances
        self._random = random.Random(1)  # noqa: S311 - a fixed seed is wanted
        self._active: list[tuple[str, str]] = []

    def make(self) -> None:
        """Change some tasks, and let the cloud forget what only it remembers."""
        draw = self._random
        for _ in range(2):
            instance = draw.choice(self._instances)
            details = {"old_capacity": f"{draw.random()}", "new_capacity": f"{draw.random()}"}
            task = self._cloud.start_task(instance, draw.choice(NAMES), details=details)
            self._active.append((instance, task))
        while len(self._active) > MOST_ACTIVE:
            instance, task = self._active.pop(draw.randrange(len(self._active)))
            self._cloud.finish_task(instance, task, draw.choice(("SUCCESS", "FAILED")))
        self._cloud.requests.clear()
        for rows in self._cloud._tasks.values():  # noqa: SLF001 - what users would delete
            while len(rows) > LISTED and rows[0]["status"] != "EXECUTING":
                rows.pop(0)


def run(scrapes: int) -> None:
    """Scrape so often, and print what is held now and then."""
    with world(INSTANCES) as here, tempfile.TemporaryDirectory() as folder:
        text = here.config_text(collector={"lookback": "1h", "concurrency": 4})
        text += f"state: {{path: {folder}/state.db}}\n"
        exporter = Exporter(parse_config(text, "bench", {}), Options(clock=here.clock.clock))
        web = WebServer(exporter.app(), [("127.0.0.1", 0)])
        web.start()
        tune_garbage_collection()
        changes = Changes(here)
        with requests.Session() as scraper:
            for number in range(1, scrapes + 1):
                here.clock.advance(SCRAPE_INTERVAL)
                changes.make()
                scraper.get(f"{web.url}/metrics", timeout=60).raise_for_status()
                if number % TELL_EVERY == 0:
                    sys.stdout.write(
                        f"{number:>6} scrapes: {memory_now():.1f} MB, "
                        f"{threading.active_count()} threads, "
                        f"{len(os.listdir('/proc/self/fd'))} descriptors\n"  # noqa: PTH208 - only counted
                    )
                    sys.stdout.flush()
        web.stop()
        exporter.stop()


if __name__ == "__main__":
    run(int(sys.argv[1]))
