"""What the pods of a scale run cost while nothing happens to them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.process_size import Size, cpu_seconds, size_of
from bench.scale_cloud import CloudProcess, Served
from bench.scale_pods import Pods
from bench.scale_watch import Scrape, Watch, spread


@dataclass(frozen=True, slots=True)
class Load:
    """The requests, scrapes, sizes and processor time of some seconds.

    `cpu` has the processor seconds of each pod, `cloud_cpu` those of the cloud; `busy` is the share
    of the machine's processors that was in use by all programs.
    """

    seconds: float
    before: Served
    after: Served
    scrapes: Sequence[Scrape]
    sizes: Mapping[int, Size]
    cpu: Mapping[int, float]
    cloud_cpu: float
    busy: float

    def report(self) -> Iterator[str]:
        """Yield the load in sentences."""
        asked = self.after.total - self.before.total
        projects = [
            number - self.before.by_project.get(project, 0)
            for project, number in self.after.by_project.items()
        ]
        listings = self.after.by_operation["list_tasks"] - self.before.by_operation["list_tasks"]
        yield (
            f"requests: {asked / self.seconds:.1f}/s, {listings / self.seconds:.1f}/s of them for "
            f"tasks; of a project {min(projects) / self.seconds:.1f} to "
            f"{max(projects) / self.seconds:.1f}/s; refused: {self.after.refused}"
        )
        yield f"age of the data: {spread([age for it in self.scrapes for age in it.ages])}"
        passes = [seconds for it in self.scrapes for seconds in it.passes]
        yield f"pass, from one read of an instance to the next: {spread(passes)}"
        yield f"instances up, at each scrape: {sorted({it.up for it in self.scrapes})}"
        shares = [seconds / self.seconds * 100 for seconds in self.cpu.values()]
        yield (
            f"processor: {min(shares):.1f} to {max(shares):.1f} % of one for a shard, "
            f"{sum(shares):.0f} % for all, {self.cloud_cpu / self.seconds * 100:.0f} % for the "
            f"simulated cloud; all programs used {self.busy:.0%} of {os.cpu_count()} processors"
        )
        memory = [size.rss for size in self.sizes.values()]
        threads = [size.threads for size in self.sizes.values()]
        state = [size.state / 1024 for size in self.sizes.values()]
        yield (
            f"memory: {min(memory):.0f} to {max(memory):.0f} MB for a shard, {sum(memory):.0f} MB "
            f"for all; threads: {max(threads):.0f}; state file: {max(state):.1f} MB"
        )
        series = [it.series for it in self.scrapes]
        size = max(it.size for it in self.scrapes) / (1 << 20)
        took = [it.took for it in self.scrapes]
        yield (
            f"scrape: {min(series)} to {max(series)} series, {size:.1f} MB before gzip, "
            f"median {statistics.median(took):.2f} s, max {max(took):.2f} s"
        )


def load_between(cloud: CloudProcess, pods: Pods, watch: Watch, seconds: float) -> Load:
    """Let some seconds pass, and return the load in them."""
    began, first = time.monotonic(), len(watch.scrapes)
    before, busy, pids = cloud.served(), _busy(), _pids(pods)
    used = {number: cpu_seconds(pid) for number, pid in pids.items()}
    cloud_used = cpu_seconds(cloud.pid)
    time.sleep(seconds)
    passed = time.monotonic() - began
    return Load(
        passed,
        before,
        cloud.served(),
        watch.scrapes[first:],
        {number: size_of(pod.process.pid, pod.state) for number, pod in pods.running.items()},
        {number: cpu_seconds(pid) - used[number] for number, pid in pids.items()},
        cpu_seconds(cloud.pid) - cloud_used,
        (_busy() - busy) / passed / (os.cpu_count() or 1),
    )


def _pids(pods: Pods) -> Mapping[int, int]:
    return {number: pod.process.pid for number, pod in pods.running.items()}


def _busy() -> float:
    """Return the processor seconds of all programs since the machine's start."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft = map(int, fields[:7])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")
