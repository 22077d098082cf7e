"""Law 3: seen means delivered; only an answer that left the process whole counts as a scrape."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest
import requests

from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest
from dcs_task_exporter.web.app import Sources, create_app
from dcs_task_exporter.web.server import WebServer
from tests.support.certificates import Certificates
from tests.support.clouds import World, samples, value, world
from tests.support.fault_rows import fault

PATIENCE = 30.0
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;large=1\r\n\r\n"
SMALL_BUFFER = 4096
PADDING = 2**24
"""Bytes of an answer of which the kernels keep only a part for a client that does not read."""

CASES = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@dataclass
class Scene:
    """An exporter over a simulated cloud, on a port."""

    world: World
    exporter: Exporter
    server: WebServer
    certificates: Certificates | None

    def scrape(self) -> float | None:
        """Scrape as Prometheus does; return the counter of the one that failed."""
        self.world.clock.advance(15)
        trusted = self.certificates.file if self.certificates else True
        text = requests.get(
            f"{self.server.url}/metrics",
            headers={"Accept-Encoding": "identity"},
            verify=trusted,
            timeout=PATIENCE,
        ).text
        return value(
            samples(text), "dcs_tasks_finished_total", task_name="unheard-of", status="FAILED"
        )

    def connect(self, stack: ExitStack) -> socket.socket:
        """Connect as a client whose kernel takes little that it does not read."""
        plain = stack.enter_context(socket.socket())
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        plain.settimeout(PATIENCE)
        plain.connect(("127.0.0.1", self.server.port))
        if self.certificates is None:
            return plain
        context = self.certificates.client
        return stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))


def padded(sources: Sources) -> Sources:
    """Make the answers that are asked to be large larger than the kernel keeps of an unread one."""

    def render(request: ScrapeRequest) -> Exposition:
        made = sources.render(request)
        if "large" not in request.accept:
            return made
        return replace(made, body=b"# " + bytes(PADDING) + b"\n" + made.body)

    return replace(sources, render=render)


@contextmanager
def scene(certificates: Certificates | None) -> Iterator[Scene]:
    with world(1) as here, here.exporter() as exporter:
        app = create_app(padded(exporter.sources))
        tls = certificates.tls if certificates else None
        server = WebServer(app, [("127.0.0.1", 0)], tls=tls)
        server.start()
        try:
            yield Scene(here, exporter, server, certificates)
        finally:
            server.stop()


@fault(
    "Prometheus gives up in the middle of an answer",
    where="web",
    recovers="not needed: what it has not seen is shown to it again, a new counter at 0 first",
)
@CASES
def test_an_abandoned_scrape_is_not_delivered(certificates: Certificates, *, tls: bool) -> None:
    """A client that gives up in the middle of its answer has seen nothing: after it a scrape shows
    0, not 1, and the next one 1.
    """
    with ExitStack() as stack:
        here = stack.enter_context(scene(certificates if tls else None))
        assert here.scrape() is None  # seen for the first time
        here.world.cloud.start_task("i0", "unheard-of", status="FAILED")
        here.world.clock.advance(15)
        client = here.connect(stack)
        client.sendall(GET)
        assert client.recv(1)
        client.close()

        assert [here.scrape(), here.scrape()] == [0, 1]


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("HEAD", ""),
        ("GET", "?name[]=dcs_instance_up"),
        ("GET", "?collect[]=exporter"),
    ],
)
def test_an_answer_without_counters_counts_for_none(method: str, query: str) -> None:
    """An answer without the counters, though delivered, does not count as seeing them."""
    with scene(None) as here:
        assert here.scrape() is None  # seen for the first time
        here.world.cloud.start_task("i0", "unheard-of", status="FAILED")
        here.world.clock.advance(15)
        requests.request(method, f"{here.server.url}/metrics{query}", timeout=PATIENCE)

        assert [here.scrape(), here.scrape()] == [0, 1]
