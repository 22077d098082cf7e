"""A Prometheus with our rules, and an Alertmanager, beside the demo: where they are installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

RULES: Final = Path("prometheus")
"""Where a clone of the project has its rules; without them, alerts cannot be shown."""

TOOLS: Final = Path(".tools")
"""Where the project's own tests keep the programs, in a clone."""

PROMETHEUS: Final = ("prometheus",)
ALERTMANAGER: Final = ("prometheus-alertmanager", "alertmanager")
STOP_PATIENCE: Final = 5.0


@contextmanager
def monitoring(target: str, folder: Path) -> Iterator[Sequence[str]]:
    """Run what is installed against the exporter at `target` (host:port) while the block lasts.

    Yields lines that say where to look, or what is missing. `folder` is the clone.
    """
    prometheus, alertmanager = _program(PROMETHEUS, folder), _program(ALERTMANAGER, folder)
    if prometheus is None:
        yield ["  (With Prometheus installed, the demo would start it with the alert rules.)"]
        return
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dcs-task-demo-")))
        said = []
        alerting = ""
        if alertmanager is not None:
            address = f"127.0.0.1:{_free_port()}"
            stack.enter_context(_running(_alertmanager_command(alertmanager, work, address)))
            alerting = (
                f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n"
            )
            said.append(f"  Pager  http://{address}/ (Alertmanager)")
        address = f"127.0.0.1:{_free_port()}"
        (work / "prometheus.yml").write_text(_prometheus_config(target, folder) + alerting)
        stack.enter_context(_running(_prometheus_command(prometheus, work, address)))
        said.insert(0, f"  Alerts http://{address}/alerts (Prometheus)")
        yield said


def _program(names: Sequence[str], folder: Path) -> str | None:
    """Return the first of these programs on the path, or among the tools of the clone."""
    found = [shutil.which(name) for name in names]
    tools = sorted((folder / TOOLS).glob("*-[0-9]"), reverse=True)
    found += [shutil.which(tool / name) for tool in tools for name in names]
    return next((path for path in found if path), None)


def _prometheus_config(target: str, folder: Path) -> str:
    rules = (folder / RULES).resolve() / "dcs-tasks-*.yml"
    return (
        "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}\n"
        f"rule_files: ['{rules}']\n"
        f"scrape_configs: [{{job_name: dcs-tasks, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )


def _prometheus_command(program: str, work: Path, address: str) -> list[str]:
    return [
        program,
        f"--config.file={work / 'prometheus.yml'}",
        f"--storage.tsdb.path={work / 'prometheus'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]


def _alertmanager_command(program: str, work: Path, address: str) -> list[str]:
    (work / "alertmanager.yml").write_text("route: {receiver: demo}\nreceivers: [{name: demo}]\n")
    return [
        program,
        f"--config.file={work / 'alertmanager.yml'}",
        f"--storage.path={work / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=error",
    ]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    # A session of its own: Ctrl-C in the terminal is for the demo, which ends this one in order.
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - what was found above
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
