"""The bodies of the task listings that the cloud of the benchmark answers with."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Final

ERROR_CODE: Final = b"_error_code_"
"""Placeholder of the newest task's error code, as long as its replacement."""

NEWEST: Final = b"_newest_id__"
"""Placeholder at the start of the newest task's id, as long as its replacement."""

NODE: Final = b"_node_of_____"
"""Placeholder of the instance's id."""

AGE_OF_NEWEST: Final = 300.0
"""Seconds since the newest task started; it took two minutes, as all do."""

NO_DETAILS: Final[Mapping[str, object]] = {
    "old_capacity": "",
    "new_capacity": "",
    "enable_public_ip": False,
    "public_ip_id": "",
    "public_ip_address": "",
    "enable_ssl": False,
    "old_cache_mode": "",
    "new_cache_mode": "",
    "old_resource_spec_code": "",
    "new_resource_spec_code": "",
    "old_replica_num": 0,
    "new_replica_num": 0,
    "old_cache_type": "",
    "new_cache_type": "",
    "replica_ip": "",
    "replica_az": "",
    "group_name": "",
    "old_port": 0,
    "new_port": 0,
    "is_only_adjust_charging": False,
    "account_name": "",
    "source_ip": "",
    "target_ip": "",
    "node_name": "",
}
DETAILS: Final[Mapping[str, Mapping[str, object]]] = {
    "EXTEND": {
        "old_capacity": "0.125",
        "new_capacity": "0.25",
        "old_cache_mode": "ha",
        "new_cache_mode": "ha",
        "old_resource_spec_code": "redis.ha.xu1.tiny.r2.128",
        "new_resource_spec_code": "redis.ha.xu1.tiny.r2.256",
        "old_replica_num": 2,
        "new_replica_num": 2,
        "old_cache_type": "ha",
        "new_cache_type": "ha",
    },
    "AddWhitelist": {"group_name": "default"},
    "masterStandbySwapJob": {
        "source_ip": NODE.decode(),
        "target_ip": f"{NODE.decode()}-2",
        "node_name": NODE.decode(),
    },
    "modify": {"updated_config_length": 1},
    "UpdatePort": {"old_port": 6379, "new_port": 6380},
}
"""The details of a task by its name; the others are empty."""

NAMES: Final = tuple(DETAILS)


def task_body(tasks: int, now: float, *, active: bool = False) -> bytes:
    """Return a listing of this many finished tasks; with `active` the newest has not finished.

    A task has about 840 bytes: its details have all fields, as in the API's sample.
    """
    rows = []
    for number in range(tasks):
        start, name = now - AGE_OF_NEWEST - 3600 * number, NAMES[number % len(NAMES)]
        rows.append(
            {
                "id": f"{number:032x}" if number else f"{NEWEST.decode()}{number:020x}",
                "name": name,
                "user_name": "dcs_000_02",
                "user_id": "d53977d1adfb49c5b025ba7d33a13fd7",
                "details": {**NO_DETAILS, **DETAILS[name]},
                "params": "",
                "enable_show": False,
                "status": "EXECUTING" if active and not number else _ending(number),
                "created_at": _moment(start),
                "updated_at": _moment(start + 120),
                "error_code": "" if number else ERROR_CODE.decode(),
                "job_id": f"{number:032x}",
            }
        )
    body = {"task_count": str(tasks), "tasks": rows}
    return json.dumps(body, separators=(",", ":")).encode()


def _ending(number: int) -> str:
    return "SUCCESS" if number % 7 else "FAILED"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.503Z", time.gmtime(seconds))
