"""What the simulated cloud holds, and how it answers: projects, keys, instances, tasks."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from dcs_task_exporter.simulator.access import AccessCheck
from dcs_task_exporter.simulator.faults import (
    FAULTS,
    Faults,
    Reply,
    dcs_error,
    gateway_error,
    json_reply,
)
from dcs_task_exporter.simulator.quirks import Quirks

ACTIVE: Final = ("CREATED", "WAITING", "EXECUTING", "RUNNING", "INIT")
DEFAULT_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the cloud saw it; `query` is decoded."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    raw_query: str = ""
    body: bytes = b""
    operation: str = ""
    instance_id: str = ""


_ROUTES: Final = (
    (
        "GET",
        "list_tasks",
        re.compile(r"/v2/(?P<project>[^/]+)/instances/(?P<instance>[^/]+)/tasks"),
    ),
    (
        "GET",
        "task_progress",
        re.compile(
            r"/v2/(?P<project>[^/]+)/instances/(?P<instance>[^/]+)/tasks/(?P<task>[^/]+)/progress"
        ),
    ),
    (
        "DELETE",
        "delete_task",
        re.compile(r"/v2/(?P<project>[^/]+)/instances/(?P<instance>[^/]+)/tasks/(?P<task>[^/]+)"),
    ),
    ("GET", "list_instances", re.compile(r"/v2/(?P<project>[^/]+)/instances")),
    ("GET", "list_center_tasks", re.compile(r"/v2/(?P<project>[^/]+)/tasks")),
    ("GET", "list_projects", re.compile(r"/v3/projects")),
)


class SimulatedCloud:
    """The state of a cloud and its answers; every method may be called from any thread."""

    def __init__(
        self, clock: Callable[[], float], quirks: Quirks | None = None, seed: int = 0
    ) -> None:
        self.clock = clock
        self.quirks = quirks or Quirks()
        self.faults = Faults(seed)
        self.access = AccessCheck(clock, self.quirks.max_skew)
        self.requests: list[Request] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self._changed = threading.Condition(threading.RLock())
        self._random = random.Random(seed)
        self._projects: dict[str, str] = {}
        self._instances: dict[str, dict[str, Any]] = {}
        self._tasks: dict[str, list[dict[str, Any]]] = {}
        self._bodies: dict[str, bytes] = {}
        self._windows: Counter[int] = Counter()
        self._hidden = False

    # What a test or a story does to the cloud.

    def add_project(self, project_id: str, name: str) -> None:
        """Make a project; `name` is what the identity service finds it by."""
        with self._changed:
            self._projects[project_id] = name

    def add_instance(self, project_id: str, instance_id: str, name: str, **more: Any) -> None:
        """Make a DCS instance; `more` are fields of *Querying All DCS Instances*."""
        row = {
            "instance_id": instance_id,
            "name": name,
            "engine": "Redis",
            "engine_version": "5.0",
            "status": "RUNNING",
            "spec_code": "redis.ha.xu1.large.r2.4",
            "tags": [],
            **more,
        }
        with self._changed:
            self._instances[instance_id] = {"project": project_id, "row": row}
            self._tasks[instance_id] = []

    def remove_instance(self, instance_id: str) -> None:
        """Delete a DCS instance with its tasks."""
        with self._changed:
            del self._instances[instance_id], self._tasks[instance_id]

    def rename_instance(self, instance_id: str, name: str) -> None:
        """Give an instance another name, as users do in the console."""
        with self._changed:
            self._instances[instance_id]["row"]["name"] = name

    def hide_instances(self, *, hidden: bool) -> None:
        """Answer the listing of instances with none, as an API in a bad moment does."""
        with self._changed:
            self._hidden = hidden

    def instances(self) -> list[dict[str, Any]]:
        """Return the instances as the API lists them."""
        with self._changed:
            return [dict(item["row"]) for item in self._instances.values()]

    def start_task(
        self,
        instance_id: str,
        name: str,
        status: str = "EXECUTING",
        *,
        created_at: float | None = None,
        details: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """Start a background task and return its id; `more` are fields of the task as listed."""
        moment = self.clock() if created_at is None else created_at
        with self._changed:
            task_id = f"{self._random.getrandbits(128):032x}"
            task = {
                "id": task_id,
                "name": name,
                "user_name": "dcs_000_02",
                "user_id": "d53977d1adfb49c5b025ba7d33a13fd7",
                "details": dict(details or {}),
                "enable_show": False,
                "status": status,
                "created_at": timestamp(moment),
                **more,
            }
            self._tasks[instance_id].append(task)
            return task_id

    def finish_task(
        self, instance_id: str, task_id: str, status: str = "SUCCESS", **more: Any
    ) -> None:
        """End a task now, with `status`."""
        self.set_status(instance_id, task_id, status, updated_at=timestamp(self.clock()), **more)

    def set_status(self, instance_id: str, task_id: str, status: str, **more: Any) -> None:
        """Change a task's status, and more of its fields, but not its end."""
        with self._changed:
            task = next(task for task in self._tasks[instance_id] if task["id"] == task_id)
            task.update(status=status, **more)

    def delete_task(self, instance_id: str, task_id: str) -> None:
        """Delete a task's record, as users do in the console."""
        with self._changed:
            tasks = self._tasks[instance_id]
            tasks[:] = [task for task in tasks if task["id"] != task_id]

    def serve_body(self, instance_id: str, body: bytes | None) -> None:
        """Answer the listings of an instance with exactly this body; None: with its tasks again."""
        with self._changed:
            self._bodies.pop(instance_id, None)
            if body is not None:
                self._bodies[instance_id] = body

    # What a test asks of it.

    def count(self, operation: str | None = None, instance_id: str | None = None) -> int:
        """Return how many such requests came."""
        with self._changed:
            return sum(
                operation in (None, request.operation)
                and instance_id in (None, request.instance_id)
                for request in self.requests
            )

    def wait_for(self, wanted: Callable[[], bool], timeout: float = 10) -> bool:
        """Wait until `wanted` holds; it is asked after each request."""
        with self._changed:
            return self._changed.wait_for(wanted, timeout)

    def wait_for_requests(self, number: int, timeout: float = 10) -> bool:
        """Wait until `number` requests came in all."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= number, timeout)

    # How it answers.

    def begin(self, request: Request) -> tuple[Request, Reply | None]:
        """Note a request, name its operation, and return the failure that it gets, if any."""
        operation, parts = _route(request)
        named = Request(
            request.method,
            request.path,
            request.query,
            request.headers,
            request.raw_query,
            request.body,
            operation,
            parts.get("instance", ""),
        )
        with self._changed:
            self.requests.append(named)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self._changed.notify_all()
        return named, self.faults.drawn(operation, named.instance_id)

    def end(self) -> None:
        """Note that a request was answered or given up."""
        with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    def answer(self, request: Request) -> Reply:
        """Return the answer of a cloud in good health."""
        operation, parts = _route(request)
        if not operation:
            return FAULTS["no_such_api"]
        refusal = self.access.refusal(request) or self._throttled()
        if refusal is not None:
            return refusal
        with self._changed:
            project = parts.get("project")
            if project is not None and project not in self._projects:
                return dcs_error(400, "DCS.4002", "Invalid project ID format.")
            if operation == "list_projects":
                return self._list_projects(request)
            if operation == "list_instances":
                return self._list_instances(request, str(project))
            if operation == "list_center_tasks":
                return self._list_center_tasks(request, str(project))
            return self._of_instance(operation, request, parts)

    def _of_instance(self, operation: str, request: Request, parts: Mapping[str, str]) -> Reply:
        instance_id = parts["instance"]
        known = self._instances.get(instance_id)
        if known is None or known["project"] != parts["project"]:
            if self.quirks.deleted_instance == "empty":
                return json_reply(200, {"task_count": 0, "tasks": []})
            return FAULTS["no_such_instance"]
        if operation == "list_tasks":
            if instance_id in self._bodies:
                headers = {"Content-Type": "application/json"}
                return Reply(200, self._bodies[instance_id], headers)
            return self._list_tasks(request, self._tasks[instance_id])
        if operation == "delete_task":
            self.delete_task(instance_id, parts["task"])
            return Reply(204, b"")
        return json_reply(200, {"progress": 30, "remain_time": 100, "step_details": []})

    def _throttled(self) -> Reply | None:
        quirks = self.quirks
        if quirks.rate_limit is None:
            return None
        window = int(self.clock() // quirks.rate_window)
        with self._changed:
            self._windows[window] += 1
            if self._windows[window] <= quirks.rate_limit:
                return None
        text = (
            "The throttling threshold has been reached: policy user over ratelimit,"
            f"limit:{quirks.rate_limit},time:{quirks.rate_window:g} second"
        )
        headers = {"Retry_After": f"{quirks.rate_window:g}"} if quirks.retry_after else {}
        return gateway_error(429, "APIGW.0308", text, **headers)

    def _list_tasks(self, request: Request, tasks: list[dict[str, Any]]) -> Reply:
        page = self._page(request)
        if isinstance(page, Reply):
            return page
        offset, limit = page
        window = self._window(request)
        if isinstance(window, Reply):
            return window
        start, end = window
        found = [task for task in tasks if start <= task["created_at"] <= end]
        found = self._ordered(found)
        rows = [self._as_listed(task) for task in found[offset : offset + limit]]
        return json_reply(200, self._task_body(rows, len(found)))

    def _task_body(self, rows: list[dict[str, Any]], total: int) -> dict[str, Any]:
        quirks = self.quirks
        body: dict[str, Any] = {}
        if quirks.task_count != "missing":
            number = total if quirks.task_count == "total" else len(rows)
            body["task_count"] = str(number) if quirks.task_count_as_text else number
        if rows or quirks.empty_tasks == "list":
            body["tasks"] = rows
        elif quirks.empty_tasks == "null":
            body["tasks"] = None
        return body

    def _list_center_tasks(self, request: Request, project: str) -> Reply:
        if self.quirks.center == "404":
            return FAULTS["no_such_api"]
        if self.quirks.center == "403":
            return FAULTS["forbidden"]
        tasks = [
            {
                "error_code": "",
                "job_id": task["id"],
                **({"instance_id": instance_id} if self.quirks.center == "named" else {}),
                **task,
            }
            for instance_id, item in self._instances.items()
            if item["project"] == project
            for task in self._tasks[instance_id]
            if self.quirks.center != "blind"
        ]
        return self._list_tasks(request, tasks)

    def _list_instances(self, request: Request, project: str) -> Reply:
        page = self._page(request)
        if isinstance(page, Reply):
            return page
        offset, limit = page
        shown_all = () if self._hidden else self._instances.values()
        rows = [item["row"] for item in shown_all if item["project"] == project]
        offset = offset if self.quirks.instance_offset else 0
        shown = rows[offset : offset + limit]
        number = len(rows) if self.quirks.instance_count == "total" else len(shown)
        return json_reply(200, {"instance_num": number, "instances": shown})

    def _list_projects(self, request: Request) -> Reply:
        name = request.query.get("name")
        rows = [
            {"id": project_id, "name": own, "enabled": True}
            for project_id, own in self._projects.items()
            if name in (None, own)
        ]
        return json_reply(200, {"projects": rows, "links": {}})

    def _page(self, request: Request) -> tuple[int, int] | Reply:
        offset, limit = request.query.get("offset", "0"), request.query.get("limit", "")
        if not offset.isdigit():
            return FAULTS["bad_offset"]
        limit = limit or str(DEFAULT_LIMIT)
        size = int(limit) if limit.isdigit() else 0
        if size < 1 or (size > self.quirks.max_limit and self.quirks.over_limit == "reject"):
            return dcs_error(400, "DCS.4800", "Invalid limit in the request.")
        return int(offset), min(size, self.quirks.max_limit)

    def _window(self, request: Request) -> tuple[str, str] | Reply:
        honoured = self.quirks.start_parameter
        names = ("start_time", "begin_time") if honoured == "both" else (honoured,)
        given = [request.query[name] for name in names if request.query.get(name)]
        start, end = (given[0] if given else ""), request.query.get("end_time", "")
        if any(text and not re.fullmatch(r"\d{14}", text) for text in (start, end)):
            return dcs_error(400, "DCS.4062", "Invalid start_time parameter in the request.")
        if start and end and start > end:
            return dcs_error(400, "DCS.4025", "The end time must be after the start time.")
        earliest = ""
        if self.quirks.retention is not None:
            earliest = timestamp(self.clock() - self.quirks.retention)
        shown_start = max(_iso(start), earliest) if start else earliest
        return shown_start, f"{_iso(end)}.999Z" if end else "9999"

    def _ordered(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        ordered = sorted(
            tasks,
            key=lambda task: (task["created_at"], task["id"]),
            reverse=self.quirks.order == "newest",
        )
        if self.quirks.order == "shuffled":
            self._random.shuffle(ordered)
        return ordered

    def _as_listed(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return a task as this cloud's quirks show it."""
        row, quirks = dict(task), self.quirks
        if row["status"] in ACTIVE and "updated_at" not in row:
            shown = {
                "null": None,
                "empty": "",
                "created": row["created_at"],
                "now": timestamp(self.clock()),
            }
            if quirks.updated_at_while_active != "absent":
                row["updated_at"] = shown[quirks.updated_at_while_active]
        if quirks.extra_fields:
            row.setdefault("error_code", "")
            row.setdefault("job_id", row["id"])
        details = dict(row["details"])
        if quirks.numeric_capacities:
            for key in ("old_capacity", "new_capacity"):
                if key in details:
                    details[key] = float(details[key])
        if quirks.misspelt_cache_mode and "new_cache_mode" in details:
            details["new_cahce_mode"] = details.pop("new_cache_mode")
        row["details"] = details
        return row


def timestamp(moment: float) -> str:
    """Write a Unix time as the API does: 2020-06-17T07:38:42.503Z."""
    text = datetime.fromtimestamp(moment, tz=timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _iso(text: str) -> str:
    """Turn yyyyMMddHHmmss into a text that sorts with the API's times."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}"


def _route(request: Request) -> tuple[str, dict[str, str]]:
    for method, operation, pattern in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and method == request.method:
            return operation, match.groupdict()
    return "", {}
