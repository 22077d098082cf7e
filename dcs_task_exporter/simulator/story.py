"""The story of the demo: instances whose tasks start, run, succeed and fail."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.listing import timestamp
from dcs_task_exporter.tasks.models import KNOWN_TASK_NAMES

DEMO_PROJECT_ID: Final = "a4d31cb63d724fdc8ec96e3a41e47f71"
DEMO_KEY: Final = ("DEMOAK7Q2N5X8R4T6V9B", "demo-sk-Zk3Vn8Qw5Rt7Yp1Lm4Xc6Bd9Fg2Hj0Ks")
DEMO_INSTANCES: Final = (
    ("5560df16-cebf-4473-95c4-d1b573c16e79", "orders-cache"),
    ("0f4c2a51-5d0e-4a43-8c7e-3b1f0f4b9a02", "sessions"),
    ("9a7d5e0c-1c6b-4a5f-b6f2-7f6f1d2e3c03", "carts"),
    ("c3b8f1de-77a0-4d2c-9d9a-2e8f5a6b7c04", "search-suggestions"),
    ("e1d2c3b4-a596-4788-8796-a5b4c3d2e105", "rate-limiter"),
    ("27b6a4f0-3c5d-4e7f-8a9b-0c1d2e3f4a06", "leaderboard"),
)
DETAILS: Final[Mapping[str, Mapping[str, Any]]] = {
    "AddReplica": {"old_replica_num": 1, "new_replica_num": 2},
    "DelReplica": {"old_replica_num": 2, "new_replica_num": 1},
    "BindEip": {"enable_public_ip": True, "public_ip_address": "192.0.2.17"},
    "UnBindEip": {"enable_public_ip": False, "public_ip_address": "192.0.2.17"},
    "UpdatePort": {"old_port": 6379, "new_port": 6380},
    "masterStandbySwapJob": {
        "group_name": "group1",
        "source_ip": "192.0.2.10",
        "target_ip": "192.0.2.11",
    },
    "DeleteAcl": {"account_name": "reporting"},
}
SIZES: Final = ("0.125", "0.25", "0.5", "1", "2", "4", "8", "16")
DAY: Final = 86_400.0


class DemoStory:
    """Plays tasks in a cloud, one step at a time; the same seed plays the same story."""

    def __init__(self, cloud: SimulatedCloud, seed: int) -> None:
        self._cloud = cloud
        self._random = random.Random(seed)
        self._running: list[tuple[float, str, str]] = []
        self._sizes = {instance_id: 3 for instance_id, _ in DEMO_INSTANCES}
        self._names = list(KNOWN_TASK_NAMES)

    def begin(self) -> None:
        """Create the project, its key, its instances, and the tasks of the last days."""
        cloud = self._cloud
        cloud.add_project(DEMO_PROJECT_ID, "cn-north-4")
        cloud.access.add_key(*DEMO_KEY)
        for instance_id, name in DEMO_INSTANCES:
            cloud.add_instance(DEMO_PROJECT_ID, instance_id, name)
        for number in range(24):
            instance_id, _ = DEMO_INSTANCES[number % len(DEMO_INSTANCES)]
            name = KNOWN_TASK_NAMES[number % len(KNOWN_TASK_NAMES)]
            began = cloud.clock() - DAY * self._random.uniform(0.1, 6)
            ended = began + self._random.uniform(4, 400)
            failed = number % 11 == 7  # noqa: PLR2004 - two of the history failed
            cloud.start_task(
                instance_id,
                name,
                "FAILED" if failed else "SUCCESS",
                created_at=began,
                details=self._details(name, instance_id),
                updated_at=timestamp(ended),
            )

    def advance(self) -> None:
        """Play one step: end the tasks that are due, and start one now and then."""
        now = self._cloud.clock()
        for item in [item for item in self._running if item[0] <= now]:
            self._running.remove(item)
            failed = self._random.random() < 0.2  # noqa: PLR2004 - one in five
            more = {"error_code": "DCS.4842"} if failed else {}
            self._cloud.finish_task(item[1], item[2], "FAILED" if failed else "SUCCESS", **more)
        if self._random.random() < 0.4:  # noqa: PLR2004 - every few seconds
            self._start(now)

    def _start(self, now: float) -> None:
        if not self._names:
            self._names = [*KNOWN_TASK_NAMES, "DeleteAcl"]
            self._random.shuffle(self._names)
        name = self._names.pop()
        instance_id, _ = self._random.choice(DEMO_INSTANCES)
        details = self._details(name, instance_id)
        task_id = self._cloud.start_task(instance_id, name, details=details)
        self._running.append((now + self._random.uniform(3, 12), instance_id, task_id))

    def _details(self, name: str, instance_id: str) -> Mapping[str, Any]:
        if name != "EXTEND":
            return DETAILS.get(name, {})
        size = self._sizes[instance_id]
        step = 1 if size == 0 else (-1 if size == len(SIZES) - 1 else self._random.choice((-1, 1)))
        old, new = SIZES[size], SIZES[size + step]
        self._sizes[instance_id] = size + step
        return {
            "old_cache_mode": "ha",
            "new_cache_mode": "ha",
            "old_capacity": old,
            "new_capacity": new,
            "old_resource_spec_code": f"redis.ha.xu1.large.r2.{old}",
            "new_resource_spec_code": f"redis.ha.xu1.large.r2.{new}",
            "old_replica_num": 2,
            "new_replica_num": 2,
        }
