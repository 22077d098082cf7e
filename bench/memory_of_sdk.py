"""Print the peak memory of the SDK in MB; `memory` runs this as a process of its own.

    INSTANCES TASKS      the SDK holds one answer for each instance

Imports no exporter, which would weigh on the SDK.
"""

from __future__ import annotations

import sys

from bench.cloud import BenchCloud
from bench.load import Load
from bench.process_size import memory_peak
from bench.sdk import sdk_client, sdk_request
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection


def peak(instances: int, tasks: int) -> float:
    """Return the peak while one answer for each instance is held."""
    with BenchCloud(Load(tasks=tasks)) as cloud:
        client = sdk_client(cloud, 1)
        held = [sdk_request(client, number) for number in range(instances)]
        return memory_peak() if held else 0.0


if __name__ == "__main__":
    tune_garbage_collection()  # as in the exporter, for the same garbage
    sys.stdout.write(f"{peak(int(sys.argv[1]), int(sys.argv[2]))}\n")
