"""One request as the cloud receives it, and the operation that it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_INSTANCES: Final = r"/v2/(?P<project>[^/]+)/instances"
_TASKS: Final = rf"{_INSTANCES}/(?P<instance>[^/]+)/tasks"
_TASK: Final = rf"{_TASKS}/(?P<task>[^/]+)"
_ROUTES: Final = (
    ("GET", "list_tasks", re.compile(_TASKS)),
    ("GET", "task_progress", re.compile(f"{_TASK}/progress")),
    ("DELETE", "delete_task", re.compile(_TASK)),
    ("GET", "list_instances", re.compile(_INSTANCES)),
    ("GET", "list_center_tasks", re.compile(r"/v2/(?P<project>[^/]+)/tasks")),
    ("GET", "list_projects", re.compile(r"/v3/projects")),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `path` is still encoded, `query` decoded; `operation` is empty for no API.

    The names of `headers` are in lower case. The ids are those of the path.
    """

    method: str
    path: str
    query: Mapping[str, str]
    raw_query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    operation: str
    project_id: str
    instance_id: str
    task_id: str


def received(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Return the request for a target: a path and a query."""
    url = urlsplit(target)
    operation, ids = "", dict[str, str]()
    for route_method, name, pattern in _ROUTES:
        match = pattern.fullmatch(url.path)
        if match and method == route_method:
            operation, ids = name, match.groupdict()
    return Request(
        method,
        url.path,
        dict(parse_qsl(url.query, keep_blank_values=True)),
        url.query,
        {name.lower(): value for name, value in headers.items()},
        body,
        operation,
        ids.get("project", ""),
        ids.get("instance", ""),
        ids.get("task", ""),
    )
