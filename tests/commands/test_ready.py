from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from dcs_task_exporter.cli import main
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import world
from tests.support.served import get, served
from tests.support.web_config_files import TLS, USERS, put_certificates, start_server

CLIENTS = f"{TLS}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
RATE = "rate_limit: {interval: 1h}\n"

Start = Callable[[str], list[str]]


def answering(status: int, text: str = "Ready\n") -> ASGIApp:
    """Return an application that has one answer."""
    return PlainTextResponse(text, status)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Start]:
    """Start a server behind a web configuration; returns the flags with which to ask it."""
    put_certificates(tmp_path, trustme.CA(), "exporter.example.com")
    with ExitStack() as stack:

        def start(text: str) -> list[str]:
            server = start_server(tmp_path, text)
            stack.callback(server.stop)
            path = tmp_path / "web.yml"
            return [f"--web.config.file={path}", f"--web.listen-address=127.0.0.1:{server.port}"]

        yield start


@pytest.fixture
def plain() -> Iterator[Callable[[ASGIApp], str]]:
    """Start a server without any web configuration; returns the flag with its address."""
    with ExitStack() as stack:

        def start(app: ASGIApp) -> str:
            server = WebServer(app, [("127.0.0.1", 0)])
            server.start()
            stack.callback(server.stop)
            return f"--web.listen-address=127.0.0.1:{server.port}"

        yield start


def test_an_exporter_that_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """An exporter that has looked for its instances is ready."""
    with world(1) as here, served(here) as url:
        get(f"{url}/metrics")
        status = main(["ready", f"--web.listen-address={url.removeprefix('http://')}"])

    captured = capsys.readouterr()
    assert (status, captured.err, captured.out) == (0, "", f"{url}: ready\n")


def test_a_health_check_is_light() -> None:
    """A health check loads neither the library of the configuration nor those of the web server."""
    large = "pydantic", "starlette", "uvicorn", "requests", "jinja2", "prometheus_client"
    code = (
        "import sys; from dcs_task_exporter.cli import main; "
        f"main(['ready', '--web.listen-address=127.0.0.1:{free_port()}']); "
        f"print(*sys.modules.keys() & {set(large)})"
    )
    done = subprocess.run(  # noqa: S603 - a test's own
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert "does not answer" in done.stderr
    assert done.stdout == "\n"


def test_only_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    """An exporter that has not read its instances yet is healthy, and not ready."""
    with world(1) as here, served(here) as url:
        words = ["ready", f"--web.listen-address={url.removeprefix('http://')}"]
        statuses = [main(words), main([*words, "--healthy"])]

    assert statuses == [1, 0]
    assert capsys.readouterr().out == f"{url}: healthy\n"


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens, the exit status is 1, and the message names the address."""
    port = free_port()

    assert main(["ready", f"--web.listen-address=127.0.0.1:{port}"]) == 1

    told = f"dcs-task-exporter: http://127.0.0.1:{port} does not answer: "
    assert capsys.readouterr().err == f"{told}Connection refused\n"


def test_not_ready(plain: Callable[[ASGIApp], str], capsys: pytest.CaptureFixture[str]) -> None:
    """An exporter that starts or stops is not ready, and its own words are shown."""
    assert main(["ready", plain(answering(503, "Not ready: stopping\x1b\n"))]) == 1

    assert capsys.readouterr().err.endswith(" answers 503: Not ready: stopping\\x1b\n")


def test_every_address_is_asked(
    plain: Callable[[ASGIApp], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One address that does not answer is enough not to be ready; the others are asked too."""
    assert main(["ready", plain(answering(404)), plain(answering(200))]) == 1

    captured = capsys.readouterr()
    assert "answers 404" in captured.err
    assert captured.out.endswith(": ready\n")


def test_a_limited_client(guarded: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that limits its requests works."""
    assert main(["ready", *guarded(RATE)]) == 0

    assert capsys.readouterr().out.endswith(": ready, and limits its requests\n")


@pytest.mark.parametrize("more", ["", TLS], ids=["plain", "tls"])
def test_behind_a_password(guarded: Start, more: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no password: that one is asked for shows that the exporter answers."""
    assert main(["ready", *guarded(USERS + more)]) == 0

    assert capsys.readouterr().out.endswith(": ready, and asks for a password\n")


def test_behind_tls(guarded: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The web configuration says that it is TLS; the certificate may have another name."""
    assert main(["ready", *guarded(TLS)]) == 0

    assert capsys.readouterr().out.startswith("https://127.0.0.1:")


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_behind_client_certificates(
    guarded: Start, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs no client certificate: that one is asked for shows that the exporter answers."""
    assert main(["ready", *guarded(f"{CLIENTS}  max_version: {version}\n")]) == 0

    assert capsys.readouterr().out.endswith(": ready, and asks for a certificate\n")


def test_plain_text_at_a_tls_port(
    plain: Callable[[ASGIApp], str], guarded: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that does not speak TLS although it should is not ready."""
    web_config, _address = guarded(TLS)

    assert main(["ready", web_config, plain(answering(200))]) == 1

    assert " does not answer: " in capsys.readouterr().err


def test_a_broken_web_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the web configuration is named, with the exit status of mistakes."""
    path = tmp_path / "web.yml"
    path.write_text("basic_auth_user: {}\n")

    assert main(["ready", f"--web.config.file={path}"]) == 2

    assert "basic_auth_user" in capsys.readouterr().err
