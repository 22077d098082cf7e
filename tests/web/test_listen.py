"""The sockets that systemd passes, as the process that gets them meets them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dcs_task_exporter.web.listen import ListenError, address_of, passed_sockets
from tests.support.clouds import world_of_today

PATIENCE = 60

LAUNCHER = """
import os, sys
for at, number in enumerate(sys.argv[1].split(",")):
    os.dup2(int(number), 3 + at)
owner = os.getpid() + int(sys.argv[2])
os.environ.update(LISTEN_PID=str(owner), LISTEN_FDS=str(at + 1), LISTEN_FDNAMES="web")
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""
"""Starts a program as systemd does: the sockets from 3 on, and variables that say so."""

SERVE = ["-W", "ignore", "-m", "dcs_task_exporter", "--web.systemd-socket"]

TAKE = """
import os
from dcs_task_exporter.web.listen import passed_sockets
for taken in passed_sockets(os.environ, os.getpid()):
    print(taken.getsockname()[1], taken.get_inheritable())
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def launch(sockets: list[socket.socket], *arguments: str, owner: int = 0) -> subprocess.Popen[str]:
    """Start Python with sockets; `owner` is how far the named process is from the right one."""
    numbers = [one.fileno() for one in sockets]
    return subprocess.Popen(  # noqa: S603 - a test's own
        [sys.executable, "-c", LAUNCHER, ",".join(map(str, numbers)), str(owner), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=numbers,
    )


def output(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=PATIENCE)[0]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Return a socket as systemd makes it: high enough that the copies from 3 on miss it."""
    with socket.create_server(("127.0.0.1", 0)) as low:
        high = os.dup2(low.fileno(), 60)
        with socket.socket(fileno=high) as made:
            yield made


def test_a_socket_of_systemd_is_served(listening: socket.socket, tmp_path: Path) -> None:
    """With --web.systemd-socket the exporter answers on the socket that it was passed."""
    with world_of_today(1) as here:
        (tmp_path / "config.yml").write_text(here.config_text())
        process = launch([listening], *SERVE, f"--config.file={tmp_path / 'config.yml'}")
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "msg=listening" in line)
            url = re.search(r"url=(\S+)", line)
            port = listening.getsockname()[1]
            assert url
            assert url[1] == f"http://127.0.0.1:{port}"
            answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE)
        finally:
            process.terminate()
            rest = process.communicate(timeout=PATIENCE)[0]

    assert "dcs_instance_up{" in answer.text, rest
    assert process.returncode == 0


def test_none_for_this_process(listening: socket.socket) -> None:
    """Variables that are another process's, as a shell hands them on, are no sockets."""
    process = launch([listening], *SERVE, owner=1)

    assert "systemd passed no socket" in output(process)
    assert process.returncode == 1


def test_several_are_taken_and_not_handed_on(listening: socket.socket) -> None:
    """All sockets are taken, and neither they nor the variables go to children."""
    with socket.create_server(("127.0.0.1", 0)) as low:
        other = socket.socket(fileno=os.dup2(low.fileno(), 61))
    with other:
        said = output(launch([listening, other], "-c", TAKE))

    ports = [one.getsockname()[1] for one in (listening, other) if one.fileno() > 0]
    assert said.splitlines()[0] == f"{ports[0]} False"
    assert len(said.splitlines()) == 3
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("number", ["", "0", "-1", "x", "\u0663"])
def test_no_number_of_sockets(number: str) -> None:
    """Without a number of sockets there are none."""
    with pytest.raises(ListenError, match="systemd passed no socket"):
        passed_sockets({"LISTEN_PID": "7", "LISTEN_FDS": number}, 7)


def test_a_socket_that_does_not_listen(listening: socket.socket) -> None:
    """A connection in place of a listening socket, as Accept=yes passes it, is refused."""
    with (
        socket.create_connection(listening.getsockname()) as client,
        socket.socket(fileno=os.dup2(client.fileno(), 62)) as high,
    ):
        said = output(launch([high], "-c", TAKE))

    assert "file descriptor 3 of systemd: no listening TCP socket" in said


def test_a_descriptor_that_is_no_socket() -> None:
    """A file in place of a socket is refused."""
    with Path(os.devnull).open() as file:
        number = os.dup2(file.fileno(), 63)
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [sys.executable, "-c", LAUNCHER, str(number), "0", "-c", TAKE],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[number],
    )
    os.close(number)

    assert "file descriptor 3 of systemd: Socket operation on non-socket" in output(process)


def test_addresses_of_sockets() -> None:
    """The address of a socket is that which it listens on, of either family."""
    with socket.create_server(("127.0.0.1", 0)) as four:
        assert address_of(four) == four.getsockname()
    if socket.has_ipv6:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
            assert address_of(six) == ("::1", six.getsockname()[1])
