"""Every secret, echoed in every position of every protocol that we speak, and what leaves."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import logging
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest
import requests

from dcs_task_exporter.cli import main
from dcs_task_exporter.commands.tasks import tasks_json, tasks_table
from dcs_task_exporter.config.model import load_config, parse_config
from dcs_task_exporter.errors import ApiError, ConfigError
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.logs.formats import JsonFormatter, LogfmtFormatter, set_up_logging
from dcs_task_exporter.metrics.exposition import ScrapeRequest
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.tasks.statuses import StatusTable
from dcs_task_exporter.web.server import WebServer
from tests.support.clouds import PROJECT, SettableClock
from tests.support.secrets import secret

ACCESS_KEY = secret("HOSTILEAK5")
SECRET_KEY = secret('sk/7+q"Zr<&9xW%2fLmNoPqRsTuVw')
SECURITY_TOKEN = secret("sts-gQ3v/88+kk==~token")
PASSWORD = secret("proxyPa55word-x")
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
SECRETS = (ACCESS_KEY, SECRET_KEY, SECURITY_TOKEN, PASSWORD, BASIC)
ECHO = "/".join(SECRETS)

SPELLINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "html": html.escape,
}
HEADERS: Final = (
    "Content_Encoding",
    "Content_Length",
    "Content_Type",
    "Date",
    "Location",
    "Retry_After",
    "Server",
    "Set_Cookie",
    "Transfer_Encoding",
    "WWW_Authenticate",
    "X_IAM_Trace_Id",
    "X_Request_Id",
)
TASKS = json.dumps({"task_count": 0, "tasks": []}).encode()


def head(line: str = "HTTP/1.1 200 OK", **headers: str) -> bytes:
    """Return the beginning of an answer, whose connection ends with it."""
    lines = [line, "Connection: close"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(status: int, body: bytes | str, **headers: str) -> bytes:
    """Return an answer."""
    body = body.encode() if isinstance(body, str) else body
    named = {"Content_Length": str(len(body)), "Content_Type": "application/json", **headers}
    return head(f"HTTP/1.1 {status} Word", **named) + body


def on_the_wire(echo: str) -> Iterator[tuple[str, bytes]]:
    """Yield answers that echo a text outside of a body that can be read."""
    yield "malformed status line", f"{echo}\r\n\r\n".encode()
    yield "version", f"HTTP/{echo} 200 OK\r\n\r\n".encode()
    yield "status", f"HTTP/1.1 {echo} OK\r\n\r\n".encode()
    yield "after the version", f"HTTP/1.1 200{echo}\r\n\r\n".encode()
    yield "no colon", f"HTTP/1.1 200 OK\r\n{echo}\r\n\r\n".encode()
    for status in (200, 204, 302, 400, 401, 403, 404, 407, 429, 500, 503):
        yield f"reason of {status}", head(f"HTTP/1.1 {status} {echo}", Content_Length="0")
    yield "chunk size", head(Transfer_Encoding="chunked") + f"{echo}\r\n".encode()
    chunk = f"{len(TASKS):x};{echo}\r\n".encode() + TASKS
    yield "chunk extension", head(Transfer_Encoding="chunked") + chunk + b"\r\n0\r\n\r\n"
    yield "chunk extension, cut", head(Transfer_Encoding="chunked") + chunk[:-3]
    yield "trailer", head(Transfer_Encoding="chunked") + b"0\r\nX: " + echo.encode() + b"\r\n\r\n"
    for name in HEADERS:
        for status, body in ((200, TASKS), (200, b"<p>"), (302, b""), (401, b""), (429, b"{}")):
            yield f"{name} of {status}", whole(status, body, **{name: echo})
    yield "header's name", head(Content_Length="0", **{echo.replace("_", "-"): "1"})


def in_an_error(echo: str) -> Iterator[tuple[str, bytes]]:
    """Yield errors of every shape, of a proxy, and good answers that are none."""
    shapes: tuple[Mapping[str, object], ...] = (
        {"error_code": echo, "error_msg": echo, "error_ext_msg": echo, "request_id": echo},
        {"error": {"message": echo, "code": echo, "title": echo}},
        {"error": {"error_code": echo, "error_msg": echo}},
        {"code": echo, "message": echo, "ext_message": echo},
        {"errorCode": echo, "errorMsg": f"{'x' * 280} {echo}"},
        {"error_code": f"{'9' * 30}{echo}", "error_msg": "x", "request_id": f"{'a' * 70}{echo}"},
        {echo: {echo: {"error_msg": echo}}},
    )
    for status in (200, 302, 400, 401, 403, 404, 429, 500):
        for at, shape in enumerate(shapes):
            yield f"shape {at} of {status}", whole(status, json.dumps(shape).encode())
        page = f"<html><h1>{html.escape(echo)}</h1>{echo}".encode()
        yield f"HTML of {status}", whole(status, page, Content_Type="text/html")
    odd: tuple[object, ...] = (
        echo,
        [echo],
        {"tasks": echo},
        {"tasks": [echo]},
        {"tasks": [{echo: echo}]},
        {"task_count": echo, "tasks": {echo: 1}},
        {"task_count": 1, "tasks": [], "error_msg": echo},
    )
    for at, body in enumerate(odd):
        yield f"odd body {at}", whole(200, json.dumps(body).encode())
        escaped = "".join(f"\\u{ord(char):04x}" for char in echo)
        spelled = json.dumps(body).replace(json.dumps(echo)[1:-1], escaped)
        yield f"odd body {at}, escaped", whole(200, spelled.encode())


def in_good_answers(echo: str) -> dict[str, bytes]:
    """Return good answers to every question, by what their paths end in."""
    now = "2025-06-15T10:00:00.000Z"
    details: dict[str, object] = dict.fromkeys([*TaskDetails.__dataclass_fields__, echo], echo)
    details |= {"old_cache_mode": "a", "rename_commands": [echo]}
    task: dict[str, object] = {
        "id": echo,
        "name": echo,
        "status": echo,
        "user_name": echo,
        "error_code": echo,
    }
    task |= {"created_at": now, "updated_at": now, "details": details, "user_id": echo}
    active = {**task, "id": f"2{echo}", "status": "EXECUTING", "enable_show": True}
    tasks = [task, active, {**task, "id": "x" * 240 + echo, "status": "FAILED"}]
    instance: dict[str, object] = dict.fromkeys(
        ("name", "engine", "engine_version", "spec_code", "status"), echo
    )
    instance |= {"instance_id": "found", "tags": [{"key": echo, "value": echo}]}
    answers = {
        "/tasks": {"task_count": len(tasks), "tasks": tasks},
        "/instances": {"instances": [instance, {**instance, "instance_id": echo}]},
        "/projects": {"projects": [{"id": echo, "name": echo}]},
        "/progress": {"progress": echo, "remain_time": echo, echo: echo},
    }
    return {key: whole(200, json.dumps(body).encode()) for key, body in answers.items()}


class Echo(socketserver.ThreadingTCPServer):
    """A proxy and a cloud that answers all with what it is told to."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.answer: Callable[[str], bytes] = lambda _: whole(200, TASKS)
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return int(self.server_address[1])


class _Handler(socketserver.StreamRequestHandler):
    server: Echo

    def handle(self) -> None:
        """Read one request and answer it."""
        with contextlib.suppress(OSError):
            target, length = self.rfile.readline().decode().split(" ")[1], 0
            while line := self.rfile.readline().strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            self.wfile.write(self.server.answer(urlsplit(target).path))


@pytest.fixture
def echo_server() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged as the exporter logs, at DEBUG, in both forms."""
    stream = io.StringIO()
    changed = [logging.getLogger(name) for name in ("", "dcs_task_exporter", "urllib3")]
    levels, handlers = [logger.level for logger in changed], list(changed[0].handlers)
    set_up_logging("debug", "logfmt", stream).close()
    for formatter in (JsonFormatter(), LogfmtFormatter()):
        handler = logging.StreamHandler(stream)  # which writes at once
        handler.setFormatter(formatter)
        changed[0].addHandler(handler)
    yield stream
    changed[0].handlers[:] = handlers
    logging.captureWarnings(capture=False)
    for logger, level in zip(changed, levels, strict=True):
        logger.setLevel(level)


def configured(port: int, folder: Path, **project: Any) -> dict[str, Any]:
    """Return a configuration of one project, which is asked through a proxy."""
    endpoint = "http://127.0.0.1:9"
    return {
        "projects": [
            {
                "name": "prod",
                "region": "cn-north-4",
                "project_id": PROJECT,
                "endpoint": endpoint,
                "iam_endpoint": endpoint,
                "proxy_url": f"http://me:{PASSWORD}@127.0.0.1:{port}",
                "credentials": {
                    "type": "access_key",
                    "access_key": ACCESS_KEY,
                    "secret_key": SECRET_KEY,
                    "security_token": SECURITY_TOKEN,
                },
                "instances": [{"id": "i0"}],
                "discovery": {"enabled": True, "refresh_interval": "1s"},
                "task_center": {"enabled": True},
                **project,
            }
        ],
        "collector": {
            "requests_per_second": 10000,
            "timeout": "2s",
            "retries": 0,
            "min_refresh_interval": "1s",
            "first_value_hold": "0s",
            "task_progress": True,
            "personal_labels": True,
        },
        "state": {"path": str(folder / "state.db")},
    }


def leaks(text: str, secrets: tuple[str, ...] = SECRETS) -> list[str]:
    """Return the secrets, in any case and spelling, and their beginnings, that a text holds."""
    low = text.lower()
    return [
        part
        for secret in secrets
        for spelled in {secret, *(spell(secret) for spell in SPELLINGS.values())}
        if (part := spelled[:12].lower()) in low
    ]


class Outlets:
    """Everything that leaves an exporter."""

    def __init__(self, exporter: Exporter, clock: SettableClock, folder: Path) -> None:
        self.exporter = exporter
        self._clock = clock
        self._folder = folder
        self._client = next(iter(exporter.clients.values()))

    def refresh(self) -> None:
        """Let everything be asked anew, and every pause be over."""
        self._clock.advance(4000)
        self.exporter.fleet.read_everything(20)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield all of it."""
        exporter = self.exporter
        yield "metrics", exporter.renderer.exposition(ScrapeRequest()).body.decode()
        statuses = StatusTable()
        yield "tasks", tasks_table(exporter.refresher.snapshots(), statuses)
        yield "tasks --json", tasks_json(exporter.refresher.snapshots(), statuses)
        yield "snapshots", repr(exporter.refresher.snapshots()) + repr(exporter.problems())

    def errors(self) -> Iterator[tuple[str, str]]:
        """Ask the client itself, and yield what it raises."""
        asks: tuple[Callable[[float], object], ...] = (
            lambda deadline: self._client.list_tasks("i0", 0.0, deadline),
            self._client.list_instances,
            lambda deadline: self._client.list_center_tasks(0.0, deadline),
            lambda deadline: self._client.task_progress("i0", "t", deadline),
        )
        for ask in asks:
            self._clock.advance(400)
            try:
                ask(self._clock.steady + 10)
            except ApiError as error:
                yield "error", f"{error} {error!r} {error.error_code} {error.request_id}"

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield the state file and what stands beside it."""
        for path in self._folder.glob("state.db*"):
            yield path.name, path.read_bytes().decode("latin-1")


@contextlib.contextmanager
def outlets(
    server: Echo, folder: Path, environ: Mapping[str, str] | None = None, **project: Any
) -> Iterator[Outlets]:
    clock = SettableClock()
    config = parse_config(json.dumps(configured(server.port, folder, **project)), "test", {})
    options = Options(environ or {}, clock.clock, process_metrics=False)
    exporter = Exporter(config, options)
    try:
        yield Outlets(exporter, clock, folder)
    finally:
        exporter.stop()


@pytest.mark.parametrize("spelling", ["plain", "percent"])
@pytest.mark.parametrize("positions", [on_the_wire, in_an_error])
def test_no_bad_answer_leaks(
    echo_server: Echo,
    log: io.StringIO,
    tmp_path: Path,
    positions: Callable[[str], Iterator[tuple[str, bytes]]],
    spelling: str,
) -> None:
    """Wherever an answer that is no good one echoes our secrets, nothing that leaves holds one."""
    found: dict[str, set[str]] = {}
    with outlets(echo_server, tmp_path) as out:
        for position, answer in positions(SPELLINGS[spelling](ECHO)):
            echo_server.answer = lambda _, answer=answer: answer  # type: ignore[misc]
            if "429" not in position:
                out.refresh()  # a throttled project waits in real time, for this clock stands still
            log.seek(0)
            logged = log.read()
            log.seek(0)
            log.truncate()
            for outlet, text in (*out.texts(), *out.errors(), ("log", logged)):
                if leaks(text):
                    found.setdefault(position, set()).add(outlet)
        for outlet, text in out.files():
            if leaks(text):
                found.setdefault("any", set()).add(outlet)

    assert not found


USER_PASSWORD = secret('user pa"ss<word>&of many letters')
LENT_TOKEN = secret("MIIatAYJKoZI-lent/token+")
METADATA_TOKEN = secret("metadata-token/+")
POD_TOKEN = secret("eyJhbGciOi.pod-token.")
LENT_KEYS = (
    "LENTAK5F2D8S1G4H7J0K",
    "lentSecretKey/OfMany+Letters",
    "lentSts/Token+OfMany==Letters",
)
KEYS_ANSWER = dict(zip(("access", "secret", "securitytoken"), LENT_KEYS, strict=True))
END = "2025-08-01T00:00:00Z"
LENT = whole(201, json.dumps({"credential": {**KEYS_ANSWER, "expires_at": END}}))
TOKEN_ANSWER = {"token": {"expires_at": END}}

Source = tuple[Mapping[str, Any], Mapping[str, str], Mapping[str, bytes], tuple[str, ...]]
"""A section, its environment, the answers that make its keys, and the secrets it begins with."""


def password_source(_: Echo, __: Path) -> Source:
    section = {"type": "password", "user_name": "u", "domain_name": "d", "password": USER_PASSWORD}
    answer = whole(201, json.dumps(TOKEN_ANSWER), X_Subject_Token=LENT_TOKEN)
    return section, {}, {"/v3/auth/tokens": answer}, (USER_PASSWORD,)


def metadata_source(server: Echo, _: Path) -> Source:
    section = {"type": "metadata", "endpoint": f"http://127.0.0.1:{server.port}"}
    answers = {"/api/token": whole(200, METADATA_TOKEN), "/securitykey": LENT}
    return section, {}, answers, (METADATA_TOKEN,)


def pod_source(server: Echo, folder: Path) -> Source:
    (folder / "pod").write_text(POD_TOKEN)
    environ = {
        "HC_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/v1/credentials",
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "pod"),
    }
    return {"type": "pod_identity"}, environ, {"/v1/credentials": LENT}, (POD_TOKEN,)


def agency_source(_: Echo, __: Path) -> Source:
    key = configured(9, Path())["projects"][0]["credentials"]
    section = {"type": "assume_agency", "agency_name": "a", "domain_name": "d", "source": key}
    return section, {}, {"/securitytokens": LENT}, (ACCESS_KEY, SECRET_KEY, SECURITY_TOKEN)


def oidc_source(server: Echo, _: Path) -> Source:
    url = f"http://127.0.0.1:{server.port}"
    environ = {
        "HUAWEICLOUD_SDK_STS_ENDPOINT": url,
        "HUAWEICLOUD_OIDC_PROVIDER_URN": "p",
        "HUAWEICLOUD_OIDC_AGENCY_URN": "a",
        "HUAWEICLOUD_OIDC_ID_TOKEN": POD_TOKEN,
    }
    section = {"type": "auto", "metadata_endpoint": url}
    none = whole(404, "none")
    answers = {"/api/token": none, "/securitykey": none, "/assume-with-oidc": LENT}
    return section, environ, answers, (POD_TOKEN,)


RENEWED: Final[Mapping[str, Callable[[Echo, Path], Source]]] = {
    "password": password_source,
    "metadata": metadata_source,
    "pod_identity": pod_source,
    "assume_agency": agency_source,
    "auto": oidc_source,
}


@pytest.mark.parametrize("when", ["while renewing", "with the new ones"])
@pytest.mark.parametrize("kind", RENEWED)
def test_no_renewed_secret_leaks(
    echo_server: Echo, log: io.StringIO, tmp_path: Path, kind: str, when: str
) -> None:
    """Wherever an answer echoes what credentials are renewed by, or the new ones, none leaves."""
    section, environ, answers, begun_with = RENEWED[kind](echo_server, tmp_path)
    is_lent = when == "with the new ones"
    lent = (LENT_TOKEN,) if kind == "password" else LENT_KEYS
    secrets = (*begun_with, *(lent if is_lent else ()))
    echo = "/".join(secrets)
    found: dict[str, set[str]] = {}
    with outlets(echo_server, tmp_path, environ, credentials=section) as out:
        last = list(answers)[-1]
        # What the kinds have in common is divided among them: how bytes are read, and, when the
        # new ones are there, the answers of the API.
        shared, own = [*on_the_wire(echo)], [*in_an_error(echo)]
        if is_lent:
            shared, own = [*shared, *own], []
        for position, bad in (*shared[list(RENEWED).index(kind) :: len(RENEWED)], *own):

            def answer(path: str, bad: bytes = bad, last: str = last) -> bytes:
                made = next((one for end, one in answers.items() if path.endswith(end)), None)
                return bad if made is None or (path.endswith(last) and not is_lent) else made

            echo_server.answer = answer
            if "429" not in position:
                out.refresh()
            log.seek(0)
            logged = log.read()
            log.seek(0)
            log.truncate()
            for outlet, text in (*out.texts(), *out.errors(), ("log", logged)):
                if leaks(text, secrets):
                    found.setdefault(position, set()).add(outlet)

    assert not found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_good_answer_leaks(
    echo_server: Echo, log: io.StringIO, tmp_path: Path, spelling: str
) -> None:
    """Good answers whose every field echoes our secrets bring none of them anywhere."""
    answers = in_good_answers(SPELLINGS[spelling](ECHO))
    echo_server.answer = lambda path: next(
        (answer for end, answer in answers.items() if path.endswith(end)), answers["/tasks"]
    )
    with outlets(echo_server, tmp_path) as out:
        app = out.exporter.app()
        server = WebServer(app, [("127.0.0.1", 0)])
        server.start()
        try:
            out.refresh()
            out.refresh()
            pages = [
                (path, requests.get(server.url + path, timeout=10))
                for path in ("/", "/metrics", "/sd")
            ]
        finally:
            server.stop()
        texts = [*out.texts(), *out.errors(), *out.files(), ("log", log.getvalue())]

    assert all(page.ok for _, page in pages)
    assert "state.db" in dict(texts)
    assert "redacted" in dict(texts)["metrics"]
    texts += [(path, page.text) for path, page in pages]
    assert [outlet for outlet, text in texts if leaks(text)] == []


@pytest.mark.parametrize(
    "command", [["check", "--online"], ["scrape"], ["tasks"], ["tasks", "--json"]]
)
def test_no_command_leaks(
    echo_server: Echo,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    log: io.StringIO,
    command: list[str],
) -> None:
    """What a command prints of good answers and of a bad one holds no secret and obeys nobody."""
    answers = in_good_answers(f"{ECHO}\x1b[31m\u202e")
    bad = whole(500, json.dumps({"error_msg": f"\x1b]0;{ECHO}\x07"}).encode())
    answers["/instances/i0/tasks"] = bad
    echo_server.answer = lambda path: next(
        (answer for end, answer in reversed(list(answers.items())) if path.endswith(end)), bad
    )
    config = configured(echo_server.port, tmp_path)
    path = tmp_path / "config.yml"
    path.write_text(json.dumps(config))

    main([*command, "--config.file", str(path), "--log.level=debug"])
    printed = capfd.readouterr()

    assert printed.out + printed.err
    assert leaks(printed.out + printed.err + log.getvalue()) == []
    assert all(line.isprintable() for line in (printed.out + printed.err).split("\n"))


PLACES: Final[Mapping[str, Callable[[dict[str, Any], str], object]]] = {
    "a file's path": lambda key, secret: key.update(secret_key_file=secret),
    "a file's absolute path": lambda key, secret: key.update(secret_key_file=f"/{secret}"),
    "a path that no file has": lambda key, secret: key.update(secret_key_file=f"{secret}\0"),
    "a key": lambda key, secret: key.update({secret: "secret_key"}),
    "a key like another": lambda key, secret: key.update({f"secret_key{secret}": "x"}),
    "a key of a section": lambda key, secret: key.update({secret: {"x": "${X_Y_Z}"}}),
    "a section": lambda key, secret: key.update(secret_key={secret: secret}),
    "a list": lambda key, secret: key.update(secret_key=[secret]),
    "a type": lambda key, secret: key.update(type=secret),
    "a time": lambda key, secret: key.update(expires_at=secret),
    "a variable": lambda key, secret: key.update(secret_key=f"${{{secret}}}"),
}


@pytest.mark.parametrize(
    "secret", ["AKHOSTILE5F2D8S1G4H7", "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY12345678"]
)
@pytest.mark.parametrize("place", PLACES)
def test_check_quotes_no_secret(tmp_path: Path, place: str, secret: str) -> None:
    """Wherever in the credentials a secret is written by mistake, no message quotes it."""
    key: dict[str, Any] = {"type": "access_key", "access_key": "ak-of-somebody"}
    PLACES[place](key, secret)
    path = tmp_path / "config.yml"
    path.write_text(json.dumps(configured(9, tmp_path, credentials=key)))

    with pytest.raises(ConfigError) as caught:
        load_config(path, {})

    assert secret not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("section", ["projects", "credentials", "collector", "state"])
def test_check_quotes_no_secret_section(tmp_path: Path, section: str) -> None:
    """A secret in place of a section is not quoted."""
    secret = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY12345678"
    config = configured(9, tmp_path)
    (config["projects"][0] if section == "credentials" else config)[section] = secret
    path = tmp_path / "config.yml"
    path.write_text(json.dumps(config))

    with pytest.raises(ConfigError) as caught:
        load_config(path, {})

    assert secret not in str(caught.value)


def test_check_knows_the_environments_secrets() -> None:
    """A key that is the secret of the environment is not quoted, whatever it looks like."""
    text = json.dumps({"projects": [{"name": "prod", "correcthorse": "x"}]})

    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yml", {"HUAWEICLOUD_SDK_SK": "correcthorse"})

    assert "correcthorse" not in str(caught.value)
