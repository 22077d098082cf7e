"""What a hostile cloud or a wrong file says: told as an error, bounded, valid, without secrets."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from dcs_task_exporter.cli import main
from dcs_task_exporter.cloud import responses
from dcs_task_exporter.cloud.parsing import parse_details
from dcs_task_exporter.cloud.responses import date_of
from dcs_task_exporter.cloud.values import integer_of, number_of
from dcs_task_exporter.config.model import load_config
from dcs_task_exporter.errors import ApiError, InvalidResponseError, ThrottledError
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.logs.formats import JsonFormatter, LogfmtFormatter, traceback_of
from dcs_task_exporter.simulator.faults import Reply, gateway_error, json_reply
from dcs_task_exporter.tasks.details import TaskDetails
from dcs_task_exporter.text.display import MAX_TEXT
from dcs_task_exporter.text.redaction import REDACTED
from tests.support.clouds import (
    ACCESS_KEY,
    SECRET_KEY,
    World,
    answer_with,
    samples,
    value,
    world,
    world_of_today,
)
from tests.support.log_stream import log_to, messages

SECRETS = (ACCESS_KEY, SECRET_KEY)


def failure_of(here: World, exporter: Exporter) -> ApiError:
    """Read an instance, and return the error."""
    with pytest.raises(ApiError) as raised:
        exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)
    return raised.value


def metric(exporter: Exporter, reason: str) -> float | None:
    """Return how many listings failed for a reason."""
    found = samples(generate_latest(exporter.renderer.registry).decode())
    return value(found, "dcs_api_errors_total", operation="list_tasks", reason=reason)


ODD_REPLIES = {
    "a length of 31 digits": Reply(200, b"{}", {"Content-Length": "9" * 31}),
    "a chunk of zzz": Reply(200, b"zzz\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
    "a negative chunk": Reply(200, b"-5\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
    "nested": Reply(200, b"[" * 100_000),
    "a huge integer": Reply(200, b'{"tasks": %s}' % (b"9" * 10_000)),
    "half a pair": Reply(400, b'{"error_msg": "\\ud83d", "error_code": "\\udc80"}'),
}


@pytest.mark.parametrize("name", ODD_REPLIES)
def test_odd_answers_are_counted(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that no library of ours foresaw is an `ApiError`, counted by its kind."""
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, ODD_REPLIES[name])
        error = failure_of(here, exporter)

        assert error.reason != "internal"
        assert metric(exporter, error.reason) == here.cloud.count()
        assert str(error).encode()
    assert "Traceback" not in caplog.text


def test_a_window_of_401_digits() -> None:
    """A throttling window of any number of digits is obeyed."""
    said = f"The throttling threshold has been reached: limit:200,time:{'9' * 401} minute"
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, gateway_error(429, "APIGW.0308", said))
        error = failure_of(here, exporter)

    assert isinstance(error, ThrottledError)
    assert error.retry_after is not None
    assert error.retry_after > 1e9


@pytest.mark.parametrize("value", ["1e300", "-1e300", "1e400", "NaN", "-Infinity", "9" * 4000])
def test_odd_numbers_are_unknown(value: str) -> None:
    """A number that none can mean is none, in every field of a task."""
    fields = ("created_at", "updated_at", "name", "status", "enable_show", "error_code")
    details = ("old_capacity", "new_port", "enable_ssl", "group_name", "updated_config_length")
    inner = ", ".join(f'"{name}": {value}' for name in details)
    outer = ", ".join(f'"{name}": {value}' for name in fields)
    body = f'{{"tasks": [{{"id": "a", {outer}, "details": {{{inner}}}}}], "task_count": 1}}'
    with world(1) as here, here.exporter() as exporter:
        here.cloud.faults.add(Reply(200, body.encode()), operation="list_tasks")
        exporter.fleet.refresh_and_wait(10)
        snapshot = exporter.refresher.snapshots()[0]
        assert metric(exporter, "internal") == 0
        assert generate_latest(exporter.renderer.registry)

    assert snapshot.failure is None or snapshot.failure.reason != "internal"


@pytest.mark.parametrize("value", ["1e400", "Infinity", float("inf"), float("nan"), 1e300, 10**300])
def test_infinity_is_no_capacity(value: object) -> None:
    """Infinity, and what a byte count of it would be, is no capacity."""
    assert parse_details({"old_capacity": value}).old_capacity is None
    assert number_of(value) is None
    assert integer_of(value) is None


def test_the_traceback_of_the_unforeseen_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own is counted each time; its traceback is written once, without secrets."""

    def broken(*_: object) -> object:
        message = f"cannot read {SECRET_KEY} {'x' * 5000}"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("dcs_task_exporter.cloud.responses._decoded", broken)
    stream = io.StringIO()
    with log_to(stream), world(3) as here, here.exporter() as exporter:
        for _ in range(3):
            here.clock.advance(15)
            exporter.fleet.refresh_and_wait(10)
        assert metric(exporter, "internal") == 9
        failures = [snapshot.failure for snapshot in exporter.refresher.snapshots()]

    assert {failure.reason for failure in failures if failure} == {"internal"}
    first, repeated = [line for line in messages(stream) if "broke the exporter" in line]
    assert "Traceback" in first
    assert "x" * (MAX_TEXT + 1) not in first
    assert repeated.endswith("error=ZeroDivisionError repeated=8")
    assert SECRET_KEY not in stream.getvalue()


def test_the_traceback_of_a_broken_refresh_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault after the answer has one traceback for all instances; its reason is `internal`."""

    def broken(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr("dcs_task_exporter.refresh.instance.count_new", broken)
    stream = io.StringIO()
    with log_to(stream), world(3) as here, here.exporter() as exporter:
        for _ in range(3):
            here.clock.advance(15)
            exporter.fleet.refresh_and_wait(10)
        failures = [snapshot.failure for snapshot in exporter.refresher.snapshots()]

    assert [failure.reason for failure in failures if failure] == ["internal"] * 3
    first, repeated = [line for line in messages(stream) if "refresh of an instance broke" in line]
    assert "Traceback" in first
    assert repeated.endswith("repeated=8")


def test_a_refusal_that_breaks_us_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 whose body breaks the exporter stops the fan-out like any other."""

    def broken(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(responses, "_body", broken)
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(401, b"{}"))
        assert failure_of(here, exporter).reason == "auth"


@pytest.mark.parametrize("status", [101, 103])
def test_informational_answers(status: int) -> None:
    """101 and 103 are told as what they are."""
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(status, b""))
        error = failure_of(here, exporter)

    assert isinstance(error, InvalidResponseError)
    assert error.status == status
    assert f"an informational answer ({status} " in error.message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Wed, 17 Jun 2020 07:38:42 GMT", 1592379522.0),
        ("Wed, 17 Jun 2020 09:38:42 +0200", 1592379522.0),
        ("", None),
        ("yesterday", None),
        ("Mon, 01 Jan 0001 00:00:00 GMT", None),
        ("Thu, 31 Dec 2009 23:59:59 GMT", None),
        ("Fri, 01 Jan 2010 00:00:00 GMT", 1262304000.0),
        ("Wed, 01 Jan 2200 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Fri, 31 Dec 2020 23:59:59 +999999999999999999", None),
        ("9" * 100_000, None),
    ],
)
def test_the_date_of_an_answer(text: str, moment: float | None) -> None:
    """The `Date` header is read as Unix seconds, or not at all."""
    assert date_of({"Date": text}) == moment
    assert date_of({}) is None


@given(st.text())
def test_any_date(text: str) -> None:
    """No text breaks the reading of a date."""
    assert date_of({"Date": text}) is None or text


def positions(secret: str) -> Iterator[tuple[str, bytes]]:
    """Yield whole raw answers, each with the secret in another place, and its name."""
    ok = "HTTP/1.1 200 OK\r\n"

    def answer(status: str, body: str, **headers: str) -> bytes:
        data = body.encode()
        lines = {"Content-Length": str(len(data)), "Connection": "close", **headers}
        head = "".join(f"{name.replace('_', '-')}: {text}\r\n" for name, text in lines.items())
        return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data

    yield "a malformed status line", f"HTTP/x {secret} 200\r\n\r\n".encode()
    yield "the whole status line", f"{secret}\r\n\r\n".encode()
    yield "a status that is none", f"HTTP/1.1 {secret} OK\r\n\r\n".encode()
    yield "the reason", answer(f"500 {secret}", "{}")
    yield "a line that is no header", f"{ok}{secret}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    yield "a header's name", answer("500 x", "{}", **{secret: "x"})
    for name in ("Content_Type", "X_Request_Id", "X_IAM_Trace_Id", "Server", "Retry_After", "Date"):
        for status in ("200 OK", "401 x", "429 x", "500 x"):
            yield f"{name} beside {status}", answer(status, "<html>", **{name: secret})
    yield "Location", answer("302 x", "", Location=f"https://x/?{secret}")
    for name in ("Content_Length", "Content_Encoding", "Transfer_Encoding"):
        yield name, answer("200 OK", "{}", **{name: secret})
    chunked = f"{ok}Transfer-Encoding: chunked\r\n\r\n"
    yield "a chunk's length", f"{chunked}{secret}\r\n{{}}\r\n0\r\n\r\n".encode()
    yield "a chunk's extension", f"{chunked}2;{secret}\r\n{{}}\r\n0\r\n\r\n".encode()
    yield "a trailer", f"{chunked}2\r\n{{}}\r\n0\r\n{secret}\r\n\r\n".encode()
    for text in (secret, f"<html>{secret}", json.dumps(secret), json.dumps({secret: secret})):
        for status in ("200 OK", "404 x", "500 x"):
            yield f"{status} {text[:5]}", answer(status, text)
    for errors in (
        {"error_code": secret, "error_msg": secret, "request_id": secret},
        {"errorCode": secret, "errorMsg": f"{'x' * 290}{secret}"},
        {"code": secret, "message": quote(secret, safe="")},
        {"error": {"message": secret, "code": secret, "title": secret}},
        {"itemNotFound": {"code": secret, "message": json.dumps(secret)}},
    ):
        for status in ("400 x", "401 x", "429 x", "500 x"):
            yield f"{status} {sorted(errors)}", answer(status, json.dumps(errors))


def tasks_with(secret: str, now: float) -> Sequence[Mapping[str, object]]:
    """Return tasks, each with the secret in another field."""
    moment = datetime.fromtimestamp(now - 60, timezone.utc)
    task = {"name": "EXTEND", "status": "SUCCESS", "created_at": f"{moment:%Y-%m-%dT%H:%M:%SZ}"}
    names = ("id", "name", "status", "created_at", "updated_at", "user_name", "user_id")
    rows: list[dict[str, object]] = [
        {"id": f"t-{name}", **task, name: secret}
        for name in (*names, "error_code", "params", "details")
    ]
    for name in TaskDetails.__dataclass_fields__:
        for item in (secret, [secret]):
            details: dict[str, object] = {"old_capacity": "1", "new_capacity": "2", name: item}
            if name.startswith("old"):
                details[f"new{name[3:]}"] = "other"
            about = f"{name}{len(rows)}"  # of each name the latest task is on a label
            rows.append(
                {**task, "id": about, "name": about, "status": "FAILED", "details": details}
            )
    return rows


@contextmanager
def raw_server(answer: list[bytes]) -> Iterator[str]:
    """Send these bytes to whoever asks, and hang up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if not answer:
                    return
                with contextlib.suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(answer[0])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        answer.clear()
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"x")
        thread.join()
        listener.close()


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_every_position(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever an answer echoes a secret, no error, log, metric or traceback shows it."""
    caplog.set_level(logging.DEBUG, "dcs_task_exporter")
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    answer = [b""]
    with raw_server(answer) as url, world(1) as here:
        here.server = _At(url)  # type: ignore[assignment]
        with here.exporter() as exporter:
            for name, raw in positions(secret):
                answer[:] = [raw]
                here.clock.advance(4000)
                error: ApiError | None = None
                try:
                    exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)
                except ApiError as caught:
                    error = caught
                here.clock.advance(4000)
                exporter.fleet.refresh_and_wait(10)
                assert error is None or error.reason != "internal", name
                told = "".join(traceback.format_exception(error)) if error else ""
                told += f"{error!s}{error!r}{exporter.refresher.snapshots()}"
                assert secret not in told, name
            told = generate_latest(exporter.renderer.registry).decode()
    assert secret not in told + logged(caplog)


class _At:
    """Where a server is."""

    def __init__(self, url: str) -> None:
        self.url = url


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return what both formats make of the log."""
    forms = (LogfmtFormatter(), JsonFormatter())
    return "".join(form.format(record) for form in forms for record in caplog.records)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_every_field(
    secret: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Whatever field of a task is a secret: no metric, log, page, command or state file has it."""
    caplog.set_level(logging.DEBUG, "dcs_task_exporter")
    state = tmp_path / "state.db"
    config = tmp_path / "config.yml"
    with world_of_today(1) as here:  # the commands' own clock
        settings = {"personal_labels": "true", "max_task_names": "100"}
        text = here.config_text(collector=settings)
        config.write_text(f"{text}state: {{path: {state}}}\n")
        rows = tasks_with(secret, here.clock.wall)
        listing = json_reply(200, {"tasks": rows, "task_count": len(rows)})
        here.cloud.faults.add(listing, operation="list_tasks")
        for command in (["scrape"], ["tasks"], ["tasks", "--json"], ["check", "--online"]):
            assert main([*command, "--config.file", str(config)]) == 0
        options = Options(clock=here.clock.clock, process_metrics=False)
        exporter = Exporter(load_config(config, {}), options)
        with contextlib.ExitStack() as stack:
            stack.callback(exporter.stop)
            exporter.fleet.refresh_and_wait(10)
            page = exporter.refresher.snapshots()
            told = generate_latest(exporter.renderer.registry).decode() + repr(page)
        assert REDACTED in told
        assert secret not in told
        saved = b"".join(path.read_bytes() for path in tmp_path.glob("state.db*"))
        assert saved
        assert secret.encode() not in saved
    printed = capsys.readouterr()
    assert secret not in printed.out + printed.err + logged(caplog)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_listing_of_instances(secret: str) -> None:
    """No field of an instance or a project that is a secret is shown."""
    row = {"instance_id": "a", "name": "n", "engine": "Redis", "tags": []}
    fields = dict.fromkeys((*row, "engine_version", "spec_code", "status"), secret)
    with world(1) as here, here.exporter() as exporter:
        for name, item in {**fields, "tags": [{"key": secret, "value": secret}]}.items():
            answer_with(here, json_reply(200, {"instances": [{**row, name: item}]}))
            found = exporter.clients["prod"].list_instances(here.clock.steady + 60)
            assert secret not in repr(found)
            here.cloud.faults.clear()


def test_log_lines_are_bounded() -> None:
    """No field of a log line is longer than 1,000 characters, and none breaks the stream."""
    fields = {"a": "x" * 60_000, "b": "\ud83d\n\x1b[31m", "c": Path("y" * 5000)}
    record = logging.LogRecord("x", logging.INFO, "", 1, "z" * 5000, (), None)
    record.fields = fields
    for form in (LogfmtFormatter(), JsonFormatter()):
        line = form.format(record)
        assert len(line) < 4 * MAX_TEXT
        io.TextIOWrapper(io.BytesIO(), "utf-8").write(line)
        assert not {"\x1b", "\n"} & set(line)


def test_a_traceback_is_bounded() -> None:
    """A traceback of a deep recursion with a long message is a bounded text."""

    def deep(number: int) -> None:
        if number == 0:
            raise ValueError("x\n" * 100_000 + "\ud83d")
        deep(number - 1)

    with pytest.raises(ValueError, match="x") as caught:
        deep(200)
    assert len(traceback_of(caught.value)) < 20_000
    assert traceback_of(caught.value).encode()


@pytest.mark.parametrize("secret", [*SECRETS, "/Ab1/cd+ef", "Ab1/cd+ef=="])
@pytest.mark.parametrize("key", ["secret_key_file", "{}"])
def test_check_shows_no_secret(
    secret: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` shows no secret that is written as a file's path, or as a key."""
    with world(1) as here:
        old = f"secret_key: {SECRET_KEY}"
        text = here.config_text()
        assert old in text
        for item in (secret, "x"):
            config = tmp_path / "config.yml"
            config.write_text(text.replace(old, f"{key.format(json.dumps(secret))}: {item}"))
            assert main(["check", "--config.file", str(config)]) == 2
    printed = capsys.readouterr()
    assert secret not in printed.out + printed.err
    assert "credentials" in printed.err
