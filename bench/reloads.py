"""Reload again and again: no scrape fails, no task is lost or counted twice, nothing grows.

A simulated cloud plays tasks. The exporter runs as a process with a state file, and two real
Prometheus servers scrape it every second. Meanwhile its configuration changes: instances get other
names and their old ones back, leave and return; the rules of discovery, the limits and the keys
alternate; one reload in ten is preceded by a file with a mistake, which must change nothing. In the
end the counts of each Prometheus must be those of the cloud.

An instance is renamed, or leaves, only when none of its tasks has ended for a while: an increase
that one Prometheus has scraped, and the other has not, cannot be shown once more to only one.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import requests
import yaml

from bench.chaos_counts import Counts, sum_of_samples
from bench.process_size import Size, size_of, told
from bench.task_play import TaskPlay
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.server import CloudServer
from tests.support.clouds import samples, value
from tests.support.real_process import process
from tests.support.real_prometheus import Prometheus, running

PROJECTS: Final = ("a4d31cb63d724fdc8ec96e3a41e47f71", "b5e42dc74e835aed9fd07f4b52f58a82")
KEYS: Final = (
    ("RELOADAK7Q2N5X8R4T6", "reload-sk-0123456789abcdefghijklmnop"),
    ("RELOADAK1B3D5F7H9J0", "reload-sk-zyxwvutsrqponmlkjihgfedcba"),
)
TOKENS: Final = ("reload-token-0123456789abcdefghij", "reload-token-jihgfedcba9876543210")
LIMITS: Final = (
    {"concurrency": 4, "timeout": "3s", "requests_per_second": 400, "page_size": 100},
    {"concurrency": 8, "timeout": "2s", "requests_per_second": 500, "page_size": 50},
    {"concurrency": 4, "timeout": "3s", "requests_per_second": 450, "lookback": "6d"},
)
PLAY_INTERVAL: Final = 0.125
MOST_ACTIVE: Final = 16
QUIET: Final = 12.0
"""Seconds without an end of a task, after which each Prometheus has seen all counts."""

QUIET_SCRAPES: Final = 15
FIRST_SAMPLE: Final = 10
"""The reload after which the process is measured for the first time."""

LATEST: Final = "dcs_task_exporter_config_last_reload_successful"


@dataclass(frozen=True)
class Result:
    """What happened, and what each Prometheus saw of it."""

    happened: Counts
    counted: Sequence[Counts]
    scrapes: Sequence[int]
    failed: Sequence[int]
    reloads: int
    refused: int
    slowest: float
    sizes: Sequence[Size]

    @property
    def lossless(self) -> bool:
        """Whether all counts agree, and no scrape failed."""
        return all(counts == self.happened for counts in self.counted) and not any(self.failed)

    @property
    def flat(self) -> bool:
        """Whether nothing grew. Threads start when they are needed: few reloads tell little."""
        first, last = self.sizes
        return (
            last.threads <= first.threads + 2
            and last.descriptors <= first.descriptors + 10
            and last.rss <= 1.1 * first.rss
        )


class Play(TaskPlay):
    """Also knows when the latest task of each instance ended."""

    def __init__(self, cloud: SimulatedCloud, instances: Sequence[str], chance: Random) -> None:
        super().__init__(cloud, instances, chance, self._note_end)
        self.instances = instances
        self._latest: dict[str, float] = {}

    def quiet(self, instances: Sequence[str], number: int) -> list[str]:
        """Return some instances without a task that has ended a moment ago."""
        since = time.monotonic() - QUIET
        found = [it for it in instances if self._latest.get(it, 0.0) < since]
        return self.random.sample(found, min(number, len(found)))

    def _note_end(self, instance: str, _name: str, _status: str) -> None:
        self._latest[instance] = time.monotonic()


class Changes:
    """The configurations, one after the other."""

    def __init__(self, folder: Path, url: str, play: Play) -> None:
        self.file = folder / "config.yml"
        self._folder = folder
        self._url = url
        self._play = play
        self._named = play.instances[::2]
        self._found = play.instances[1::2]
        self._names = {it: f"{it}-a" for it in self._named}
        self.write(0, [], [])

    def next(self, number: int) -> None:
        """Change names, rules, limits and keys; a few instances leave until the next change."""
        for it in self._play.quiet(self._named, len(self._named) // 10):
            self._names[it] = f"{it}-{'b' if self._names[it].endswith('a') else 'a'}"
        some = max(1, len(self._named) // 30)
        gone = (self._play.quiet(part, some) for part in (self._named, self._found))
        self.write(number, *gone)

    def spoil(self) -> None:
        """Write a file with two mistakes."""
        self.file.write_text("projects: []\ncollectors: {}\n")

    def write(self, number: int, unnamed: Sequence[str], hidden: Sequence[str]) -> None:
        """Write the configuration with this number, and the files that it names."""
        (self._folder / "token").write_text(TOKENS[number // 3 % 2])
        access_key, secret_key = KEYS[number % 2]
        common = {"region": "cn-north-4", "endpoint": self._url}
        instances = [{"id": it, "name": self._names[it]} for it in self._named if it not in unnamed]
        rules = {"exclude": f"^({'|'.join(hidden)})$"} if hidden else {"include": "^i"}
        projects = [
            {
                **common,
                "name": "named",
                "project_id": PROJECTS[0],
                "credentials": {
                    "type": "access_key",
                    "access_key": access_key,
                    "secret_key": secret_key,
                },
                "instances": instances,
            },
            {
                **common,
                "name": "found",
                "project_id": PROJECTS[1],
                "credentials": {"type": "token", "token_file": str(self._folder / "token")},
                "discovery": {"enabled": True, "refresh_interval": "1s", **rules},
            },
        ]
        limits = LIMITS[number % len(LIMITS)]
        hold = {"min_refresh_interval": "2s", "first_value_hold": "3s", "retries": 1}
        state = {"path": str(self._folder / "state.db")}
        data = {"projects": projects, "collector": {**hold, **limits}, "state": state}
        self.file.write_text(yaml.safe_dump(data))


def run(
    binaries: Sequence[Path], folder: Path, *, reloads: int, instances: int, seed: int = 1
) -> Result:
    """Run the exporter, and return the result."""
    cloud = SimulatedCloud(time.time, seed=seed)
    for key in KEYS:
        cloud.access.add_key(*key)
    for token in TOKENS:
        cloud.access.add_token(token)
    for project in PROJECTS:
        cloud.add_project(project, "cn-north-4")
    ids = [f"i{number}" for number in range(instances)]
    for number, instance in enumerate(ids):
        cloud.add_instance(PROJECTS[number % 2], instance, instance)
    play = Play(cloud, ids, Random(seed))  # noqa: S311 - a fixed seed is wanted
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(CloudServer(cloud))
        changes = Changes(folder, server.url, play)
        command = [
            *(sys.executable, "-m", "dcs_task_exporter", f"--config.file={changes.file}"),
            *(f"--web.listen-address={address}", "--web.enable-lifecycle"),
        ]
        exporter = stack.enter_context(process(command, folder / "exporter.log"))
        watchers = [stack.enter_context(_watcher(it, folder, url)) for it in binaries]
        everyone_up = f"count(dcs_instance_up == 1) == {instances}"
        for watcher in watchers:
            watcher.wait_for(everyone_up)
        began = time.monotonic()
        refused, slowest, sizes = 0, 0.0, []
        with play.going_on(PLAY_INTERVAL, MOST_ACTIVE):
            for number in range(1, reloads + 1):
                time.sleep(1.0)
                if number % 10 == 0:
                    changes.spoil()
                    refused += _is_refused(url)
                changes.next(number)
                asked = time.perf_counter()
                requests.post(f"{url}/-/reload", timeout=30).raise_for_status()
                slowest = max(slowest, time.perf_counter() - asked)
                if number in (min(FIRST_SAMPLE, reloads // 2), reloads):
                    time.sleep(1.0)
                    sizes.append(size_of(exporter.pid, folder / "state.db"))
        changes.write(reloads + 1, [], [])
        exporter.send_signal(signal.SIGHUP)
        for watcher in watchers:
            scrapes = watcher.query("count_over_time(up[1h])")[0]["value"][1]
            watcher.wait_for(f"count_over_time(up[1h]) > {int(scrapes) + QUIET_SCRAPES}")
            watcher.wait_for(everyone_up)
        span = f"{round(time.monotonic() - began) + 30}s"
        counted = [sum_of_samples(watcher, span) for watcher in watchers]
        ups = [_ups(watcher, span) for watcher in watchers]
    return Result(
        happened=dict(play.ended),
        counted=counted,
        scrapes=[len(up) for up in ups],
        failed=[up.count(0) for up in ups],
        reloads=reloads,
        refused=refused,
        slowest=slowest,
        sizes=sizes,
    )


@contextlib.contextmanager
def _watcher(binary: Path, folder: Path, url: str) -> Iterator[Prometheus]:
    own = folder / f"prometheus-{len(list(folder.iterdir()))}"
    own.mkdir()
    with running(binary, own, url) as prometheus:
        yield prometheus


def _is_refused(url: str) -> bool:
    """Whether a bad file is refused with its mistakes, and the metric says so."""
    answer = requests.post(f"{url}/-/reload", timeout=30)
    text = requests.get(f"{url}/metrics?collect[]=exporter", timeout=30).text
    is_told = answer.status_code == 500 and "collectors" in answer.text  # noqa: PLR2004
    return is_told and value(samples(text), LATEST) == 0


def _ups(prometheus: Prometheus, span: str) -> list[int]:
    """Return whether each scrape succeeded, from the first that did."""
    (row,) = prometheus.query(f"up[{span}]")
    found = [int(up) for _, up in row["values"]]
    return found[found.index(1) :]


def report(result: Result) -> str:
    """Return the result as a table."""
    head = "".join(f"{f'Prometheus {at}':>14}" for at in range(1, len(result.counted) + 1))
    lines = [f"{'task_name':24}{'status':12}{'happened':>10}{head}"]
    for series in sorted({*result.happened, *(key for counts in result.counted for key in counts)}):
        cells = "".join(f"{counts.get(series, 0):>14}" for counts in result.counted)
        lines.append(f"{series[0]:24}{series[1]:12}{result.happened.get(series, 0):>10}{cells}")
    for at, counts in enumerate(result.counted):
        lost = sum((Counter(result.happened) - Counter(counts)).values())
        twice = sum((Counter(counts) - Counter(result.happened)).values())
        lines.append(
            f"Prometheus {at + 1}: {result.scrapes[at]} scrapes, {result.failed[at]} failed; "
            f"of {sum(result.happened.values())} tasks {lost} lost, {twice} counted twice"
        )
    lines.append(
        f"{result.reloads} reloads, the slowest in {result.slowest:.2f} s; "
        f"{result.refused} bad files refused"
    )
    first = min(FIRST_SAMPLE, result.reloads // 2)
    for at, seen in zip((first, result.reloads), result.sizes, strict=True):
        lines.append(f"after {at:>3} reloads: {told(seen)}")
    return "\n".join(lines)


def main(reloads: int, instances: int, seed: int, prometheus: Path, other: Path) -> int:
    """Run it, and print the report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = run((prometheus, other), folder, reloads=reloads, instances=instances, seed=seed)
    sys.stdout.write(f"{report(result)}\n")
    return 0 if result.lossless and result.flat else 1
