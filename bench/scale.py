"""Many instances on several shards: what they cost, and what happens when a shard fails or moves.

The chart is rendered with values as an operator sets them, and each pod of its StatefulSet runs as
a process with a folder of its own in place of host and volume. A simulated cloud answers after a
latency, and limits the requests of each project. A real Prometheus scrapes the first pod as the
ServiceMonitor says; the run itself scrapes all of them, and compares their counters with the tasks
that ended. One pod is killed, one is moved to another host, and in the end the number of shards
changes by a rolling update.

Kubernetes waits until a pod is ready, which takes a pass, before it ends the next. The run waits so
for pods that are added; for the others it waits a few seconds, because it has only some minutes.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import requests

from bench.ledger import Ledger
from bench.scale_cloud import CloudProcess
from bench.scale_load import Load, load_between
from bench.scale_plan import Plan
from bench.scale_pods import Pods, values
from bench.scale_prometheus import scraping, told
from bench.scale_watch import Watch
from bench.task_play import TaskPlay
from tests.support.charts import Release, render

INTERVAL: Final = 15.0
HOLD: Final = INTERVAL
DOWN: Final = 20.0
"""Seconds that a killed pod is away."""

PAUSE: Final = 0.5
PLAY_INTERVAL: Final = 0.25
MOST_ACTIVE: Final = 40

Say = Callable[[str], object]


class Run:
    """One run, with everything started; its steps are called one after the other."""

    def __init__(self, plan: Plan, cloud: CloudProcess, pods: Pods, say: Say) -> None:
        self._plan = plan
        self._cloud = cloud
        self._pods = pods
        self._say = say
        self._before, self._after = plan.owners(plan.shards), plan.owners(plan.after)
        moving = {
            instance
            for number, ids in self._before.items()
            for instance in ids.difference(self._after.get(number, ()))
        }
        everything = {instance for ids in self._before.values() for instance in ids}
        self.staying, self.moving = Ledger(everything - moving), Ledger(moving)
        self.first = everything.intersection(self._before[0], self._after[0])
        self.watch = Watch(lambda: pods.urls, (self.staying, self.moving), INTERVAL)
        self._plays = [
            TaskPlay(cloud, sorted(ids), random.Random(at), ledger.ended)  # noqa: S311 - fixed seeds
            for at, (ids, ledger) in enumerate(
                ((everything - moving, self.staying), (moving, self.moving))
            )
        ]
        self._release = self.release(plan.shards)

    def release(self, shards: int) -> Release:
        """Return the release of the chart with so many shards."""
        collector = {
            "refresh_interval": "15s",
            "requests_per_second": self._plan.rate,
            "first_value_hold": f"{HOLD:.0f}s",
        }
        interval = f"{INTERVAL:.0f}s"
        return render(values(self._plan.cloud, self._cloud.url, shards, collector, interval))

    def start(self) -> None:
        """Start all pods, and wait until each instance was read."""
        began = time.time()
        for number in self._before:
            self._pods.start(self._release, number)
        self._until_started()
        self._until_read(self._before, began)
        self._say(f"first pass, from the start of the pods: {time.time() - began:.0f} s")

    def steady(self) -> Load:
        """Let tasks start and end, and return what a pass and a little more cost."""
        with self._playing(0):
            return load_between(
                self._cloud, self._pods, self.watch, self._plan.pass_time + INTERVAL
            )

    def lose_and_move(self) -> None:
        """Kill the last pod and start it again; meanwhile move the one before to another host."""
        lost, moved = self._plan.shards - 1, self._plan.shards - 2
        with self._playing(0):
            killed_at = time.time()
            pod = self._pods.end(lost, signal.SIGKILL)
            moved_at = time.time()
            self._pods.move(self._release, moved)
            time.sleep(max(0.0, killed_at + DOWN - time.time()))
            self._pods.start(self._release, lost, pod.host)
            for what, number, at in (("moved", moved, moved_at), ("lost", lost, killed_at)):
                self._until_read({number: self._before[number]}, at)
                self._tell_gap(what, number, at)

    def change(self) -> None:
        """Change the number of shards, by a rolling update or all at once."""
        release, began = self.release(self._plan.after), time.time()
        with self._playing(0), self._playing(1):
            if self._plan.roll:
                self._roll(release)
            else:
                ended = self._pods.end_all()
                for number in self._after:
                    self._pods.start(
                        release, number, ended[number].host if number in ended else None
                    )
            self._say(
                f"all pods run with {self._plan.after} shards after {time.time() - began:.0f} s"
            )
            self._until_read(self._after, time.time())
        self._say(f"all instances read by their new shards after {time.time() - began:.0f} s")

    def _roll(self, release: Release) -> None:
        """Change the pods in the order of the StatefulSet's controller."""
        for number in sorted(self._after.keys() - self._before.keys()):
            self._pods.start(release, number)
            self._until(partial(_answers, f"{self._pods.urls[number]}/-/ready"))
            self._say(f"shard {number} is ready")
        for number in sorted(self._before.keys() - self._after.keys(), reverse=True):
            self._pods.remove(number)
        for number in sorted(self._before.keys() & self._after.keys(), reverse=True):
            pod = self._pods.end(number)
            self._pods.start(release, number, pod.host)
            time.sleep(self._plan.roll)

    def settle(self) -> None:
        """Wait until what ended is read, and was held for as long as it is."""
        self._until_read(self._after, time.time())
        deadline = time.monotonic() + self._plan.pass_time + HOLD + 3 * INTERVAL
        while not self.staying.agrees and time.monotonic() < deadline:
            time.sleep(PAUSE)
        time.sleep(INTERVAL + PAUSE)  # until Prometheus has scraped it too

    @contextlib.contextmanager
    def _playing(self, number: int) -> Iterator[None]:
        with self._plays[number].going_on(PLAY_INTERVAL, MOST_ACTIVE):
            yield

    def _tell_gap(self, what: str, number: int, at: float) -> None:
        scrapes = [it for it in self.watch.scrapes if it.pod == number and it.at > at]
        failed = sum(pod == number and moment > at for pod, moment in self.watch.failed)
        # One that was under way may have the data of before.
        fresh = [it for it in scrapes if all(moment > at for moment in it.refreshed.values())]
        whole = next(it.at for it in fresh if it.up == len(self._before[number]))
        self._say(
            f"shard {number} {what}: {failed} scrapes failed, all its instances read again "
            f"after {whole - at:.0f} s"
        )

    def _until_started(self) -> None:
        """Wait as long as the chart's startup probes do: Kubernetes kills pods that take longer."""
        probe = self._release.container()["startupProbe"]
        path, patience = (
            probe["httpGet"]["path"],
            probe["periodSeconds"] * probe["failureThreshold"],
        )
        began = time.monotonic()
        for url in self._pods.urls.values():
            self._until(partial(_answers, f"{url}{path}"), patience)
        self._say(f"startup probes passed after {time.monotonic() - began:.0f} of {patience} s")

    def _until_read(self, instances: Mapping[int, set[str]], since: float) -> None:
        self._until(lambda: self.watch.is_read(instances, since))

    def _until(self, condition: Callable[[], bool], patience: float | None = None) -> None:
        passes = 3 * self._plan.pass_time + 4 * INTERVAL
        deadline = time.monotonic() + (patience or passes)
        while not condition():
            if time.monotonic() > deadline:
                message = "the pods did not start, or did not read their instances, in time"
                raise TimeoutError(message)
            time.sleep(PAUSE)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=INTERVAL).ok
    except requests.RequestException:
        return False


def run(binary: Path, folder: Path, plan: Plan, say: Say) -> bool:
    """Run it, and return whether nothing was lost or doubled in instances that stayed."""
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(CloudProcess(plan.cloud))
        pods = Pods(folder)
        stack.callback(pods.end_all)
        one = Run(plan, cloud, pods, say)
        stack.enter_context(one.watch.going_on())
        one.start()
        server = stack.enter_context(
            scraping(binary, folder / "prometheus", one.release(plan.shards), pods.urls[0])
        )
        for text in one.steady().report():
            say(text)
        one.lose_and_move()
        one.change()
        one.settle()
        for text in (*_counts(one), *told(server, one.staying, one.first)):
            say(text)
        served = cloud.served()
        say(
            f"requests in the whole run: {served.total}, of them for lists of instances "
            f"{served.by_operation['list_instances']}; refused by the limit: {served.refused}"
        )
    return one.staying.agrees


def _counts(one: Run) -> Sequence[str]:
    moved = one.moving
    return [
        "instances that stayed with their shard: " + next(iter(one.staying.report())),
        "instances that changed their shard: " + next(iter(moved.report())),
        (
            "  with the highest of all pods in place of their sum: "
            f"{(moved.happened - moved.highest).total()} lost, "
            f"{(moved.highest - moved.happened).total()} doubled"
        ),
    ]


def main(
    instances: int,
    projects: int,
    shards: int,
    after: int,
    pass_time: float,
    roll: float,
    prometheus: Path,
) -> int:
    """Run it, and print each line at once."""
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:4.0f} s  {text}\n")
        sys.stdout.flush()

    plan = Plan(instances, projects, shards, after, pass_time, roll)
    with tempfile.TemporaryDirectory() as name:
        return 0 if run(prometheus, Path(name), plan, say) else 1
