"""Faults as records: a row of docs/faults.md, and what its test asserts, are the same.

`scripts/fault_table.py` reads the rows from the decorators in the test files, without running them:
they hold constants only.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import Final

import pytest

from dcs_task_exporter.simulator.faults import FAULTS, Reply, gateway_error
from tests.support.clouds import Samples

METRIC: Final = re.compile(
    r"(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})? (?P<what>= \S+|rises|is absent|is there)"
    r"(?P<one> for it alone)?"
)
"""What a row says of a metric."""

IT: Final = ("dcs_instance_id", "i0")
"""The instance that a fault of a single one meets."""


@dataclass(frozen=True)
class FaultRow:
    """A fault, and what it looks like from outside.

    `metrics` are written as in `METRIC`; "for it alone" says that other instances do not show it.
    `log` holds all lines from the level warning on, as "level: message", in their order; `page`
    what the status page says then and not before; `alerts` all that fire while it lasts 40
    minutes. It `recovers` by itself, `within` seconds after its cause is gone, at scrapes 15 s
    apart; None where it costs nothing, or does not recover. `causes` are names of `FAULTS`,
    statuses with error codes, or words of the test's own: the test is run with each.
    """

    title: str
    where: str
    metrics: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    recovers: str = ""
    within: int | None = None
    causes: tuple[str, ...] = ()


def fault(
    title: str,
    *,
    where: str,
    recovers: str,
    metrics: tuple[str, ...] = (),
    log: tuple[str, ...] = (),
    page: tuple[str, ...] = (),
    alerts: tuple[str, ...] = (),
    within: int | None = None,
    causes: tuple[str, ...] = (),
) -> pytest.MarkDecorator:
    """Mark a test as that of a fault, with its row in docs/faults.md."""
    row = FaultRow(title, where, metrics, log, page, alerts, recovers, within, causes)
    return pytest.mark.fault(row)


def row_of(node: pytest.Item | pytest.Function) -> FaultRow:
    """Return the row of a test."""
    marker = node.get_closest_marker("fault")
    assert marker is not None, f"{node.name} has no row: mark it with @fault(...)"
    row: FaultRow = marker.args[0]
    return row


def reply_of(cause: str) -> Reply:
    """Return the answer that a cause stands for: one of `FAULTS`, or "403 APIGW.0304"."""
    if cause in FAULTS:
        return FAULTS[cause]
    status, code = cause.split()
    return gateway_error(int(status), code, f"A message of {code}.")


def code_of(reply: Reply) -> str:
    """Return the error code of an answer, empty where it has none."""
    try:
        body = json.loads(reply.body)
    except ValueError:
        return ""
    return str(body.get("error_code", "")) if isinstance(body, dict) else ""


def broken_claims(row: FaultRow, before: Samples, found: Samples) -> list[str]:
    """Return what a row says of metrics and is not so."""
    return [claim for claim in row.metrics if not _holds(claim, before, found)]


def _holds(claim: str, before: Samples, found: Samples) -> bool:
    match = METRIC.fullmatch(claim)
    assert match, f"not as in METRIC: {claim}"
    labels = re.findall(r'(\w+)="([^"]*)"', match["labels"] or "")
    wanted = {*labels, *([IT] if match["one"] else [])}
    own = _chosen(found, match["name"], wanted)
    if match["one"]:
        others = _chosen(found, match["name"], set(labels)).keys() - own.keys()
        if any(_is(match["what"], {key: found[key]}, before) for key in others):
            return False
    return _is(match["what"], own, before)


def _chosen(found: Samples, name: str, labels: set[tuple[str, str]]) -> Samples:
    return {
        key: number for key, number in found.items() if key[0] == name and labels <= set(key[1])
    }


def _is(what: str, own: Samples, before: Samples) -> bool:
    if what in ("is absent", "is there"):
        return bool(own) == (what == "is there")
    if what == "rises":
        return sum(own.values()) > sum(before.get(key, 0.0) for key in own)
    return bool(own) and set(own.values()) == {float(what.removeprefix("= "))}


def logged_in(caplog: pytest.LogCaptureFixture) -> tuple[str, ...]:
    """Return the lines of the exporter's log from the level warning on, as rows write them."""
    return tuple(
        f"{record.levelname.lower()}: {record.getMessage()}"
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("dcs_task_exporter")
    )
