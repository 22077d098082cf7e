"""Background tasks and instances as frozen values, and their parsing from the API's JSON.

This is the edge: nothing behind it sees a raw dictionary. Names and statuses are open sets
(the public documents contradict each other), so they stay strings; the one table of what the
status words mean is here too. Sources: the API page *Querying Background Tasks*, tables 3 to 5,
and the Huawei Cloud SDK's models.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Final

from dcs_task_exporter.errors import InvalidResponseError

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

    @classmethod
    def from_json(cls, data: object, *, project: str, project_id: str, region: str) -> Instance:
        """Parse one element of ``instances`` of *Querying All DCS Instances*.

        Raises `InvalidResponseError` when it is no object or has no ``instance_id``.
        """
        row = _object(data, "an instance")
        return cls(
            id=_required(row, "instance_id", "an instance"),
            name=_text(row.get("name")),
            project=project,
            project_id=project_id,
            region=region,
            engine=_text(row.get("engine")),
            engine_version=_text(row.get("engine_version")),
            spec_code=_text(row.get("spec_code")),
            status=_text(row.get("status")).upper(),
            tags=_tags(row.get("tags")),
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
                name: parse(row[name])
                for name, parse in _DETAIL_PARSERS.items()
                if row.get(name) is not None
            }
        )

    def summary(self, *, personal: bool = False) -> str:
        """Say what changed, in a few words, or return the empty text.

        With `personal`, account names and addresses are included.
        """
        parts = [
            _change("capacity", self.old_capacity, self.new_capacity, " GB"),
            _change("spec", self.old_resource_spec_code, self.new_resource_spec_code),
            _change("mode", self.old_cache_mode, self.new_cache_mode),
            _change("type", self.old_cache_type, self.new_cache_type),
            _change("replicas", self.old_replica_num, self.new_replica_num),
            _change("port", self.old_port, self.new_port),
            _switch("public access", on=self.enable_public_ip),
            _switch("SSL", on=self.enable_ssl),
            "charging mode only" if self.is_only_adjust_charging else "",
            f"commands renamed: {', '.join(self.rename_commands)}" if self.rename_commands else "",
            f"{self.updated_config_length} settings" if self.updated_config_length else "",
        ]
        if personal:
            parts += [
                f"account {self.account_name}" if self.account_name else "",
                f"public address {self.public_ip_address}" if self.public_ip_address else "",
                f"replica {self.replica_ip}" if self.replica_ip else "",
                _change("address", self.source_ip, self.target_ip),
            ]
        return ", ".join(part for part in parts if part)[: MAX_LABEL_LENGTH * 2]

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
    finished) are Unix times in seconds, or None where the API gives none that can be read.
    """

    id: str
    name: str
    status: str
    created_at: float | None = None
    updated_at: float | None = None
    details: TaskDetails = field(default_factory=TaskDetails)
    user_name: str = ""
    user_id: str = ""
    params: str = ""
    enable_show: bool = False
    error_code: str = ""
    job_id: str = ""

    @classmethod
    def from_json(cls, data: object) -> Task:
        """Parse one element of `tasks` (table 4).

        Raises `InvalidResponseError` when it is no object or has no `id`: without one, a task
        could be counted twice.
        """
        row = _object(data, "a task")
        return cls(
            id=_required(row, "id", "a task"),
            name=_text(row.get("name"))[:MAX_LABEL_LENGTH] or UNNAMED,
            status=_text(row.get("status")).upper()[:MAX_LABEL_LENGTH] or NO_STATUS,
            created_at=parse_time(row.get("created_at")),
            updated_at=parse_time(row.get("updated_at")),
            details=TaskDetails.from_json(row.get("details")),
            user_name=_text(row.get("user_name")),
            user_id=_text(row.get("user_id")),
            params=_text(row.get("params")),
            enable_show=bool(_boolean(row.get("enable_show"))),
            error_code=_text(row.get("error_code")).replace(" ", ""),
            job_id=_text(row.get("job_id")),
        )

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; only meaningful of a finished task."""
        if self.created_at is None or self.updated_at is None:
            return None
        # Milliseconds are what the API gives; the subtraction must not invent more digits.
        seconds = round(self.updated_at - self.created_at, 3)
        return seconds if seconds >= 0 else None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of a listing: its tasks, and the API's `task_count` where it is a number."""

    tasks: tuple[Task, ...]
    task_count: int | None

    @classmethod
    def from_json(cls, data: object, *, first: bool = True) -> TaskPage:
        """Parse the body of *Querying Background Tasks* (table 3).

        A page that is not the first may have no `tasks` beside a total. Raises
        `InvalidResponseError` when it is not such a body.
        """
        row = _object(data, "the answer")
        if "tasks" not in row and "task_count" not in row:
            message = "the answer has neither tasks nor task_count"
            raise InvalidResponseError(message)
        tasks, count = row.get("tasks"), _integer(row.get("task_count"))
        if tasks is None:
            if (first and count) or _text(row.get("error_code")):
                message = "the answer has no tasks, but a task_count or an error_code"
                raise InvalidResponseError(message)
            tasks = []
        if not isinstance(tasks, list):
            message = f"tasks is {type(tasks).__name__}, not a list"
            raise InvalidResponseError(message)
        return cls(tuple(Task.from_json(task) for task in tasks), count)


@dataclass(frozen=True, slots=True)
class Listing:
    """All pages of one instance's tasks: each id once, newest start first.

    `start` is the Unix time from which the tasks were asked for; `truncated` says that the page
    cap cut the listing.
    """

    tasks: tuple[Task, ...]
    start: float
    truncated: bool = False


_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):?(\d\d))?"
)


def parse_time(value: object) -> float | None:
    """Return a Unix time in seconds for ``2020-06-17T07:38:42.503Z``, or None.

    Also takes other fractions, offsets, and milliseconds since the epoch as the job API has them.
    """
    text = _text(value)
    if text.isascii() and text.isdigit() and len(text) in (10, 13):
        return int(text) / (1000 if len(text) == len("1592381886597") else 1)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    fraction, sign, hours, minutes = match.groups()[6:]
    offset = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    whole = int(moment.timestamp()) - offset
    return float(f"{whole}.{fraction}") if fraction and whole >= 0 else float(whole)


def _object(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        message = f"{what} is {type(data).__name__}, not an object"
        raise InvalidResponseError(message)
    return data


def _required(row: Mapping[str, Any], key: str, what: str) -> str:
    value = _text(row.get(key))
    if not value:
        message = f"{what} has no {key}"
        raise InvalidResponseError(message)
    return value


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON may hold half a surrogate pair, which no exposition can carry.
        return value.strip().encode("utf-8", "replace").decode()
    if isinstance(value, int | float):
        return str(value)
    return ""


def _number(value: object) -> float | None:
    try:
        number = float(_text(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _boolean(value: object) -> bool | None:
    word = _text(value).lower()
    return word == "true" if word in ("true", "false") else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list) else ()


def _tags(value: object) -> Mapping[str, str]:
    if not isinstance(value, list):
        return {}
    pairs = [tag for tag in value if isinstance(tag, Mapping)]
    return {
        _text(tag.get("key")): _text(tag.get("value")) for tag in pairs if _text(tag.get("key"))
    }


_DETAIL_PARSERS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        item.name: {
            "float | None": _number,
            "int | None": _integer,
            "bool | None": _boolean,
            "tuple[str, ...]": _texts,
            "str": _text,
        }[str(item.type)]
        for item in fields(TaskDetails)
    }
)


def _change(what: str, old: float | str | None, new: float | str | None, unit: str = "") -> str:
    if old in (None, "") or new in (None, "") or old == new:
        return ""
    return f"{what} {_plain(old)} -> {_plain(new)}{unit}"


def _plain(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _switch(what: str, *, on: bool | None) -> str:
    return "" if on is None else f"{what} {'on' if on else 'off'}"
