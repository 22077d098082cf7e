"""The simulated cloud: its projects, keys, instances and tasks, and its answers."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from dcs_task_exporter.simulator.access import AccessCheck
from dcs_task_exporter.simulator.faults import (
    FAULTS,
    Faults,
    RefusedError,
    Reply,
    dcs_error,
    gateway_error,
    json_reply,
)
from dcs_task_exporter.simulator.identity import IdentityService
from dcs_task_exporter.simulator.listing import Row, list_instances, list_tasks, timestamp
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.request import Request

RATE_WINDOW: Final = 60.0
"""Seconds in which `Quirks.rate_limit` requests may come."""


class SimulatedCloud:
    """A cloud that a test or a story changes, and that answers requests; safe to use from threads.

    `requests` are all that came.
    """

    def __init__(
        self, clock: Callable[[], float], quirks: Quirks | None = None, seed: int = 0
    ) -> None:
        self.clock = clock
        self.quirks = quirks or Quirks()
        self.faults = Faults(seed)
        self.access = AccessCheck(clock, self.quirks.max_skew)
        self.identity = IdentityService(clock, self.access, self.quirks, seed)
        self.requests: list[Request] = []
        self._changed = threading.Condition(threading.RLock())
        self._random = random.Random(seed)
        self._projects: dict[str, str] = {}
        self._instances: dict[str, tuple[str, Row]] = {}
        self._tasks: dict[str, list[Row]] = {}
        self._windows: Counter[int] = Counter()

    # Changing the cloud.

    def add_project(self, project_id: str, name: str) -> None:
        """Create a project; the identity service finds it by `name`."""
        with self._changed:
            self._projects[project_id] = name

    def add_instance(self, project_id: str, instance_id: str, name: str, **more: Any) -> None:
        """Create a DCS instance, or describe one anew.

        `more` are fields of *Querying All DCS Instances*.
        """
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
            self._instances[instance_id] = (project_id, row)
            self._tasks.setdefault(instance_id, [])

    def remove_instance(self, instance_id: str) -> None:
        """Delete a DCS instance with its tasks."""
        with self._changed:
            del self._instances[instance_id], self._tasks[instance_id]

    def start_task(
        self,
        instance_id: str,
        name: str,
        status: str = "EXECUTING",
        *,
        created_at: float | None = None,
        **more: Any,
    ) -> str:
        """Start a background task and return its id; `more` are further fields of the task."""
        moment = self.clock() if created_at is None else created_at
        with self._changed:
            task_id = f"{self._random.getrandbits(128):032x}"
            task = {
                "id": task_id,
                "name": name,
                "user_name": "dcs_000_02",
                "user_id": "d53977d1adfb49c5b025ba7d33a13fd7",
                "details": {},
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
        """Finish a task now, with `status`."""
        self.set_status(instance_id, task_id, status, updated_at=timestamp(self.clock()), **more)

    def set_status(self, instance_id: str, task_id: str, status: str, **more: Any) -> None:
        """Change the status of a task and `more` of its fields, but not its end."""
        with self._changed:
            task = next(task for task in self._tasks[instance_id] if task["id"] == task_id)
            task.update(status=status, **more)

    def delete_task(self, instance_id: str, task_id: str) -> None:
        """Delete the record of a task, as users do in the console."""
        with self._changed:
            tasks = self._tasks[instance_id]
            tasks[:] = [task for task in tasks if task["id"] != task_id]

    # Watching the cloud.

    def instances(self) -> list[Row]:
        """Return the instances as the API lists them."""
        with self._changed:
            return [dict(row) for _, row in self._instances.values()]

    def count(self, operation: str | None = None, instance_id: str | None = None) -> int:
        """Return the number of these requests."""
        with self._changed:
            return sum(
                operation in (None, request.operation)
                and instance_id in (None, request.instance_id)
                for request in self.requests
            )

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait until `condition` holds, checked at each request; return whether it does."""
        with self._changed:
            return self._changed.wait_for(condition, timeout=10)

    # Answering.

    def answer(self, request: Request) -> Reply:
        """Record a request, and return its answer: a failure that is switched on goes first."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        fault = self.faults.drawn(request.operation, request.instance_id)
        if fault is not None:
            return fault
        try:
            if not request.operation:
                return FAULTS["no_such_api"]
            if self.identity.knows(request.operation):
                return self.identity.answer(request)
            self.access.check(request)
            with self._changed:
                self._check_rate()
                return self._answer(request)
        except RefusedError as error:
            return error.reply

    def _answer(self, request: Request) -> Reply:
        operation = request.operation
        if operation == "list_projects":
            return self._list_projects(request.query.get("name"))
        if request.project_id not in self._projects:
            return dcs_error(400, "DCS.4002", "Invalid project ID format.")
        if operation == "list_instances":
            return list_instances(request, self._instances_of(request), self.quirks)
        if operation == "list_center_tasks":
            return self._list_center_tasks(request)
        project_id, _ = self._instances.get(request.instance_id, ("", {}))
        if project_id != request.project_id:
            return FAULTS["no_such_instance"]
        if operation == "list_tasks":
            return self._list_tasks(request, self._tasks[request.instance_id])
        return json_reply(200, {"progress": 30, "remain_time": 100, "step_details": []})

    def _instances_of(self, request: Request) -> list[Row]:
        """Return the instances of the request's project."""
        return [row for project, row in self._instances.values() if project == request.project_id]

    def _check_rate(self) -> None:
        limit, window = self.quirks.rate_limit, int(self.clock() // RATE_WINDOW)
        self._windows[window] += 1
        if limit is not None and self._windows[window] > limit:
            text = (
                "The throttling threshold has been reached: policy user over ratelimit,"
                f"limit:{limit},time:{RATE_WINDOW:g} second"
            )
            seconds = f"{RATE_WINDOW:g}"
            raise RefusedError(gateway_error(429, "APIGW.0308", text, Retry_After=seconds))

    def _list_projects(self, name: str | None) -> Reply:
        rows = [
            {"id": project_id, "name": own, "enabled": True}
            for project_id, own in self._projects.items()
            if name in (None, own)
        ]
        return json_reply(200, {"projects": rows, "links": {}})

    def _list_tasks(self, request: Request, tasks: list[Row]) -> Reply:
        return list_tasks(request, tasks, self.quirks, self._random.shuffle)

    def _list_center_tasks(self, request: Request) -> Reply:
        named = self.quirks.center_names_instances
        tasks = [
            {
                "error_code": "",
                "job_id": task["id"],
                **({"instance_id": row["instance_id"]} if named else {}),
                **task,
            }
            for row in self._instances_of(request)
            for task in self._tasks[row["instance_id"]]
        ]
        return self._list_tasks(request, tasks)
