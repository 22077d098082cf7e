"""One call to the API: what odd answers and odd secrets must not do."""

from __future__ import annotations

import gzip
import json
import logging
import traceback
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud import transport
from dcs_task_exporter.cloud.calls import Call
from dcs_task_exporter.cloud.calls import Reply as CallReply
from dcs_task_exporter.cloud.credential import AccessKey
from dcs_task_exporter.cloud.parsing import parse_page, parse_task
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import MAX_THROTTLE_PAUSE, ApiCaller, Retries
from dcs_task_exporter.cloud.responses import AnswerMemory, read_json
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.config.secrets import read_secret
from dcs_task_exporter.credentials.fixed import FixedSource, environment_key
from dcs_task_exporter.errors import (
    ApiConnectionError,
    ApiError,
    AuthError,
    CredentialsError,
    InternalError,
    InvalidResponseError,
    NoSlotError,
    NotFoundError,
    RefusedEarlierError,
    ServerError,
    StoppedError,
    ThrottledError,
)
from dcs_task_exporter.simulator.faults import FAULTS, Reply, gateway_error
from dcs_task_exporter.tasks.models import Task
from dcs_task_exporter.text.redaction import Redactor
from tests.support.clouds import (
    ACCESS_KEY,
    NOW,
    PROJECT,
    SECRET_KEY,
    World,
    answer_with,
    exporter_of,
    scrape,
    value,
    world,
)


def test_a_few_bytes_that_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that unpacks to more than the limit is an error, not a full memory."""
    monkeypatch.setattr(transport, "MAX_BODY_SIZE", 1_000_000)
    bomb = gzip.compress(b" " * (8 << 20))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, bomb, headers))

        with pytest.raises(InvalidResponseError, match="larger than 1 MB"):
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)


def test_chunks_beside_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer in chunks is limited too, whatever length it says that it has."""
    monkeypatch.setattr(transport, "MAX_BODY_SIZE", 1000)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (2000, b" " * 2000)
    headers = {"Content-Length": "2", "Transfer-Encoding": "chunked"}
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, body, headers))

        with pytest.raises(InvalidResponseError, match="larger than"):
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)


DOCUMENTED: Mapping[str, Any] = {
    "name": "EXTEND",
    "user_name": "dcs_000_02",
    "user_id": "d53977d1adfb49c5b025ba7d33a13fd7",
    "details": {
        "old_cache_mode": "single",
        "new_cache_mode": "single",
        "old_capacity": "0.125",
        "new_capacity": "0.25",
        "enable_public_ip": False,
        "public_ip_id": "00000000-0000-0000-0000-000000000000",
        "public_ip_address": "10.3.1.1",
        "enable_ssl": False,
        "old_resource_spec_code": "redis.single.xu1.tiny.125",
        "new_resource_spec_code": "redis.single.xu1.tiny.256",
        "old_replica_num": 1,
        "new_replica_num": 1,
        "old_cache_type": "single",
        "new_cache_type": "single",
        "replica_ip": "192.192.0.1",
        "replica_az": "az01",
        "group_name": "group1",
        "old_port": 6379,
        "new_port": 6379,
        "is_only_adjust_charging": False,
        "account_name": "account1",
        "source_ip": "192.192.0.0",
        "target_ip": "192.192.0.1",
        "node_name": "node1",
        "rename_commands": ["command", "keys", "flushdb", "flushall", "hgetall"],
        "updated_config_length": 0,
    },
    "enable_show": False,
    "status": "SUCCESS",
    "updated_at": "2025-06-14T08:18:10.106Z",
    "error_code": "",
    "job_id": "8abf6e1e72c12e7c0172c15b508500aa",
}
"""A task with every field that the API documents."""


def test_a_thousand_documented_tasks() -> None:
    """A page of 1,000 tasks, each with every documented field, is read at once."""
    with world(1) as here, here.exporter(page_size=1000) as exporter:
        for _ in range(1000):
            here.cloud.start_task("i0", **DOCUMENTED)
        found = scrape(exporter, here.clock)
        limits = {request.query["limit"] for request in here.cloud.requests}

    assert value(found, "dcs_tasks_recent", task_name="EXTEND", status="SUCCESS") == 1000
    assert limits == {"1000"}


def asked(here: World, body: bytes, headers: Mapping[str, str]) -> tuple[str, list[int], float]:
    """Read an instance whose every answer is this.

    Return the error, the limits that were asked for, and the most memory that it took, in MB.
    """
    with here.exporter() as exporter:
        answer_with(here, Reply(200, body, headers))
        tracemalloc.start()
        try:
            found = scrape(exporter, here.clock)
            peak = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        (snapshot,) = exporter.refresher.snapshots()
    assert value(found, "dcs_instance_up", dcs_instance_id="i0") == 0
    assert snapshot.failure is not None
    limits = [int(request.query["limit"]) for request in here.cloud.requests]
    return snapshot.failure.message, limits, peak


def of_size(size: int, piece: bytes) -> bytes:
    """Return a list of that many bytes, of the same piece again and again."""
    return b"[" + (piece * (size // len(piece)))[:-1] + b"]"


def keys(number: int, value: str) -> bytes:
    """Return an object of many keys."""
    pairs = ",".join(f'"{at:x}":{value}' for at in range(number))
    return f"{{{pairs}}}".encode()


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_of_60_megabytes(*, packed: bool) -> None:
    """60 MB of empty lists, packed or not, are not read; packed they cost less than 20 MB."""
    body = of_size(60_000_000, b"[],")
    headers = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(body, 1) if packed else body
    with world(1) as here:
        message, limits, peak = asked(here, body, headers)

    assert message == "the answer is larger than 2 MB, although it was asked for one row"
    assert limits == [100, 50, 25, 12, 6, 3, 1]
    # The simulated cloud, which is in the same process, holds what is not packed as well.
    assert packed is False or peak < 20


WORST = {
    "lists": of_size(2_000_000, b"[],"),
    "objects": of_size(2_000_000, b"{},"),
    "nested": of_size(1_990_000, b"[" * 900 + b"]" * 900 + b","),
    "nested for ever": b"[" * 2_000_000,
    "numbers": of_size(2_000_000, b"1e9,"),
    "texts": of_size(2_000_000, b'"ab",'),
    "keys": keys(150_000, "1e9"),
    "rows": b'{"tasks":' + of_size(1_990_000, b'{"id":"a"},') + b"}",
    "an error": b'{"error":' + keys(150_000, "[]") + b"}",
}


@pytest.mark.parametrize("name", WORST)
@pytest.mark.parametrize("status", [200, 500])
def test_two_megabytes_of_small_values(
    name: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of 2 MB with more values than 1,000 tasks have is not decoded, error or not."""
    decoded: list[object] = []
    monkeypatch.setattr(json, "loads", decoded.append)
    with pytest.raises(ApiError) as it:
        read_json(Answer(status, {}, WORST[name]), Redactor.of(()), 0.0)

    assert decoded == []
    assert it.value.status == status
    if status == 200:
        assert "holds more than 100,000 values" in it.value.message


def test_rows_that_nobody_asked_for() -> None:
    """A page of more rows than can be asked for is an error before any row is parsed."""
    parsed: list[object] = []

    def parse(row: object) -> Task:
        parsed.append(row)
        return parse_task(row)

    with pytest.raises(InvalidResponseError, match="has 1001 rows, more than were asked for"):
        parse_page({"tasks": [{"id": "a"}] * 1001}, parse)

    assert parsed == []


def test_a_length_without_end() -> None:
    """A length of more digits than a number may have is an answer like any other."""
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, b"{}", {"Content-Length": "9" * 5000}))

        with pytest.raises(ApiError):
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)


def test_terraforms_names_have_a_token_of_their_own() -> None:
    """The token of a temporary key is taken from the variable that belongs to the key's names."""
    pair = {"HW_ACCESS_KEY": "ak", "HW_SECRET_KEY": "sk", "HW_SECURITY_TOKEN": "mine"}
    other = {"HUAWEICLOUD_SDK_SECURITY_TOKEN": "another"}

    assert environment_key({**pair, **other}) == AccessKey("ak", "sk", "mine")


def test_a_cut_answer_is_not_quoted() -> None:
    """What came of a cut answer is in no message: it holds the names of people."""
    body = b'{"task_count": 1, "tasks": [{"user_name": "alice@example.com", "id": "'
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, body, {"Content-Length": "1000"}, manner="cut"))

        with pytest.raises(ApiError) as raised:
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)

    url = f"{here.server.url}/v2/{PROJECT}/instances/i0/tasks"
    told = f"the connection to {url} broke: the answer was cut after {len(body)} bytes"
    assert raised.value.message == told


def test_a_date_beyond_all_dates() -> None:
    """A Retry-After whose date no calendar has is none; the request counts as throttled."""
    odd = "Fri, 31 Dec 2020 23:59:59 +999999999999999999"
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, gateway_error(429, "APIGW.0308", "too many", Retry_After=odd))

        with pytest.raises(ThrottledError):
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)


def test_a_pause_without_end_is_none() -> None:
    """A Retry-After beyond all sense stops the project for an hour, not for good."""
    with world(1) as here, here.exporter() as exporter:
        headers = {"Retry-After": "9" * 30}
        reply = gateway_error(429, "APIGW.0308", "The throttling threshold was reached", **headers)
        answer_with(here, reply)
        exporter.fleet.refresh_and_wait(10)
        here.cloud.faults.clear()
        here.clock.advance(MAX_THROTTLE_PAUSE + 1)
        exporter.fleet.refresh_and_wait(10)

        assert exporter.refresher.snapshots()[0].up


def test_a_failed_look_up_stands_for_all() -> None:
    """When the project's id cannot be looked up, that is asked once, not by each instance."""
    with world(20) as here:
        line = next(line for line in here.config_text().splitlines() if "project_id" in line)
        with exporter_of(here, here.config_text().replace(f"{line}\n", "")) as exporter:
            here.cloud.faults.add("unavailable")
            exporter.fleet.refresh_and_wait(10)

            assert here.cloud.count("list_projects") == 1
            here.cloud.faults.clear()
            here.clock.advance(15)
            exporter.fleet.refresh_and_wait(10)
            assert all(snapshot.up for snapshot in exporter.refresher.snapshots())


@pytest.mark.parametrize("content", ["abc\ndef", "abc def", "pässword", "abc\x00"])
def test_a_secret_that_no_header_carries(tmp_path: Path, content: str) -> None:
    """A secret that was wrapped or cut is refused where it is read; the error does not show it."""
    file = tmp_path / "sk"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(CredentialsError, match="printable ASCII") as from_file:
        read_secret(file)
    with pytest.raises(CredentialsError, match="CLOUD_SDK_SK must hold") as from_environment:
        environment_key({"CLOUD_SDK_AK": "a", "CLOUD_SDK_SK": content})

    for caught in (from_file, from_environment):
        assert content not in "".join(traceback.format_exception(caught.value))


@dataclass
class Calls:
    """A caller whose answers are scripted, and whose sleeps move the clock."""

    key: AccessKey = field(default_factory=lambda: AccessKey(ACCESS_KEY, SECRET_KEY))
    now: float = 0.0
    script: dict[str, list[Answer]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    on_send: Callable[[], None] = lambda: None
    source: Callable[[], AccessKey] | None = None
    retries: int = 1
    jitter: float = 0.5
    stops: bool = False
    counted: list[tuple[object, ...]] = field(default_factory=list)
    memory: AnswerMemory[object] = field(default_factory=AnswerMemory)

    def __post_init__(self) -> None:
        clock = Clock(lambda: NOW, lambda: self.now)
        limit, retries = (
            RateLimit(10, clock, self.wait),
            Retries(self.retries, self.wait, lambda: self.jitter),
        )
        self.caller = ApiCaller(
            "prod",
            self,  # type: ignore[arg-type] # it stands in for the transport
            FixedSource(self.read_key),
            limit,
            self,
            retries,
            clock,
        )

    def request(self, project: str, operation: str, code: str, seconds: float) -> None:
        """Note a request; how long it took is another at each run."""
        assert seconds >= 0
        self.counted.append(("request", project, operation, code))

    def error(self, project: str, operation: str, reason: str) -> None:
        self.counted.append(("error", project, operation, reason))

    def retry(self, project: str) -> None:
        self.counted.append(("retry", project))

    def throttle_wait(self, project: str, seconds: float) -> None:
        self.counted.append(("wait", project, round(seconds, 3)))

    def credentials_expiry(self, project: str, timestamp: float | None) -> None:
        self.counted.append(("expiry", project, timestamp))

    def read_key(self) -> AccessKey:
        """Return the key as it is now, or what `source` says."""
        return self.source() if self.source else self.key

    def send(self, url: str, auth: Any, *_: object) -> Answer:
        """Answer a request, as the transport does."""
        self.sent.append(url)
        self.signed.append(auth._credential.secret_key)  # noqa: SLF001 - what it is signed with
        self.on_send()
        answers = self.script.get(url)
        return answers.pop(0) if answers else Answer(200, {}, b"{}")

    def wait(self, seconds: float) -> bool:
        """Sleep: the clock moves, and what happens meanwhile happens once."""
        self.slept.append(seconds)
        self.now += seconds
        done, self.meanwhile = self.meanwhile, lambda: None
        done()
        return self.stops

    def refuse(self) -> None:
        """Let the requests of two instances be refused: that is the key's fault."""
        for name in "bc":
            with pytest.raises(AuthError):
                self.ask(name)

    def ask(self, subject: str, *, patience: float = 60) -> object:
        deadline = self.now + patience
        call = Call("list_tasks", subject, deadline, lambda data: data, subject=subject)
        return self.caller.get(call).value


REFUSED = Answer(401, {}, b'{"error_code": "APIGW.0301", "error_msg": "no"}')
THROTTLED = Answer(429, {}, b'{"error_code": "IAM.0012", "error_msg": "too many"}')
UNAVAILABLE = Answer(503, {}, b"")


def test_a_retry_does_not_slip_past_the_gate() -> None:
    """A request that is asked again is not sent when the key was refused meanwhile."""
    calls = Calls(script={"a": [UNAVAILABLE], "b": [REFUSED], "c": [REFUSED]})
    calls.meanwhile = calls.refuse
    with pytest.raises(RefusedEarlierError):
        calls.ask("a")
    assert calls.sent == ["a", "b", "c"]


def test_a_new_key_is_taken_after_a_pause() -> None:
    """A request that waited for its turn is signed with the key as it is then."""
    calls = Calls()
    calls.ask("a")
    new = AccessKey(ACCESS_KEY, "another")
    calls.meanwhile = lambda: setattr(calls, "key", new)
    calls.ask("b")

    assert calls.slept
    assert calls.signed == [SECRET_KEY, "another"]


def test_what_waits_for_its_turn_is_stopped_by_a_refusal() -> None:
    """A request that waits for the rate limit is not sent when the key is refused meanwhile."""
    calls = Calls(script={"b": [REFUSED], "c": [REFUSED]})
    calls.ask("a")
    calls.meanwhile = calls.refuse
    with pytest.raises(RefusedEarlierError):
        calls.ask("d")
    assert calls.sent == ["a", "b", "c"]


def test_a_key_that_changes_while_it_is_refused() -> None:
    """A request that was refused with an old key is sent again with the new one at once."""
    calls = Calls(script={"a": [REFUSED]})
    calls.on_send = lambda: setattr(calls, "key", AccessKey(ACCESS_KEY, "another"))
    calls.ask("a")

    assert calls.signed == [SECRET_KEY, "another"]
    assert calls.now < 1


def test_a_key_that_changes_all_the_time() -> None:
    """A request is sent again for a new key once: the second refusal stands."""
    calls = Calls(script={"a": [REFUSED] * 9})
    calls.on_send = lambda: setattr(calls, "key", AccessKey(ACCESS_KEY, f"key {len(calls.sent)}"))
    with pytest.raises(AuthError):
        calls.ask("a")

    assert len(calls.sent) == 2


def test_a_refused_key_that_stays() -> None:
    """A key that is refused and has not changed is not sent again."""
    calls = Calls(script={"a": [REFUSED] * 9})
    with pytest.raises(AuthError):
        calls.ask("a")

    assert len(calls.sent) == 1


def test_a_key_file_that_goes_away_while_it_is_refused() -> None:
    """A key that cannot be read any more is no new key: the refusal is the error."""
    calls = Calls(script={"a": [REFUSED]})

    def gone() -> AccessKey:
        if calls.sent:
            message = "cannot read the file"
            raise CredentialsError(message)
        return calls.key

    calls.source = gone
    with pytest.raises(AuthError, match="no"):
        calls.ask("a")

    assert len(calls.sent) == 1


def test_throttled_together_all_wait() -> None:
    """When two instances are throttled, without a time, the whole project is held back."""
    calls = Calls(script={"a": [THROTTLED] * 2, "b": [THROTTLED]})
    calls.ask("x")
    with pytest.raises(ThrottledError):
        calls.ask("a", patience=0.5)
    with pytest.raises(ThrottledError):
        calls.ask("b", patience=0.5)
    began = calls.now
    calls.ask("c")

    assert calls.now - began == pytest.approx(1)


def test_throttled_alone_nobody_else_waits() -> None:
    """When one instance is throttled, without a time, the others are asked at the even pace."""
    calls = Calls(script={"a": [THROTTLED] * 9})
    for name in "xab":
        with suppress(ThrottledError):
            calls.ask(name, patience=0.5)

    assert calls.sent == ["x", "a", "b"]
    assert calls.now == pytest.approx(0.2)
    with pytest.raises(ThrottledError, match="this instance was refused, next try in 1 s"):
        calls.ask("a", patience=0.5)


def test_a_named_time_holds_all() -> None:
    """A 429 that names a time holds back the whole project for it, whoever it came for."""
    named = Answer(429, {"Retry-After": "20"}, b"{}")
    calls = Calls(script={"a": [named]})
    with pytest.raises(ThrottledError):
        calls.ask("a", patience=10)
    with pytest.raises(NoSlotError):
        calls.ask("b", patience=10)
    calls.ask("b")

    assert calls.now == pytest.approx(20)


def test_a_time_beyond_the_deadline_is_told_as_it_came() -> None:
    """A 429 whose time is beyond the deadline is not asked again: the error is the cloud's own."""
    calls = Calls(script={"a": [Answer(429, {"Retry-After": "20"}, b"{}")]})
    with pytest.raises(ThrottledError) as caught:
        calls.ask("a", patience=10)

    assert (caught.value.status, calls.slept) == (429, [])


def test_an_overloaded_cloud_names_the_pause() -> None:
    """A 503 with a Retry-After is asked again after that time."""
    calls = Calls(script={"a": [Answer(503, {"Retry-After": "20"}, b"")]})
    calls.ask("a")

    assert calls.slept == [20]


@pytest.mark.parametrize(
    ("jitter", "pauses"),
    [
        (0.0, [0.125, 0.25, 0.5, 1, 2, 4, 8, 15, 15]),
        (0.5, [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]),
        (1.0, [0.375, 0.75, 1.5, 3, 6, 12, 24, 45, 45]),
    ],
)
def test_the_pauses_before_retries(jitter: float, pauses: list[float]) -> None:
    """The pause doubles with each retry, from a quarter of a second up to 30, give or take half."""
    calls = Calls(script={"a": [UNAVAILABLE] * 9}, retries=9, jitter=jitter)
    calls.ask("a", patience=1000)

    assert [pause for pause in calls.slept if pause > 0.11] == pauses


def test_a_server_that_names_a_time() -> None:
    """A pause that a server asks for is kept, and never shortens our own."""
    named = [Answer(503, {"Retry-After": after}, b"") for after in ("7", "0")]
    calls = Calls(script={"a": named}, retries=2)
    calls.ask("a")

    assert calls.slept == [7, 0.5]


def test_throttled_again_and_again() -> None:
    """After a 429 without a time the pause before the retry doubles from one second to 30."""
    calls = Calls(script={"": [THROTTLED] * 7}, retries=7)
    calls.ask("", patience=1000)
    pauses = [pause for pause in calls.slept if pause > 0.11]

    assert pauses == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(("after", "pause"), [("20", 20), ("3600", 3600), ("3601", 3600)])
def test_a_named_pause_is_bounded(after: str, pause: float) -> None:
    """A pause that a 429 names is kept, up to an hour."""
    calls = Calls(script={"a": [Answer(429, {"Retry-After": after}, b"{}")]})
    calls.ask("a", patience=10_000)

    assert calls.now == pause


@pytest.mark.parametrize(("retries", "sent"), [(0, 1), (1, 2), (2, 3)])
def test_the_number_of_retries(retries: int, sent: int) -> None:
    """A request is repeated as often as the configuration says, and then fails."""
    calls = Calls(script={"a": [UNAVAILABLE] * 9}, retries=retries)
    with pytest.raises(ServerError):
        calls.ask("a")

    assert calls.sent == ["a"] * sent


@pytest.mark.parametrize(("patience", "sent"), [(0.25, 1), (0.26, 2)])
def test_no_retry_at_the_deadline(patience: float, sent: int) -> None:
    """A request is not repeated where the pause ends at the deadline or later."""
    calls = Calls(script={"a": [UNAVAILABLE] * 9})
    with pytest.raises(ServerError):
        calls.ask("a", patience=patience)

    assert len(calls.sent) == sent


def test_what_cannot_help_is_not_repeated() -> None:
    """A request that the API refuses is not sent again."""
    calls = Calls(script={"a": [Answer(404, {}, b"{}")]}, retries=5)
    with pytest.raises(NotFoundError):
        calls.ask("a")

    assert calls.sent == ["a"]


def test_stopped_before_a_retry() -> None:
    """A request is not sent again when the exporter stops in the pause before."""
    calls = Calls(script={"a": [UNAVAILABLE]}, stops=True)
    with pytest.raises(StoppedError, match="the exporter is stopping"):
        calls.ask("a")

    assert calls.sent == ["a"]


def test_what_is_counted() -> None:
    """Each request, error, retry and wait is counted once, for its project and operation."""
    calls = Calls(key=replace(AccessKey("a", "b"), expires_at=9.0), script={"a": [UNAVAILABLE]})
    calls.ask("a")
    calls.ask("a")

    assert calls.counted == [
        ("expiry", "prod", 9.0),
        ("request", "prod", "list_tasks", "503"),
        ("error", "prod", "list_tasks", "server"),
        ("retry", "prod"),
        ("expiry", "prod", 9.0),
        ("request", "prod", "list_tasks", "200"),
        ("expiry", "prod", 9.0),
        ("wait", "prod", 0.1),
        ("request", "prod", "list_tasks", "200"),
    ]


def test_a_request_without_an_answer() -> None:
    """A request that no answer came to is counted as an error."""

    def hang_up() -> None:
        message = "no answer"
        raise ApiConnectionError(message)

    calls = Calls(on_send=hang_up, retries=0)
    with pytest.raises(ApiConnectionError):
        calls.ask("a")

    assert calls.counted[1:] == [
        ("request", "prod", "list_tasks", "error"),
        ("error", "prod", "list_tasks", "connection"),
    ]


@pytest.mark.parametrize(("own", "known"), [("r2", "r2"), ("", "r1")])
def test_a_wrong_shape_is_told_with_its_request(own: str, known: str) -> None:
    """The error of an answer with a wrong shape has its status, and the id of its request."""

    def refuse(data: object) -> object:
        message = f"what is {data}"
        raise InvalidResponseError(message, request_id=own)

    calls = Calls(retries=0, script={"a": [Answer(202, {"X-Request-Id": "r1"}, b"1")]})
    with pytest.raises(InvalidResponseError, match="what is 1") as raised:
        calls.caller.get(Call("list_tasks", "a", 60.0, refuse))

    assert (raised.value.status, raised.value.request_id) == (202, known)


def test_a_reply_has_the_clouds_time() -> None:
    """A reply has the time of the answer's `Date`, where it has one."""
    dated = Answer(200, {"Date": "Sun, 15 Jun 2025 15:06:40 GMT"}, b"1")
    calls = Calls(script={"a": [dated]})
    call = Call("list_tasks", "a", 60.0, lambda data: data)

    assert calls.caller.get(call) == CallReply(1, 1_750_000_000.0)
    assert calls.caller.get(call) == CallReply({}, None)


@pytest.mark.parametrize(("status", "parsed"), [(200, [1]), (201, [1, 1])])
def test_only_a_good_answer_is_remembered(status: int, parsed: list[int]) -> None:
    """The same answer is parsed once, if its status is 200."""
    calls, found = Calls(script={"a": [Answer(status, {}, b"1")] * 2}), list[object]()

    def parse(data: object) -> object:
        found.append(data)
        return data

    for _ in range(2):
        call = Call("list_tasks", "a", 60.0, parse, memory=calls.memory)
        assert calls.caller.get(call).value == 1

    assert found == parsed


def test_an_instance_that_alone_is_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the instance that the cloud refuses, and the refusal."""
    calls = Calls(script={"a": [REFUSED]})
    calls.ask("x")
    with pytest.raises(AuthError):
        calls.ask("a")
    caplog.clear()
    calls.ask("b")

    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    fields = vars(line)["fields"]
    assert (fields["project"], fields["dcs_instance_id"]) == ("prod", "a")
    assert (fields["status"], fields["error_code"]) == (401, "APIGW.0301")


def test_every_fault_is_survived() -> None:
    """After any failure that the cloud knows, an instance is read again once it is over."""
    quick = [name for name, reply in FAULTS.items() if not reply.manner.startswith(("dr", "sil"))]
    with world(1) as here, here.exporter() as exporter:
        for name in quick:
            here.cloud.faults.add(name)
            here.clock.advance(400)
            exporter.fleet.refresh_and_wait(10)
            assert not exporter.refresher.snapshots()[0].up, name
            here.cloud.faults.clear()
            here.clock.advance(400)
            exporter.fleet.refresh_and_wait(10)
            assert exporter.refresher.snapshots()[0].up, name


def test_a_replaced_caller_sends_no_more() -> None:
    """A caller that made way for another sends nothing, also what had waited for its turn."""
    calls = Calls()
    calls.ask("a")
    calls.meanwhile = calls.caller.make_way
    with pytest.raises(StoppedError):
        calls.ask("b")
    with pytest.raises(StoppedError):
        calls.ask("c")

    assert calls.sent == ["a"]


def test_a_refused_key_is_not_retried() -> None:
    """A 401 is an error at once: neither a pause nor a retry follows, whatever number may."""
    calls = Calls(script={"a": [REFUSED] * 9}, retries=5)
    with pytest.raises(AuthError) as raised:
        calls.ask("a")

    assert not isinstance(raised.value, RefusedEarlierError)
    assert (calls.sent, calls.slept) == (["a"], [])
    assert ("retry", "prod") not in calls.counted


def test_a_refused_key_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is logged when it is another than the latest, or after an accepted request."""
    other = Answer(401, {}, b'{"error_code": "APIGW.0303", "error_msg": "expired"}')
    calls = Calls(script={"a": [REFUSED, REFUSED, other]}, retries=0)
    codes = []
    for number in range(5):
        calls.now += 600
        with suppress(AuthError):
            calls.ask("x" if number == 3 else "a")
        if number == 3:
            calls.script["a"] = [other]
        found = [vars(line)["fields"] for line in caplog.records if line.levelname == "ERROR"]
        codes.append([fields["error_code"] for fields in found])
        assert all(fields["project"] == "prod" for fields in found)
        caplog.clear()

    assert codes == [["APIGW.0301"], [], ["APIGW.0303"], [], ["APIGW.0303"]]


def test_what_the_transport_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method, the body and the headers of a call are sent."""
    calls = Calls()
    given: list[tuple[object, ...]] = []

    def send(url: str, _auth: object, *more: object) -> Answer:
        given.append((url, *more))
        return Answer(200, {}, b"{}")

    monkeypatch.setattr(calls, "send", send)
    call = Call("o", "u", 60.0, lambda data: data, method="POST", body=b"x", headers={"a": "b"})
    calls.caller.get(call)

    assert given == [("u", "POST", b"x", {"a": "b"})]


@pytest.mark.parametrize(("status", "kind"), [(200, InternalError), (503, ServerError)])
def test_an_answer_that_breaks_the_parser(
    status: int, kind: type[ApiError], caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is logged with its project and operation, and is an error with the answer's status."""

    def read(*_: object) -> object:
        raise KeyError("x")  # noqa: EM101 - a bug of ours

    calls = Calls(retries=0, script={"a": [Answer(status, {}, b"{}")]})
    call = Call("list_tasks", "a", 60.0, lambda data: data, read=read)
    with pytest.raises(kind) as raised:
        calls.caller.get(call)

    assert type(raised.value) is kind
    assert raised.value.status == status
    fields = vars(caplog.records[0])["fields"]
    assert (fields["project"], fields["operation"]) == ("prod", "list_tasks")
