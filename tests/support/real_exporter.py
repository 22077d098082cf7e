"""An exporter on a port over a simulated cloud in real time, for the tests with real parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.server import CloudServer
from tests.support.clouds import ACCESS_KEY, PROJECT, SECRET_KEY
from tests.support.served import serving

CONFIG = """
projects:
  - name: prod
    region: cn-north-4
    project_id: {project}
    endpoint: {url}
    credentials:
      type: access_key
      access_key: {key}
      secret_key: {secret}
      expires_at: "2040-01-01T00:00:00Z"
{instances}collector:
  {{min_refresh_interval: 200ms, first_value_hold: 0s, requests_per_second: 1000}}
"""


CONFIGURED = "    instances: [{id: i0, name: orders}, {id: i1, name: carts}]\n"


def cloud_of_two() -> SimulatedCloud:
    """Return a cloud with two instances, in real time: a real Prometheus lives in no other."""
    made = SimulatedCloud(time.time)
    made.add_project(PROJECT, "cn-north-4")
    made.access.add_key(ACCESS_KEY, SECRET_KEY)
    made.add_instance(PROJECT, "i0", "orders")
    made.add_instance(PROJECT, "i1", "carts")
    return made


@contextmanager
def exporting(
    cloud: SimulatedCloud, more: str = "", *, instances: str = CONFIGURED
) -> Iterator[str]:
    """Run an exporter over such a cloud; `more` adds to its configuration. Yields its URL."""
    with CloudServer(cloud) as server:
        text = CONFIG.format(
            project=PROJECT,
            url=server.url,
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            instances=instances,
        )
        with serving(Exporter(parse_config(text + more, "test", {}), Options())) as served_at:
            yield served_at
