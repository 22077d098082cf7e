"""The exporter against a simulated cloud: the main job, without an account."""

from __future__ import annotations

import argparse
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from dcs_task_exporter.config import parse_config
from dcs_task_exporter.demo_monitoring import monitoring
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.simulator import (
    DEMO_KEY,
    DEMO_PROJECT_ID,
    CloudServer,
    DemoStory,
    SimulatedCloud,
)

STATE_FILE: Final = Path("dcs-task-exporter-demo.db")
"""Where the demo keeps its counts, in the working directory."""

STORY_STEP: Final = 1.0
"""Seconds between two steps of the story."""


def run_demo(
    serve: Callable[[Exporter], None],
    say: Callable[[str], None],
    arguments: argparse.Namespace,
) -> None:
    """Start the simulated cloud, its story and the exporter; return when `serve` returns."""
    # Another story each time: the counts of the last run go on, and its tasks are not repeated.
    seed = secrets.randbits(32)
    cloud = SimulatedCloud(time.time, seed=seed)
    story = DemoStory(cloud, seed=seed)
    story.begin()
    stopping = threading.Event()
    with CloudServer(cloud) as server:
        config = parse_config(demo_config(server.url, cloud), "demo", {})
        exporter = Exporter(config, Options())
        teller = threading.Thread(target=_tell, args=(story, stopping), daemon=True)
        teller.start()
        host, port = (arguments.addresses or [arguments.default_address])[0]
        target = f"{host or '127.0.0.1'}:{port}"
        with monitoring(target, Path.cwd()) as places:
            say(_introduction(server.url, f"http://{target}", arguments.telemetry_path, places))
            try:
                serve(exporter)
            finally:
                stopping.set()
                exporter.stop()


def _introduction(cloud: str, base: str, path: str, places: Sequence[str]) -> str:
    lines = [
        f"A simulated cloud is at {cloud}; its tasks begin, run, succeed and fail.",
        f"  Open   {base}/",
        f"  Scrape {base}{path}",
        f"  Watch  curl -s {base}{path} | grep '^dcs_tasks_finished_total' | grep -v ' 0.0'",
        *places,
        f"Ctrl-C ends it. Start it again and the counts go on: they are kept in ./{STATE_FILE}.",
    ]
    return "\n".join(lines)


def demo_config(url: str, cloud: SimulatedCloud) -> str:
    """Return the configuration that reads the simulated cloud at `url`."""
    instances = "\n".join(
        f"      - {{id: {row['instance_id']}, name: {row['name']}}}" for row in cloud.instances()
    )
    return f"""
projects:
  - name: demo
    region: cn-north-4
    project_id: {DEMO_PROJECT_ID}
    endpoint: {url}
    iam_endpoint: {url}
    credentials:
      type: access_key
      access_key: {DEMO_KEY[0]}
      secret_key: {DEMO_KEY[1]}
    instances:
{instances}
collector:
  min_refresh_interval: 1s
  requests_per_second: 50
  first_value_hold: 3s
state: {{path: {STATE_FILE}}}
"""


def _tell(story: DemoStory, stopping: threading.Event) -> None:
    while not stopping.wait(STORY_STEP):
        story.advance()
