"""What the cloud's targets begin with: the simulated faults, and the documents' bodies."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dcs_task_exporter.simulator.faults import FAULTS, Reply

_SAMPLE: Final = Path(__file__).parent.parent / "tests" / "testdata" / "seed_example.json"

_INSTANCES: Final = {
    "instance_num": 1,
    "instances": [
        {
            "instance_id": "5560df16-cebf-4473-95c4-d1b573c16e79",
            "name": "dcs-cache",
            "engine": "Redis",
            "engine_version": "5.0",
            "capacity": 0,
            "capacity_minor": ".125",
            "spec_code": "redis.ha.xu1.tiny.r2.128",
            "status": "RUNNING",
            "publicip_id": {},
            "enterprise_project_id": 0,
            "tags": [{"key": 1, "value": "v"}, {"key": "key1", "value": "value1"}],
            "az_codes": [{"az_code": "az01"}],
            "no_password_access": "false",
        }
    ],
}
_CENTER: Final = {
    "task_count": "1",
    "tasks": [
        {
            "id": "8abf6e1e72c12e7c0172c15b508500aa",
            "name": "EXTEND",
            "status": "EXECUTING",
            "params": "",
            "created_at": "2020-06-17T07:38:42.503Z",
            "updated_at": "1592381886597",
            "instance_id": "5560df16-cebf-4473-95c4-d1b573c16e79",
        }
    ],
}
_PROGRESS: Final = {
    "progress": 30,
    "remain_time": "100",
    "step_details": [{"step_id": "9d1d1da8", "step_status": "FINISH", "sub_step_details": []}],
}
_PROJECTS: Final = {"projects": [{"id": "a4d31cb63d724fdc8ec96e3a41e47f71", "name": "r"}]}
_VALUES: Final = (
    "2020-06-17T07:38:42.503Z",
    "2020-06-17 07:38:42.123456789+08:00",
    "1592381886597",
    1592381886,
    ".125",
    "true",
    False,
    None,
    ["config", 7],
    [{"key": "key1", "value": "value1"}],
    {"id": 7},
)


def _tasks() -> tuple[bytes, ...]:
    sample = json.loads(_SAMPLE.read_bytes())
    active = json.loads(_SAMPLE.read_bytes())
    active["task_count"] = "2"
    active["tasks"][0] |= {"id": "x", "status": "EXECUTING", "updated_at": "", "name": "modify"}
    pages = _body(sample) + b"\n---\n" + _body(active) + b"\n---\n" + _body({"tasks": []})
    return _body(sample), pages, _body(_CENTER), _body({"task_count": 0, "tasks": None})


def _body(value: Mapping[str, Any]) -> bytes:
    return b"200\nDate: Wed, 17 Jun 2020 08:19:00 GMT\n\n" + json.dumps(value).encode()


def _faults() -> tuple[bytes, ...]:
    return tuple(_text(reply) for reply in FAULTS.values())


def _text(reply: Reply) -> bytes:
    head = "".join(f"{name}: {value}\n" for name, value in reply.headers.items())
    return f"{reply.status}\n{head}\n".encode() + reply.body


def _wire() -> tuple[bytes, ...]:
    body = json.dumps(_PROGRESS).encode()
    packed = gzip.compress(body, mtime=0)
    chunks = b"5\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    return (
        _head(len(body)) + body,
        _head(len(packed), b"Content-Encoding: gzip\r\n") + packed,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
        b"HTTP/1.0 200 OK\r\n\r\n" + body,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + _head(len(body)) + body,
        *(_reply_wire(reply) for reply in FAULTS.values()),
    )


def _head(length: int, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (length, more)


def _reply_wire(reply: Reply) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    head = f"HTTP/1.1 {reply.status} X\r\n{lines}Content-Length: {len(reply.body)}\r\n\r\n"
    return head.encode() + reply.body


CLOUD_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "error_answers": _faults(),
    "task_pages": _tasks(),
    "instances": (_body(_INSTANCES), _body({"instances": []})),
    "center_and_progress": (_body(_CENTER), _body(_PROGRESS), _body(_PROJECTS)),
    "times_and_numbers": tuple(json.dumps(value).encode() for value in _VALUES),
    "http_wire": _wire(),
}
"""The first inputs by target."""
