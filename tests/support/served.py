"""An exporter of a simulated world, served on a port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from dcs_task_exporter.config.model import Config, parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import World


@contextmanager
def served(here: World, config: Config | None = None, **more: Any) -> Iterator[str]:
    """Serve an exporter on a port; yields its URL."""
    options = Options(clock=here.clock.clock, process_metrics=False, **more)
    config = config or parse_config(here.config_text(), "test", {})
    exporter = Exporter(config, options)
    web = WebServer(exporter.app(), [("127.0.0.1", 0)])
    web.start()
    exporter.fleet.start()
    try:
        yield web.url
    finally:
        web.stop()
        exporter.stop()


def get(url: str, timeout: float = 10, *, target: str = "", part: str = "") -> requests.Response:
    """Ask the exporter the way that Prometheus does."""
    header = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)}
    query = {"target": target, "collect[]": part}
    asked = {key: value for key, value in query.items() if value}
    return requests.get(url, asked, headers=header, timeout=30)
