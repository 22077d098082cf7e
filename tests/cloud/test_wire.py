"""Nothing but `ApiError` leaves the client, whatever bytes the cloud answers with."""

from __future__ import annotations

import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from email.utils import format_datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud.calls import Call
from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.cloud.parsing import (
    parse_center_task,
    parse_details,
    parse_page,
    parse_progress,
    parse_task,
)
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import MAX_THROTTLE_PAUSE, ApiCaller, Retries
from dcs_task_exporter.cloud.responses import date_of
from dcs_task_exporter.cloud.transport import Transport
from dcs_task_exporter.cloud.values import integer_of, number_of, text_of
from dcs_task_exporter.config.model import DiscoveryConfig
from dcs_task_exporter.credentials.fixed import FixedSource
from dcs_task_exporter.errors import (
    ApiConnectionError,
    ApiError,
    InternalError,
    InvalidResponseError,
    ThrottledError,
)
from dcs_task_exporter.metrics.telemetry import ApiTelemetry
from dcs_task_exporter.refresh import instance
from dcs_task_exporter.refresh.discovery import Discovery
from dcs_task_exporter.text.times import parse_time
from tests.support.clouds import ACCESS_KEY, NOW, SECRET_KEY, world
from tests.support.log_stream import log_to, messages

# A client that knows of the end makes a new connection; else it may send into one that is ending.
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
ANSWERED_AT = 1_767_225_600.0


class Wire:
    """A server that answers each request with bytes, and then hangs up."""

    def __init__(self) -> None:
        self.answer = OK
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                head = b""
                while b"\r\n\r\n" not in head and (part := sock.recv(1 << 16)):
                    head += part
                sock.sendall(self.answer)


class Client:
    """A caller of the wire whose clock stands, and what it counted."""

    def __init__(self, url: str) -> None:
        self.telemetry = ApiTelemetry()
        self.telemetry.prepare({"prod": ["list_tasks"]})
        self.key = AccessKey(ACCESS_KEY, SECRET_KEY)
        self.now = 0.0
        self.transport: Any = Transport(timeout=5, connections=1, user_agent="test")
        self._url = url
        clock = Clock(lambda: NOW, lambda: self.now)
        limit, retries = RateLimit(1000, clock, self.wait), Retries(0, self.wait, lambda: 0.5)
        self.caller = ApiCaller(
            "prod",
            self.transport,
            FixedSource(lambda: self.key),
            limit,
            self.telemetry,
            retries,
            clock,
        )

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False

    def ask(self, parse: Callable[[Any], object] = lambda data: data) -> object:
        call = Call("list_tasks", f"{self._url}/v2/x", self.now + 60, parse)
        return self.caller.get(call).value

    def errors(self, reason: str = "") -> float:
        return sum(
            sample.value
            for family in self.telemetry.collect()
            for sample in family.samples
            if sample.name == "dcs_api_errors_total" and reason in ("", sample.labels["reason"])
        )


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def client(wire: Wire) -> Iterator[Client]:
    made = Client(wire.url)
    yield made
    made.caller.close()


def answer(head: bytes, body: bytes = b"{}", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body


@pytest.mark.parametrize(
    "played",
    [
        answer(b"Content-Length: " + b"9" * 31 + b"\r\n"),
        answer(b"Transfer-Encoding: chunked\r\n", b"zzz\r\n{}\r\n0\r\n\r\n"),
        answer(b"Transfer-Encoding: chunked\r\n", b"f" * 40 + b"\r\n{}\r\n"),
        answer(b"Transfer-Encoding: chunked\r\n", b"-5\r\n{}\r\n"),
        answer(b"Content-Encoding: gzip\r\nContent-Length: 2\r\n"),
        answer(b"X: " + b"a" * 70_000 + b"\r\n"),
        answer(b"X: a\r\n" * 200),
        b"HTTP/1.1 999999 \xff\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"",
    ],
)
def test_broken_framing(wire: Wire, client: Client, played: bytes) -> None:
    """An answer whose framing is broken is a failed connection or an invalid answer."""
    wire.answer = played
    with pytest.raises((ApiConnectionError, InvalidResponseError)) as raised:
        client.ask()

    assert len(raised.value.message) < 300
    assert client.errors(raised.value.reason) == client.errors() == 1


def throttled(window: str, *headers: str) -> bytes:
    body = b'{"error_code": "APIGW.0308", "error_msg": "limit:9,time:%b day"}' % window.encode()
    lines = [*headers, "Connection: close", f"Content-Length: {len(body)}"]
    return answer("".join(f"{line}\r\n" for line in lines).encode(), body, b"429 Too Many")


@pytest.mark.parametrize(
    "played",
    [throttled("9" * 401), throttled("9" * 5000), throttled("1", "Retry-After: " + "9" * 5000)],
    ids=["window of 401", "window of 5000", "Retry-After of 5000"],
)
def test_an_absurd_pause_is_the_longest(wire: Wire, client: Client, played: bytes) -> None:
    """A 429 that names an absurd time is obeyed as one that names the longest pause."""
    wire.answer = played
    with pytest.raises(ThrottledError):
        client.ask()
    wire.answer = OK

    began = client.now
    client.caller.get(Call("list_tasks", f"{wire.url}/v2/y", began + 2 * MAX_THROTTLE_PAUSE, str))
    assert client.now - began == pytest.approx(MAX_THROTTLE_PAUSE, rel=0.01)
    assert client.errors("throttled") == client.errors() == 1


@pytest.mark.parametrize("size", [b"9999999999999999", b"2222222222"])
def test_an_answer_without_a_body_is_not_read(wire: Wire, client: Client, size: bytes) -> None:
    """Of a 204 no chunk is read: its size would be allocated at once."""
    wire.answer = b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n"
    with pytest.raises(InvalidResponseError, match="is not JSON"):
        client.ask()


@pytest.mark.parametrize("status", [b"101 Switching Protocols", b"103 Early Hints", b"150 x"])
def test_an_interim_answer_is_told_as_one(wire: Wire, client: Client, status: bytes) -> None:
    """An answer before the answer is told as what it is, not as a redirect."""
    wire.answer = answer(b"", b"", status)
    with pytest.raises(InvalidResponseError, match="which no API here sends") as raised:
        client.ask()

    assert raised.value.status == int(status[:3])
    assert f"({status[:3].decode()} " in raised.value.message


def test_the_unforeseen_is_counted_and_logged_without_secrets(
    wire: Wire, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw is an `InternalError`: counted each time, logged with its place.

    Other programs' log handlers get it as text, without the secret; our own log writes the second
    as a repetition.
    """
    wire.answer = OK

    def broken(_: object) -> object:
        message = f"nobody foresaw {SECRET_KEY} " + "x" * 5000
        raise ZeroDivisionError(message)

    stream = io.StringIO()
    with caplog.at_level(logging.ERROR), log_to(stream):
        for number in (1, 2):
            with pytest.raises(InternalError):
                client.ask(broken)
            assert client.errors("internal") == client.errors() == number

    record, _ = caplog.records
    text = record.fields["exception"]  # type: ignore[attr-defined]
    assert "ZeroDivisionError: nobody foresaw [redacted]" in text
    assert "in broken" in text
    assert SECRET_KEY not in text
    assert len(text) < 5000
    assert record.exc_info is None
    assert stream.getvalue().count("Traceback") == 1
    assert messages(stream)[1].endswith("repeated=1")


class Broken:
    """Something of the program that breaks in a way that nobody foresaw."""

    def __call__(self, *_: object) -> Any:
        message = "nobody foresaw this"
        raise ZeroDivisionError(message)


def test_a_reader_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks while instances are read has one traceback, for all of them and all refreshes."""
    stream = io.StringIO()
    with log_to(stream), world(2) as here, here.exporter() as exporter:
        monkeypatch.setattr(instance, "count_new", Broken())
        for _ in range(2):
            exporter.fleet.refresh_and_wait(10)
            here.clock.advance(60)

        failures = [snapshot.failure for snapshot in exporter.refresher.snapshots()]
        assert [failure and failure.reason for failure in failures] == ["internal"] * 2
    first, second = [line for line in messages(stream) if "refresh of an instance broke" in line]
    assert "Traceback" in first
    assert second.endswith("repeated=3")


def test_a_discovery_that_breaks() -> None:
    """What breaks in a search for instances has one traceback, and discovery is down."""
    steady = count()
    search = Discovery(
        "prod",
        DiscoveryConfig.model_validate({"refresh_interval": "1s"}),
        Broken(),
        lambda _: None,
        Clock(lambda: NOW, lambda: float(next(steady))),
    )
    stream = io.StringIO()
    with log_to(stream):
        for _ in range(2):
            pending = search.search()
            assert pending is not None
            pending.result(10)
    search.stop()

    assert search.status.problem == "internal: ZeroDivisionError, see the log"
    first, second = [line for line in messages(stream) if "discovery broke" in line]
    assert "Traceback" in first
    assert second.endswith("repeated=1")


def test_a_source_of_keys_that_breaks(client: Client) -> None:
    """What is unforeseen when the key is read is an `InternalError`, too."""
    del client.key
    with pytest.raises(InternalError):
        client.ask()
    assert client.errors("internal") == client.errors() == 1


def test_what_breaks_before_the_key_is_known_is_withheld(client: Client) -> None:
    """The log has no text of an error in reading a key: no secret is known to take out of it."""
    del client.key
    stream = io.StringIO()
    with log_to(stream), pytest.raises(InternalError):
        client.ask()

    assert "[withheld]" in stream.getvalue()
    assert "no attribute" not in stream.getvalue()


def test_a_secret_beside_an_error(wire: Wire, client: Client) -> None:
    """A secret that the cloud echoes in a good answer that holds an error is in no message."""
    body = b'{"tasks": [], "error_msg": "%b"}' % (b"x" * 250 + SECRET_KEY.encode() + b"x" * 9000)
    wire.answer = answer(b"X-Request-Id: %b\r\n" % SECRET_KEY.encode(), body)
    with pytest.raises(InvalidResponseError) as raised:
        client.ask(lambda data: parse_page(data, parse_task))
    assert SECRET_KEY[:8] not in str(raised.value)
    assert len(raised.value.message) <= 300


def test_a_secret_in_the_status_line(wire: Wire, client: Client) -> None:
    """A secret that the cloud echoes in a malformed status line is in no message."""
    wire.answer = b"x" * 190 + SECRET_KEY.encode() + b"\r\n\r\n"
    with pytest.raises(ApiError) as raised:
        client.ask()
    assert SECRET_KEY[:8] not in str(raised.value)


HUGE = ("1e400", "-1e400", "1e308", "Infinity", "NaN", "9" * 400, 10**5000)


@pytest.mark.parametrize("value", [*HUGE, float("inf"), float("nan"), 1e308], ids=lambda _: "")
def test_infinity_is_no_number(value: object) -> None:
    """A number that no capacity has is none, also when it is multiplied to bytes."""
    assert number_of(value) is None
    assert integer_of(value) is None
    details = parse_details({"old_capacity": value, "new_port": value})
    assert details.old_capacity is None
    assert details.new_port is None


def test_the_capacities_that_there_are() -> None:
    """Numbers of a sensible size are read as they are, also from text."""
    assert [number_of(value) for value in ("0.125", 1024, "2e3")] == [0.125, 1024, 2000]


odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(HUGE[:-1])
    | st.from_regex(r"\A\d{1,4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,12})?([+-]\d\d:?\d\d)?Z?\Z"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = [
    "id",
    "name",
    "status",
    "created_at",
    "updated_at",
    "details",
    "task_count",
    "tasks",
    "old_capacity",
    "new_port",
    "progress",
    "remain_time",
    "error_code",
    "instance_id",
]
odd_rows = st.dictionaries(st.sampled_from(FIELDS), odd_values, max_size=6)


@given(odd_rows)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_odd_values_are_read_or_refused(row: dict[str, Any]) -> None:
    """Whatever a row holds is read, or refused with an `ApiError`."""
    parsers: tuple[Callable[[object], object], ...] = (
        parse_task,
        parse_center_task,
        parse_progress,
        parse_details,
        lambda data: parse_page(data, parse_task),
    )
    for parse in parsers:
        try:
            parse(row)
        except ApiError:
            continue
    for value in row.values():
        text_of(value)
        parse_time(value)


DATE = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("header", "moment"),
    [
        (format_datetime(DATE, usegmt=True), ANSWERED_AT),
        ("Thu, 01 Jan 2026 08:00:00 +0800", ANSWERED_AT),
        ("Wed, 31 Dec 2025 19:00:00 EST", ANSWERED_AT),
        ("Thu, 01 Jan 2026 00:00:00", ANSWERED_AT),
        ("Thu, 01 Jan 2026 00:00:00 -0000", ANSWERED_AT),
        ("Thu, 01 Jan 2009 00:00:00 GMT", None),
        ("Thu, 01 Jan 2200 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Fri, 31 Dec 2020 23:59:59 +999999999999999999", None),
        ("Thu, 01 Jan " + "9" * 5000 + " 00:00:00 GMT", None),
        ("", None),
        ("junk", None),
        ("\x00\xff, , ,", None),
    ],
)
def test_the_date_of_an_answer(header: str, moment: float | None) -> None:
    """The ``Date`` of an answer is its time in UTC, or none where no answer can be of that time."""
    assert date_of({"Date": header}) == moment


def test_an_answer_without_date() -> None:
    """An answer that has no ``Date`` has no time."""
    assert date_of({}) is None


date_words = st.sampled_from(
    ["Thu,", "01", "Jan", "2026", "00:00:00", "GMT", "+0800", ":", "9" * 30]
)


@given(st.text(max_size=40) | st.lists(date_words, max_size=8).map(" ".join))
def test_no_date_breaks_it(header: str) -> None:
    """Whatever the header ``Date`` holds is a time from 2010 to 2200, or none."""
    moment = date_of({"Date": header})
    assert moment is None or 1.2e9 < moment < 7.3e9


statuses = st.sampled_from(
    [b"200 OK", b"429 Slow", b"503 No", b"103 Hints", b"302 Found", b"401 x"]
)
headers = st.sampled_from(
    [
        b"Content-Length: 2",
        b"Content-Length: -1",
        b"Content-Length: " + b"9" * 31,
        b"Content-Length: 1, 2",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Content-Encoding: deflate, gzip, x",
        b"Retry-After: " + b"9" * 5000,
        b"Retry-After: Fri, 31 Dec 9999 23:59:59 -9999",
        b"Date: Mon, 01 Jan 0001 00:00:00 +2359",
        b"X-Request-Id: \xff\x00",
        b": none",
        b" folded",
        b"no colon",
    ]
)
bodies = st.sampled_from(
    [
        b"{}",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b'{"task_count": ' + b"9" * 5000 + b"}",
        b'{"tasks": [{"id": 1e400, "created_at": 1e300}]}',
        b'{"error_msg": "limit:9,time:' + b"9" * 401 + b' day", "error_code": {}}',
        b'{"error_msg": "\\ud800", "error_code": ' + b"9" * 400 + b"}",
        b"zzz\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n\r\n",
        b"\x1f\x8b\x08",
        b"\xff\xfe",
        b"",
    ]
) | st.binary(max_size=40)
answers = st.builds(
    lambda status, lines, body: answer(b"".join(line + b"\r\n" for line in lines), body, status),
    statuses | st.binary(max_size=20),
    st.lists(headers, max_size=4),
    bodies,
) | st.binary(max_size=60)


@settings(suppress_health_check=list(HealthCheck))
@given(played=answers)
def test_only_api_errors_leave_the_client(wire: Wire, played: bytes) -> None:
    """Whatever bytes the cloud answers with, only `ApiError` leaves, foreseen, and is counted."""
    wire.answer = played
    client = Client(wire.url)
    reason, message = outcome(client)
    client.caller.close()
    assert reason != InternalError.reason
    assert len(message) <= 300
    assert client.errors() == client.errors(reason or "none") == bool(reason)


def outcome(client: Client) -> tuple[str, str]:
    """Return the reason and the message of the failure, if it is one."""
    try:
        client.ask(lambda data: parse_page(data, parse_task))
    except ApiError as error:
        return error.reason, error.message
    return "", ""
