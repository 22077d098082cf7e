"""The process: it is gone, it has no threads, its log has no reader."""

from __future__ import annotations

import threading

import pytest

from tests.support.fault_rows import fault
from tests.support.fault_scene import Scene


@fault(
    "The exporter is gone, hangs, or cannot be reached",
    where="process",
    metrics=("up = 0",),
    page=("no answer",),
    alerts=("DCSProjectNotWatched", "DCSTaskExporterDown"),
    recovers="its supervisor restarts it; what ended meanwhile is counted, once, with a state file",
)
def test_no_exporter(scene: Scene) -> None:
    """An exporter that does not answer raises an alert of its own, and one for each project."""
    scene.begin()
    scene.is_down(60)
    scene.check_alerts()


@fault(
    "Prometheus has no target for the exporter",
    where="process",
    metrics=("up is absent",),
    alerts=("DCSTaskExporterAbsent",),
    recovers="mend the scrape configuration",
)
def test_no_target(scene: Scene) -> None:
    """An exporter that nobody scrapes raises an alert."""
    scene.is_gone(60)
    scene.check_alerts()


@fault(
    "No thread can be started (limit of processes or memory)",
    where="process",
    metrics=("dcs_instance_up = 0",),
    log=(
        "error: cannot start another worker thread",
        "warning: the instance cannot be read",
        "warning: the instance cannot be read",
    ),
    page=("Reading failed: internal",),
    alerts=("DCSInstanceUnreadable", "DCSProjectUnreadable"),
    recovers="the next scrape at which one can be started",
    within=15,
)
def test_no_thread(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread nothing is read, and that is said."""
    scene.begin(is_well=False)

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        scene.shows(counts=False)
    scene.recovers(counts=False)
