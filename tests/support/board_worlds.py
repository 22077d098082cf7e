"""What Prometheus would have scraped in the worlds that the dashboards are read in.

A world is told by its targets: when each was scraped, what instances it shows, and what tasks they
had. Written as OpenMetrics, it becomes blocks (`promtool tsdb create-blocks-from openmetrics`), and
a Prometheus on those blocks answers the panels' queries. All worlds lie in one Prometheus, days
apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from dcs_task_exporter.tasks.models import KNOWN_TASK_NAMES

MINUTE: Final = 60
HOUR: Final = 3600
STALE: Final = HOUR
"""collector.max_staleness: of an instance that was not read for so long, no tasks are shown."""

APART: Final = 10 * 86_400
"""Between the ends of two worlds: more than the longest time range that is looked at."""

FIRST_END: Final = 1_700_006_407
"""Scrapes are at seven seconds past the minute: not where the steps of graphs are."""

Sample = tuple[str, Mapping[str, str], float]


@dataclass(frozen=True)
class Task:
    """A background task; times are seconds before the end of its world."""

    name: str
    began: float
    ended: float | None = None
    status: str = "SUCCESS"
    error_code: str = ""
    summary: str = ""
    user: str = ""

    @property
    def id(self) -> str:
        """An id that no other task of the instance has."""
        return f"{self.name.lower()}-{self.began:.0f}"

    def status_at(self, ago: float) -> str:
        """Return its status `ago` seconds before the end."""
        return "EXECUTING" if self.ended is None or self.ended < ago else self.status


@dataclass(frozen=True)
class Watched:
    """An instance as an exporter sees it; it is read from the end on backwards, until `blind`."""

    id: str
    name: str
    tasks: tuple[Task, ...] = ()
    blind: float = 0
    """How long before the end it could be read last."""

    cut: bool = False
    project: str = "prod"


@dataclass(frozen=True)
class Target:
    """What Prometheus scrapes; `up` are the times in which it answers, seconds before the end."""

    labels: Mapping[str, str]
    instances: tuple[Watched, ...] = ()
    up: tuple[tuple[float, float], ...] = ((float("inf"), 0),)
    exporter: bool = True
    personal: bool = False
    delay: float = 0
    """How much later than others it sees a task end: it is another replica."""

    trouble: bool = False
    """Its clock, its configuration, its state file, its key and its search are all in trouble."""

    errors_from: float = 0
    """Since when it has answers of 403, seconds before the end."""


@dataclass(frozen=True)
class World:
    """Targets, over some time; `others` is what is scraped of foreign exporters."""

    name: str
    targets: tuple[Target, ...]
    hours: float
    step: float = MINUTE
    memory: Mapping[str, float] | None = None
    at: int = 0

    @property
    def end(self) -> int:
        """The moment at which the dashboards are looked at: half a minute after a scrape."""
        return FIRST_END + self.at * APART + 30

    def text(self) -> Iterator[str]:
        """Yield the lines of OpenMetrics, without the end."""
        last = self.end - 30
        moments = [last - at * self.step for at in range(int(self.hours * HOUR / self.step) + 1)]
        moments.reverse()
        for target in self.targets:
            yield from _target_lines(target, moments, self.end)
        for ago, value in (("node:9100", 1), ("node:9101", 0)):
            for name in ("up", "process_resident_memory_bytes"):
                yield from _constant(name, {"job": "node", "instance": ago}, value, moments)
        for key, usage in (self.memory or {}).items():
            for node in ({}, {"dcs_cluster_redis_node": "n1"}, {"dcs_cluster_proxy2_node": "p1"}):
                labels = {"job": "cloudeye", "instance": "c", "dcs_instance_id": key, **node}
                shown = usage if not node else 99
                yield from _constant("huaweicloud_sys_dcs_memory_usage", labels, shown, moments)


def _constant(
    name: str, labels: Mapping[str, str], value: float, moments: Sequence[float]
) -> Iterator[str]:
    head = f"{_series(name, labels)} {value} "
    for moment in moments:
        yield f"{head}{moment:.0f}\n"


def _series(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items() if value)
    return f"{name}{{{inside}}}"


def _target_lines(target: Target, moments: Sequence[float], end: float) -> Iterator[str]:
    alive = [
        moment
        for moment in moments
        if any(since >= end - moment >= until for since, until in target.up)
    ]
    answers = set(alive)
    head = _series("up", target.labels)
    for moment in moments:
        yield f"{head} {int(moment in answers)} {moment:.0f}\n"
    if target.exporter:
        for moment in alive:
            for name, labels, value in exporter_samples(target, end - moment, moment):
                yield f"{_series(name, {**labels, **target.labels})} {value} {moment:.0f}\n"
    for instance in target.instances:
        yield from _instance_lines(target, instance, alive, end)


def _instance_lines(
    target: Target, instance: Watched, alive: Sequence[float], end: float
) -> Iterator[str]:
    """Yield the samples; between two changes only the times differ."""
    changes = {instance.blind, instance.blind - STALE, float("inf"), -1.0}
    for task in instance.tasks:
        changes |= {task.began} | ({task.ended - target.delay} if task.ended is not None else set())
    for since, until in pairwise(sorted(changes, reverse=True)):
        moments = [moment for moment in alive if since >= end - moment > until]
        if not moments:
            continue
        ago = end - moments[0]
        found = [*instance_samples(target, instance, ago, end)]
        heads = [
            (f"{_series(name, {**labels, **target.labels})} {value} ")
            for name, labels, value in found
        ]
        read = _series(
            "dcs_instance_last_refresh_timestamp_seconds", {**_identity(instance), **target.labels}
        )
        for moment in moments:
            shown = f" {moment:.0f}\n"
            yield from [head[:-1] + shown for head in heads]
            # An instance that cannot be read keeps the time of its latest reading.
            seen = moment if end - moment > instance.blind else end - instance.blind
            if instance.blind != float("inf"):
                yield f"{read} {seen:.0f} {moment:.0f}\n"


def _identity(instance: Watched) -> dict[str, str]:
    return {
        "project": instance.project,
        "dcs_instance_id": instance.id,
        "dcs_instance_name": instance.name,
    }


def instance_samples(target: Target, instance: Watched, ago: float, end: float) -> Iterator[Sample]:
    """Yield what an exporter shows of an instance, `ago` seconds before the end."""
    own = _identity(instance)
    readable = ago > instance.blind
    yield "dcs_instance_up", own, int(readable)
    more = {"project_id": "p0", "region": "cn-north-4", "engine": "Redis", "engine_version": "5.0"}
    more |= {"spec_code": "redis.ha.xu1.tiny.r2.128", "instance_status": "RUNNING"}
    yield "dcs_instance_info", {**own, **more}, 1
    if instance.blind == float("inf"):
        return
    yield "dcs_instance_refresh_duration_seconds", own, 0.2
    seen = max(ago, instance.blind)
    if seen - ago >= STALE:
        return
    yield "dcs_instance_tasks_truncated", own, int(instance.cut)
    tasks = [task for task in instance.tasks if task.began >= seen]
    ended = [task for task in tasks if task.ended is not None and task.ended - target.delay >= seen]
    yield "dcs_instance_tasks_listed", own, len(tasks)
    names = dict.fromkeys([*KNOWN_TASK_NAMES, *(task.name for task in tasks)])
    for name in names:
        for status in ("SUCCESS", "FAILED"):
            count = sum((task.name, task.status) == (name, status) for task in ended)
            labels = {**own, "task_name": name, "status": status}
            yield "dcs_tasks_finished_total", labels, count
    if any((task.name, task.status) == ("EXTEND", "SUCCESS") for task in ended):
        yield "dcs_task_extend_old_capacity_bytes", own, 2**30
        yield "dcs_task_extend_new_capacity_bytes", own, 2**31
    for name in dict.fromkeys(task.name for task in tasks):
        of_name = [task for task in tasks if task.name == name]
        yield from _task_samples(target, own, of_name, [it for it in of_name if it in ended], end)


def _task_samples(
    target: Target, own: dict[str, str], tasks: list[Task], ended: list[Task], end: float
) -> Iterator[Sample]:
    name = tasks[0].name
    labels = {**own, "task_name": name}
    active = [task for task in tasks if task not in ended]
    yield "dcs_tasks_active", labels, len(active)
    if active:
        start = end - max(task.began for task in active)
        yield "dcs_tasks_active_oldest_start_timestamp_seconds", labels, start
    for outcome, status in (("success", "SUCCESS"), ("failure", "FAILED")):
        ends = [task.ended or 0 for task in ended if task.status == status]
        value = end - min(ends) if ends else 0
        yield f"dcs_task_last_{outcome}_timestamp_seconds", labels, value
    shown = {task.id: task.status if task in ended else "EXECUTING" for task in tasks}
    for status in dict.fromkeys(shown.values()):
        latest = min((it for it in tasks if shown[it.id] == status), key=lambda it: it.began)
        of_status = {**labels, "status": status}
        yield "dcs_tasks_recent", of_status, sum(it == status for it in shown.values())
        yield "dcs_task_last_start_timestamp_seconds", of_status, end - latest.began
        if latest in ended and latest.ended is not None:
            yield "dcs_task_last_end_timestamp_seconds", of_status, end - latest.ended
            yield "dcs_task_last_duration_seconds", of_status, latest.began - latest.ended
    last = min(tasks, key=lambda it: it.began)
    info = {**labels, "task_id": last.id, "status": shown[last.id]}
    who = {"user_name": last.user} if target.personal else {}
    told = {"error_code": last.error_code, "summary": last.summary}
    if last not in ended:
        told = {"summary": last.summary}
    yield "dcs_task_last_info", {**info, **told, **who}, 1
    failed = [task for task in ended if task.status == "FAILED"]
    if failed:
        worst = min(failed, key=lambda it: it.ended or 0)
        told = {"task_id": worst.id, "error_code": worst.error_code, "summary": worst.summary}
        yield "dcs_task_last_failure_info", {**labels, **told}, 1


def exporter_samples(target: Target, ago: float, moment: float) -> Iterator[Sample]:
    """Yield what an exporter shows of itself."""
    failing = ago <= target.errors_from
    per_minute = (86_400 - ago) / MINUTE
    errors = max(0.0, (target.errors_from - ago) / MINUTE) if failing else 0.0
    yield "dcs_task_exporter_build_info", {"version": "0.1.0", "python": "3.11"}, 1
    yield "dcs_task_exporter_config_last_reload_successful", {}, int(not target.trouble)
    yield "dcs_task_exporter_scrape_duration_seconds", {}, 0.3
    yield "dcs_task_exporter_scrapes_coalesced_total", {}, 0
    yield "dcs_task_exporter_state_last_save_timestamp_seconds", {}, moment - 45
    failed_saves = (86_400 - ago) // HOUR if target.trouble else 0
    yield "dcs_task_exporter_state_errors_total", {}, failed_saves
    yield "process_resident_memory_bytes", {}, 50_000_000
    yield "process_cpu_seconds_total", {}, per_minute / 10
    own = {"project": "prod"}
    listed = {**own, "operation": "list_tasks"}
    yield "dcs_api_requests_total", {**listed, "code": "200"}, per_minute * 3
    yield "dcs_api_requests_total", {**listed, "code": "403"}, errors
    yield "dcs_api_errors_total", {**listed, "reason": "forbidden"}, errors
    for le, share in (("0.1", 0.5), ("0.5", 0.99), ("+Inf", 1)):
        labels = {**listed, "le": le}
        yield "dcs_api_request_duration_seconds_bucket", labels, per_minute * 3 * share
    yield "dcs_api_retries_total", own, 0
    yield "dcs_api_throttle_wait_seconds_total", own, per_minute / 2
    yield "dcs_clock_in_doubt", own, int(target.trouble)
    if target.trouble:
        yield "dcs_discovery_up", own, 0
        yield "dcs_credentials_expiry_timestamp_seconds", own, moment + ago - HOUR
    yield "dcs_project_instances_watched", own, len(target.instances) or 3


def _exporter(instance: str, *instances: Watched, job: str = "dcs-tasks") -> Target:
    return Target({"job": job, "instance": instance}, instances)


GROWN: Final = Task("EXTEND", 3.1 * HOUR, 3 * HOUR, summary="capacity 1 -> 2 GB")
RUNS: Final = Task("AddReplica", 20 * MINUTE)
REFUSED: Final = Task(
    "UpdatePort", 42 * MINUTE, 40 * MINUTE, "FAILED", "DCS.4842", "tried to change the port"
)
MENDED: Final = (
    Task("EXTEND", 5.2 * HOUR, 5 * HOUR, "FAILED", "DCS.4800", "tried to extend"),
    Task("EXTEND", 4.5 * HOUR, 4.4 * HOUR, summary="capacity 1 -> 2 GB"),
)
ORDERS: Final = Watched("i0", "orders", (GROWN,))
CARTS: Final = Watched("i1", "carts", (RUNS,))
SESSIONS: Final = Watched("i2", "sessions")
BROKEN: Final = (
    replace(ORDERS, tasks=(GROWN, REFUSED)),
    replace(CARTS, tasks=(*MENDED, RUNS)),
    replace(SESSIONS, blind=20 * MINUTE),
)
MEMORY: Final = {"i0": 61.0, "i1": 42.0, "i2": 7.0}


def _dead() -> World:
    before = tuple(
        replace(
            each,
            tasks=tuple(
                replace(
                    task, began=task.began + 6 * HOUR, ended=task.ended and task.ended + 6 * HOUR
                )
                for task in each.tasks
            ),
            blind=0,
        )
        for each in BROKEN
    )
    dead = replace(_exporter("exporter:39327", *before), up=((float("inf"), 6 * HOUR),))
    return World("dead", (dead,), hours=10)


def _pair() -> World:
    labels = {"job": "dcs-tasks", "instance": "10.0.0.1:39327", "pod": "exporter-0"}
    other = {"job": "dcs-tasks", "instance": "10.0.0.2:39327", "pod": "exporter-1"}
    seen = (replace(ORDERS, tasks=(GROWN, REFUSED)), CARTS, SESSIONS)
    first = Target(labels, seen)
    second = Target(other, (*seen[:2], replace(SESSIONS, blind=20 * MINUTE)), delay=2 * MINUTE)
    return World("pair", (first, second), hours=6, memory=MEMORY)


def _fleet(count: int, failing: int, blind: int, active: int) -> tuple[Watched, ...]:
    """Return many instances: some fail, some cannot be read, some have active tasks."""
    found = []
    for at in range(count):
        tasks = [replace(GROWN, began=1800 + at, ended=1700 + at)]
        if at < failing:
            tasks.append(
                replace(REFUSED, began=REFUSED.began + at, ended=(REFUSED.ended or 0) + at)
            )
        if failing <= at < failing + active:
            tasks.append(replace(RUNS, began=RUNS.began + at))
        unread = 15 * MINUTE if count - blind <= at else 0
        found.append(
            Watched(
                f"{at:08d}-1c2d-4e5f-8a9b-0c1d2e3f4a5b", f"cache-{at:04d}", tuple(tasks), unread
            )
        )
    return tuple(found)


def _probes() -> World:
    """Return instances that are probed, and two exporters that say of themselves only."""
    probed = tuple(
        Target({"job": "dcs-tasks", "instance": each.id}, (each,), exporter=False)
        for each in (replace(ORDERS, tasks=(GROWN, REFUSED)), CARTS, SESSIONS)
    )
    own = tuple(_exporter(f"exporter-{at}:39327", job="dcs-task-exporter") for at in range(2))
    return World("probe", (*probed, *own), hours=6)


def _restart() -> World:
    """Return an exporter that was down for ten minutes, in which a task failed."""
    labels = {"job": "dcs-tasks", "instance": "exporter:39327"}
    missed = replace(REFUSED, began=36 * MINUTE, ended=35 * MINUTE)
    target = Target(
        labels,
        (replace(ORDERS, tasks=(GROWN, missed)), CARTS, SESSIONS),
        up=((float("inf"), 40 * MINUTE), (30 * MINUTE, 0)),
    )
    return World("restart", (target,), hours=6)


def worlds() -> dict[str, World]:
    """Return all worlds, each at a time of its own."""
    one = Target(
        {"job": "dcs-tasks", "instance": "exporter:39327"},
        (
            replace(
                ORDERS, tasks=(replace(GROWN, user="ann"), replace(REFUSED, user="bob")), cut=True
            ),
        ),
        personal=True,
    )
    unread = tuple(replace(each, blind=2 * HOUR) for each in (ORDERS, CARTS, SESSIONS))
    lost = _exporter("exporter:39327", *unread)
    told = (
        World("calm", (_exporter("exporter:39327", ORDERS, CARTS, SESSIONS),), 8, memory=MEMORY),
        World(
            "failed",
            (replace(_exporter("exporter:39327", *BROKEN), errors_from=20 * MINUTE),),
            hours=8,
            memory=MEMORY,
        ),
        _dead(),
        _pair(),
        World("one", (one,), hours=6, memory=MEMORY),
        World("fifty", (_exporter("exporter:39327", *_fleet(50, 5, 2, 4)),), 24, step=4 * MINUTE),
        World("thousand", (_exporter("exporter:39327", *_fleet(1000, 30, 40, 50)),), 1, 4 * MINUTE),
        _probes(),
        _restart(),
        World("outage", (replace(lost, trouble=True, errors_from=2 * HOUR),), hours=6),
    )
    return {world.name: replace(world, at=at) for at, world in enumerate(told)}
