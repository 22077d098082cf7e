"""The exporter against a simulated cloud: the main job, without an account."""

from __future__ import annotations

import argparse
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.demo.monitoring import monitoring
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.simulator import (
    DEMO_KEY,
    DEMO_PROJECT_ID,
    CloudServer,
    DemoStory,
    SimulatedCloud,
)
from dcs_task_exporter.state.database import StateLockedError
from dcs_task_exporter.web.server import listen_on, url_of

STATE_FILE: Final = Path("dcs-task-exporter-demo.db")
"""Where the demo keeps its counts, in the working directory."""

STORY_STEP: Final = 1.0
"""Seconds between two steps of the story."""


def run_demo(
    serve: Callable[[Exporter, Sequence[socket.socket]], None],
    say: Callable[[str], None],
    arguments: argparse.Namespace,
) -> None:
    """Start the simulated cloud, its story and the exporter; return when `serve` returns.

    Whatever may be in the way, a port or another demo, is found before anything is said.
    """
    addresses = arguments.addresses or [arguments.default_address]
    # Another story each time: the counts of the last run go on, and its tasks are not repeated.
    seed = secrets.randbits(32)
    cloud = SimulatedCloud(time.time, seed=seed)
    story = DemoStory(cloud, seed=seed)
    story.begin()
    with ExitStack() as stack:
        sockets = [stack.enter_context(listening) for listening in listen_on(addresses)]
        server = stack.enter_context(CloudServer(cloud))
        exporter = _exporter(demo_config(server.url, cloud))
        stack.callback(exporter.stop)
        base, path = (
            url_of((addresses[0][0], sockets[0].getsockname()[1])),
            arguments.telemetry_path,
        )
        target = base.removeprefix("http://")
        places = stack.enter_context(monitoring(target, path, Path.cwd(), say))
        stopping = threading.Event()
        stack.callback(stopping.set)
        threading.Thread(target=_tell, args=(story, stopping), daemon=True).start()
        say(_introduction(server.url, base, path, places))
        serve(exporter, sockets)


def _exporter(config: str) -> Exporter:
    try:
        return Exporter(parse_config(config, "demo", {}), Options())
    except StateLockedError:
        message = (
            f"another demo runs in this folder and uses ./{STATE_FILE}: "
            "end that one, or start this one in another folder"
        )
        raise StateLockedError(message) from None


def _introduction(cloud: str, base: str, path: str, places: Sequence[str]) -> str:
    lines = [
        f"A simulated cloud is at {cloud}; its tasks begin, run, succeed and fail.",
        f"  Open   {base}/",
        f"  Scrape {base}{path}",
        f"  Watch  curl -s {base}{path} | grep '^dcs_tasks_finished_total' | grep -v ' 0.0'",
        *places,
        "  Try    the other commands with its key: see docs/demo.md, or demo --help",
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
