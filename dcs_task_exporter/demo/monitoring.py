"""Prometheus with our rules, and Alertmanager, beside the demo: where they are installed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, cast

from dcs_task_exporter.demo import supervisor

PORTS: Final = range(20_000, 30_000)
"""Below the ports that systems give to connections: from 32768, or from 49152."""

INHERITED: Final = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ")
"""The variables of the environment that the programs get: none that may hold a secret."""


@contextmanager
def monitoring(
    target: str, path: str, clone: Path, say: Callable[[str], None]
) -> Iterator[Sequence[str]]:
    """Run the installed programs while the block lasts; Prometheus scrapes `path` of `target`.

    Yields lines that tell where to look, or that Prometheus is missing. Calls `say` with a line
    about each program that ends by itself.
    """
    prometheus = _program(clone, "prometheus")
    alertmanager = _program(clone, "prometheus-alertmanager", "alertmanager")
    if prometheus is None:
        yield ["  (With Prometheus installed, the demo would start it with the alert rules.)"]
        return
    web, pager = (f"127.0.0.1:{free_port()}" for _ in range(2))
    places = [f"  Alerts http://{web}/alerts (Prometheus)"]
    files = {"prometheus.yml": _prometheus_config(target, path, clone)}
    programs = {
        "Prometheus": [
            prometheus,
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            f"--web.listen-address={web}",
            "--log.level=error",
        ]
    }
    if alertmanager is not None:
        places.append(f"  Pager  http://{pager}/ (Alertmanager)")
        alerting = f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{pager}']}}]}}]}}"
        files["prometheus.yml"] += f"{alerting}\n"
        files["alertmanager.yml"] = "route: {receiver: demo}\nreceivers: [{name: demo}]\n"
        programs["Alertmanager"] = [
            alertmanager,
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            f"--web.listen-address={pager}",
            "--cluster.listen-address=",
            "--log.level=error",
        ]
    with _supervised(files, programs, say):
        yield places


def _program(clone: Path, *names: str) -> str | None:
    """Return the path of the first of these that is on the PATH, or among the clone's tools."""
    tools = sorted((clone / ".tools").glob("*-[0-9]"), reverse=True)
    found = (shutil.which(folder / name) for folder in (Path(), *tools) for name in names)
    return next((str(Path(path).absolute()) for path in found if path), None)


def _prometheus_config(target: str, path: str, clone: Path) -> str:
    return (
        "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}\n"
        f"rule_files: ['{clone.resolve()}/prometheus/dcs-tasks-*.yml']\n"
        f"scrape_configs: [{{job_name: dcs-tasks, metrics_path: '{path}', "
        f"static_configs: [{{targets: ['{target}']}}]}}]\n"
    )


@contextmanager
def _supervised(
    files: Mapping[str, str], programs: Mapping[str, Sequence[str]], say: Callable[[str], None]
) -> Iterator[None]:
    """Run programs under a supervisor, which ends them when the block, or this process, ends."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", supervisor.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ctrl-C in the terminal is for the demo alone, which ends the others in order.
        start_new_session=True,
        # The environment of the demo may hold keys of a real account.
        env={name: os.environ[name] for name in INHERITED if name in os.environ},
    ) as process:
        # Both are pipes, as asked above.
        orders, messages = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        orders.write(json.dumps({"files": files, "programs": programs}) + "\n")
        orders.flush()

        def say_messages() -> None:
            for line in messages:
                say(line.rstrip())

        thread = threading.Thread(target=say_messages, name="demo-supervisor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            orders.close()
            thread.join()


def free_port() -> int:
    """Return a port that nothing listens on, and that the system gives to no connection.

    The system may give away a port that it chose itself before a server listens on it.
    """
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
