"""What stands before the web app, as a real Prometheus meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from starlette.responses import PlainTextResponse

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import world
from tests.support.real_prometheus import running
from tests.support.served import served
from tests.support.web_config_files import HASH, PASSWORD, TLS, USERS, Start


@pytest.fixture
def access_control(tmp_path: Path) -> AccessControl:
    """Return the access control of a file with a user."""
    (tmp_path / "web.yml").write_text(USERS)
    return AccessControl(tmp_path / "web.yml", Clock())


def test_failed_logins_are_counted(access_control: AccessControl) -> None:
    """A wrong password and an unknown user count; a request without a login does not."""
    server = WebServer(access_control.app(PlainTextResponse("up 1\n")), [("127.0.0.1", 0)])
    server.start()
    for auth in (("grafana", "wrong"), ("nobody", PASSWORD), ("grafana", PASSWORD), None):
        requests.get(server.url, auth=auth, timeout=10)
    server.stop()

    assert access_control.failed_logins() == 2


def test_the_problem_of_the_file(access_control: AccessControl, tmp_path: Path) -> None:
    """A file that breaks is told, by itself and by a reload."""
    assert access_control.problem() == ""
    (tmp_path / "web.yml").write_text(f"basic_auth_user: {{a: {HASH}}}\n")

    assert "did you mean `basic_auth_users`?" in access_control.problem()
    with pytest.raises(ConfigError):
        access_control.reload()


def test_the_exporter_shows_both(access_control: AccessControl, tmp_path: Path) -> None:
    """The metrics begin at 0 failed logins and a usable file; a broken one is on the page too."""
    with world(1) as here, served(here, access_control=access_control) as url:
        metrics, page = requests.get(f"{url}/metrics", timeout=10), requests.get(url, timeout=10)
        assert "dcs_task_exporter_failed_logins_total 0.0" in metrics.text
        assert "dcs_task_exporter_web_config_last_reload_successful 1.0" in metrics.text
        assert "web configuration file" not in page.text

        (tmp_path / "web.yml").write_text("")

        metrics, page = requests.get(f"{url}/metrics", timeout=10), requests.get(url, timeout=10)
        assert "dcs_task_exporter_web_config_last_reload_successful 0.0" in metrics.text
        assert "basic_auth_users: cannot be taken away while the exporter runs" in page.text


def test_no_file_has_no_metrics() -> None:
    """Without a web configuration file its metrics are absent: 0 failed logins would be a claim."""
    with world(1) as here, served(here) as url:
        metrics = requests.get(f"{url}/metrics", timeout=10).text

    samples = [line for line in metrics.splitlines() if not line.startswith("#")]
    assert not [line for line in samples if "web_config" in line or "failed_logins" in line]


@pytest.mark.real
def test_prometheus_scrapes_it(prometheus: Path, start: Start, folder: Path) -> None:
    """A real Prometheus scrapes over TLS with a user and a password."""
    job = (
        f"    tls_config: {{ca_file: {folder / 'ca.pem'}}}\n"
        f"    basic_auth: {{username: grafana, password: {PASSWORD}}}\n"
    )
    server = start(TLS + USERS)
    (folder / "prometheus").mkdir()

    with running(prometheus, folder / "prometheus", server.url, job) as scraper:
        scraper.wait_for("up == 1")
