"""One pass over all instances, for `scrape`, `tasks` and `check --online`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from dcs_task_exporter.commands.configuration import configuration, exporter_options
from dcs_task_exporter.commands.output import warn, write
from dcs_task_exporter.config.model import Config
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.flags import PROGRAM

PATIENCE: Final = 60.0
"""Seconds to wait for the cloud, beyond the time that the rate limit makes a pass take."""


def read_once(arguments: argparse.Namespace, report: Callable[[Exporter, Config], str]) -> bool:
    """Read every instance once and print the report; return whether all could be read."""
    config = configuration(arguments)
    exporter = Exporter(config, exporter_options(arguments))
    try:
        exporter.fleet.read_everything(PATIENCE)
        write(report(exporter, config))
        warn_of_problems(exporter)
        listed = all(discovery.status.up for discovery in exporter.fleet.discoveries)
        return listed and all(snapshot.up for snapshot in exporter.refresher.snapshots())
    finally:
        exporter.stop()


def warn_of_problems(exporter: Exporter) -> None:
    """Warn of a wrong clock, and of projects whose instances could not be listed."""
    late = [
        f"The instances of project {discovery.project} were not listed in time."
        for discovery in exporter.fleet.discoveries
        if not discovery.status.up and not discovery.status.problem
    ]
    for sentence in (*exporter.problems(), *late):
        warn(f"{PROGRAM}: {sentence}")
