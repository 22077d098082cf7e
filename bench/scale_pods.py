"""The pods of the chart's StatefulSet as processes: started, killed, moved to another host."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.scale_cloud import KEY, CloudSettings
from dcs_task_exporter.demo.monitoring import free_port
from tests.support.charts import Release
from tests.support.pods import Pod
from tests.support.real_parts import ROOT
from tests.support.real_process import PATIENCE

CREDENTIALS: Final = "/etc/dcs-task-exporter/credentials"


def values(
    cloud: CloudSettings, url: str, shards: int, collector: Mapping[str, object], interval: str
) -> dict[str, Any]:
    """Return the chart's values that an operator sets; all others are the chart's own."""
    projects = [
        {
            "name": f"project-{number}",
            "region": "cn-north-4",
            "project_id": project,
            "endpoint": url,
            "credentials": {
                "type": "access_key",
                "access_key_file": f"{CREDENTIALS}/access-key",
                "secret_key_file": f"{CREDENTIALS}/secret-key",
            },
            "discovery": {"enabled": True},
        }
        for number, project in enumerate(cloud.project_ids())
    ]
    return {
        "shards": shards,
        "config": {"projects": projects, "collector": dict(collector)},
        "credentials": {"existingSecret": "dcs-key"},
        "serviceMonitor": {"enabled": True, "interval": interval, "scrapeTimeout": "10s"},
    }


@dataclass(frozen=True, slots=True)
class RunningPod:
    """One pod: the folder in place of its host, where it listens, its process and state file."""

    host: Path
    url: str
    process: subprocess.Popen[bytes]
    state: Path


class Pods:
    """The pods of a StatefulSet by their number; used by one thread, `urls` by any.

    The `urls` are those of all pods that should run, as their names are in Kubernetes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._moves = 0
        self.urls: Mapping[int, str] = {}
        self._running: Mapping[int, RunningPod] = {}

    @property
    def running(self) -> Mapping[int, RunningPod]:
        """The pods that run now."""
        return self._running

    def start(self, release: Release, number: int, host: Path | None = None) -> None:
        """Start a pod as its container does, on a host that has its volume."""
        name = f"{release.workload()['metadata']['name']}-{number}"
        host = host or self._folder / name
        pod = Pod(release, host)
        for file, text in zip(("access-key", "secret-key"), KEY, strict=True):
            (pod.mount("credentials") / file).write_text(text)
        url = self.urls.get(number) or f"http://127.0.0.1:{free_port()}"
        self.urls = {**self.urls, number: url}
        words = [*pod.arguments(), f"--web.listen-address={url.removeprefix('http://')}"]
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, "-m", "dcs_task_exporter", *words],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "POD_NAME": name},
            )
        state = pod.mount("state") / "state.db"
        self._running = {
            **self._running,
            number: RunningPod(host, url, process, state),
        }

    def end(self, number: int, by: signal.Signals = signal.SIGTERM) -> RunningPod:
        """End a pod, and return what it was."""
        pod = self._running[number]
        self._running = {key: one for key, one in self._running.items() if key != number}
        pod.process.send_signal(by)
        pod.process.wait(PATIENCE)
        return pod

    def remove(self, number: int) -> None:
        """End a pod for good."""
        self.end(number)
        self.urls = {key: url for key, url in self.urls.items() if key != number}

    def move(self, release: Release, number: int) -> None:
        """End a pod and start it on another host, with a copy of its state alone."""
        old = self.end(number)
        self._moves += 1
        host = self._folder / f"host-{self._moves}"
        new = host / old.state.relative_to(old.host)
        new.parent.mkdir(parents=True)
        for path in old.state.parent.glob(f"{old.state.name}*"):
            shutil.copy(path, new.parent)
        self.start(release, number, host)

    def end_all(self) -> Mapping[int, RunningPod]:
        """End all pods, all at once, and return what they were."""
        for pod in self._running.values():
            pod.process.terminate()
        return {number: self.end(number) for number in tuple(self._running)}
