"""A simulated cloud: a real HTTP server that behaves as Huawei Cloud's DCS API is documented.

It checks signatures and tokens, pages and filters. `Quirks` choose the behavior that the documents
leave open, and `faults` are all known failures. The official SDK works against it unchanged.
"""

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import FAULTS, Reply
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.server import CloudServer
from dcs_task_exporter.simulator.story import DEMO_KEY, DEMO_PROJECT_ID, DemoStory

__all__ = [
    "DEMO_KEY",
    "DEMO_PROJECT_ID",
    "FAULTS",
    "CloudServer",
    "DemoStory",
    "Quirks",
    "Reply",
    "SimulatedCloud",
]
