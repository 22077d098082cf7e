"""The process: it is gone, it has no threads, its log has no reader."""

from __future__ import annotations

import threading

import pytest

from dcs_task_exporter.commands.reloading import Reloader
from tests.support.clouds import value
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
    "The configuration file has mistakes, or is gone, at a reload",
    where="process",
    metrics=("dcs_task_exporter_config_last_reload_successful = 0", "dcs_instance_up = 1"),
    log=("error: the configuration was not reloaded, the one before stays",),
    page=("The configuration was not reloaded:", "The one before stays."),
    alerts=("DCSTaskExporterReloadFailed",),
    recovers=(
        "the next reload of a good file: by itself with `--config.auto-reload-interval`, else ask "
        "for it"
    ),
    causes=("a mistake", "half saved", "gone"),
)
def test_a_reload_that_fails(scene: Scene) -> None:
    """A reload that fails changes nothing, and is told until one succeeds."""
    scene.begin()
    path = scene.folder / "config.yml"
    path.write_text(scene.text)
    reloader = Reloader(scene.exporter, path, {})
    if scene.cause == "gone":
        path.unlink()
    else:
        bad = {"a mistake": f"{scene.text}stat: {{}}\n", "half saved": "projects: ["}
        path.write_text(bad[scene.cause])
    reloader.try_reload()
    scene.shows()
    path.write_text(scene.text)
    reloader.reload_if_changed()
    assert value(scene.scrape(), "dcs_task_exporter_config_last_reload_successful") == 1
    assert scene.exporter.problems() == []


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
