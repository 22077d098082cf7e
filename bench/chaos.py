"""The chaos run: an exporter that is killed again and again must count every task once.

A simulated cloud plays tasks and fails one request in ten. The exporter runs as a process with a
state file, is killed with SIGKILL at random moments, and is scraped by a real Prometheus every
second. Its clock jumps, by minutes or by more than a year, at restarts and in between; the cloud
sends its own time only now and then. Half of the instances are read with an access key, by a cloud
that accepts signatures of any date, and half with a token. The state file is deleted, replaced by
an older copy, or cut in half while the exporter runs. In the end the counts of Prometheus must be
those of the cloud.

After a state file was spoilt no kill comes before the exporter has noticed: counts that are on no
disk, and then in no memory, are lost for good.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.chaos_counts import Result, failed_requests, increase, report, sum_of_samples
from bench.jumping_exporter import set_clock
from bench.task_play import TaskPlay
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.server import CloudServer
from tests.support.real_prometheus import running

PROJECTS = ("a4d31cb63d724fdc8ec96e3a41e47f71", "b5e42dc74e835aed9fd07f4b52f58a82")
KEY = ("CHAOSAK7Q2N5X8R4T6V9", "chaos-sk-0123456789abcdefghijklmnopqr")
TOKEN = "chaos-token-0123456789abcdefghijklmnopqr"  # noqa: S105 - of a simulated cloud
FAULTS = ("internal", "html_502", "truncated_json", "reset", "throttled_for_2s")
"""A throttling without a time holds a project for 75 seconds: a spoilt file would wait for that."""

CHANCE_OF_EACH = 0.02
PLAY_INTERVAL = 0.2
MOST_ACTIVE = 10
QUIET_SCRAPES = 12
HOUR, DAY = 3600.0, 86_400.0
JUMPS = (0.0, HOUR, -HOUR, 5 * HOUR, -2 * DAY, 20 * DAY, 100 * DAY, -100 * DAY, 400 * DAY)
"""Seconds that the exporter's clock may be ahead of the cloud's."""

NOTICED = "dcs_task_exporter_state_errors_total"


def delete(state: Path) -> None:
    """Delete the state file, and SQLite's files beside it."""
    for path in state.parent.glob(f"{state.name}*"):
        if "set-aside" not in path.name:
            path.unlink()


def put_back_a_copy(state: Path) -> None:
    """Replace the file by an older copy: its latest commits are in the file beside it."""
    copy = state.with_name("backup")
    shutil.copy(state, copy)
    copy.rename(state)


def cut(state: Path) -> None:
    """Cut the file in half."""
    os.truncate(state, state.stat().st_size // 2)


FATES: Final[tuple[Callable[[Path], None], ...]] = (delete, put_back_a_copy, cut)
"""The fates of the state file, one between two kills."""


def config_text(url: str, state: Path, instances: int) -> str:
    """Return the exporter's configuration."""
    credentials = (
        f"{{type: access_key, access_key: {KEY[0]}, secret_key: {KEY[1]}}}",
        f"{{type: token, token: {TOKEN}}}",
    )
    projects = "".join(
        f"""
  - name: prod-{at}
    region: cn-north-4
    project_id: {project}
    endpoint: {url}
    credentials: {credentials[at]}
    instances: [{", ".join(f"{{id: i{n}, name: cache-{n}}}" for n in range(at, instances, 2))}]"""
        for at, project in enumerate(PROJECTS)
    )
    return f"""
projects:{projects}
collector: {{min_refresh_interval: 500ms, requests_per_second: 500, retries: 1, timeout: 1s,
            first_value_hold: 1s}}
state: {{path: {state}}}
"""


class Life:
    """The processes of the exporter, one after the other on the same port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._command = [
            sys.executable,
            str(Path(__file__).with_name("jumping_exporter.py")),
            str(folder / "clock"),
            f"--config.file={folder / 'config.yml'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._log = (folder / "exporter.log").open("ab")
        self._clock = folder / "clock"
        self.set_clock(0.0)
        self.process = self._start()

    def kill(self) -> None:
        """Kill the process, and start the next."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._start()

    def set_clock(self, ahead: float) -> None:
        """Set the clock of the machine that the process runs on."""
        set_clock(self._clock, ahead)

    def end(self) -> None:
        """End the last one as an operator would."""
        self.process.terminate()
        self.process.wait(timeout=30)
        self._log.close()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log)  # noqa: S603


def run(
    binary: Path, folder: Path, *, seconds: float, kills: int, instances: int, seed: int = 1
) -> Result:
    """Run the exporter, and return the result."""
    chance = random.Random(seed)  # noqa: S311 - likewise
    cloud = SimulatedCloud(time.time, Quirks(max_skew=float("inf")), seed=seed)
    cloud.access.add_key(*KEY)
    cloud.access.add_token(TOKEN)
    for project in PROJECTS:
        cloud.add_project(project, "cn-north-4")
    for number in range(instances):
        cloud.add_instance(PROJECTS[number % 2], f"i{number}", f"cache-{number}")
    ids = [f"i{number}" for number in range(instances)]
    play = TaskPlay(cloud, ids, random.Random(seed))  # noqa: S311 - a fixed seed is wanted
    with (
        CloudServer(cloud) as server,
        _life(folder, server.url, instances) as (life, url),
        running(binary, folder, url) as prometheus,
    ):
        everyone_up = f"count(dcs_instance_up == 1) == {instances}"
        prometheus.wait_for(everyone_up)
        for name in FAULTS:
            cloud.faults.add(name, probability=CHANCE_OF_EACH)
        with play.going_on(PLAY_INTERVAL, MOST_ACTIVE):
            for number in range(kills):
                for at in range(2):  # once while it runs, once as it starts again
                    time.sleep(seconds / kills * chance.uniform(0.25, 0.75))
                    cloud.quirks = replace(cloud.quirks, date=chance.choice((True, False)))
                    life.set_clock(chance.choice(JUMPS))
                    if not at:
                        spoil(FATES[number % len(FATES)], folder / "state.db", url)
                life.kill()
        cloud.faults.clear()
        scrapes = prometheus.query("count_over_time(up[10m])")[0]["value"][1]
        enough = f"count_over_time(up[10m]) > {int(scrapes) + QUIET_SCRAPES}"
        prometheus.wait_for(enough)
        prometheus.wait_for(everyone_up)
        span = f"{round(seconds) * 2 + 120}s"
        increased, samples = increase(prometheus, span), sum_of_samples(prometheus, span)
        requests = cloud.count()
        failed = failed_requests(prometheus, span)
    return Result(
        happened=dict(play.ended),
        increase=increased,
        samples=samples,
        kills=kills,
        requests=requests,
        failed=failed,
        intact=_intact(folder),
    )


def spoil(fate: Callable[[Path], None], state: Path, url: str) -> None:
    """Spoil the state file, and wait until the exporter has noticed and saved a new one."""
    before = _noticed(url)
    fate(state)
    # In this order: the exporter answers when it is not in the middle of a save.
    while not state.exists() or _noticed(url) == before:
        time.sleep(PLAY_INTERVAL)


def _noticed(url: str) -> str:
    """Return how often the exporter found the state file spoilt; delivers no counter of tasks."""
    text = ""
    while not text:
        try:
            address = f"{url}/metrics?collect[]=exporter"
            with urllib.request.urlopen(address) as answer:  # noqa: S310 - ours
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):  # it starts
            time.sleep(PLAY_INTERVAL)
    found = re.search(rf"^{NOTICED} (\S+)$", text, re.MULTILINE)
    if not found:
        message = f"the exporter has no {NOTICED}"
        raise LookupError(message)
    return found[1]


@contextlib.contextmanager
def _life(folder: Path, cloud_url: str, instances: int) -> Iterator[tuple[Life, str]]:
    (folder / "config.yml").write_text(config_text(cloud_url, folder / "state.db", instances))
    port = free_port()
    life = Life(folder, port)
    try:
        yield life, f"http://127.0.0.1:{port}"
    finally:
        life.end()


def _intact(folder: Path) -> bool:
    connection = sqlite3.connect(folder / "state.db")
    found = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return bool(found == [("ok",)])


def main(seconds: float, kills: int, instances: int, seed: int, prometheus: Path) -> int:
    """Run it, and print the report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = run(
            prometheus, folder, seconds=seconds, kills=kills, instances=instances, seed=seed
        )
    sys.stdout.write(f"{report(result)}\n")
    return 0 if result.good else 1
