"""A Prometheus with our rules, and an Alertmanager, beside the demo: where they are installed."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, cast

from dcs_task_exporter.demo import supervisor as supervisor_program

RULES: Final = Path("prometheus")
"""Where a clone of the project has its rules; without them, alerts cannot be shown."""

TOOLS: Final = Path(".tools")
"""Where the project's own tests keep the programs, in a clone."""

PROMETHEUS: Final = ("prometheus",)
ALERTMANAGER: Final = ("prometheus-alertmanager", "alertmanager")

PORTS: Final = range(20_000, 30_000)
"""Below those that systems give to connections: 32768 and above, or 49152."""

ALERTMANAGER_CONFIG: Final = "route: {receiver: demo}\nreceivers: [{name: demo}]\n"


@contextmanager
def monitoring(
    target: str, path: str, folder: Path, say: Callable[[str], None]
) -> Iterator[Sequence[str]]:
    """Run what is installed against the exporter at `target` (host:port) while the block lasts.

    Yields lines that say where to look, or what is missing; `say` is told of a program that ends
    by itself. `path` is the one of the metrics, `folder` the clone.
    """
    prometheus, alertmanager = _program(PROMETHEUS, folder), _program(ALERTMANAGER, folder)
    if prometheus is None:
        yield ["  (With Prometheus installed, the demo would start it with the alert rules.)"]
        return
    files: dict[str, str] = {}
    programs: dict[str, Sequence[str]] = {}
    said = []
    alerting = ""
    if alertmanager is not None:
        address = f"127.0.0.1:{free_port()}"
        files["alertmanager.yml"] = ALERTMANAGER_CONFIG
        programs["Alertmanager"] = _alertmanager_command(alertmanager, address)
        alerting = (
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n"
        )
        said.append(f"  Pager  http://{address}/ (Alertmanager)")
    address = f"127.0.0.1:{free_port()}"
    files["prometheus.yml"] = _prometheus_config(target, path, folder) + alerting
    programs["Prometheus"] = _prometheus_command(prometheus, address)
    said.insert(0, f"  Alerts http://{address}/alerts (Prometheus)")
    with _supervised(files, programs, say):
        yield said


def _program(names: Sequence[str], folder: Path) -> str | None:
    """Return the first of these programs on the path, or among the tools of the clone."""
    found = [shutil.which(name) for name in names]
    tools = sorted((folder / TOOLS).glob("*-[0-9]"), reverse=True)
    found += [shutil.which(tool / name) for tool in tools for name in names]
    return next((str(Path(path).absolute()) for path in found if path), None)


def _prometheus_config(target: str, path: str, folder: Path) -> str:
    rules = (folder / RULES).resolve() / "dcs-tasks-*.yml"
    return (
        "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}\n"
        f"rule_files: ['{rules}']\n"
        f"scrape_configs: [{{job_name: dcs-tasks, metrics_path: '{path}', "
        f"static_configs: [{{targets: ['{target}']}}]}}]\n"
    )


def _prometheus_command(program: str, address: str) -> list[str]:
    return [
        program,
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=prometheus",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]


def _alertmanager_command(program: str, address: str) -> list[str]:
    return [
        program,
        "--config.file=alertmanager.yml",
        "--storage.path=alertmanager",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]


@contextmanager
def _supervised(
    files: Mapping[str, str], programs: Mapping[str, Sequence[str]], say: Callable[[str], None]
) -> Iterator[None]:
    """Run programs under a supervisor, which ends them when the block, or this process, ends."""
    command = [sys.executable, "-I", supervisor_program.__file__]
    # A session of its own: Ctrl-C in the terminal is for the demo, which ends the rest in order.
    with subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as supervisor:
        # Both are pipes, as asked above.
        orders, answers = cast("IO[str]", supervisor.stdin), cast("IO[str]", supervisor.stdout)
        orders.write(json.dumps({"files": files, "programs": programs}) + "\n")
        orders.flush()

        def tell() -> None:
            for line in answers:
                say(line.rstrip())

        teller = threading.Thread(target=tell, name="demo-supervisor", daemon=True)
        teller.start()
        try:
            yield
        finally:
            orders.close()
            teller.join()


def free_port() -> int:
    """Return a port that nothing listens on, and that the system gives to no connection.

    A port that the system chose itself may be given away again before it is listened on.
    """
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
