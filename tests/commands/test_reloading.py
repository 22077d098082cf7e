"""Reloading from the files, or the environment, that the exporter was started with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from dcs_task_exporter.commands import reloading
from dcs_task_exporter.commands.reloading import Reloader, ReloadError
from dcs_task_exporter.config.environment import config_of_environment
from dcs_task_exporter.config.model import Config
from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.server import WebServer
from tests.support.certificates import Certificates
from tests.support.clouds import SECRET_KEY, World, exporter_of, scrape, value, world

SUCCESSFUL = "dcs_task_exporter_config_last_reload_successful"
LOADED = "dcs_task_exporter_config_last_reload_success_timestamp_seconds"


@dataclass
class Scene:
    """An exporter of two instances, and its configuration file."""

    here: World
    path: Path
    exporter: Exporter
    reloader: Reloader

    def write(self, text: str) -> None:
        """Replace the file, as Kubernetes does: another file of the same name."""
        new = self.path.with_name("new")
        new.write_text(text)
        new.rename(self.path)

    def names(self) -> set[str]:
        """Return the names of the watched instances."""
        return {it.instance.name for it in self.exporter.refresher.snapshots()}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    path = tmp_path / "config.yml"
    with world(2) as here:
        path.write_text(here.config_text())
        with exporter_of(here, here.config_text()) as exporter:
            yield Scene(here, path, exporter, Reloader(exporter, path, {}))


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, object]]:
    """Return the level, the message and the problem of each line about reloads."""
    return [
        (it.levelname, it.getMessage(), str(getattr(it, "fields", {}).get("problem", "")))
        for it in caplog.records
        if it.name == reloading.__name__
    ]


def test_a_changed_file_is_taken(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A reload takes the file as it is now, logs that, and notes the time."""
    caplog.set_level(logging.INFO)
    scene.write(scene.here.config_text().replace("cache-1", "orders"))
    scene.here.clock.advance(100)
    scene.reloader.reload()
    found = scrape(scene.exporter)

    assert scene.names() == {"cache-0", "orders"}
    assert lines(caplog) == [("INFO", "the configuration was reloaded", "")]
    assert (value(found, SUCCESSFUL), value(found, LOADED)) == (1, scene.here.clock.wall)


def test_mistakes_change_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A bad file raises all mistakes, with a line for each; the metric says so until a good one."""
    scene.write("projects: []\ncolector: {}\n")
    with pytest.raises(ConfigError) as raised:
        scene.reloader.reload()
    broken = scrape(scene.exporter)
    scene.write(scene.here.config_text())
    scene.reloader.reload()
    mended = scrape(scene.exporter)

    problems = [str(problem) for problem in raised.value.problems]
    assert len(problems) == 2
    assert lines(caplog) == [("ERROR", reloading.NOT_RELOADED, it) for it in problems]
    assert scene.names() == {"cache-0", "cache-1"}
    assert [value(found, SUCCESSFUL) for found in (broken, mended)] == [0, 1]


def test_no_mistake_shows_a_secret(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Law 7: neither the error nor the log of a failed reload has a secret of the file."""
    text = scene.here.config_text().replace("secret_key: ", "secret_kye: ")
    scene.write(text.replace("access_key:", "access_key: [1, ", 1))
    with pytest.raises(ConfigError) as raised:
        scene.reloader.reload()

    assert SECRET_KEY not in f"{raised.value} {raised.value!r} {lines(caplog)}"


def test_a_missing_file_is_a_mistake(scene: Scene) -> None:
    """A file that has gone changes nothing: the environment does not take its place."""
    scene.path.unlink()

    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        scene.reloader.reload()


def test_an_odd_failure_is_told(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in a reload is logged with its traceback, ends nothing, and counts as a failure."""

    def broken(*_: object) -> Config:
        message = "odd"
        raise RuntimeError(message)

    monkeypatch.setattr(reloading, "load_config", broken)
    with pytest.raises(ReloadError, match="RuntimeError"):
        scene.reloader.reload()
    scene.reloader.try_reload()

    assert lines(caplog) == 2 * [("ERROR", reloading.NOT_RELOADED, "")]
    assert value(scrape(scene.exporter), SUCCESSFUL) == 0


def test_the_state_file_cannot_change(tmp_path: Path) -> None:
    """Another `state.path` is a mistake that says that it cannot change while running."""
    path = tmp_path / "config.yml"
    with world(1) as here:
        text = f"{here.config_text()}state: {{path: {tmp_path}/state.db}}\n"
        with exporter_of(here, text) as exporter:
            reloader = Reloader(exporter, path, {})
            for other in (text.replace("state.db", "other.db"), here.config_text()):
                path.write_text(other)
                with pytest.raises(ConfigError) as raised:
                    reloader.reload()
                (problem,) = raised.value.problems
                assert problem.path == "state.path"
                assert "cannot change while the exporter runs" in problem.message
                assert not (tmp_path / "other.db").exists()


def test_only_a_changed_content_is_noticed(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A file that was written anew, or swapped, with the same content is no reason to reload."""
    caplog.set_level(logging.INFO)
    scene.write(scene.here.config_text())
    scene.reloader.reload_if_changed()
    scene.write(scene.here.config_text().replace("cache-1", "orders"))
    scene.reloader.reload_if_changed()
    scene.reloader.reload_if_changed()

    assert scene.names() == {"cache-0", "orders"}
    assert len(lines(caplog)) == 1


def test_a_swapped_link_is_noticed(scene: Scene, tmp_path: Path) -> None:
    """A mounted ConfigMap is a link to a folder, which Kubernetes swaps."""
    for name, text in (("one", "cache-1"), ("two", "orders")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yml").write_text(
            scene.here.config_text().replace("cache-1", text)
        )
    link = tmp_path / "data"
    link.symlink_to("one")
    reloader = Reloader(scene.exporter, link / "config.yml", {})
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(link)
    reloader.reload_if_changed()

    assert scene.names() == {"cache-0", "orders"}


def test_another_certificate_is_noticed(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file of a project's authority is looked at, too: it changes at a renewal."""
    caplog.set_level(logging.INFO)
    authority, path = tmp_path / "ca.pem", tmp_path / "config.yml"
    authority.write_bytes(Path(certificates.file).read_bytes())
    with world(1) as here:
        section = f"    tls: {{ca_file: {authority}}}\n    instances:"
        path.write_text(here.config_text().replace("    instances:", section))
        with exporter_of(here, path.read_text()) as exporter:
            reloader = Reloader(exporter, path, {})
            reloader.reload_if_changed()
            before = len(lines(caplog))
            authority.write_bytes(authority.read_bytes() + b"\n")
            reloader.reload_if_changed()

    assert (before, len(lines(caplog))) == (0, 1)


def test_a_failed_reload_is_tried_again(scene: Scene) -> None:
    """A file with a mistake that is put back as it was is loaded again: the metric is 1 again."""
    scene.write("projects: []\n")
    scene.reloader.reload_if_changed()
    scene.write(scene.here.config_text())
    scene.reloader.reload_if_changed()

    assert value(scrape(scene.exporter), SUCCESSFUL) == 1


def test_what_stays_broken_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Looked at again and again, a broken file gives lines that the log takes for the same."""
    scene.write("projects: []\n")
    for _ in range(3):
        scene.reloader.reload_if_changed()

    numbers = [record.fields["reload"] for record in caplog.records]  # type: ignore[attr-defined]
    assert numbers == [1, 1, 1]


def test_the_environment_is_read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a file the environment is read again; a file that has come since is not taken."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dcs-task-exporter.yml").write_text("projects: []\n")
    environ = {"HUAWEICLOUD_SDK_REGION": "cn-north-4", "HUAWEICLOUD_SDK_PROJECT_ID": "a"}
    exporter = Exporter(config_of_environment(environ), Options(environ, process_metrics=False))
    try:
        reloader = Reloader(exporter, None, environ)
        environ["HUAWEICLOUD_SDK_REGION"] = "cn-north-1"
        reloader.reload()
        assert [project.name for project in exporter.config.projects] == ["cn-north-1"]
    finally:
        exporter.stop()


def test_the_web_configuration_is_part_of_it(scene: Scene, tmp_path: Path) -> None:
    """A mistake in the web configuration file fails the reload too, with its file's name."""
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_users: {}\n")
    access_control = AccessControl(web, scene.here.clock.clock)
    reloader = Reloader(scene.exporter, scene.path, {}, access_control)
    reloader.reload()
    web.write_text("basic_auth_usrs: {}\n")
    scene.write("projects: []\n")
    with pytest.raises(ConfigError) as raised:
        reloader.reload()

    paths = [problem.path for problem in raised.value.problems]
    assert paths[0] == "projects"
    assert paths[1].startswith("web.config.file: ")


def test_the_web_configuration_does_not_wait_for_it(scene: Scene, tmp_path: Path) -> None:
    """A changed web configuration file is used although the reload that reads it too fails."""
    web = tmp_path / "web.yml"
    web.write_text("")
    access_control = AccessControl(web, scene.here.clock.clock)
    reloader = Reloader(scene.exporter, scene.path, {}, access_control)
    server = WebServer(access_control.app(scene.exporter.app()), [("127.0.0.1", 0)])
    server.start()
    web.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    scene.write("projects: []\n")
    with pytest.raises(ConfigError):
        reloader.reload()
    answer = requests.get(f"{server.url}/-/healthy", timeout=10)
    server.stop()

    assert answer.headers.get("X-Frame-Options") == "deny"


def test_each_reload_is_announced(scene: Scene) -> None:
    """The service manager hears of the begin and the end of a reload, also of one that fails."""
    heard: list[str] = []

    @contextmanager
    def announced() -> Iterator[None]:
        heard.append("begin")
        try:
            yield
        finally:
            heard.append("end")

    reloader = Reloader(scene.exporter, scene.path, {}, None, announced)
    reloader.reload()
    scene.write("projects: []\n")
    with pytest.raises(ConfigError):
        reloader.reload()

    assert heard == ["begin", "end", "begin", "end"]
