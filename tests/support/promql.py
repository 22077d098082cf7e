"""The names in PromQL: which metrics and labels an expression uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.support.clouds import world

RECORDED = re.compile(r"\b\w+:\w+:\w+\b")
METRIC = re.compile(r"(?<![\w:\"=~])((?:dcs|huaweicloud|process|python)_\w+)(?![\w:(])")
MATCHERS = re.compile(r"\{([^{}]*)\}")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
TARGET_LABELS = frozenset({"job", "instance", "pod", "le", "alertname", "alertstate", "severity"})


def metrics(expression: str) -> set[str]:
    """Return the metrics that an expression reads; recorded ones have colons and are left out."""
    bare = GROUPED.sub(" ", MATCHERS.sub(" ", RECORDED.sub(" ", expression)))
    return set(METRIC.findall(re.sub(r"\"[^\"]*\"", " ", bare)))


def labels(expression: str) -> set[str]:
    """Return the labels that an expression matches, groups or joins by."""
    matched = {name for part in MATCHERS.findall(expression) for name in MATCHER.findall(part)}
    grouped = {
        name.strip() for part in GROUPED.findall(expression) for name in part.split(",") if name
    }
    return matched | {name for name in grouped if name}


def described() -> Mapping[str, set[str]]:
    """Return the labels of every metric that an exporter exposes after some life."""
    with world(2) as here, here.exporter() as exporter:
        for status in ("EXECUTING", "SUCCESS", "FAILED"):
            details = {"old_capacity": "1", "new_capacity": "2"}
            here.cloud.start_task("i0", "EXTEND", status, details=details)
        exporter.fleet.refresh_and_wait(20)
        exporter.sources.observe_scrape(0.1)
        found: dict[str, set[str]] = {}
        for family in exporter.renderer.registry.collect():
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            found[family.name + suffix] = set(getattr(family, "_labelnames", ()))
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return found
