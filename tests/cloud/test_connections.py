"""The time limit on a whole answer: what drips in for longer is cut, however steadily it comes."""

from __future__ import annotations

import io
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from urllib3 import HTTPResponse

from dcs_task_exporter.cloud import connections
from dcs_task_exporter.cloud.connections import TimedAdapter
from tests.support.certificates import Certificates

LIMIT = 20.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


class Drip:
    """A server of one answer that sends each part when the test says so."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.parts = [HEAD + b"a", b"b", b"cd"]
        self.permits = threading.Semaphore(0)
        self._context = context
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        scheme = "https" if self._context else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/"

    def _serve(self) -> None:
        plain = self._listener.accept()[0]
        end = self._context.wrap_socket(plain, server_side=True) if self._context else plain
        with end:
            end.recv(65536)
            for part in self.parts:
                self.permits.acquire()
                end.sendall(part)
            self.permits.acquire()

    def stop(self) -> None:
        self.permits.release(10)
        self._thread.join()
        self._listener.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of the monotonic clock that the connections read."""
    now = [1000.0]

    class Time:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    monkeypatch.setattr(connections, "time", Time)
    return now


@pytest.fixture(params=["http", "https"])
def begun(
    request: pytest.FixtureRequest, certificates: Certificates, clock: list[float]
) -> Iterator[tuple[Drip, HTTPResponse]]:
    """An answer whose head and first byte have come."""
    del clock
    drip = Drip(certificates.server if request.param == "https" else None)
    adapter = TimedAdapter(certificates.client, 1)
    drip.permits.release()
    response: Any = adapter.send(prepared(drip.url), stream=True, timeout=LIMIT)
    assert response.read(1) == b"a"
    yield drip, response
    response.close()
    adapter.close()
    drip.stop()


def prepared(url: str) -> requests.PreparedRequest:
    return requests.Request("GET", url).prepare()


def test_a_whole_answer_in_time(begun: tuple[Drip, HTTPResponse], clock: list[float]) -> None:
    """An answer whose last byte comes just before the limit is read."""
    drip, response = begun
    clock[0] += LIMIT - 0.5
    drip.permits.release(2)

    assert response.read() == b"bcd"


def test_an_answer_that_drips(begun: tuple[Drip, HTTPResponse], clock: list[float]) -> None:
    """Bytes that come after the limit are not read, although none was silent for as long."""
    drip, response = begun
    clock[0] += LIMIT / 2
    drip.permits.release()
    assert response.read(1) == b"b"
    clock[0] += LIMIT / 2
    drip.permits.release()

    with pytest.raises(Exception, match="timed out"):
        response.read()


def test_the_pools_of_an_adapter(certificates: Certificates) -> None:
    """All pools, those of a proxy too, have our context, the size of the adapter and timed ends."""
    adapter = TimedAdapter(certificates.client, 7)
    managers = [adapter.poolmanager, adapter.proxy_manager_for("http://127.0.0.1:1", blocksize=3)]
    timed = {"http": connections._TimedHTTPPool, "https": connections._TimedHTTPSPool}  # noqa: SLF001

    for manager in managers:
        assert manager.connection_pool_kw["ssl_context"] is certificates.client
        assert manager.connection_pool_kw["maxsize"] == 7
        assert manager.pool_classes_by_scheme == timed
    assert managers[1].connection_pool_kw["blocksize"] == 3
    adapter.init_poolmanager(1, 2, block=True, blocksize=4)
    assert adapter.poolmanager.connection_pool_kw["block"] is True
    assert adapter.poolmanager.connection_pool_kw["blocksize"] == 4


def test_one_pool_for_each_origin(certificates: Certificates) -> None:
    """Requests to one origin share a pool; another origin, or a closed adapter, has another."""
    adapter = TimedAdapter(certificates.client, 1)

    def pool(url: str) -> object:
        return adapter.get_connection_with_tls_context(prepared(url), verify=True)

    first = pool("https://127.0.0.1:1/v2/a?limit=1")
    assert pool("https://127.0.0.1:1/v2/b") is first
    others = [pool(f"{origin}/v2/a") for origin in ("https://127.0.0.1:2", "http://127.0.0.1:1")]
    assert len({id(it) for it in (first, *others)}) == 3
    adapter.close()
    assert pool("https://127.0.0.1:1/v2/a") is not first
    adapter.close()


@pytest.mark.parametrize(
    ("url", "proxy", "asked"),
    [
        ("http://cloud.test/v2/a?limit=1", None, "/v2/a?limit=1"),
        ("https://cloud.test/v2/a?limit=1", "http://127.0.0.1:1", "/v2/a?limit=1"),
        ("http://cloud.test/v2/a?limit=1", "http://127.0.0.1:1", "http://cloud.test/v2/a?limit=1"),
    ],
)
def test_what_is_asked_for(
    certificates: Certificates, url: str, proxy: str | None, asked: str
) -> None:
    """A request asks for a path, but a proxy that sees it is asked for the whole URL."""
    adapter = TimedAdapter(certificates.client, 1)
    proxies = {"http://cloud.test": proxy, "https://cloud.test": proxy} if proxy else {}

    assert adapter.request_url(prepared(url), proxies) == asked


class Raw(io.RawIOBase):
    """A socket's reader that notes how much it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.asked.append(len(buffer))
        return 0


class Socket:
    """A socket with a time limit."""

    def __init__(self) -> None:
        self.raw = Raw()
        self.limits: list[float] = []

    def gettimeout(self) -> float:
        return LIMIT

    def settimeout(self, seconds: float) -> None:
        self.limits.append(seconds)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.raw)


def test_how_an_answer_is_read(clock: list[float]) -> None:
    """Each read asks for 32 KiB within the time that is left, and for none at its end."""
    sock = Socket()
    response = connections._TimedHTTPConnection.response_class(sock, 0, "HEAD")  # noqa: SLF001
    clock[0] += 5
    response.fp.read(1)
    assert (sock.raw.asked, sock.limits) == ([connections.READ_SIZE], [LIMIT - 5])
    assert response._method == "HEAD"  # type: ignore[attr-defined] # noqa: SLF001
    clock[0] += LIMIT - 5
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        response.fp.read(1)
    assert len(sock.raw.asked) == 1
    response.close()
    assert sock.raw.closed
