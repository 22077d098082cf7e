"""How the simulated cloud lists: pages, time windows, order and counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from dcs_task_exporter.simulator.faults import FAULTS, RefusedError, Reply, dcs_error, json_reply
from dcs_task_exporter.simulator.quirks import Quirks
from dcs_task_exporter.simulator.request import Request

DEFAULT_LIMIT: Final = "10"

Row = dict[str, Any]
"""A task or an instance with the fields of the API."""


def list_tasks(
    request: Request, tasks: Sequence[Row], quirks: Quirks, shuffle: Callable[[list[Row]], None]
) -> Reply:
    """Return one page of these tasks."""
    page = _page(request, quirks)
    start, end = _window(request, quirks)
    found = [task for task in tasks if start <= task["created_at"] <= end]
    found.sort(key=lambda task: (task["created_at"], task["id"]), reverse=quirks.order == "newest")
    if quirks.order == "shuffled":
        shuffle(found)
    rows = found[page]
    body: dict[str, object] = {}
    if quirks.task_count != "missing":
        number = len(found) if quirks.task_count == "total" else len(rows)
        body["task_count"] = str(number) if quirks.task_count_as_text else number
    if rows or quirks.empty_tasks != "missing":
        body["tasks"] = None if not rows and quirks.empty_tasks == "null" else rows
    return json_reply(200, body)


def list_instances(request: Request, instances: Sequence[Row], quirks: Quirks) -> Reply:
    """Return one page of these instances."""
    page = _page(request, quirks)
    rows = instances[page] if quirks.instance_offset else instances[: page.stop - page.start]
    number = len(instances) if quirks.instance_count == "total" else len(rows)
    return json_reply(200, {"instance_num": number, "instances": rows})


def timestamp(moment: float) -> str:
    """Write a Unix time as the API does: 2020-06-17T07:38:42.503Z."""
    text = datetime.fromtimestamp(moment, tz=timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _page(request: Request, quirks: Quirks) -> slice:
    offset, limit = request.query.get("offset", "0"), request.query.get("limit") or DEFAULT_LIMIT
    if not offset.isdigit():
        raise RefusedError(FAULTS["bad_offset"])
    size = int(limit) if limit.isdigit() else 0
    if size < 1 or (size > quirks.max_limit and quirks.over_limit == "reject"):
        raise RefusedError(dcs_error(400, "DCS.4800", "Invalid limit in the request."))
    return slice(int(offset), int(offset) + min(size, quirks.max_limit))


def _window(request: Request, quirks: Quirks) -> tuple[str, str]:
    """Return the earliest and the latest start of a task, as texts that sort with the API's."""
    honored = quirks.start_parameter
    names = ("start_time", "begin_time") if honored == "both" else (honored,)
    start = next((request.query[name] for name in names if request.query.get(name)), "")
    end = request.query.get("end_time", "")
    if any(text and not re.fullmatch(r"\d{14}", text) for text in (start, end)):
        text = "Invalid start_time parameter in the request."
        raise RefusedError(dcs_error(400, "DCS.4062", text))
    if start and end and start > end:
        text = "The end time must be after the start time."
        raise RefusedError(dcs_error(400, "DCS.4025", text))
    return _sortable(start) if start else "", f"{_sortable(end)}.999Z" if end else "9999"


def _sortable(text: str) -> str:
    """Turn yyyyMMddHHmmss into a text that sorts with the API's times."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}"
