"""The client of the DCS API: one project's background tasks and instances.

Paging trusts neither the order, nor a short page, nor `task_count` until this cloud has shown
that it is a total (`dcs-api.md` section 2). Every request takes a slot of the project's budget,
passes the gate that a refused key closes, and is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

from dcs_task_exporter.answers import read_json
from dcs_task_exporter.auth import AuthGate, request_auth
from dcs_task_exporter.budget import RequestBudget
from dcs_task_exporter.credentials import Credential, CredentialSource
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    CredentialsError,
    InvalidResponseError,
    NotFoundError,
    StoppedError,
    ThrottledError,
)
from dcs_task_exporter.models import Instance, Listing, Task, TaskPage
from dcs_task_exporter.signing import canonical_query
from dcs_task_exporter.transport import Answer, Transport

LIST_TASKS: Final = "list_tasks"
LIST_INSTANCES: Final = "list_instances"
LIST_PROJECTS: Final = "list_projects"

START_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "start_time": ("start_time",),
    "begin_time": ("begin_time",),
    "both": ("start_time", "begin_time"),
}
"""The page's table says `start_time`, its example `begin_time`; which one is honoured is open."""

SAFE_PAGE_SIZE: Final = 10
"""The API's default page size, for clouds that refuse a larger one."""

MAX_BACKOFF: Final = 30.0
"""Longest pause before a retry that the cloud did not ask for, in seconds."""

Parsed = TypeVar("Parsed")

_MISSING: Final = object()

logger = logging.getLogger(__name__)


class ApiObserver(Protocol):
    """Is told of every request, for the exporter's own metrics."""

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Count one HTTP request; `code` is its status, or ``error`` where there was none."""

    def error(self, project: str, operation: str, reason: str) -> None:
        """Count one request that failed."""

    def retry(self, project: str) -> None:
        """Count one retry."""

    def throttle_wait(self, project: str, seconds: float) -> None:
        """Add the time that a request waited for the budget."""

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        """Note when the credentials in use expire (Unix seconds), or that they do not."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What the client needs to know of its project."""

    project: str
    region: str
    dcs_endpoint: str
    iam_endpoint: str
    project_id: str = ""
    iam_project_name: str = ""
    retries: int = 2
    page_size: int = 100
    max_pages: int = 50
    start_parameter: str = "start_time"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Clock, sleep and randomness, so that tests can hold them still.

    `wait` sleeps for some seconds and returns True when the exporter is stopping; `jitter`
    returns a number from 0 up to 1.
    """

    now: Callable[[], float]
    monotonic: Callable[[], float]
    wait: Callable[[float], bool]
    jitter: Callable[[], float]


class DcsClient:
    """Reads one project through the documented API; safe to use from several threads."""

    def __init__(
        self,
        settings: ClientSettings,
        transport: Transport,
        credentials: CredentialSource,
        budget: RequestBudget,
        observer: ApiObserver,
        surroundings: Surroundings,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._credentials = credentials
        self._budget = budget
        self._observer = observer
        self._around = surroundings
        self._gate = AuthGate(surroundings.monotonic)
        self._project_id = settings.project_id
        self._project_id_lock = threading.Lock()
        self._log_lock = threading.Lock()
        self._refusal_told: tuple[int | None, str, str] | None = None
        self._page_size = settings.page_size
        self._task_count_is_total = False

    def list_tasks(self, instance_id: str, start: float, deadline: float) -> Listing:
        """Return all tasks of an instance that started at `start` (Unix seconds) or later.

        No request starts after `deadline` (monotonic). Tasks without a readable start are kept:
        they cannot be said to be older. Raises `ApiError`.
        """
        tasks: dict[str, Task] = {}
        offset, truncated = 0, True
        for _ in range(self._settings.max_pages):
            page = self._task_page(instance_id, start, offset, deadline)
            offset += len(page.tasks)
            tasks.update((task.id, task) for task in page.tasks)  # the later read is the truer
            if self._is_last(page, offset):
                truncated = False
                break
        kept = [
            task for task in tasks.values() if task.created_at is None or task.created_at >= start
        ]
        kept.sort(key=lambda task: (-(task.created_at or 0.0), task.id))
        return Listing(tuple(kept), start, truncated=truncated)

    def list_instances(self, deadline: float) -> tuple[Instance, ...]:
        """Return all instances of the project. Raises `ApiError`."""
        project_id = self.project_id(deadline)
        found: dict[str, Instance] = {}
        offset = 0
        for _ in range(self._settings.max_pages):
            query = {"limit": str(self._page_size), "offset": str(offset)}
            url = f"{self._settings.dcs_endpoint}/v2/{quote(project_id, safe='')}/instances"
            page = self._get(LIST_INSTANCES, url, query, deadline, self._instances)
            found.update((instance.id, instance) for instance in page)
            offset += len(page)
            if not page:
                break
        return tuple(found.values())

    def project_id(self, deadline: float) -> str:
        """Return the project's id, looked up by name through the identity service if not given.

        Raises `ApiError`; `NotFoundError` when the name stands for no project or for several.
        """
        with self._project_id_lock:
            return self._project_id or self._look_up_project_id(deadline)

    def close(self) -> None:
        """Close the idle connections."""
        self._transport.close()

    def _look_up_project_id(self, deadline: float) -> str:
        name = self._settings.iam_project_name or self._settings.region
        url = f"{self._settings.iam_endpoint}/v3/projects"
        ids = self._get(LIST_PROJECTS, url, {"name": name}, deadline, _project_ids)
        if len(ids) != 1:
            count = f"{len(ids)} projects are" if ids else "no project is"
            message = f"{count} named {name}: set project_id in the configuration"
            raise NotFoundError(message)
        self._project_id = ids[0]
        return self._project_id

    def _task_page(self, instance_id: str, start: float, offset: int, deadline: float) -> TaskPage:
        project_id = quote(self.project_id(deadline), safe="")
        base = f"{self._settings.dcs_endpoint}/v2/{project_id}"
        url = f"{base}/instances/{quote(instance_id, safe='')}/tasks"
        moment = datetime.fromtimestamp(max(0.0, start), tz=timezone.utc)
        query = {"limit": str(self._page_size), "offset": str(offset)}
        for name in START_PARAMETERS[self._settings.start_parameter]:
            query[name] = moment.strftime("%Y%m%d%H%M%S")
        try:
            parse = partial(TaskPage.from_json, first=offset == 0)
            return self._get(LIST_TASKS, url, query, deadline, parse)
        except BadRequestError as error:
            if self._page_size <= SAFE_PAGE_SIZE or "limit" not in error.message.lower():
                raise
            # What the largest page is in older regions is not published.
            self._page_size = SAFE_PAGE_SIZE
            return self._task_page(instance_id, start, offset, deadline)

    def _instances(self, data: object) -> tuple[Instance, ...]:
        settings = self._settings
        return tuple(
            Instance.from_json(
                row,
                project=settings.project,
                project_id=self._project_id,
                region=settings.region,
            )
            for row in _rows(data, "instances")
        )

    def _is_last(self, page: TaskPage, offset: int) -> bool:
        """Whether a page ends its listing; `offset` is how many rows came until its end.

        A `task_count` above the rows of its page can only be a total; until one was seen, one
        more page is asked for.
        """
        if page.task_count is not None and page.task_count > len(page.tasks):
            self._task_count_is_total = True
        if not page.tasks:
            return True
        return (
            self._task_count_is_total and page.task_count is not None and offset >= page.task_count
        )

    def _get(
        self,
        operation: str,
        url: str,
        query: Mapping[str, str],
        deadline: float,
        parse: Callable[[Any], Parsed],
    ) -> Parsed:
        """Return what `parse` makes of the answer, asking again where that can help."""
        full = f"{url}?{canonical_query(query.items())}"
        attempt = 0
        while True:
            try:
                return self._ask(operation, full, deadline, parse)
            except ApiError as error:
                pause = self._backoff(error, attempt)
                late = self._around.monotonic() + pause >= deadline
                if not error.retryable or attempt >= self._settings.retries or late:
                    raise
                attempt += 1
                self._note_retry(operation, error, pause)
                if self._around.wait(pause):
                    message = "the exporter is stopping"
                    raise StoppedError(message) from error

    def _note_retry(self, operation: str, error: ApiError, pause: float) -> None:
        self._observer.retry(self._settings.project)
        fields = {
            "project": self._settings.project,
            "operation": operation,
            "reason": error.reason,
            "request_id": error.request_id,
            "pause_seconds": round(pause, 3),
        }
        logger.debug("asking again", extra={"fields": fields})

    def _backoff(self, error: ApiError, attempt: int) -> float:
        if isinstance(error, ThrottledError) and error.status is not None:
            pause = error.retry_after or min(MAX_BACKOFF, 2.0**attempt)
            self._budget.pause(pause)  # for the whole project: the limit is shared
            return pause
        own = min(MAX_BACKOFF, 0.25 * 2.0**attempt) * (0.5 + self._around.jitter())
        return max(own, error.retry_after or 0.0)

    def _ask(
        self, operation: str, url: str, deadline: float, parse: Callable[[Any], Parsed]
    ) -> Parsed:
        """Send one request, past the gate and within the budget, and read its answer."""
        credential = self._credential(operation)
        patience = max(0.0, deadline - self._around.monotonic())
        with self._gate.passage(credential, patience):
            waited = self._budget.take(deadline)
            if waited > 0:
                self._observer.throttle_wait(self._settings.project, waited)
                self._gate.check()
            return self._send(operation, url, credential, parse)

    def _credential(self, operation: str) -> Credential:
        project = self._settings.project
        try:
            credential = self._credentials.current()
        except CredentialsError as error:
            self._observer.error(project, operation, AuthError.reason)
            refusal = AuthError(str(error))
            self._report_refusal(refusal)
            raise refusal from error
        self._observer.credentials_expiry(project, credential.expires_at)
        return credential

    def _report_refusal(self, error: AuthError) -> None:
        """Log a refused key once for the whole project, not once for each instance."""
        told = (error.status, error.error_code, error.message)
        with self._log_lock:
            if told == self._refusal_told:
                return
            self._refusal_told = told
        fields = {
            "project": self._settings.project,
            "reason": error.reason,
            "status": error.status,
            "error_code": error.error_code,
            "request_id": error.request_id,
            "error": error.message,
        }
        logger.error(
            "the cloud refuses the credentials of this project: check them, and the clock; "
            "nothing is asked for five minutes, or until they change",
            extra={"fields": fields},
        )

    def _send(
        self, operation: str, url: str, credential: Credential, parse: Callable[[Any], Parsed]
    ) -> Parsed:
        project = self._settings.project
        auth = request_auth(credential, self._project_id, self._around.now)
        started, code = time.perf_counter(), "error"
        try:
            answer = self._transport.get(url, auth)
            code = str(answer.status)
            parsed = _parsed(answer, parse, credential, self._around.now())
        except ApiError as error:
            self._observer.error(project, operation, error.reason)
            if isinstance(error, AuthError):
                self._report_refusal(error)
            raise
        finally:
            self._observer.request(project, operation, code, time.perf_counter() - started)
        self._refusal_told = None
        return parsed


def _parsed(
    answer: Answer, parse: Callable[[Any], Parsed], credential: Credential, now: float
) -> Parsed:
    """Return the parsed answer; one of the wrong shape is an error that names its request."""
    try:
        return parse(read_json(answer, credential.redact, now))
    except InvalidResponseError as error:
        error.status = answer.status
        error.request_id = error.request_id or answer.headers.get("X-Request-Id", "")
        raise


def _project_ids(data: object) -> tuple[str, ...]:
    rows = [row for row in _rows(data, "projects") if isinstance(row, Mapping)]
    return tuple(str(row["id"]) for row in rows if row.get("id"))


def _rows(data: object, key: str) -> list[Any]:
    rows = data.get(key, _MISSING) if isinstance(data, Mapping) else _MISSING
    if rows is None:
        return []
    if not isinstance(rows, list):
        message = f"the answer has no list of {key}"
        raise InvalidResponseError(message)
    return rows
