"""The cloud of a simulated world: what one seed makes of all that the API leaves open.

It answers in memory, where the transport would send a request. Everything is drawn from the
world's chance, so that one seed is one world.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from requests.auth import AuthBase

from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.errors import ApiConnectionError, ApiTimeoutError

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
ODD_TIMES = ("0001-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")
THROTTLED = "The throttling threshold has been reached: policy user over ratelimit,limit:9,time:"
PATH = re.compile(r"/v2/p/instances/(?P<instance>[^/]+)/tasks")


@dataclass(frozen=True, slots=True)
class Semantics:
    """How a cloud decides what the documents leave open, and how it is read."""

    order: str = "newest"
    cap: int = 1000
    count: str = "total"
    count_as_text: bool = False
    start: str = "start_time"
    active_end: str = "absent"
    dated: bool = True
    odd_times: bool = False
    page_size: int = 100
    max_pages: int = 50
    instances: int = 2
    scrapers: int = 1
    lookback_days: int = 7

    @classmethod
    def drawn(cls, chance: random.Random) -> Semantics:
        """Draw a cloud; each side of each question is as likely as the others."""
        pick = chance.choice
        count = pick(["total", "page", "missing", "torn total", "torn page", "lies"])
        return cls(
            order=pick(["newest", "oldest", "fixed"]),
            cap=pick([5, 10, 1000, 1000]),
            count=count,
            count_as_text=pick([False, True]),
            start=pick(["start_time", "begin_time", "both", "neither"]),
            active_end=pick(["absent", "null", "empty", "created", "now", "year one"]),
            dated=pick([True, True, False]),
            odd_times=pick([False, True]),
            page_size=pick([5, 10, 100]),
            max_pages=pick([4, 50, 50]),
            instances=pick([1, 2, 3]),
            scrapers=pick([1, 1, 2]),
            lookback_days=pick([1, 7]),
        )


@dataclass(frozen=True, slots=True)
class CloudTask:
    """One task as it truly is; `odd_start` and `odd_end` are what the cloud says instead."""

    id: str
    name: str
    status: str
    began: float
    ended: float | None = None
    odd_start: str = ""
    odd_end: str = ""

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.ended is not None


Tasks = dict[str, CloudTask]


@dataclass(slots=True)
class Weather:
    """How likely each request fails, and how; and how likely the cloud changes before one."""

    faults: tuple[str, ...] = ()
    likelihood: float = 0.0
    changes: float = 0.0


@dataclass(slots=True)
class WorldCloud:
    """Answers requests from its tasks; `now` is the true time (Unix seconds).

    `change` is called at times before a request, when records move while pages are read.
    """

    semantics: Semantics
    chance: random.Random
    now: Callable[[], float]
    change: Callable[[], None]
    weather: Weather = field(default_factory=Weather)
    tasks: dict[str, Tasks] = field(default_factory=dict)
    refuses_key: bool = False
    refuses_one: tuple[str, str] = ("", "")
    requests: Counter[str] = field(default_factory=Counter)
    good: Counter[str] = field(default_factory=Counter)
    total: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    before: dict[str, Tasks] = field(default_factory=dict)
    during: dict[str, set[CloudTask]] = field(default_factory=dict)

    def begin_round(self) -> None:
        """Forget what was asked in the round before."""
        self.requests.clear()
        self.good.clear()
        self.before.clear()
        self.during.clear()

    def send(self, url: str, auth: AuthBase, *_: object) -> Answer:
        """Answer a request, as the transport does; raises `ApiError` as it does."""
        del auth
        parts = urlsplit(url)
        match = PATH.fullmatch(parts.path)
        assert match is not None, url
        instance = match["instance"]
        self.before.setdefault(instance, dict(self.tasks[instance]))
        self.requests[instance] += 1
        self.total += 1
        if self.chance.random() < self.weather.changes:
            self.change()
        seen = self.during.setdefault(instance, set(self.before[instance].values()))
        seen.update(self.tasks[instance].values())
        if self.refuses_key:
            self.faults["401"] += 1
            return self._error(401, "APIGW.0301", "verify aksk signature fail")
        if instance == self.refuses_one[0]:
            self.faults[f"{self.refuses_one[1]} of one"] += 1
            return self._fail(self.refuses_one[1])
        if self.weather.faults and self.chance.random() < self.weather.likelihood:
            fault = self.chance.choice(self.weather.faults)
            self.faults[fault] += 1
            return self._fail(fault)
        self.good[instance] += 1
        query = dict(parse_qsl(parts.query))
        return self._answer(200, self._page(instance, query))

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _page(self, instance: str, query: dict[str, str]) -> dict[str, Any]:
        asked = {
            "start_time": ("start_time",),
            "begin_time": ("begin_time",),
            "both": ("start_time", "begin_time"),
            "neither": (),
        }[self.semantics.start]
        starts = [query[name] for name in asked if name in query]
        since = _seconds_of(starts[0]) if starts else 0.0
        found = [task for task in self.tasks[instance].values() if task.began >= since]
        found = self._ordered(found)
        offset, limit = int(query["offset"]), min(int(query["limit"]), self.semantics.cap)
        shown = found[offset : offset + limit]
        body: dict[str, Any] = {"tasks": [self._row(task) for task in shown]}
        count = self._count(len(found), len(shown))
        if count is not None:
            body["task_count"] = str(count) if self.semantics.count_as_text else count
        return body

    def _ordered(self, tasks: list[CloudTask]) -> list[CloudTask]:
        if self.semantics.order == "fixed":
            return sorted(tasks, key=lambda task: task.id[::-1])
        newest = self.semantics.order == "newest"
        return sorted(tasks, key=lambda task: (task.began, task.id), reverse=newest)

    def _count(self, total: int, shown: int) -> int | None:
        kind = self.semantics.count
        if kind == "missing":
            return None
        number = shown if kind.endswith("page") else total
        if kind.startswith("torn") and self.chance.random() < 0.02:
            return number + 1  # a record was deleted between count and list
        if kind == "lies" and self.chance.random() < 0.1:
            return self.chance.choice([0, -1, min(shown, 10)])
        return number

    def _row(self, task: CloudTask) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": task.id,
            "name": task.name,
            "status": task.status,
            "details": {},
            "created_at": task.odd_start or iso(task.began),
        }
        if task.ended is not None:
            row["updated_at"] = task.odd_end or iso(task.ended)
        elif self.semantics.active_end != "absent":
            row["updated_at"] = {
                "null": None,
                "empty": "",
                "created": row["created_at"],
                "now": iso(self.now()),
                "year one": ODD_TIMES[0],
            }[self.semantics.active_end]
        return row

    def _fail(self, fault: str) -> Answer:
        if fault == "silence":
            message = "no complete answer within 5 s"
            raise ApiTimeoutError(message)
        if fault == "reset":
            message = "the connection broke: reset"
            raise ApiConnectionError(message)
        bodies: dict[str, Callable[[], Answer]] = {
            "500": lambda: self._error(500, "DCS.5000", "Internal service error."),
            "403": lambda: self._error(403, "DCS.2007", "Policy does not allow it."),
            "404": lambda: self._error(404, "DCS.3022", "This DCS instance does not exist."),
            "429": lambda: self._error(429, "APIGW.0308", "Too many requests."),
            "429 window": lambda: self._error(429, "APIGW.0308", f"{THROTTLED}1 minute"),
            "429 odd": lambda: self._error(429, "APIGW.0308", f"{THROTTLED}{'9' * 401} day"),
            "401": lambda: self._error(401, "APIGW.0301", "verify aksk signature fail"),
            "html": lambda: Answer(200, self._headers(), b"<html>a proxy</html>"),
            "cut": lambda: Answer(200, self._headers(), b'{"tasks": [{"id": "8ab'),
            "error beside data": lambda: self._answer(
                200, {"tasks": [], "task_count": 0, "error_code": "DCS.5000"}
            ),
            "empty page": lambda: self._answer(200, {"tasks": [], "task_count": 7}),
            "null row": lambda: self._answer(200, {"tasks": [None], "task_count": 1}),
            "no tasks": lambda: self._answer(200, {"task_count": 3}),
        }
        return bodies[fault]()

    def _error(self, status: int, code: str, message: str) -> Answer:
        return self._answer(status, {"error_code": code, "error_msg": message})

    def _answer(self, status: int, body: dict[str, Any]) -> Answer:
        return Answer(status, self._headers(), json.dumps(body).encode())

    def _headers(self) -> dict[str, str]:
        if not self.semantics.dated:
            return {"Content-Type": "application/json"}
        moment = EPOCH + timedelta(seconds=int(self.now()))
        return {"Content-Type": "application/json", "Date": format_datetime(moment, usegmt=True)}

    # What happens in it.

    def start(self, instance: str, name: str, *, odd: str = "", waiting: bool = False) -> None:
        """Start a task."""
        task_id = f"{self.chance.getrandbits(64):016x}"
        status = "WAITING" if waiting else "EXECUTING"
        began = round(self.now(), 3)
        self.tasks[instance][task_id] = CloudTask(task_id, name, status, began, odd_start=odd)

    def end(self, instance: str, task_id: str, status: str, *, odd: str = "") -> None:
        """End a task."""
        task = self.tasks[instance][task_id]
        self.tasks[instance][task_id] = replace(
            task, status=status, ended=round(self.now(), 3), odd_end=odd
        )


def iso(moment: float) -> str:
    """Write a Unix time as the API does."""
    text = (EPOCH + timedelta(seconds=moment)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _seconds_of(text: str) -> float:
    moment = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    return moment.timestamp()
