"""The command `demo`: the exporter against a simulated cloud, without an account."""

from __future__ import annotations

import argparse
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from dcs_task_exporter.commands.output import say
from dcs_task_exporter.commands.serve import serve_until_signal, service_manager
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.demo.monitoring import monitoring
from dcs_task_exporter.errors import StateLockedError
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.server import CloudServer
from dcs_task_exporter.simulator.story import DEMO_KEY, DEMO_PROJECT_ID, DemoStory
from dcs_task_exporter.web.listen import listen_on, url_of

STATE_FILE: Final = Path("dcs-task-exporter-demo.db")
"""Where the demo keeps its counts, in the working directory."""

STORY_STEP: Final = 1.0
"""Seconds between two steps of the story."""


def demo(arguments: argparse.Namespace) -> bool:
    """Serve the tasks of a simulated cloud until a signal, or the end of the terminal.

    A port in use, or another demo in this folder, is found before anything is printed.
    """
    # A new seed each time: the counts of the last run go on, so its tasks must not come again.
    seed = secrets.randbits(32)
    cloud = SimulatedCloud(time.time, seed=seed)
    story = DemoStory(cloud, seed=seed)
    story.begin()
    addresses, path = arguments.web_listen_address, arguments.web_telemetry_path
    with ExitStack() as stack:
        sockets = [stack.enter_context(listening) for listening in listen_on(addresses)]
        server = stack.enter_context(CloudServer(cloud))
        exporter = _exporter(server.url, cloud)
        stack.callback(exporter.stop)
        url = url_of((addresses[0][0], sockets[0].getsockname()[1]))
        target = url.removeprefix("http://")
        places = stack.enter_context(monitoring(target, path, Path.cwd(), say))
        stopping = threading.Event()
        stack.callback(stopping.set)
        threading.Thread(target=_play, args=(story, stopping), daemon=True).start()
        say(_introduction(server.url, url, path, places))
        serve_until_signal(exporter, arguments, service_manager(), sockets=sockets)
    return True


def _play(story: DemoStory, stopping: threading.Event) -> None:
    while not stopping.wait(STORY_STEP):
        story.advance()


def _exporter(cloud_url: str, cloud: SimulatedCloud) -> Exporter:
    try:
        return Exporter(parse_config(demo_config(cloud_url, cloud), "demo", {}), Options())
    except StateLockedError:
        message = (
            f"another demo runs in this folder and uses ./{STATE_FILE}: "
            "end that one, or start this one in another folder"
        )
        raise StateLockedError(message) from None


def _introduction(cloud_url: str, url: str, path: str, places: Sequence[str]) -> str:
    lines = [
        f"The simulated cloud is at {cloud_url}; its tasks start, run, succeed and fail.",
        f"  Open   {url}/",
        f"  Scrape {url}{path}",
        f"  Watch  curl -s {url}{path} | grep '^dcs_tasks_finished_total' | grep -v ' 0.0'",
        *places,
        "  Try    the other commands against this cloud: see docs/demo.md, or demo --help",
        f"Ctrl-C ends the demo. The next one continues its counts: they are in ./{STATE_FILE}.",
    ]
    return "\n".join(lines)


def demo_config(cloud_url: str, cloud: SimulatedCloud) -> str:
    """Return a configuration that names all instances of the simulated cloud."""
    instances = "\n".join(
        f"      - {{id: {row['instance_id']}, name: {row['name']}}}" for row in cloud.instances()
    )
    access_key, secret_key = DEMO_KEY
    return f"""
projects:
  - name: demo
    region: cn-north-4
    project_id: {DEMO_PROJECT_ID}
    endpoint: {cloud_url}
    iam_endpoint: {cloud_url}
    credentials: {{type: access_key, access_key: {access_key}, secret_key: {secret_key}}}
    instances:
{instances}
collector: {{min_refresh_interval: 1s, requests_per_second: 50, first_value_hold: 3s}}
state: {{path: {STATE_FILE}}}
"""
