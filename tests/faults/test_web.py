"""The web configuration file, and the clients that it keeps out."""

from __future__ import annotations

import requests

from dcs_task_exporter.web.server import WebServer
from tests.support.fault_rows import fault
from tests.support.fault_scene import Scene
from tests.support.secrets import secret
from tests.support.web_config_files import USERS


@fault(
    "The web configuration file is broken, empty or gone, or would take a check away",
    where="web",
    metrics=(
        "dcs_task_exporter_web_config_last_reload_successful = 0",
        "dcs_instance_up = 1",
    ),
    log=("error: cannot use the changed web configuration file, the last good one stays",),
    page=("The web configuration file cannot be used:", "What it last said stays."),
    alerts=("DCSTaskExporterReloadFailed",),
    recovers="as soon as the file is good again: it is looked at with each request and scrape",
    within=15,
    causes=("broken", "empty", "gone"),
)
def test_a_broken_web_configuration(scene: Scene) -> None:
    """A web configuration file that cannot be used takes nothing away, and is told."""
    path = scene.folder / "web.yml"
    path.write_text(USERS)
    scene.begin(web_config=path)
    if scene.cause == "gone":
        path.unlink()
    else:
        path.write_text("" if scene.cause == "empty" else "basic_auth_users: {")
    scene.shows()
    path.write_text(USERS)
    scene.recovers()


@fault(
    "Somebody tries wrong passwords",
    where="web",
    metrics=("dcs_task_exporter_failed_logins_total rises", "dcs_instance_up = 1"),
    log=("warning: a login failed",),
    recovers="not needed: addresses take turns, so that the right password waits for two at most",
)
def test_a_wrong_password(scene: Scene) -> None:
    """A failed login is counted, and logged without what was tried."""
    path = scene.folder / "web.yml"
    path.write_text(USERS)
    scene.begin(web_config=path)
    server = WebServer(scene.guarded_app(), [("127.0.0.1", 0)])
    server.start()
    answer = requests.get(server.url, auth=("grafana", secret("wrong")), timeout=10)
    server.stop()
    assert answer.status_code == 401
    scene.shows()
