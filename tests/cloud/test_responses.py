"""Reading answers: what is remembered of them, and the error that each bad one stands for."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from dcs_task_exporter.cloud.responses import (
    MAX_MESSAGE_LENGTH,
    MAX_SECONDS,
    MAX_SEPARATORS,
    MAX_WORD_LENGTH,
    AnswerMemory,
    class_of,
    date_of,
    error_of,
    internal_error,
    make_safe,
    read_json,
)
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    ForbiddenError,
    InternalError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
    ThrottledError,
    TooLargeError,
)
from dcs_task_exporter.text.redaction import REDACTED, Redactor
from tests.support.clouds import scrape, value, world
from tests.support.secrets import secret


def test_the_same_bytes() -> None:
    """The same bytes are recognized; any others are not."""
    memory: AnswerMemory[str] = AnswerMemory()
    assert memory.recall(b"one") is None
    memory.keep(b"one", "parsed")

    assert memory.recall(bytes(bytearray(b"one"))) == "parsed"
    assert memory.recall(b"onf") is None
    assert memory.recall(b"") is None


def test_only_the_latest() -> None:
    """Only the latest answer is kept."""
    memory: AnswerMemory[str] = AnswerMemory()
    memory.keep(b"one", "first")
    memory.keep(b"two", "second")

    assert memory.recall(b"one") is None
    assert memory.recall(b"two") == "second"


def test_a_bad_answer_is_not_kept() -> None:
    """An answer that cannot be parsed is an error each time that it comes."""
    with world(1) as here, here.exporter() as exporter:
        here.cloud.faults.add("task_without_id")
        for _ in range(3):
            found = scrape(exporter, here.clock)
            assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 0


def test_a_pause_until_a_date() -> None:
    """A Retry-After that is a date is the time until then, and none if it has passed."""
    answer = Answer(429, {"Retry-After": "Wed, 17 Jun 2020 07:38:42 GMT"}, b"{}")
    moment = 1_592_379_522.0

    assert error_of(answer, moment - 22).retry_after == 22
    assert error_of(answer, moment + 22).retry_after == 0


NOW = 1_750_000_000.0
NOTHING = Redactor.of(())


def told(
    status: int, body: Any = None, headers: Mapping[str, str] | None = None, now: float = NOW
) -> ApiError:
    """Return the error of an answer."""
    data = b"" if body is None else json.dumps(body).encode()
    return error_of(Answer(status, headers or {}, data), now)


def test_an_error_with_too_many_values() -> None:
    """An error whose body is not read, because it holds too much, is of the same kind."""
    assert isinstance(told(500, [0] * (MAX_SEPARATORS + 2)), ServerError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (100, InvalidResponseError),
        (302, InvalidResponseError),
        (399, InvalidResponseError),
        (400, BadRequestError),
        (401, AuthError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (422, BadRequestError),
        (429, ThrottledError),
        (494, ServerError),
        (499, BadRequestError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_the_kind_of_a_bad_status(status: int, kind: type[ApiError]) -> None:
    """Each bad status stands for one kind of error."""
    assert class_of(status) is kind
    assert type(told(status)) is kind


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            100,
            "an informational answer (100 Continue), which no API here sends: is it a proxy?",
        ),
        (
            199,
            "an informational answer (199 unknown), which no API here sends: is it a proxy?",
        ),
        (302, "a redirect, which a signed request cannot follow: check the endpoint"),
        (400, "HTTP 400 without an explanation"),
        (500, "HTTP 500 without an explanation"),
    ],
)
def test_a_status_without_an_explanation(status: int, message: str) -> None:
    """A bad answer without a message is told by its status."""
    assert told(status).message == message


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error_code": "DCS.1", "error_msg": "no  such\ntask"}, "DCS.1", "no such task"),
        ({"errorCode": "DCS.1", "errorMsg": "no"}, "DCS.1", "no"),
        ({"code": 404, "message": "no"}, "404", "no"),
        ({"error": {"code": "DCS 1", "message": "no"}}, "DCS1", "no"),
        ({"a": {"b": {"c": {"message": "no"}}}}, "", "no"),
        ({"a": {"b": {"c": {"d": {"message": "no"}}}}}, "", "HTTP 500 without an explanation"),
        ({"a": {}, "b": {"message": "no"}}, "", "no"),
        ({"a": {"error_code": "DCS.1"}}, "DCS.1", "HTTP 500 without an explanation"),
        ({"error_code": "DCS.1"}, "DCS.1", "HTTP 500 without an explanation"),
        ({"error_msg": "one", "message": "two"}, "", "one"),
        ({"error_code": ["x"], "error_msg": {"a": 1}}, "", "HTTP 500 without an explanation"),
        ({"error_code": None, "error_msg": "no"}, "", "no"),
        ({"error_msg": " \n"}, "", "HTTP 500 without an explanation"),
        ([], "", "HTTP 500 without an explanation"),
    ],
)
def test_the_texts_of_an_error(body: Any, code: str, message: str) -> None:
    """The code and message are found in each shape of an error, and have no blanks too many."""
    error = told(500, body)
    make_safe(error, Redactor.of(()))

    assert (error.error_code, error.message, error.status) == (code, message, 500)


def test_a_secret_with_blanks() -> None:
    """A password with blanks is found before blanks are taken out of the texts that echo it."""
    password = secret("two  blanks and\ta tab ")
    error = told(401, {"error_code": password, "error_msg": f"wrong password {password}"})
    make_safe(error, Redactor.of((password,)))

    assert (error.error_code, error.message) == (REDACTED, f"wrong password {REDACTED}")


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        ({"X-Request-Id": "r1", "X-IAM-Trace-Id": "t1"}, {"request_id": "b1"}, "r1"),
        ({"X-IAM-Trace-Id": "t1"}, {"request_id": "b1"}, "b1"),
        ({"X-IAM-Trace-Id": "t1"}, {}, "t1"),
        ({}, {}, ""),
    ],
)
def test_the_id_of_the_request(headers: Mapping[str, str], body: Any, found: str) -> None:
    """The request is named by its header, its body or the identity service's header."""
    assert told(500, body, headers).request_id == found


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("999999999", 999_999_999.0),
        ("1000000000", 999_999_999.0),
        ("Sun, 15 Jun 2025 15:06:50 GMT", 10.0),
        ("Sun, 15 Jun 2025 15:06:30 GMT", 0.0),
        ("Sun, 15 Jun 2025 15:06:50", 10.0),
        ("soon", None),
        ("-1", None),
        ("\u0661", None),
    ],
)
def test_the_time_to_wait(header: str, seconds: float | None) -> None:
    """A Retry-After is a number of seconds, or a date."""
    assert told(429, {}, {"Retry-After": header}).retry_after == seconds


@pytest.mark.parametrize(
    ("window", "seconds"),
    [
        ("8 second", 2.0),
        ("1minute", 15.0),
        ("2 hour", 1800.0),
        ("1 day", 21_600.0),
        ("9999999999 second", MAX_SECONDS / 4),
        ("1 week", None),
    ],
)
def test_the_window_of_a_throttling(window: str, seconds: float | None) -> None:
    """Without a Retry-After, a quarter of the window in the message is waited for."""
    message = f"The throttling threshold was reached: policy limit:10,time:{window}."

    assert told(429, {"error_msg": message}).retry_after == seconds
    assert told(429, {"error_msg": message}, {"Retry-After": "3"}).retry_after == 3


def test_no_time_to_wait_where_no_retry_helps() -> None:
    """What is not sent again has no time to wait."""
    assert told(404, {}, {"Retry-After": "7"}).retry_after is None


@pytest.mark.parametrize("status", [200, 201, 299])
def test_a_good_answer(status: int) -> None:
    """Each answer with a good status is decoded."""
    assert read_json(Answer(status, {}, b'{"a": 1}'), NOTHING, NOW) == {"a": 1}


@pytest.mark.parametrize("status", [199, 300])
def test_an_answer_beside_the_good_ones(status: int) -> None:
    """An answer with any other status is an error."""
    with pytest.raises(InvalidResponseError):
        read_json(Answer(status, {}, b'{"a": 1}'), NOTHING, NOW)


def test_no_json() -> None:
    """An answer that is no JSON is told with its type, size and request."""
    headers = {"Content-Type": "text/html", "X-Request-Id": "r1"}
    with pytest.raises(InvalidResponseError) as raised:
        read_json(Answer(200, headers, b"<html>"), NOTHING, NOW)

    assert raised.value.message == "the answer is not JSON (text/html, 6 bytes)"
    assert (raised.value.status, raised.value.request_id) == (200, "r1")


def test_no_json_of_no_type() -> None:
    """An answer that does not say what it is, is told as that."""
    with pytest.raises(InvalidResponseError, match=r"not JSON \(no content type, 1 bytes\)"):
        read_json(Answer(200, {}, b"<"), NOTHING, NOW)


def test_secrets_are_taken_out() -> None:
    """A secret in a good answer does not reach a task."""
    found = read_json(Answer(200, {}, b'{"a": "hunter22"}'), Redactor.of(["hunter22"]), NOW)

    assert "hunter22" not in str(found)


def test_as_many_values_as_are_read() -> None:
    """An answer with 100,000 separators is decoded."""
    body = b"[" + b",".join([b"1"] * MAX_SEPARATORS) + b"]"

    assert read_json(Answer(200, {}, body), NOTHING, NOW) == [1] * MAX_SEPARATORS


def test_one_value_too_many() -> None:
    """An answer with one separator more is not decoded, and the error says why."""
    body = b"[" + b",".join([b"1"] * (MAX_SEPARATORS + 1)) + b"]"
    with pytest.raises(TooLargeError) as raised:
        read_json(Answer(200, {}, body), NOTHING, NOW)

    assert raised.value.message == "the answer holds more than 100,000 values"
    assert raised.value.status == 200


@pytest.mark.parametrize("separator", [b",", b":", b"[", b"{"])
def test_each_separator_counts(separator: bytes) -> None:
    """Commas, colons and opening brackets are counted, in an error too."""
    with pytest.raises(TooLargeError):
        read_json(Answer(200, {}, separator * (MAX_SEPARATORS + 1)), NOTHING, NOW)


def test_an_error_is_bounded_and_redacted() -> None:
    """Long texts are cut, after the secrets were taken out."""
    error = ServerError("hunter22 " + "m" * 400, error_code="c" * 100, request_id="hunter22")
    make_safe(error, Redactor.of(["hunter22"]))

    assert len(error.message) == MAX_MESSAGE_LENGTH == 300
    assert len(error.error_code) == MAX_WORD_LENGTH == 80
    assert "hunter22" not in f"{error.message} {error.request_id}"


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("Sun, 15 Jun 2025 15:06:40 GMT", NOW),
        ("Fri, 01 Jan 2010 00:00:00 GMT", 1_262_304_000.0),
        ("Thu, 31 Dec 2009 23:59:59 GMT", None),
        ("Tue, 31 Dec 2199 23:59:59 GMT", 7_258_118_399.0),
        ("Wed, 01 Jan 2200 00:00:00 GMT", None),
        ("Sun, 15 Jun 2025 15:06:40 GMT" + " " * 35, NOW),
        ("Sun, 15 Jun 2025 15:06:40 GMT" + " " * 36, None),
        ("", None),
    ],
)
def test_the_date_of_an_answer(date: str, moment: float | None) -> None:
    """A date is believed from 2010 to 2199, if it is short."""
    assert date_of({"Date": date}) == moment


def test_an_answer_without_a_date() -> None:
    """An answer need not have a date."""
    assert date_of({}) is None


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (None, InternalError, None),
        (Answer(200, {}, b""), InternalError, 200),
        (Answer(299, {}, b""), InternalError, 299),
        (Answer(300, {}, b""), InvalidResponseError, 300),
        (Answer(401, {}, b""), AuthError, 401),
    ],
)
def test_an_unforeseen_error(
    answer: Answer | None, kind: type[ApiError], status: int | None
) -> None:
    """An unforeseen error stands for what the answer's status says, if that is a bad one."""
    logger = logging.getLogger("test")
    error = internal_error(logger, "it broke", KeyError("x"), {}, str, answer)

    assert type(error) is kind
    assert error.status == status
    assert error.message == "internal error (KeyError): see the log"
