"""What the service manager is told, on a socket of its own, as systemd opens one."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dcs_task_exporter.commands.systemd import BEATS, ServiceManager
from tests.support.clouds import SettableClock, world_of_today

PATIENCE = 30.0
OWN = 4711
"""The id of the process in these tests."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="notify-") as name:
        yield Path(name)


@pytest.fixture(params=["in a folder", "abstract"])
def address(request: pytest.FixtureRequest, folder: Path) -> str:
    """The two kinds of socket that systemd may name."""
    is_abstract = request.param == "abstract"
    return f"@dcs-task-{secrets.token_hex(8)}" if is_abstract else str(folder / "notify")


@pytest.fixture
def receiver(address: str) -> Iterator[socket.socket]:
    """What the service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        made.settimeout(PATIENCE)
        yield made


def told(receiver: socket.socket) -> list[str]:
    """Return the messages that wait on a socket."""
    found = []
    receiver.setblocking(False)  # noqa: FBT003 - the library's own
    while True:
        try:
            found.append(receiver.recv(1000).decode())
        except BlockingIOError:
            return found


def test_messages(receiver: socket.socket, address: str) -> None:
    """Ready, a reload with the moment it began, and the end are told in systemd's words."""
    clock = SettableClock(steady=12.345678)
    manager = ServiceManager({"NOTIFY_SOCKET": address}, clock.clock.monotonic, OWN)

    manager.ready()
    with manager.reloading():
        assert told(receiver) == ["READY=1", "RELOADING=1\nMONOTONIC_USEC=12345678"]
    manager.stopping()

    assert told(receiver) == ["READY=1", "STOPPING=1"]


def test_a_reload_that_fails(receiver: socket.socket, address: str) -> None:
    """A reload that fails has ended all the same: the old configuration goes on."""
    manager = ServiceManager({"NOTIFY_SOCKET": address}, SettableClock().clock.monotonic, OWN)
    with suppress(ZeroDivisionError), manager.reloading():
        raise ZeroDivisionError

    assert told(receiver)[-1] == "READY=1"


def beats(receiver: socket.socket, address: str, **environ: str) -> int:
    """Beat ten times a second for 20 seconds; return how many of them are told."""
    clock = SettableClock()
    environ["NOTIFY_SOCKET"] = address
    manager = ServiceManager(environ, clock.clock.monotonic, OWN)
    found = 0
    for _ in range(200):
        manager.beat()
        clock.advance(0.1)
        found += told(receiver).count("WATCHDOG=1")
    return found


def test_beats(receiver: socket.socket, address: str) -> None:
    """A watchdog of 20 seconds is fed four times in that time, not with each call."""
    environ = {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(OWN)}

    assert beats(receiver, address, **environ) == BEATS == 4


def test_a_watchdog_without_a_process(receiver: socket.socket, address: str) -> None:
    """A watchdog that names no process waits for this one."""
    assert beats(receiver, address, WATCHDOG_USEC="20000000") == BEATS


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
    ],
    ids=["none", "of another process", "off", "no number"],
)
def test_no_watchdog(receiver: socket.socket, address: str, environ: dict[str, str]) -> None:
    """Where no watchdog waits for this process, it is not fed."""
    assert beats(receiver, address, **environ) == 0


def test_nobody_listens(caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    """A service manager that is gone costs a line in the log."""
    environ = {"NOTIFY_SOCKET": str(folder / "gone")}
    with caplog.at_level(logging.WARNING):
        ServiceManager(environ, SettableClock().clock.monotonic, OWN).ready()

    (line,) = caplog.records
    assert line.getMessage() == "cannot notify the service manager"


def test_a_beat_waits_for_nobody(receiver: socket.socket, address: str) -> None:
    """A service manager that does not read holds up no request: a beat is dropped."""
    clock = SettableClock()
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"}
    manager = ServiceManager(environ, clock.clock.monotonic, OWN)
    for _ in range(2000):
        clock.advance(1)
        manager.beat()

    assert 0 < len(told(receiver)) < 2000


def test_no_service_manager(caplog: pytest.LogCaptureFixture) -> None:
    """Without a service manager nothing is sent, and nothing is said."""
    environ = {"WATCHDOG_USEC": "20000000"}
    manager = ServiceManager(environ, SettableClock().clock.monotonic, OWN)
    manager.ready()
    manager.beat()

    assert caplog.records == []


def test_serve(receiver: socket.socket, address: str, tmp_path: Path) -> None:
    """`serve` says that it is ready once it listens, is alive while it serves, and then ends."""
    config = tmp_path / "config.yml"
    with world_of_today(1) as here:
        config.write_text(here.config_text())
        process = subprocess.Popen(  # noqa: S603 - a test's own
            [
                *("/usr/bin/env", "--default-signal", sys.executable, "-m", "dcs_task_exporter"),
                *(f"--config.file={config}", "--web.listen-address=127.0.0.1:0"),
            ],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"},
        )
        try:
            early = [receiver.recv(1000).decode() for _ in range(4)]
            process.send_signal(signal.SIGTERM)
            last = ""
            while last != "STOPPING=1":
                last = receiver.recv(1000).decode()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()

    assert sorted(early) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
