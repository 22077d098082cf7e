"""Requests over TLS: who is trusted, and which connections are kept."""

from __future__ import annotations

import io
import select
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from requests import PreparedRequest
from requests.auth import AuthBase
from urllib3 import HTTPResponse
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from dcs_task_exporter.cloud.auth import RequestAuth
from dcs_task_exporter.cloud.credential import Token
from dcs_task_exporter.cloud.transport import (
    MAX_BODY_SIZE,
    Transport,
    _body,
    _cause,
    _is_timeout,
    origin_of,
)
from dcs_task_exporter.config.model import TlsConfig
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.errors import ApiConnectionError, InvalidResponseError, TooLargeError
from dcs_task_exporter.logs.formats import set_up_logging
from tests.support.clouds import exporter_of, scrape, world

AUTH = RequestAuth(Token("token"), "", lambda: 0.0)
HOST = "127.0.0.1"


class TlsServer(ThreadingHTTPServer):
    """Answers with the path, over TLS; notes the connections and what they agreed on."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__((HOST, 0), _Handler)
        self.context = context
        self.protocols: list[str | None] = []
        self.hangs_up = self.stammers = False
        self.interim = b""
        self.handled = threading.Semaphore(0)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{HOST}:{self.server_port}/v2/x"

    def finish_request(
        self, request: socket.socket | tuple[bytes, socket.socket], address: object
    ) -> None:
        """Shake hands, and go on if that went well."""
        assert isinstance(request, socket.socket)
        try:
            tls = self.context.wrap_socket(request, server_side=True)
        except ssl.SSLError:
            return
        self.protocols.append(tls.selected_alpn_protocol())
        try:
            super().finish_request(tls, address)
        finally:
            tls.close()
            self.handled.release()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TlsServer

    def do_GET(self) -> None:
        """Answer in the way that the test wants, and hang up without a word if it wants that."""
        if self.server.interim:
            self.wfile.write(self.server.interim)
            # The answer itself comes when the client asks for something else, or hangs up.
            select.select([self.connection], [], [], 10)
        for _ in range(2 if self.server.stammers else 1):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())
        self.close_connection = self.server.hangs_up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
        """Say nothing."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def start(authority: trustme.CA) -> Iterator[Callable[[str], TlsServer]]:
    servers: list[TlsServer] = []

    def begin(name: str = HOST) -> TlsServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])
        authority.issue_cert(name).configure_cert(context)
        server = TlsServer(context)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def transport(ca_file: Path | None = None, *, insecure: bool = False) -> Transport:
    """Return a transport that trusts this authority, or those of the system."""
    tls = TlsConfig(ca_file=ca_file, insecure_skip_verify=insecure)
    return Transport(timeout=10, connections=4, user_agent="test", tls=tls)


def test_trusted(start: Callable[..., TlsServer], ca_file: Path) -> None:
    """A certificate of the configured authority is trusted."""
    assert transport(ca_file).send(start().url, AUTH).body == b"/v2/x"


def test_unknown_authority(start: Callable[..., TlsServer]) -> None:
    """A certificate of an unknown authority is refused, and the error says why."""
    with pytest.raises(ApiConnectionError, match="certificate verify failed"):
        transport().send(start().url, AUTH)


def test_other_host(start: Callable[..., TlsServer], ca_file: Path) -> None:
    """A certificate for another host is refused."""
    with pytest.raises(ApiConnectionError, match="certificate verify failed"):
        transport(ca_file).send(start("other.example").url, AUTH)


def test_insecure(start: Callable[..., TlsServer]) -> None:
    """With insecure_skip_verify any certificate is taken; the libraries do not warn of it."""
    with warnings.catch_warnings():
        set_up_logging("info", "logfmt", io.StringIO()).close()
        assert transport(insecure=True).send(start("other.example").url, AUTH).status == 200


def test_no_connection() -> None:
    """A refused connection is told as that, with the URL and without its query."""
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        port = unused.getsockname()[1]
    with pytest.raises(ApiConnectionError) as raised:
        transport().send(f"https://{HOST}:{port}/v2/x?limit=1", AUTH)

    url = f"https://{HOST}:{port}/v2/x"
    assert raised.value.message == f"the connection to {url} failed: Connection refused"


def test_no_connection_to_the_proxy() -> None:
    """Where a proxy was tried it is named too, without its user and password."""
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        proxy = f"{HOST}:{unused.getsockname()[1]}"
    sender = Transport(
        timeout=10,
        connections=1,
        user_agent="test",
        proxies={"https": f"http://someone:hunter2@{proxy}"},
    )
    with pytest.raises(ApiConnectionError) as raised:
        sender.send("https://dcs.example/v2/x", AUTH)

    told = f"https://dcs.example:443/v2/x through the proxy http://{proxy}"
    assert raised.value.message == f"the connection to {told} failed: Connection refused"


UNCHECKED = "the cloud's certificate is not checked, because tls.insecure_skip_verify is set"


def test_insecure_is_told_each_day(caplog: pytest.LogCaptureFixture) -> None:
    """That certificates are not checked is said at the start, and once in each later day."""
    told = []
    with world() as here:
        text = here.config_text().replace(
            "    credentials:", "    tls: {insecure_skip_verify: true}\n    credentials:"
        )
        with exporter_of(here, text) as exporter:
            for hours in (0, 1, 22, 2, 1, 30):
                here.clock.advance(hours * 3600)
                scrape(exporter)
                told.append(len([line for line in caplog.records if line.message == UNCHECKED]))

    assert told == [1, 1, 1, 2, 2, 3]


def test_checked_certificates_are_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    """Where certificates are checked, nothing is said of them."""
    with world() as here, here.exporter() as exporter:
        scrape(exporter)

    assert [line for line in caplog.records if "certificate" in line.message] == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    """A redirect is the answer: its target is asked nothing, and never sees the token."""
    with socket.create_server((HOST, 0)) as target, socket.create_server((HOST, 0)) as listener:
        location = f"http://{HOST}:{target.getsockname()[1]}/v2/x"
        thread = threading.Thread(target=redirect, args=(listener, status, location))
        thread.start()
        answer = transport().send(f"http://{HOST}:{listener.getsockname()[1]}/v2/x", AUTH)
        thread.join()
        target.setblocking(False)  # noqa: FBT003 - the library's own

        assert (answer.status, answer.headers["Location"]) == (status, location)
        with pytest.raises(BlockingIOError):
            target.accept()


def redirect(listener: socket.socket, status: int, location: str) -> None:
    """Answer one request by sending it elsewhere."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        while lines.readline().strip():
            pass
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(head.encode())


def test_connections_are_kept(start: Callable[..., TlsServer], ca_file: Path) -> None:
    """Requests one after the other share a connection, which speaks HTTP/1.1."""
    server, sender = start(), transport(ca_file)
    for _ in range(5):
        sender.send(server.url, AUTH)

    assert server.protocols == ["http/1.1"]


def test_hung_up(start: Callable[..., TlsServer], ca_file: Path) -> None:
    """A connection that the cloud has closed is looked at first, and replaced without an error."""
    server, sender = start(), transport(ca_file)
    server.hangs_up = True
    for _ in range(10):
        assert sender.send(server.url, AUTH).status == 200
        assert server.handled.acquire(timeout=10)


def test_an_answer_too_many(start: Callable[..., TlsServer], ca_file: Path) -> None:
    """An answer that comes twice is never taken for that of the next request."""
    server, sender = start(), transport(ca_file)
    server.stammers = True
    for name in "abc":
        assert sender.send(f"{server.url}/{name}", AUTH).body == b"/v2/x/%s" % name.encode()


def test_an_interim_answer(start: Callable[..., TlsServer], ca_file: Path) -> None:
    """An interim answer ends its connection: what follows it must not be the next one's answer."""
    server, sender = start(), transport(ca_file)
    server.interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert sender.send(f"{server.url}/a", AUTH).status == 103
    server.interim = b""

    assert sender.send(f"{server.url}/b", AUTH).body == b"/v2/x/b"


def test_a_private_intermediate(tmp_path: Path) -> None:
    """An intermediate authority in ca_file is trusted without its root, on every Python."""
    intermediate = trustme.CA().create_child_ca()
    path = tmp_path / "intermediate.pem"
    intermediate.cert_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    intermediate.issue_cert(HOST).configure_cert(context)
    server = TlsServer(context)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        assert transport(path).send(server.url, AUTH).status == 200
    finally:
        server.shutdown()
        server.server_close()


def test_the_shared_context_is_left_alone(
    start: Callable[..., TlsServer], ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection sets the protocols of the context again, while others shake hands with it."""
    server, sender = start(), transport(ca_file)
    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", _never)

    assert sender.send(server.url, AUTH).status == 200


def test_authorities_are_read_once(
    start: Callable[..., TlsServer], ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new connection does not read the authorities again: that takes longer than all the rest."""
    server, sender = start(), transport(ca_file)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", _never)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", _never)
    for _ in range(3):
        sender.send(server.url, AUTH)
        sender.close()

    assert len(server.protocols) == 3


def _never(*_: object, **__: object) -> None:
    message = "the shared context was changed"
    raise AssertionError(message)


@pytest.mark.parametrize("is_late", [False, True])
def test_close_leaves_no_connection(
    start: Callable[..., TlsServer], ca_file: Path, *, is_late: bool
) -> None:
    """After `close` no connection stays open, also none of a request that was still to be sent."""
    server, made = start(), transport(ca_file)
    if is_late:
        made.close()
    made.send(server.url, AUTH)
    made.close()

    assert server.handled.acquire(timeout=10)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://user:hunter2@dcs.example:8443/v2?x=1", "https://dcs.example:8443"),
        ("https://dcs.example/v2", "https://dcs.example:443"),
        ("http://dcs.example", "http://dcs.example:80"),
        ("//proxy:3128", "http://proxy:3128"),
        ("socks5://proxy", "socks5://proxy"),
        ("https://[", "an invalid URL"),
    ],
)
def test_the_origin_of_a_url(url: str, origin: str) -> None:
    """Of a URL only its scheme, host and port are told."""
    assert origin_of(url) == origin


def answered(status: int, body: bytes, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Return the response of urllib3 to a request."""
    known = {"Content-Length": str(len(body)), **(headers or {})}
    return HTTPResponse(
        io.BytesIO(body), headers=known, status=status, preload_content=False, request_method="GET"
    )


@pytest.mark.parametrize(("status", "body"), [(200, b"abc"), (204, b""), (304, b""), (199, b"")])
def test_which_answers_have_a_body(status: int, body: bytes) -> None:
    """The body of an answer that may have none is not read."""
    assert _body(answered(status, b"abc")) == body


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "identity"}])
def test_a_body_as_large_as_may_be(headers: dict[str, str]) -> None:
    """A body of two million bytes is read."""
    assert len(_body(answered(200, b"x" * MAX_BODY_SIZE, headers))) == MAX_BODY_SIZE == 2_000_000


@pytest.mark.parametrize(("status", "kind"), [(200, TooLargeError), (500, InvalidResponseError)])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "", "Content-Encoding": "identity"}])
def test_a_body_that_is_too_large(
    status: int, kind: type[Exception], headers: dict[str, str]
) -> None:
    """A body with a byte more is an error with its status; of data fewer can be asked for."""
    with pytest.raises(InvalidResponseError) as raised:
        _body(answered(status, b"x" * (MAX_BODY_SIZE + 1), headers))

    assert type(raised.value) is kind
    assert raised.value.message == "the answer is larger than 2 MB"
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(104, "Connection reset by peer"), "Connection reset by peer"),
        (OSError("[Errno -2] no such host"), "no such host"),
        (ValueError(), "ValueError"),
        (ValueError("outer", ValueError("inner")), "inner"),
        (IncompleteRead(b"abc"), "the answer was cut after 3 bytes"),
        (IncompleteRead(7, 9), "the answer was cut after 7 bytes"),  # type: ignore[arg-type]
        (OSError("<HTTPSConnection object at 0x7f>: Failed: refused"), "refused"),
        (OSError("a: b"), "a: b"),
    ],
)
def test_the_words_of_the_innermost_error(error: Exception, cause: str) -> None:
    """An error is told by its innermost cause, without numbers or parts of the answer."""
    assert _cause(error) == cause


@pytest.mark.parametrize(
    ("error", "is_timeout"),
    [
        (TimeoutError(), True),
        (OSError("x", TimeoutError()), True),
        (ReadTimeoutError(None, "", ""), True),  # type: ignore[arg-type]
        (NewConnectionError(None, "refused"), False),  # type: ignore[arg-type]
        (OSError("x"), False),
    ],
)
def test_what_is_a_timeout(error: Exception, *, is_timeout: bool) -> None:
    """A connection that is refused is no timeout, although urllib3 takes it for one."""
    assert _is_timeout(error) is is_timeout


@pytest.mark.parametrize("error", [ValueError("x"), OverflowError("x")])
def test_a_framing_that_cannot_be_read(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer whose chunks make no sense is an error with its status."""

    def stream(*_: object, **__: object) -> Iterator[bytes]:
        yield b"a"
        raise error

    response = answered(503, b"", {"Transfer-Encoding": "chunked"})
    monkeypatch.setattr(response, "stream", stream)
    with pytest.raises(InvalidResponseError, match="framing cannot be read") as raised:
        _body(response)

    assert raised.value.status == 503


class Noted(AuthBase):
    """Authentication that keeps the request, and adds nothing."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Keep it."""
        self.request = request
        return request


def test_the_length_of_a_body_is_named() -> None:
    """A request with a body names its length; none is sent in chunks."""
    noted = Noted()
    with pytest.raises(ApiConnectionError):
        transport().send(f"http://{HOST}:{free_port()}/", noted, "POST", b"body")

    assert noted.request.headers["Content-Length"] == "4"
