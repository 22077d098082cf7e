"""The systemd unit: what systemd itself says of it, and its command run as its user."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from tests.support.clouds import ACCESS_KEY, SECRET_KEY, World, samples, value, world_of_today
from tests.support.confined import PATIENCE, confined, need_confinement, open_folder
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

pytestmark = pytest.mark.real

UNIT = ROOT / "deploy" / "systemd" / "dcs-task-exporter.service"
CONFIG = ROOT / "deploy" / "systemd" / "config.yml"
PROGRAM = "/opt/dcs-task-exporter/bin/dcs-task-exporter"
MOST_EXPOSED = 1.5


def settings() -> dict[str, list[str]]:
    """Return the settings of the unit, by name."""
    found: dict[str, list[str]] = {}
    for name, text in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(text)
    return found


def analyze(*arguments: str) -> str:
    """Return what systemd-analyze prints, which needs no running systemd."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    done = subprocess.run(  # noqa: S603 - the system's
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def verified(folder: Path, text: str) -> str:
    """Return what systemd has against a unit, with a program that exists."""
    path = folder / UNIT.name
    path.write_text(text.replace(PROGRAM, sys.executable))
    return analyze("verify", "--man=no", str(path))


def test_systemd_accepts_it(tmp_path: Path) -> None:
    """Systemd has nothing against the unit."""
    assert verified(tmp_path, UNIT.read_text()) == ""


def test_systemd_sees_a_mistake(tmp_path: Path) -> None:
    """A misspelt setting is seen, so that no word against the unit means something."""
    text = UNIT.read_text().replace("ProtectSystem=", "ProtectSytem=")

    assert "ProtectSytem" in verified(tmp_path, text)


def test_it_is_closed() -> None:
    """Systemd's measure of what a unit leaves open, from 0 to 10, is at most 1.5."""
    told = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    level = re.search(r"Overall exposure level for \S+: ([\d.]+) ", told)

    assert level
    assert float(level[1]) <= MOST_EXPOSED


def test_the_files_of_the_unit() -> None:
    """The unit's flags, keys and state folder are those of the configuration beside it."""
    config = load_yaml(CONFIG.read_text())
    credentials = config["projects"][0]["credentials"]
    loaded = [text.partition(":")[0] for text in settings()["LoadCredential"]]

    assert [credentials["access_key_file"], credentials["secret_key_file"]] == [
        f"${{CREDENTIALS_DIRECTORY}}/{name}" for name in loaded
    ]
    assert config["state"]["path"] == "${STATE_DIRECTORY}/state.db"
    assert settings()["StateDirectory"] == ["dcs-task-exporter"]
    assert settings()["ExecStart"] == [f"{PROGRAM} --config.file=/etc/dcs-task-exporter/config.yml"]


@pytest.mark.long(5)
def test_its_command_as_its_user() -> None:
    """The unit's command, as a user without rights, reads its keys, keeps its counts, is scraped.

    As systemd does, the test gives it the folders of `LoadCredential` and `StateDirectory`, hears
    when it is ready and alive, and reloads it.
    """
    assert settings()["Type"] == ["notify"]
    need_confinement()
    with open_folder() as folder, world_of_today(2) as here:
        keys, state = folder / "credentials", folder / "state"
        keys.mkdir()
        state.mkdir()
        (keys / "access-key").write_text(ACCESS_KEY)
        (keys / "secret-key").write_text(f"{SECRET_KEY}\n")
        config = folder / "config.yml"
        config.write_text(of_the_world(here))
        program, *flags = settings()["ExecStart"][0].split()
        assert program == PROGRAM
        command = [sys.executable, "-m", "dcs_task_exporter"]
        command += [flag.replace("/etc/dcs-task-exporter", str(folder)) for flag in flags]
        environ = {
            "CREDENTIALS_DIRECTORY": str(keys),
            "STATE_DIRECTORY": str(state),
            "PYTHONPATH": str(ROOT),
        }
        address = "--web.listen-address=127.0.0.1:0"
        with (
            service_manager() as (told, variables),
            confined([*command, address], state, environ | variables) as running,
        ):
            assert {told.recv(100), told.recv(100)} == {b"READY=1", b"WATCHDOG=1"}
            found = samples(requests.get(f"{running.url}/metrics", timeout=PATIENCE).text)
            saved = Path(f"/proc/{running.process.pid}/root{state}/state.db").exists()
            (reload,) = settings()["ExecReload"]
            command = reload.replace("$MAINPID", str(running.process.pid)).split()
            subprocess.run(command, check=True)  # noqa: S603 - the unit's
            news = (text for text in iter(lambda: told.recv(100), b"") if text != b"WATCHDOG=1")
            assert next(news).startswith(b"RELOADING=1\n")
            assert next(news) == b"READY=1"

    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1
    assert value(found, "dcs_task_exporter_state_errors_total") == 0
    assert saved


@contextmanager
def service_manager() -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """Listen as systemd does; yields the socket, and what the service gets in its environment."""
    name = f"dcs-task-exporter-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"\0{name}")
        told.settimeout(PATIENCE)
        microseconds = int(settings()["WatchdogSec"][0]) * 1_000_000
        yield told, {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": str(microseconds)}


def of_the_world(here: World) -> str:
    """Return the unit's configuration, for the simulated cloud."""
    config = load_yaml(CONFIG.read_text())
    project = config["projects"][0]
    project |= {"endpoint": here.server.url, "iam_endpoint": here.server.url}
    return yaml.safe_dump(config)
