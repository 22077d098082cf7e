"""Background tasks and instances as frozen values, and their parsing from the API's JSON.

This is the edge: nothing behind it sees a raw dictionary. Names and statuses are open sets
(the public documents contradict each other), so they stay strings; the one table of what the
status words mean is here too. Sources: the API page *Querying Background Tasks*, tables 3 to 5,
and the Huawei Cloud SDK's models.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.text.json_values import (
    boolean_of,
    id_of,
    integer_of,
    number_of,
    object_of,
    parse_time,
    required,
    tags_of,
    text_of,
    texts_of,
    word_of,
)

KNOWN_TASK_NAMES: Final = (
    "EXTEND",
    "BindEip",
    "UnBindEip",
    "AddReplica",
    "DelReplica",
    "AddWhitelist",
    "UpdatePort",
    "RemoveIpFromDns",
    "masterStandbySwapJob",
    "modify",
)
"""The ten names that the API page documents (table 4); others exist and are exported too."""

UNNAMED: Final = "unknown"
"""The `task_name` of a task that the API lists without a name."""

NO_STATUS: Final = "UNKNOWN"
"""The `status` of a task that the API lists without a status."""

GIBIBYTE: Final = 2**30
"""The API's GB are binary: its specification codes call 0.25 GB 256 MB."""

PERSONAL_DETAILS: Final = frozenset(
    {
        "account_name",
        "node_name",
        "public_ip_address",
        "public_ip_id",
        "replica_ip",
        "source_ip",
        "target_ip",
    }
)
"""The details that say who, or from which address; nothing keeps them unless they are wanted."""

MAX_SHARED_DETAILS: Final = 1000
"""Most different details that a parser remembers before it begins anew."""

EARLIEST_TIME: Final = 1_262_304_000.0
"""2010-01-01, before which no task of DCS can have begun: a time before it is unknown."""

LATEST_AHEAD: Final = 86_400.0
"""Seconds by which a task's time may be ahead of the cloud's clock; one beyond is unknown."""
MAX_REMEMBERED_LENGTH: Final = 10_000
"""Longest details that are remembered, in characters."""

MAX_ROWS: Final = 1000
"""Most rows that a page has: the largest page that can be asked for."""

MAX_LABEL_LENGTH: Final = 128
"""Longest task name or status taken as it is, in characters; longer ones are cut."""


class Outcome(enum.Enum):
    """What a status word means for counting."""

    SUCCESS = "success"
    FAILURE = "failure"
    ENDED = "ended"
    ACTIVE = "active"
    UNKNOWN = "unknown"

    @property
    def finished(self) -> bool:
        """Whether a task with such a status will not change any more."""
        return self in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ENDED)


STATUS_WORDS: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "SUCCESS": Outcome.SUCCESS,
        "FAILED": Outcome.FAILURE,
        "FAIL": Outcome.FAILURE,
        "ERROR": Outcome.FAILURE,
        "CANCELLED": Outcome.ENDED,
        "CANCELED": Outcome.ENDED,
        "DELETED": Outcome.ENDED,
        "CREATED": Outcome.ACTIVE,
        "WAITING": Outcome.ACTIVE,
        "EXECUTING": Outcome.ACTIVE,
        "RUNNING": Outcome.ACTIVE,
        "INIT": Outcome.ACTIVE,
    }
)
"""What each known status word means; the configuration can add words."""


@dataclass(frozen=True, slots=True)
class StatusTable:
    """The status words, with those that the configuration adds."""

    extra: Mapping[str, Outcome] = field(default_factory=dict)

    def outcome(self, status: str) -> Outcome:
        """Return what `status` means; an unforeseen word is `Outcome.UNKNOWN`."""
        known = STATUS_WORDS.get(status)
        if known is not None:  # nearly always, and this is asked for each task several times
            return known
        word = status.upper()
        return self.extra.get(word) or STATUS_WORDS.get(word, Outcome.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Instance:
    """One DCS instance that is watched, and what is known of it."""

    id: str
    name: str
    project: str
    project_id: str = ""
    region: str = ""
    engine: str = ""
    engine_version: str = ""
    spec_code: str = ""
    status: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def shares_series(self, other: Instance) -> bool:
        """Whether both are the same to Prometheus: the labels of every series are equal."""
        return (self.id, self.name, self.project) == (other.id, other.name, other.project)

    @classmethod
    def from_json(cls, data: object, *, project: str, project_id: str, region: str) -> Instance:
        """Parse one element of ``instances`` of *Querying All DCS Instances*.

        Raises `InvalidResponseError` when it is no object or has no ``instance_id``.
        """
        row = object_of(data, "an instance")
        return cls(
            id=required(row, "instance_id", "an instance"),
            name=text_of(row.get("name")),
            project=project,
            project_id=project_id,
            region=region,
            engine=text_of(row.get("engine")),
            engine_version=text_of(row.get("engine_version")),
            spec_code=text_of(row.get("spec_code")),
            status=text_of(row.get("status")).upper(),
            tags=tags_of(row.get("tags")),
        )


@dataclass(frozen=True, slots=True)
class TaskDetails:
    """The `details` of a task: all 26 documented fields, none of them guaranteed (table 5)."""

    old_capacity: float | None = None
    new_capacity: float | None = None
    enable_public_ip: bool | None = None
    public_ip_id: str = ""
    public_ip_address: str = ""
    enable_ssl: bool | None = None
    old_cache_mode: str = ""
    new_cache_mode: str = ""
    old_resource_spec_code: str = ""
    new_resource_spec_code: str = ""
    old_replica_num: int | None = None
    new_replica_num: int | None = None
    old_cache_type: str = ""
    new_cache_type: str = ""
    replica_ip: str = ""
    replica_az: str = ""
    group_name: str = ""
    old_port: int | None = None
    new_port: int | None = None
    is_only_adjust_charging: bool | None = None
    account_name: str = ""
    source_ip: str = ""
    target_ip: str = ""
    node_name: str = ""
    rename_commands: tuple[str, ...] = ()
    updated_config_length: int | None = None

    @classmethod
    def from_json(cls, data: object) -> TaskDetails:
        """Parse `details`, tolerating numbers as text, text as numbers, null and absence."""
        if not isinstance(data, Mapping):
            return cls()
        row = dict(data)
        if "new_cache_mode" not in row and "new_cahce_mode" in row:
            row["new_cache_mode"] = row["new_cahce_mode"]  # so spelt in the example of 2021
        return cls(
            **{
                name: _DETAIL_PARSERS[name](value)
                for name, value in row.items()
                if value is not None and value != "" and name in _DETAIL_PARSERS
            }
        )

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` reads back, without who did it and from which address."""
        kept = {
            item.name: value
            for item in fields(self)
            if item.name not in PERSONAL_DETAILS
            and (value := getattr(self, item.name)) != item.default
        }
        return {name: list(it) if isinstance(it, tuple) else it for name, it in kept.items()}

    def summary(self, *, personal: bool = False) -> str:
        """Say what changed, in a few words, or return the empty text.

        With `personal`, account names and addresses are included.
        """
        parts = [
            f"{what} {_plain(old)} -> {_plain(new)}{unit}"
            for what, old, new, unit in self._changes()
        ]
        parts += [
            _switch("public access", on=self.enable_public_ip),
            _switch("SSL", on=self.enable_ssl),
            "charging mode only" if self.is_only_adjust_charging else "",
            f"commands renamed: {', '.join(self.rename_commands)}" if self.rename_commands else "",
            f"{self.updated_config_length} settings" if self.updated_config_length else "",
        ]
        return _cut(", ".join(filter(None, [*parts, *(self._personal() if personal else ())])))

    def attempt(self, *, personal: bool = False) -> str:
        """Say what a task that failed tried to do, or return the empty text."""
        deeds = [
            f"{_deed(what, old, new)} from {_plain(old)}{unit} to {_plain(new)}{unit}"
            for what, old, new, unit in self._changes()
        ]
        deeds += [
            _switched("public access", on=self.enable_public_ip),
            _switched("SSL", on=self.enable_ssl),
            "change the charging mode only" if self.is_only_adjust_charging else "",
            f"rename the commands {', '.join(self.rename_commands)}"
            if self.rename_commands
            else "",
            f"change {self.updated_config_length} settings" if self.updated_config_length else "",
        ]
        told = _enumerated([deed for deed in deeds if deed])
        tried = f"tried to {told}" if told else ""
        return _cut(", ".join(filter(None, [tried, *(self._personal() if personal else ())])))

    def _changes(self) -> Iterator[tuple[str, float | str, float | str, str]]:
        """Yield what is another than before: the old value, the new one, and their unit."""
        for what, old, new, unit in (
            ("capacity", self.old_capacity, self.new_capacity, " GB"),
            ("spec", self.old_resource_spec_code, self.new_resource_spec_code, ""),
            ("mode", self.old_cache_mode, self.new_cache_mode, ""),
            ("type", self.old_cache_type, self.new_cache_type, ""),
            ("replicas", self.old_replica_num, self.new_replica_num, ""),
            ("port", self.old_port, self.new_port, ""),
        ):
            if old not in (None, "") and new not in (None, "") and old != new:
                yield what, old, new, unit

    def _personal(self) -> Iterator[str]:
        """Yield who, and from which address."""
        if self.account_name:
            yield f"account {self.account_name}"
        if self.public_ip_address:
            yield f"public address {self.public_ip_address}"
        if self.replica_ip:
            yield f"replica {self.replica_ip}"
        if self.source_ip and self.target_ip and self.source_ip != self.target_ip:
            yield f"address {self.source_ip} -> {self.target_ip}"

    @property
    def old_capacity_bytes(self) -> float | None:
        """The capacity before, in bytes."""
        return None if self.old_capacity is None else self.old_capacity * GIBIBYTE

    @property
    def new_capacity_bytes(self) -> float | None:
        """The capacity after, in bytes."""
        return None if self.new_capacity is None else self.new_capacity * GIBIBYTE


@dataclass(frozen=True, slots=True)
class Task:
    """One background task, as one listing shows it.

    `status` is in upper case; `created_at` (start) and `updated_at` (end, once the task is
    finished) are Unix times in seconds, or None where the API gives none that can be read. What
    nobody asks for (`user_id`, `params`, `job_id`) is not kept.
    """

    id: str
    name: str
    status: str
    created_at: float | None = None
    updated_at: float | None = None
    details: TaskDetails = field(default_factory=TaskDetails)
    user_name: str = ""
    enable_show: bool = False
    error_code: str = ""

    @classmethod
    def from_json(
        cls,
        data: object,
        details: Callable[[object], TaskDetails] = TaskDetails.from_json,
        *,
        personal: bool = True,
    ) -> Task:
        """Parse one element of `tasks` (table 4), and its `details` by a parser of their own.

        The user's name is only taken when it is `personal`.

        Raises `InvalidResponseError` when it is no object or has no `id`: without one, a task
        could be counted twice.
        """
        row = object_of(data, "a task")
        return cls(
            id=required(row, "id", "a task"),
            name=word_of(text_of(row.get("name"))[:MAX_LABEL_LENGTH]) or UNNAMED,
            status=word_of(text_of(row.get("status")).upper()[:MAX_LABEL_LENGTH]) or NO_STATUS,
            created_at=parse_time(row.get("created_at")),
            updated_at=parse_time(row.get("updated_at")),
            details=details(row.get("details")),
            user_name=word_of(row.get("user_name")) if personal else "",
            enable_show=bool(boolean_of(row.get("enable_show"))),
            error_code=text_of(row.get("error_code")).replace(" ", ""),
        )

    def summary(self, outcome: Outcome, *, personal: bool = False) -> str:
        """Say what changed or, of a task that failed, what was attempted; or nothing."""
        if outcome is Outcome.FAILURE:
            return self.details.attempt(personal=personal)
        return self.details.summary(personal=personal)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; only meaningful of a finished task."""
        if self.created_at is None or self.updated_at is None:
            return None
        # Milliseconds are what the API gives; the subtraction must not invent more digits.
        seconds = round(self.updated_at - self.created_at, 3)
        return seconds if seconds >= 0 else None

    def with_plausible_times(self, now: float) -> Task:
        """Return the same task without the times that cannot be, `now` being the cloud's time."""
        latest = now + LATEST_AHEAD
        began, ended = self.created_at, self.updated_at
        if (began is None or EARLIEST_TIME <= began <= latest) and (
            ended is None or EARLIEST_TIME <= ended <= latest
        ):
            return self
        return replace(
            self, created_at=_plausible(began, latest), updated_at=_plausible(ended, latest)
        )


class TaskParser:
    """Parses tasks; those with the same details hold them together, parsed once.

    Most tasks of a project say the same in their details, or nothing, beside the names and
    addresses that are left out unless they are wanted (`personal`). Safe to use from threads.
    """

    def __init__(self, *, personal: bool = True) -> None:
        self._personal = personal
        self._known: dict[tuple[object, ...], TaskDetails] = {}

    def task(self, data: object) -> Task:
        """Parse one element of `tasks`; raises `InvalidResponseError` as `Task.from_json` does."""
        return Task.from_json(data, self._details, personal=self._personal)

    @property
    def remembered(self) -> int:
        """How many different details are known."""
        return len(self._known)

    def _details(self, data: object) -> TaskDetails:
        if not isinstance(data, Mapping):
            return TaskDetails()
        if not self._personal:
            data = {key: value for key, value in data.items() if key not in PERSONAL_DETAILS}
        types = tuple(map(type, data.values()))
        if list in types or dict in types:
            return TaskDetails.from_json(data)  # what cannot be looked up
        # With the types, because True, 1 and 1.0 are equal and not read alike.
        key = (*data, *data.values(), *types)
        known = self._known.get(key)
        if known is None:
            if len(str(data)) > MAX_REMEMBERED_LENGTH:
                return TaskDetails.from_json(data)
            if len(self._known) >= MAX_SHARED_DETAILS:
                self._known = {}
            known = self._known[key] = TaskDetails.from_json(data)
        return known


@dataclass(frozen=True, slots=True)
class CenterTask:
    """One task as the task centre lists it: what tells whether it changed.

    `instance_id` is empty where the centre does not say whose task it is: no document promises it
    (*Querying Center Tasks*; `dcs-api.md` 6.2).
    """

    id: str
    status: str
    updated_at: str
    instance_id: str = ""
    created_at: float | None = None

    @classmethod
    def from_json(cls, data: object) -> CenterTask:
        """Parse one element of `tasks`; raises `InvalidResponseError` when it has no `id`."""
        row = object_of(data, "a task")
        return cls(
            id=required(row, "id", "a task"),
            status=text_of(row.get("status")).upper(),
            updated_at=text_of(row.get("updated_at")),
            instance_id=id_of(row.get("instance_id")),
            created_at=parse_time(row.get("created_at")),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an active task is: `ratio` from 0 to 1, `remaining` in seconds.

    Source: *Querying Background Task Progress*, the fields ``progress`` and ``remain_time``.
    """

    ratio: float | None
    remaining: float | None

    @classmethod
    def from_json(cls, data: object) -> Progress:
        """Parse the body; raises `InvalidResponseError` when it tells no progress."""
        row = object_of(data, "the answer")
        percent, remaining = number_of(row.get("progress")), number_of(row.get("remain_time"))
        if percent is None and remaining is None:
            message = "the answer has neither progress nor remain_time"
            raise InvalidResponseError(message)
        ratio = None if percent is None else min(max(percent / 100, 0.0), 1.0)
        return cls(ratio, None if remaining is None else max(remaining, 0.0))


def refuse_error(row: Mapping[str, Any]) -> None:
    """Raise `InvalidResponseError` when a good answer holds an error beside its data."""
    code, text = text_of(row.get("error_code")), text_of(row.get("error_msg"))
    if code or text:
        message = f"the answer holds data and an error: {code or text}"
        raise InvalidResponseError(message)


def at_most(number: int, rows: list[Any]) -> list[Any]:
    """Return the rows of a page; raise `InvalidResponseError`, before any is parsed, for more."""
    if len(rows) > number:
        message = f"the answer has {len(rows)} rows, more than were asked for"
        raise InvalidResponseError(message)
    return rows


class Identified(Protocol):
    """What has an id."""

    @property
    def id(self) -> str:
        """The id."""
        ...


Row = TypeVar("Row", bound=Identified)


@dataclass(frozen=True, slots=True)
class TaskPage(Generic[Row]):
    """One page of a listing: its tasks, and the API's `task_count` where it is a number."""

    tasks: tuple[Row, ...]
    task_count: int | None

    @classmethod
    def from_json(
        cls, data: object, parse: Callable[[object], Row], *, first: bool = True
    ) -> TaskPage[Row]:
        """Parse the body of *Querying Background Tasks* (table 3), each task by `parse`.

        A page that is not the first may have no `tasks` beside a total. Raises
        `InvalidResponseError` when it is not such a body, also for one task without an id: it may
        be the one that failed.
        """
        row = object_of(data, "the answer")
        refuse_error(row)
        if "tasks" not in row and "task_count" not in row:
            message = "the answer has neither tasks nor task_count"
            raise InvalidResponseError(message)
        tasks, count = row.get("tasks"), integer_of(row.get("task_count"))
        if tasks is None:
            if first and count:
                message = "the answer has no tasks, but a task_count"
                raise InvalidResponseError(message)
            tasks = []
        if not isinstance(tasks, list):
            message = f"tasks is {type(tasks).__name__}, not a list"
            raise InvalidResponseError(message)
        return cls(tuple(parse(task) for task in at_most(MAX_ROWS, tasks)), count)

    def sharing(self, before: TaskPage[Row] | None) -> TaskPage[Row]:
        """Return the same with the rows of an earlier page where they are equal.

        What is kept of tasks by their ids then holds them, and their texts, only once.
        """
        if before is None:
            return self
        known = {row.id: row for row in before.tasks}
        rows = (
            old if (old := known.get(row.id)) is not None and old == row else row
            for row in self.tasks
        )
        return TaskPage(tuple(rows), self.task_count)


@dataclass(frozen=True, slots=True)
class Listing:
    """All pages of one instance's tasks: each id once, newest start first.

    `start` is the Unix time from which the tasks were asked for; `truncated` says that the page
    cap cut the listing. `answered_at` is the cloud's own time (Unix seconds), by the `Date` header
    of its last page, where it has one.
    """

    tasks: tuple[Task, ...]
    start: float
    truncated: bool = False
    answered_at: float | None = None


_DETAIL_PARSERS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        item.name: {
            "float | None": number_of,
            "int | None": integer_of,
            "bool | None": boolean_of,
            "tuple[str, ...]": texts_of,
            "str": word_of,
        }[str(item.type)]
        for item in fields(TaskDetails)
    }
)


def _plausible(moment: float | None, latest: float) -> float | None:
    return moment if moment is not None and EARLIEST_TIME <= moment <= latest else None


def _deed(what: str, old: float | str, new: float | str) -> str:
    """Return what is done when something changes."""
    if what == "capacity":
        grows = isinstance(old, float) and isinstance(new, float) and old < new
        return "extend" if grows else "shrink"
    return f"change the {'number of ' if what == 'replicas' else ''}{what}"


def _enumerated(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _cut(text: str) -> str:
    return text[: MAX_LABEL_LENGTH * 2]


def _plain(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _switch(what: str, *, on: bool | None) -> str:
    return "" if on is None else f"{what} {'on' if on else 'off'}"


def _switched(what: str, *, on: bool | None) -> str:
    return "" if on is None else f"switch {_switch(what, on=on)}"
