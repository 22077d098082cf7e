"""The routes: the answers to scrapes, probes and wrong requests."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest
import requests
from prometheus_client import Counter, Gauge

from dcs_task_exporter.metrics.exposition import Exposition, ScrapeRequest, scrape_budget
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.paths import parse_metrics_path
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.status_page import ExporterStatus
from tests.support.fake_source import QuietSource
from tests.support.fault_rows import FaultRow, fault, logged_in

PATIENCE = 30.0

PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class FakeSource(QuietSource):
    """A source whose every answer a test can set."""

    def __init__(self) -> None:
        super().__init__()
        self.finished = Counter("dcs_tasks_finished", "Tasks.", registry=self.registry)
        Gauge("dcs_instance_up", "Up.", registry=self.registry).set(1)
        self.budgets: list[float] = []
        self.observed: list[float] = []
        self.is_ready = True
        self.size: int | None = None
        self.error: Exception | None = None

    async def refresh(self, timeout: float, target: str | None = None) -> None:
        """Count the refresh as a finished task, so that order shows in the body."""
        del target
        self.budgets.append(timeout)
        if self.error is not None:
            raise self.error
        self.finished.inc()

    def find(self, target: str) -> tuple[Instance]:
        """Return an instance with this name."""
        return (Instance(target, target, "prod"),)

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render the registry, and say that it is as large as the test says."""
        made = super().exposition(request)
        return made if self.size is None else replace(made, size=self.size)

    def status(self) -> ExporterStatus:
        """Be as ready as the test says."""
        return replace(super().status(), ready=self.is_ready)

    def observe_scrape(self, seconds: float) -> None:
        """Keep the value."""
        self.observed.append(seconds)


@pytest.fixture
def source() -> FakeSource:
    """Return a fake source."""
    return FakeSource()


class Client:
    """Asks one server, for uncompressed answers unless a test says otherwise."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Ask without following redirects."""
        given = {"Accept-Encoding": "identity", **(headers or {})}
        return requests.request(
            method,
            f"{self._url}{path}",
            headers=given,
            allow_redirects=False,
            stream=True,
            timeout=PATIENCE,
        )

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Ask with GET."""
        return self.request("GET", path, headers)


@contextmanager
def serving(
    source: FakeSource,
    telemetry_path: str = "/metrics",
    timer: Callable[[], float] = time.perf_counter,
) -> Iterator[Client]:
    """Serve a source on loopback."""
    app = create_app(source.sources, telemetry_path, timer=timer)
    server = WebServer(app, [("127.0.0.1", 0)])
    server.start()
    try:
        yield Client(server.url)
    finally:
        server.stop()


@pytest.fixture
def client(source: FakeSource) -> Iterator[Client]:
    """Return a client of an application over the fake source."""
    with serving(source) as client:
        yield client


def add_series(source: FakeSource) -> None:
    """Make the body larger than the limit of compression."""
    gauge = Gauge("dcs_filler", "Filler.", ["number"], registry=source.registry)
    for number in range(100):
        gauge.labels(number).set(number)


@pytest.mark.parametrize(
    ("header", "budget"),
    [
        ("10", 9.5),
        ("0.6", 0.3),
        ("1e1", 9.5),
        ("86400", 299.5),
        (None, 9.5),
        ("", 9.5),
        ("soon", 9.5),
        ("-3", 9.5),
        ("0", 9.5),
        ("nan", 9.5),
        ("inf", 9.5),
    ],
)
def test_budget(header: str | None, budget: float) -> None:
    """A scrape may take its timeout less the offset, at least half; garbage is the default."""
    assert scrape_budget(header, default=10.0, offset=0.5) == pytest.approx(budget)


def test_timeout_header_reaches_the_source(client: Client, source: FakeSource) -> None:
    """The refresh gets the scraper's timeout less the offset."""
    client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "4"})
    assert source.budgets == [3.5]


def test_time_for_the_answer_itself(source: FakeSource) -> None:
    """Time to render and read a large answer is reserved for scrapes, and none for a probe."""
    now = 0.0
    source.size = 100_000_000

    def timer() -> float:
        nonlocal now
        now += 0.25
        return now

    with serving(source, timer=timer) as client:
        for path in ("/metrics", "/metrics", "/probe?target=i0"):
            client.get(path, headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})

    assert source.budgets == pytest.approx([9.5, 9.5 - 2 * 0.25 - 2, 9.5 - 0.25])


def test_small_scrapes_do_not_wear_the_memory_away(source: FakeSource) -> None:
    """How long a whole scrape takes to hand over is remembered over any number of small ones."""
    source.size = 100_000_000
    header = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
    with serving(source, timer=lambda: 0.0) as client:
        client.get("/metrics", headers=header)
        source.size = 100
        for _ in range(30):
            client.get("/metrics?name[]=dcs_instance_up", headers=header)
        client.get("/metrics", headers=header)

    assert source.budgets[-1] == pytest.approx(9.5 - 2)


def test_renders_after_the_refresh(client: Client) -> None:
    """A scrape shows the data of its own refresh."""
    assert "dcs_tasks_finished_total 1.0" in client.get("/metrics").text


def test_scrape_is_observed(client: Client, source: FakeSource) -> None:
    """Each scrape is observed once."""
    client.get("/metrics")
    assert len(source.observed) == 1


@fault(
    "A bug in the refresh for a scrape",
    where="web",
    log=("error: the refresh for a scrape failed; the answer shows the data in memory",),
    recovers="the next scrape; please report the traceback",
)
def test_failed_refresh_is_no_500(
    client: Client, source: FakeSource, row: FaultRow, caplog: pytest.LogCaptureFixture
) -> None:
    """A refresh that raises still yields the metrics in memory."""
    source.error = RuntimeError("cloud is down")
    answer = client.get("/metrics")
    assert (answer.status_code, "dcs_instance_up 1.0" in answer.text) == (200, True)
    assert logged_in(caplog) == row.log


@fault(
    "A bug in the rendering of the metrics",
    where="web",
    log=("error: the metrics cannot be rendered",),
    metrics=("up = 0",),
    alerts=("DCSProjectNotWatched", "DCSTaskExporterDown"),
    recovers="nothing: each scrape is answered with 500; please report the traceback",
)
def test_rendering_error_tells_no_secret(
    client: Client, source: FakeSource, row: FaultRow, caplog: pytest.LogCaptureFixture
) -> None:
    """A registry that cannot be rendered is a 500 without details."""

    class Broken:
        def collect(self) -> Iterator[object]:
            message = "secret"
            raise RuntimeError(message)

    source.registry.register(Broken())  # type: ignore[arg-type]
    answer = client.get("/metrics")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert logged_in(caplog) == row.log


def test_plain_text_by_default(client: Client) -> None:
    """Without an Accept header of use the answer is text 0.0.4."""
    kind = client.get("/metrics").headers["Content-Type"]
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


def test_openmetrics_for_prometheus(client: Client) -> None:
    """Prometheus 3 gets OpenMetrics 1.0.0, ended by EOF."""
    answer = client.get("/metrics", headers={"Accept": PROMETHEUS_ACCEPT})
    assert "application/openmetrics-text; version=1.0.0" in answer.headers["Content-Type"]
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=2.0.0-rc0",
        "application/openmetrics-text;version=x",
        "application/openmetrics-text;version=1.0.0;q=0",
        "application/openmetrics-text;q=0.1,text/plain;q=0.9",
        "text/html,*/*;q=0.8",
        ";;;=,,",
    ],
)
def test_unanswerable_accept(client: Client, accept: str) -> None:
    """A format that cannot be answered, or is wanted less, gets plain text, never an error."""
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_never_stored(client: Client) -> None:
    """No cache may keep a scrape."""
    assert client.get("/metrics").headers["Cache-Control"] == "no-store"


def test_gzip(client: Client, source: FakeSource) -> None:
    """A large body is compressed for who takes it."""
    add_series(source)
    answer = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    raw = answer.raw.read(decode_content=False)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"dcs_instance_up 1.0" in gzip.decompress(raw)


@pytest.mark.parametrize("encoding", ["identity", "gzip;q=0", "br"])
def test_no_gzip(client: Client, source: FakeSource, encoding: str) -> None:
    """A body is not compressed for who does not take it."""
    add_series(source)
    answer = client.get("/metrics", headers={"Accept-Encoding": encoding})
    assert "Content-Encoding" not in answer.headers


def test_small_bodies_stay(client: Client) -> None:
    """A small body is not compressed."""
    answer = client.get("/metrics?name[]=dcs_instance_up", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers


def test_varies(client: Client) -> None:
    """The Vary header names the headers that the answer depends on."""
    assert client.get("/metrics").headers["Vary"] == "Accept, Accept-Encoding"


def test_name_filter(client: Client) -> None:
    """`name[]` keeps the named metrics only."""
    text = client.get("/metrics?name[]=dcs_instance_up").text
    assert ("dcs_instance_up 1.0" in text, "dcs_tasks_finished" in text) == (True, False)


def test_unknown_name(client: Client) -> None:
    """An unknown name gives an empty and valid body."""
    answer = client.get("/metrics?name[]=nope", headers={"Accept": PROMETHEUS_ACCEPT})
    assert (answer.status_code, answer.text) == (200, "# EOF\n")


@pytest.mark.parametrize("path", ["/metrics?name[]=dcs_instance_up", "/", "/-/healthy"])
def test_head(client: Client, path: str) -> None:
    """HEAD has the length that GET has."""
    client.get(path)
    lengths = [client.request(method, path).headers["Content-Length"] for method in ("HEAD", "GET")]
    assert lengths[0] == lengths[1]


def test_healthy(client: Client) -> None:
    """The process says that it lives."""
    answer = client.get("/-/healthy")
    assert (answer.status_code, answer.text) == (200, "Healthy\n")


def test_ready(client: Client) -> None:
    """A ready exporter says so."""
    assert client.get("/-/ready").status_code == 200


def test_not_ready(client: Client, source: FakeSource) -> None:
    """An exporter that is not ready answers 503 with a reason."""
    source.is_ready = False
    answer = client.get("/-/ready")
    assert (answer.status_code, answer.text.split(" (")[0]) == (
        503,
        "Not ready: instances were not read yet",
    )


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/-/", "/favicon.ico"])
def test_wrong_path(client: Client, path: str) -> None:
    """A wrong path is a 404 that names the right one."""
    answer = client.get(path)
    assert (answer.status_code, "metrics are at /metrics" in answer.text) == (404, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_wrong_method(client: Client, method: str) -> None:
    """A wrong method is a 405 that names the right ones."""
    answer = client.request(method, "/metrics")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_other_telemetry_path(source: FakeSource) -> None:
    """The path of the metrics can be chosen."""
    with serving(source, "/m") as client:
        assert (client.get("/m").status_code, client.get("/metrics").status_code) == (200, 404)


@pytest.mark.parametrize(
    "path", ["metrics", "", "/", "/a b", "/{x}", "/m?x", "/m\n", "/-/healthy", "/-/ready", "/sd"]
)
def test_bad_telemetry_path(path: str) -> None:
    """A path that cannot be served, or at which something else is, is refused."""
    with pytest.raises(ValueError, match="not a path for metrics"):
        parse_metrics_path(path)


def test_health_while_rendering(client: Client, source: FakeSource) -> None:
    """Scrapes that are slow to render do not hold up the answer about health."""
    entered, release = threading.Event(), threading.Event()

    class Slow:
        def collect(self) -> Iterator[object]:
            entered.set()
            release.wait(PATIENCE)
            return iter(())

    source.registry.register(Slow())  # type: ignore[arg-type]
    thread = threading.Thread(target=client.get, args=("/metrics",))
    thread.start()
    try:
        assert entered.wait(PATIENCE)
        assert client.get("/-/healthy").status_code == 200
    finally:
        release.set()
        thread.join(PATIENCE)
