"""A web configuration file that changes while the exporter runs."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import trustme

from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.web_config_file import WebConfigFile
from tests.support.web_config_files import PASSWORD, TLS, USERS, Start, put_certificates

pytestmark = [pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")]

CHECKED = (
    f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n"
    "  client_ca_file: ca.pem\n"
    "  client_allowed_sans: [prometheus.example]\n"
)
"""A file whose every line asks something of clients."""


def opened(folder: Path, text: str) -> WebConfigFile:
    (folder / "web.yml").write_text(text)
    return WebConfigFile(folder / "web.yml")


def get(server: WebServer, folder: Path) -> requests.Response:
    return requests.get(server.url, verify=str(folder / "ca.pem"), timeout=10)


def login(server: WebServer) -> int:
    return requests.get(server.url, auth=("grafana", PASSWORD), timeout=10).status_code


def test_a_renewed_certificate_is_used(start: Start, folder: Path, authority: trustme.CA) -> None:
    """A certificate that is replaced on disk is shown to the next client, without a restart."""
    server = start(TLS)
    before = ssl.get_server_certificate(("127.0.0.1", server.port))

    put_certificates(folder, authority, "other.example")

    assert ssl.get_server_certificate(("127.0.0.1", server.port)) != before


def test_a_broken_renewal_keeps_the_old(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate that is replaced by rubbish is not used, and is logged once."""
    server = start(TLS)
    (folder / "cert.pem").write_text("rubbish")

    with caplog.at_level(logging.ERROR):
        assert get(server, folder).ok
        assert get(server, folder).ok

    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1


def test_settings_of_tls_are_read_again(start: Start, folder: Path) -> None:
    """Versions and checks of clients that change in the file hold for the next connection."""
    server = start(TLS)
    assert get(server, folder).ok

    (folder / "web.yml").write_text(CHECKED)

    with pytest.raises(requests.ConnectionError):
        get(server, folder)


def test_users_are_read_again(start: Start, folder: Path) -> None:
    """A user who is taken out of the file is shut out at once."""
    server = start(USERS)
    assert login(server) == 200

    (folder / "web.yml").write_text(USERS.replace("grafana", "prometheus"))

    assert login(server) == 401


def test_users_may_be_added(start: Start, folder: Path) -> None:
    """A file without users may get some, and asks for them at once."""
    server = start("")

    (folder / "web.yml").write_text(USERS)

    assert [login(server), requests.get(server.url, timeout=10).status_code] == [200, 401]


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


LOST: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "null": lambda path: path.write_text("null\n"),
    "broken": lambda path: path.write_text("basic_auth_users: {"),
    "vanished": lambda path: path.unlink(),
    "a folder": replace_by_folder,
    "without users": lambda path: path.write_text(TLS),
    "without TLS": lambda path: path.write_text(USERS),
}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
def test_a_lost_file_takes_nothing_away(
    start: Start, folder: Path, lose: Callable[[Path], object]
) -> None:
    """A file that becomes empty, broken or vanishes leaves TLS and the users as they were."""
    server = start(TLS + USERS)

    lose(folder / "web.yml")

    with pytest.raises(requests.ConnectionError):
        requests.get(server.url.replace("https", "http"), timeout=10)
    assert get(server, folder).status_code == 401


@pytest.mark.parametrize(
    "text", [CHECKED + USERS, USERS + CHECKED], ids=["TLS first", "users first"]
)
def test_half_of_a_save_takes_nothing_away(folder: Path, text: str) -> None:
    """However much of the file is saved already, no check of clients is missing for a moment."""
    file = opened(folder, text)
    newest = file.tls()
    assert newest is not None

    for length in range(len(text)):
        (folder / "web.yml").write_text(text[:length])
        config, server = file.current(), newest()
        assert config.basic_auth_users, text[:length]
        assert server.context.verify_mode is ssl.CERT_REQUIRED
        assert server.allowed_sans is not None
        assert config.tls_server_config.has_client_ca


def test_names_that_no_file_has(folder: Path) -> None:
    """A name with a zero in it is a mistake at the start, and changes nothing later."""
    text = TLS.replace("key.pem", '"\\0"')
    with pytest.raises(ConfigError, match="cannot be used: embedded null"):
        opened(folder, text)

    file = opened(folder, TLS)
    before = file.current()
    (folder / "web.yml").write_text(text)

    assert file.current() == before
    assert "embedded null" in file.problem()


WEAKER = {
    "basic_auth_users: cannot be taken away": CHECKED,
    "tls_server_config: cannot be taken away": USERS,
    "tls_server_config.client_auth_type: cannot be weakened": (
        CHECKED.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven") + USERS
    ),
    "tls_server_config.client_ca_file: cannot be weakened": (
        CHECKED.replace("  client_ca_file: ca.pem\n", "") + USERS
    ),
    "tls_server_config.client_allowed_sans: cannot be weakened": (
        CHECKED.replace("  client_allowed_sans: [prometheus.example]\n", "") + USERS
    ),
}


@pytest.mark.parametrize(("problem", "text"), WEAKER.items(), ids=map(str, range(len(WEAKER))))
def test_what_only_a_restart_takes_away(folder: Path, problem: str, text: str) -> None:
    """A file that asks less of clients is refused while the exporter runs, and says why."""
    file = opened(folder, CHECKED + USERS)
    (folder / "web.yml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        file.reload()

    assert list(map(str, caught.value.problems)) == [
        f"{problem} while the exporter runs: restart it"
    ]


def test_tls_is_not_added(folder: Path) -> None:
    """A server that began without TLS goes on without, and says why."""
    file = opened(folder, USERS)
    (folder / "web.yml").write_text(TLS + USERS)

    assert "tls_server_config: cannot be added while the exporter runs" in file.problem()
    assert file.tls() is None


def test_the_problem_goes_with_its_cause(folder: Path) -> None:
    """The problem is told as long as the file is broken, and no longer."""
    file = opened(folder, USERS)
    assert file.problem() == ""

    (folder / "web.yml").unlink()
    assert "cannot be read: No such file or directory" in file.problem()
    (folder / "web.yml").write_text(USERS)

    assert file.problem() == ""


def test_a_certificate_that_comes_after_the_file(folder: Path) -> None:
    """A file that names a certificate which is not there yet is used once it is."""
    file = opened(folder, TLS)
    (folder / "web.yml").write_text(TLS.replace("cert.pem", "new.pem"))
    assert "new.pem" not in file.problem()
    assert "cert_file" in file.problem()

    (folder / "new.pem").write_text((folder / "cert.pem").read_text())

    assert file.problem() == ""


def test_reload_takes_the_file(folder: Path) -> None:
    """A reload reads the file, also where it looks as before."""
    file = opened(folder, USERS)
    path = folder / "web.yml"
    before = path.stat()
    path.write_text(USERS.replace("grafana", "granada"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "grafana" in file.current().basic_auth_users

    file.reload()

    assert "granada" in file.current().basic_auth_users


def test_reload_of_a_broken_file(folder: Path) -> None:
    """A reload of a broken file raises its mistakes; the last good one stays, with the problem."""
    file = opened(folder, USERS)
    (folder / "web.yml").write_text("basic_auth_users: {a: b}")

    with pytest.raises(ConfigError) as caught:
        file.reload()

    assert "grafana" in file.current().basic_auth_users
    assert file.problem() == str(caught.value.problems[0])


def test_a_change_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is read is read again."""
    file = opened(folder, USERS)
    path = folder / "web.yml"
    read = Path.read_text
    (folder / "web.yml").write_text(USERS + "# longer\n")

    def read_and_change(self: Path, encoding: str | None = None) -> str:
        text = read(self, encoding=encoding)
        monkeypatch.undo()
        path.write_text(USERS.replace("grafana", "prometheus"))
        return text

    monkeypatch.setattr(Path, "read_text", read_and_change)
    assert "grafana" in file.current().basic_auth_users

    assert "prometheus" in file.current().basic_auth_users
