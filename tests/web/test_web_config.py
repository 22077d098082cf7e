"""The web configuration file: TLS, basic auth and headers as other exporters have them."""

from __future__ import annotations

import asyncio
import base64
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest
import requests
import trustme
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message

from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.web import basic_auth
from dcs_task_exporter.web.basic_auth import BasicAuth
from dcs_task_exporter.web.connection_limits import ConnectionLimits
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.web_config import CIPHERS, WebConfig, WebConfigFile
from tests.support.real_prometheus import running

PATIENCE = 30.0
PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TLS = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
USERS = f"basic_auth_users: {{grafana: {HASH}}}\n"

Start = Callable[..., WebServer]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    renew(tmp_path, authority)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def renew(folder: Path, authority: trustme.CA, name: str = "127.0.0.1") -> None:
    """Put a new certificate and key into the folder."""
    issued = authority.issue_cert(name, "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(text: str, patience: float = 30) -> WebServer:
            (folder / "web.yml").write_text(text)
            file = WebConfigFile(folder / "web.yml")
            app = BasicAuth(PlainTextResponse("up 1\n"), file.current)
            limits = ConnectionLimits(request=patience)
            tls = file.server_context()
            server = WebServer(app, [("127.0.0.1", 0)], limits=limits, tls=tls)
            server.start()
            stack.callback(server.stop)
            return server

        yield started


def get(url: str, folder: Path, **more: object) -> requests.Response:
    return requests.get(url, verify=str(folder / "ca.pem"), timeout=10, **more)  # type: ignore[arg-type]


def test_tls(start: Start, folder: Path) -> None:
    """With a certificate, the exporter is reached by https."""
    assert get(start(TLS).url, folder).text == "up 1\n"


def test_plain_text_on_a_tls_port(start: Start) -> None:
    """A plain request to a TLS port gets no metrics."""
    url = start(TLS).url.replace("https", "http")

    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_silence_on_a_tls_port(start: Start) -> None:
    """A client that never begins to speak TLS is cut off."""
    server = start(TLS, patience=0.2)

    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
        assert silent.recv(1) == b""


def test_a_renewed_certificate_is_used(start: Start, folder: Path, authority: trustme.CA) -> None:
    """A certificate that is replaced on disk is shown to the next client, without a restart."""
    server = start(TLS)
    before = ssl.get_server_certificate(("127.0.0.1", server.port))

    renew(folder, authority, "other.example")

    assert ssl.get_server_certificate(("127.0.0.1", server.port)) != before


def test_a_broken_renewal_keeps_the_old(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate that is replaced by rubbish is not used, and is logged once."""
    server = start(TLS)
    (folder / "cert.pem").write_text("rubbish")

    with caplog.at_level(logging.ERROR):
        assert get(server.url, folder).ok
        assert get(server.url, folder).ok

    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(logged) == 1


def test_client_certificate(start: Start, folder: Path, authority: trustme.CA) -> None:
    """A client without a certificate is refused where one is required, one with it is let in."""
    text = TLS.replace(
        "}", ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}"
    )
    server = start(text)
    pem = folder / "client.pem"
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(pem)

    assert get(server.url, folder, cert=str(pem)).ok
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        get(server.url, folder)


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        (None, 401),
        (("grafana", "wrong"), 401),
        (("nobody", PASSWORD), 401),
        (("grafana", "x" * 100), 401),
        (("grafana", PASSWORD), 200),
    ],
)
def test_basic_auth(start: Start, auth: tuple[str, str] | None, status: int) -> None:
    """Only the right user with the right password gets in."""
    url = start(USERS).url

    answers = [requests.get(url, auth=auth, timeout=10) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [status, status]


@pytest.mark.parametrize(
    "header",
    [
        b"Basic",
        b"Basic !!",
        b"Basic YQ==",
        b"Bearer abc",
        b"basic OjphOg",
        b"Basic \xe9",
        b"Basic \xff\x80\t\xc3\xa9",
        b"Basic YTpi\xe9",
        b"B\xe9sic YTpi",
        b"Basic YTr/AP8=",
    ],
)
def test_malformed_authorization(start: Start, header: bytes) -> None:
    """A malformed header is a 401 with a challenge."""
    answer = requests.get(start(USERS).url, headers={"Authorization": header}, timeout=10)

    assert (answer.status_code, answer.headers["WWW-Authenticate"][:6]) == (401, "Basic ")


class CheckedPasswords:
    """Stands for bcrypt: compares nothing before it is released, and notes the order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released = threading.Event()
        self.checked: list[bytes] = []
        monkeypatch.setattr(basic_auth, "_check", self._check)

    def _check(self, password: bytes, wanted: bytes) -> bool:
        assert self.released.wait(PATIENCE)
        assert wanted
        self.checked.append(password)
        return password == PASSWORD.encode()


def one_user() -> WebConfig:
    """Return a configuration with one user."""
    return WebConfig.model_validate({"basic_auth_users": {"grafana": HASH}})


async def ask(app: ASGIApp, password: str, address: str = "10.0.0.1") -> int:
    """Ask with a password from an address; return the status of the answer."""
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    encoded = base64.b64encode(f"grafana:{password}".encode())
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "client": (address, 1),
        "headers": [(b"authorization", b"Basic " + encoded)],
    }
    await app(scope, receive, send)
    return statuses[0]


async def ask_all(checks: CheckedPasswords, *asked: tuple[str, str]) -> list[int]:
    """Ask with each password from its address, all before any is checked."""
    app = BasicAuth(PlainTextResponse("up 1\n"), one_user)
    asking = [asyncio.create_task(ask(app, *one)) for one in asked]
    await asyncio.sleep(0)  # each has come as far as to wait for its check
    checks.released.set()
    return await asyncio.gather(*asking)


WRONG = [(f"wrong {number}", "10.0.0.1") for number in range(600)]


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.2"])
def test_guessers_keep_no_one_waiting(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The right password after 600 wrong ones waits for two at most, whoever sent those."""
    checks = CheckedPasswords(monkeypatch)

    statuses = asyncio.run(ask_all(checks, *WRONG, (PASSWORD, address)))

    assert statuses[-1] == 200
    assert checks.checked.index(PASSWORD.encode()) <= 2


def test_guessers_wait_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who guesses on after a right password came from elsewhere does not take its turn."""
    checks = CheckedPasswords(monkeypatch)
    right = (PASSWORD, "10.0.0.2")

    statuses = asyncio.run(ask_all(checks, WRONG[0], right, *WRONG[1:]))

    assert statuses[1] == 200
    assert checks.checked.index(PASSWORD.encode()) <= 2


def test_only_so_many_passwords_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 wrong passwords at once few are checked; the rest is refused, and may come again."""
    checks = CheckedPasswords(monkeypatch)

    statuses = asyncio.run(ask_all(checks, *WRONG))

    assert len(checks.checked) <= basic_auth.MOST_WAITING + basic_auth.CHECKING_THREADS
    assert Counter(statuses) == {401: len(checks.checked), 503: 600 - len(checks.checked)}


def test_a_known_password_waits_for_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A right password that was checked before lets in at once, ahead of all that wait."""
    checks = CheckedPasswords(monkeypatch)
    checks.released.set()
    app = BasicAuth(PlainTextResponse("up 1\n"), one_user)

    async def play() -> int:
        await ask(app, PASSWORD)
        checks.released.clear()
        guessing = [asyncio.create_task(ask(app, *one)) for one in WRONG]
        await asyncio.sleep(0)
        status = await ask(app, PASSWORD)
        checks.released.set()
        await asyncio.gather(*guessing)
        return status

    assert asyncio.run(play()) == 200


def test_a_check_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is being checked does not keep the process from its end."""
    checks = CheckedPasswords(monkeypatch)

    asyncio.run(ask_all(checks, *WRONG[:1]))

    checking = [thread for thread in threading.enumerate() if "web-passwords" in thread.name]
    assert {thread.daemon for thread in checking} == {True}


def test_users_are_read_again(start: Start, folder: Path) -> None:
    """A user who is taken out of the file is shut out at once."""
    url = start(USERS).url
    assert requests.get(url, auth=("grafana", PASSWORD), timeout=10).ok

    (folder / "web.yml").write_text(USERS.replace("grafana", "prometheus"))

    assert requests.get(url, auth=("grafana", PASSWORD), timeout=10).status_code == 401


def test_headers(start: Start) -> None:
    """The headers of the file are on every answer."""
    server = start(
        USERS + "http_server_config: {headers: {Strict-Transport-Security: max-age=31536000}}\n"
    )

    answer = requests.get(server.url, timeout=10)

    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


BROKEN = {
    "": "is empty",
    "tls_server_config: {cert_file: cert.pem}": "tls_server_config.key_file: is missing",
    "tls_server_config: {cert_file: no.pem, key_file: key.pem}": "tls_server_config.cert_file: it "
    "and key_file cannot be used: No such file or directory",
    TLS.replace("}", ", client_auth_type: RequireAndVerifyClientCert}"): "tls_server_config."
    "client_ca_file: is missing: client_auth_type needs it",
    TLS.replace("}", ", client_ca_file: ca.pem}"): "tls_server_config.client_ca_file: checks no "
    "client: set client_auth_type, or remove it",
    TLS.replace("}", ", min_version: TLS10}"): "tls_server_config.min_version: must be 'TLS12' or "
    "'TLS13'",
    TLS.replace("}", ", cipher_suites: [RC4]}"): "tls_server_config.cipher_suites[0]: must be one "
    f"of {', '.join(CIPHERS)}",
    "basic_auth_users: {a: hunter22}": "basic_auth_users.a: is no bcrypt hash: make one with "
    "`htpasswd -nBC 10 name`",
    "http_server_config: {headers: {X-Frame-Option: deny}}": "http_server_config.headers: unknown "
    "key `X-Frame-Option`; did you mean `X-Frame-Options`?",
    'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nb"}}': "http_server_config."
    "headers.Content-Security-Policy: must be one line of printable ASCII",
}


@pytest.mark.parametrize(("text", "expected"), BROKEN.items())
def test_broken(folder: Path, text: str, expected: str) -> None:
    """Each mistake is reported with its key and its remedy, and without any secret."""
    (folder / "web.yml").write_text(text)

    with pytest.raises(ConfigError) as caught:
        WebConfigFile(folder / "web.yml")

    assert [str(problem) for problem in caught.value.problems] == [expected]
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_ciphers_exist() -> None:
    """OpenSSL knows every cipher suite that the file may name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    context.set_ciphers(":".join(CIPHERS.values()))

    assert {entry["name"] for entry in context.get_ciphers()} >= set(CIPHERS.values())


@pytest.mark.real
def test_promtool_accepts_it(promtool: Path, folder: Path) -> None:
    """`promtool check web-config` accepts a file that we accept."""
    headers = "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}\n"
    (folder / "web.yml").write_text(TLS + USERS + headers)
    WebConfigFile(folder / "web.yml")

    done = subprocess.run(  # noqa: S603 - a test's own
        [str(promtool), "check", "web-config", str(folder / "web.yml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


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
    shutil.rmtree(folder / "prometheus")
