"""One request as the cloud receives it, and the operation that it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_INSTANCES: Final = r"/v2/(?P<project>[^/]+)/instances"
_TASKS: Final = rf"{_INSTANCES}/(?P<instance>[^/]+)/tasks"
_OPERATIONS: Final = {
    "list_tasks": _TASKS,
    "task_progress": rf"{_TASKS}/[^/]+/progress",
    "list_instances": _INSTANCES,
    "list_center_tasks": r"/v2/(?P<project>[^/]+)/tasks",
    "list_projects": r"/v3/projects",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `path` is still encoded, `query` decoded; `operation` is empty for no API.

    The names of `headers` are in lower case. The ids are those of the path.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    operation: str
    project_id: str
    instance_id: str


def received(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Return the request for a target: a path and a query."""
    url = urlsplit(target)
    operation, ids = "", dict[str, str]()
    for name, pattern in _OPERATIONS.items():
        match = re.fullmatch(pattern, url.path)
        if match and method == "GET":
            operation, ids = name, match.groupdict()
    return Request(
        method,
        url.path,
        dict(parse_qsl(url.query, keep_blank_values=True)),
        {name.lower(): value for name, value in headers.items()},
        body,
        operation,
        ids.get("project", ""),
        ids.get("instance", ""),
    )
