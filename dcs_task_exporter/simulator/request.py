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
    "list_tasks": ("GET", _TASKS),
    "task_progress": ("GET", rf"{_TASKS}/[^/]+/progress"),
    "list_instances": ("GET", _INSTANCES),
    "list_center_tasks": ("GET", r"/v2/(?P<project>[^/]+)/tasks"),
    "list_projects": ("GET", r"/v3/projects"),
    "create_token": ("POST", r"/v3/auth/tokens"),
    "create_token_by_id_token": ("POST", r"/v3\.0/OS-AUTH/id-token/tokens"),
    "assume_agency": ("POST", r"/v3\.0/OS-CREDENTIAL/securitytokens"),
    "assume_agency_with_oidc": ("POST", r"/v5/agencies/assume-with-oidc"),
    "metadata_token": ("PUT", r"/meta-data/latest/api/token"),
    "metadata_key": ("GET", r"/openstack/latest/securitykey"),
    "pod_identity": ("POST", r"/v1/credentials"),
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
    for name, (allowed, pattern) in _OPERATIONS.items():
        match = re.fullmatch(pattern, url.path)
        if match and method == allowed:
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
