"""The command `scrape`: read every instance once and print the metrics."""

from __future__ import annotations

import argparse

from prometheus_client import generate_latest

from dcs_task_exporter.commands.one_pass import read_once
from dcs_task_exporter.commands.output import use_utf8


def scrape(arguments: argparse.Namespace) -> bool:
    """Print the metrics of one pass, in UTF-8 as Prometheus reads them."""
    use_utf8()
    return read_once(
        arguments, lambda exporter, _config: generate_latest(exporter.renderer.registry).decode()
    )
