"""The id of a project: configured, or looked up by name through the identity service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from dcs_task_exporter.cloud.calls import Call
from dcs_task_exporter.cloud.parsing import parse_project_ids
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.errors import ApiError, NotFoundError

LIST_PROJECTS: Final = "list_projects"

LOOK_UP_PAUSE: Final = 10.0
"""Seconds for which the failure of a look-up stands for all instances."""


class ProjectId:
    """The id of one project, looked up once; safe to use from threads.

    `name` is that of the project in the identity service, `configured` its id or empty.
    """

    def __init__(
        self,
        caller: ApiCaller,
        iam_endpoint: str,
        name: str,
        configured: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._caller = caller
        self._url = f"{iam_endpoint}/v3/projects"
        self._name = name
        self._id = configured
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failure: tuple[float, ApiError] | None = None

    def get(self, deadline: float) -> str:
        """Return the id; no request starts after `deadline` (monotonic).

        Raises `ApiError`; `NotFoundError` when no project has the name, or several have it.
        """
        with self._lock:
            if self._id:
                return self._id
            if self._failure and self._monotonic() < self._failure[0]:
                raise self._failure[1].with_traceback(None)
            try:
                self._id = self._look_up(deadline)
            except ApiError as error:
                # Else each of many instances would wait for a failure of its own.
                self._failure = (self._monotonic() + LOOK_UP_PAUSE, error)
                raise
            return self._id

    def _look_up(self, deadline: float) -> str:
        call = Call(LIST_PROJECTS, self._url, deadline, parse_project_ids, {"name": self._name})
        ids = self._caller.get(call).value
        if len(ids) != 1:
            number = f"{len(ids)} projects are" if ids else "no project is"
            message = f"{number} named {self._name}: set project_id in the configuration"
            raise NotFoundError(message)
        return ids[0]
