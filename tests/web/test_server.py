"""The web server on a real port: silent clients, hanging scrapes, the end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
import requests
from prometheus_client import Gauge
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dcs_task_exporter.errors import ExporterError
from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest, render
from dcs_task_exporter.web import renderings
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.connection_limits import ConnectionLimits, most_connections
from dcs_task_exporter.web.listen import Address, listen_on, parse_listen_address
from dcs_task_exporter.web.server import WebServer
from tests.support.certificates import Certificates
from tests.support.fake_source import QuietSource
from tests.support.fault_rows import fault

PATIENCE = 30.0
SILENT = 500
HALF = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "

Serve = Callable[..., WebServer]
Connect = Callable[..., socket.socket]


class FakeSource(QuietSource):
    """A source whose refresh can be made to hang."""

    def __init__(self) -> None:
        super().__init__()
        Gauge("dcs_instance_up", "Up.", registry=self.registry).set(1)
        self.hang = False
        self.entered = threading.Event()
        self.asked = threading.Semaphore(0)

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Hang forever if a test says so, past any timeout."""
        self.asked.release()
        del timeout, target
        if self.hang:
            self.entered.set()
            await asyncio.Event().wait()


@pytest.fixture
def source() -> FakeSource:
    """Return a fake source."""
    return FakeSource()


@pytest.fixture
def serve(source: FakeSource) -> Iterator[Serve]:
    """Return a function that starts a server on loopback."""
    with ExitStack() as stack:

        def start(app: ASGIApp | None = None, **more: object) -> WebServer:
            chosen = app or create_app(source.sources)
            given = {"addresses": [("127.0.0.1", 0)], **more}
            server = WebServer(chosen, **given)  # type: ignore[arg-type]
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that opens a connection to a server, and sends `data` and no more."""
    with ExitStack() as stack:

        def begin(server: WebServer, data: bytes = b"") -> socket.socket:
            address = ("127.0.0.1", server.port)
            made = stack.enter_context(socket.create_connection(address, PATIENCE))
            made.sendall(data)
            return made

        yield begin


def is_closed(sock: socket.socket) -> bool:
    """Wait until the server closes the connection."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(sock: socket.socket) -> bool:
    """Whether the server has neither closed the connection nor said anything."""
    sock.setblocking(False)  # noqa: FBT003 - the only way to say it
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    return True


def get(server: WebServer, path: str = "/metrics") -> requests.Response:
    """Ask for a path, on a new connection."""
    return requests.get(f"{server.url}{path}", timeout=PATIENCE)


def test_serves(serve: Serve) -> None:
    """A scrape over a real port is answered."""
    assert "dcs_instance_up 1.0" in get(serve()).text


def test_head_has_no_body(serve: Serve) -> None:
    """HEAD has the length of the body, and no body."""
    answer = requests.head(f"{serve().url}/-/healthy", timeout=PATIENCE)
    assert (answer.headers["Content-Length"], answer.content) == ("8", b"")


def test_no_server_header(serve: Serve) -> None:
    """The answer does not name the software of the server."""
    assert "Server" not in get(serve()).headers


def test_date_header(serve: Serve) -> None:
    """The answer has a date."""
    assert "Date" in get(serve()).headers


@pytest.mark.parametrize("data", [b"", HALF])
def test_silent_clients(serve: Serve, connect: Connect, data: bytes) -> None:
    """500 clients that send nothing, or half a request, do not keep a scrape from its answer."""
    server = serve()
    for _ in range(SILENT):
        connect(server, data)
    assert get(server).status_code == 200


@pytest.mark.parametrize("data", [b"", HALF])
def test_silent_clients_make_room(serve: Serve, connect: Connect, data: bytes) -> None:
    """When there are too many connections, the one that is silent for longest is closed."""
    server = serve(limits=ConnectionLimits(connections=10))
    first = connect(server, data)
    for _ in range(10):
        connect(server, data)
    assert is_closed(first)


@fault(
    "Clients connect and say nothing, or half a request",
    where="web",
    recovers="not needed: of too many, the one that is silent for longest is cut; each after 30 s",
)
def test_room_for_a_scrape(serve: Serve, connect: Connect) -> None:
    """Many more silent clients than connections still leave room for a scrape."""
    server = serve(limits=ConnectionLimits(connections=10))
    for _ in range(100):
        connect(server)
    assert get(server).status_code == 200


def test_scrapes_in_flight_are_not_cut(serve: Serve, connect: Connect, source: FakeSource) -> None:
    """A newcomer does not take the place of a scrape that is being answered."""
    server = serve(limits=ConnectionLimits(connections=1))
    source.hang = True
    scrape = connect(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert source.entered.wait(PATIENCE)
    assert is_closed(connect(server))
    assert is_open(scrape)


@pytest.mark.parametrize("data", [b"", HALF])
def test_request_timeout(serve: Serve, connect: Connect, data: bytes) -> None:
    """A connection without a complete request in time is closed."""
    server = serve(limits=ConnectionLimits(request=0.05))
    assert is_closed(connect(server, data))


def test_second_request_timeout(serve: Serve, connect: Connect) -> None:
    """Half a request after a complete one is closed too."""
    server = serve(limits=ConnectionLimits(request=0.05))
    whole = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
    made = connect(server, whole + HALF)
    received = b""
    while part := made.recv(65536):
        received += part
    assert received.endswith(b"Healthy\n")


def test_idle_timeout(serve: Serve, connect: Connect) -> None:
    """A connection that was idle for too long after an answer is closed."""
    server = serve(limits=ConnectionLimits(idle=0.05))
    made = connect(server, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    while made.recv(65536):
        pass
    assert is_closed(made)


def test_silent_tls_clients_make_room(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    """A client that never begins to speak TLS is one of the connections, and makes room."""
    server = serve(limits=ConnectionLimits(connections=10, request=3600), tls=certificates.tls)
    first = connect(server)
    for _ in range(10):
        connect(server)
    assert is_closed(first)


def test_the_longest_silent_counts_from_its_connection(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    """Who was there first is closed first, though it has spoken TLS since and others have not."""
    server = serve(limits=ConnectionLimits(connections=10), tls=certificates.tls)
    first = connect(server)
    later = [connect(server) for _ in range(9)]
    with certificates.client.wrap_socket(first, server_hostname="127.0.0.1") as spoken:
        connect(server)
        assert is_closed(spoken)
        assert is_open(later[0])


@fault(
    "Clients connect to the TLS port, and never begin to speak TLS",
    where="web",
    recovers="not needed: they are cut as other silent ones",
)
def test_room_for_a_scrape_among_silent_tls_clients(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    """Many more silent TLS clients than connections still leave room for a scrape."""
    server = serve(limits=ConnectionLimits(connections=10), tls=certificates.tls)
    for _ in range(100):
        connect(server)
    answer = requests.get(f"{server.url}/metrics", verify=certificates.file, timeout=PATIENCE)
    assert answer.status_code == 200


def test_stops_despite_silent_tls_clients(
    serve: Serve, connect: Connect, certificates: Certificates
) -> None:
    """500 clients that never begin to speak TLS do not hold up the end."""
    server = serve(tls=certificates.tls)
    for _ in range(SILENT):
        connect(server)
    assert stop_in_time(server)


def test_waiting_scrapes_share_a_rendering(
    serve: Serve, connect: Connect, source: FakeSource
) -> None:
    """Scrapes that wait at the same time for the same thing are rendered once."""
    release = threading.Event()
    rendered: list[ScrapeRequest] = []

    def exposition(request: ScrapeRequest) -> Exposition:
        rendered.append(request)
        assert release.wait(PATIENCE)
        return render(source.registry, request)

    source.exposition = exposition  # type: ignore[method-assign]
    server = serve()
    asked = b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n"
    scrapes = [connect(server, asked) for _ in range(50)]
    for _ in scrapes:
        assert source.asked.acquire(timeout=PATIENCE)
    get(server, "/-/healthy")  # the scrapes before it wait by now
    release.set()
    answers = [b"".join(iter(partial(scrape.recv, 65536), b"")) for scrape in scrapes]

    assert all(b"dcs_instance_up 1.0" in answer for answer in answers)
    assert len(rendered) <= renderings.THREADS + 1


def test_connection_is_kept(serve: Serve) -> None:
    """Two requests can share a connection."""
    server = serve()
    with requests.Session() as session:
        answers = [session.get(f"{server.url}/-/healthy", timeout=PATIENCE) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]


@fault(
    "A client does not read its answer",
    where="web",
    recovers="not needed: it is cut after 30 s, and counts as not having seen the answer",
)
def test_unread_answer(serve: Serve, connect: Connect) -> None:
    """A client that does not read its answer is cut."""
    gone = threading.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2**24), "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    server = serve(endless, limits=ConnectionLimits(answer=0.05))
    connect(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert gone.wait(PATIENCE)


@fault(
    "Scrapes hang: the cloud is slow, or the disk is",
    where="web",
    recovers="not needed: a scrape ends at its deadline, and `/-/healthy` answers beside it",
)
def test_health_beside_a_hanging_scrape(serve: Serve, connect: Connect, source: FakeSource) -> None:
    """A scrape that hangs does not keep the answer about health."""
    server = serve()
    source.hang = True
    for _ in range(50):
        connect(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert source.entered.wait(PATIENCE)
    assert get(server, "/-/healthy").status_code == 200


def stop_in_time(server: WebServer) -> bool:
    """Stop the server, and say whether its thread ends before the time that a client may take."""
    server.stop()
    threads = [thread for thread in threading.enumerate() if thread.name == "web-server"]
    for thread in threads:  # on a busy machine, later than `stop` waits
        thread.join(ConnectionLimits().request / 2)
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("data", [b"", HALF])
def test_stops_despite_silent_clients(serve: Serve, connect: Connect, data: bytes) -> None:
    """500 silent clients do not hold up the end."""
    server = serve()
    for _ in range(SILENT):
        connect(server, data)
    assert stop_in_time(server)


def test_stops_despite_a_hanging_scrape(
    serve: Serve, connect: Connect, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape that hangs is cut at the end, without a traceback in the log."""
    server = serve()
    source.hang = True
    connect(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert source.entered.wait(PATIENCE)
    assert stop_in_time(server)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_port_is_free_after_stop(serve: Serve) -> None:
    """A stopped server leaves its port."""
    server = serve()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def test_stop_without_start(source: FakeSource) -> None:
    """A server that never started can be stopped."""
    WebServer(create_app(source.sources), [("127.0.0.1", 0)]).stop()


@fault(
    "The address to listen on is taken",
    where="web",
    log=(
        (
            "the exit status is 1: cannot listen on ADDRESS: Address already in use; choose "
            "another with --web.listen-address"
        ),
    ),
    metrics=("up = 0",),
    page=("no answer",),
    alerts=("DCSProjectNotWatched", "DCSTaskExporterDown"),
    recovers="nothing: it does not start",
)
def test_address_in_use(serve: Serve, source: FakeSource) -> None:
    """A port that is taken is named, with a way out."""
    taken = serve().port
    server = WebServer(create_app(source.sources), [("127.0.0.1", taken)])
    expected = (
        f"cannot listen on 127.0.0.1:{taken}: Address already in use; "
        "choose another with --web.listen-address"
    )
    with pytest.raises(ExporterError, match=expected):
        server.start()


def test_unknown_host(source: FakeSource) -> None:
    """An address that this machine does not have is named."""
    server = WebServer(create_app(source.sources), [("192.0.2.1", 0)])
    with pytest.raises(ExporterError, match=r"192\.0\.2\.1:0: Cannot assign requested address"):
        server.start()


def test_several_addresses(serve: Serve) -> None:
    """A server can listen on more than one address."""
    addresses = [("127.0.0.1", 0)] * 2
    sockets = listen_on(addresses)
    ports = [sock.getsockname()[1] for sock in sockets]
    serve(addresses=addresses, sockets=sockets)
    answers = [
        requests.get(f"http://127.0.0.1:{port}/-/healthy", timeout=PATIENCE) for port in ports
    ]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_all_addresses(serve: Serve) -> None:
    """The empty host listens everywhere, and the address to open is loopback."""
    assert get(serve(addresses=[("", 0)]), "/-/healthy").status_code == 200


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":39327", ("", 39327)),
        ("[::1]:9100", ("::1", 9100)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),  # noqa: S104 - only parsed
    ],
)
def test_listen_address(text: str, address: Address) -> None:
    """An address is read as the exporter-toolkit writes it."""
    assert parse_listen_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("39327", "has no port"),
        ("", "has no port"),
        ("host:", "port must be a number"),
        ("host:http", "port must be a number"),
        ("host:65536", "port must be a number"),
        ("host:-1", "port must be a number"),
        ("::1:9100", "in brackets"),
        ("[localhost]:9100", "no host name"),
        ("http://host:9100", "is a URL: write host:port"),
        ("a b:1", "no host name"),
    ],
)
def test_bad_listen_address(text: str, message: str) -> None:
    """An address that cannot be read is refused with the reason."""
    with pytest.raises(ValueError, match=message):
        parse_listen_address(text)


def test_files_bound_the_connections() -> None:
    """There are never more connections than open files leave room for."""
    assert most_connections(10**9) < 10**9


def test_the_loop_that_serves_beats(serve: Serve) -> None:
    """The thread that answers requests is the one that beats: if it is stuck, the beats end."""
    beating, serving, second = [], [], threading.Event()

    def beat() -> None:
        beating.append(threading.get_ident())
        if len(beating) > 1:
            second.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        serving.append(threading.get_ident())
        await Response("served")(scope, receive, send)

    server = serve(app, beat=beat)
    assert get(server).text == "served"
    assert second.wait(PATIENCE)

    assert set(beating) == set(serving)
