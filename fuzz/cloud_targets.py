"""The parsing of the cloud's answers as functions of bytes, for a fuzzer and for a test.

The client under test is the real one, up to the text that a scrape gets; only the network is not
there. An input of most targets is a few answers, as text (`answers_in`); each request takes the
next one, and the last answers all that follow.
"""

from __future__ import annotations

import json
import math
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from typing import Any, Final
from unittest import mock

import urllib3
from requests.auth import AuthBase

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.cloud import values
from dcs_task_exporter.cloud.client import DcsClient
from dcs_task_exporter.cloud.credential import AccessKey, CredentialSource
from dcs_task_exporter.cloud.rate_limit import RateLimit
from dcs_task_exporter.cloud.request import ApiCaller, Retries
from dcs_task_exporter.cloud.transport import Answer, Transport
from dcs_task_exporter.config.credentials import EnvironmentCredentials
from dcs_task_exporter.config.model import CollectorConfig, ProjectConfig
from dcs_task_exporter.credentials.fixed import FixedSource
from dcs_task_exporter.errors import ApiError
from dcs_task_exporter.tasks.counting import CountingRules, count_new, listing_start
from dcs_task_exporter.tasks.instance_state import InstanceState, reveal
from dcs_task_exporter.tasks.models import Instance, Listing
from dcs_task_exporter.tasks.snapshots import Snapshot, task_metrics
from dcs_task_exporter.text.times import parse_time
from fuzz.checks import NOW, Target, UnsoundError, expect, logged, page

TIME_LIMIT: Final = 60.0
LOOKBACK: Final = 30 * 86_400.0
BETWEEN_ANSWERS: Final = b"\n---\n"
KEY: Final = AccessKey("FUZZAK5F2D8S1G4H7J0K", "fuzz-sk-0123456789abcdefghijklmnopqrstuvw")
RULES: Final = CountingRules(LOOKBACK)
INSTANCE: Final = Instance("5560df16-cebf-4473-95c4-d1b573c16e79", "cache", "p")

_END_OF_PAGES: Final = Answer(200, {}, b'{"tasks": [], "instances": []}')
_STATUS: Final = re.compile(rb"[1-9]\d\d")


def answers_in(data: bytes) -> list[Answer]:
    """Return the answers of an input: a status, headers, an empty line, a body, ``---``."""
    return [_answer(part) for part in data.split(BETWEEN_ANSWERS)]


def _answer(part: bytes) -> Answer:
    head, _, body = part.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    found = _STATUS.match(first)
    headers = urllib3.HTTPHeaderDict()
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        headers.add(name.strip(), value.strip())
    return Answer(int(found[0]) if found else 200, headers, body)


class _Clock:
    """Time that only waiting makes pass."""

    def __init__(self) -> None:
        self.passed = 1000.0

    def wait(self, seconds: float) -> bool:
        """Pass a pause, which must be one that a thread can sleep."""
        if not 0 <= seconds <= TIME_LIMIT:
            message = f"a pause of {seconds} s"
            raise UnsoundError(message)
        self.passed += seconds
        return False


class _Silent:
    """Counts nothing."""

    def request(self, project: str, operation: str, code: str, seconds: float) -> None: ...
    def error(self, project: str, operation: str, reason: str) -> None: ...
    def retry(self, project: str) -> None: ...
    def throttle_wait(self, project: str, seconds: float) -> None: ...
    def credentials_expiry(self, project: str, timestamp: float | None) -> None: ...


class Canned(Transport):
    """Gives one answer after the other, as a cloud does that has these pages.

    A listing that is read again begins with the first, and past the last it is empty; a failure
    is what it was when it is asked again.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers
        self._given = 0
        self._latest = answers[0]

    def send(self, url: str, auth: AuthBase, *_: object) -> Answer:  # noqa: ARG002 - its base's names
        """Return the next answer."""
        went_well = self._latest.status == HTTPStatus.OK
        if "offset=0" in url and went_well:
            self._given = 0
        if self._given < len(self._answers):
            self._latest = self._answers[self._given]
        elif "offset=" in url and went_well:
            self._latest = _END_OF_PAGES
        self._given += 1
        return self._latest

    def close(self) -> None:
        """Keep nothing open."""


@contextmanager
def documented() -> Iterator[None]:
    """Let pass an `ApiError` whose texts can be written."""
    try:
        with logged():
            yield
    except ApiError as error:
        "".join((str(error), error.message, error.error_code, error.request_id)).encode()


def caller_of(transport: Transport, source: CredentialSource) -> tuple[ApiCaller, Clock]:
    """Return a caller over a transport, and its clock, on which only waiting takes time."""
    time = _Clock()
    clock = Clock(lambda: NOW, lambda: time.passed)
    limit, retries = RateLimit(1000.0, clock, time.wait), Retries(1, time.wait, lambda: 0.5)
    return ApiCaller("p", transport, source, limit, _Silent(), retries, clock), clock


def _client(transport: Transport, *, project_id: str = "a4d31cb63d724fdc") -> DcsClient:
    caller, clock = caller_of(transport, FixedSource(lambda: KEY))
    # Not validated: plain HTTP is for loopback only.
    project = ProjectConfig.model_construct(
        name="p",
        region="r",
        endpoint="http://dcs.test",
        iam_endpoint="http://iam.test",
        project_id=project_id,
        credentials=EnvironmentCredentials(type="environment"),
    )
    collector = CollectorConfig(max_pages=4, personal_labels=True)
    return DcsClient(project, collector, caller, clock, lambda: NOW)


def deadline() -> float:
    """Return the latest time at which a request may begin."""
    return _Clock().passed + TIME_LIMIT


def _tasks_shown(transport: Transport) -> bytes:
    """List the tasks of an instance and count them, twice as refreshes do; render the second."""
    client, state = _client(transport), InstanceState()
    listing = Listing((), NOW)
    for now in (NOW, NOW + 60):
        start = listing_start(state, now, LOOKBACK)
        listing = client.list_tasks(INSTANCE.id, start, deadline())
        answered_at = listing.answered_at
        is_time = answered_at is None or math.isfinite(answered_at)
        expect(is_time, f"an answer's time is {answered_at}")
        state = reveal(count_new(state, listing, now, RULES)[0], state.shown)
    shown = task_metrics(state, listing, NOW + 60, RULES)
    return page([Snapshot(INSTANCE, up=True, metrics=shown, refreshed_at=NOW)])


def error_answers(data: bytes) -> Sequence[bytes]:
    """Read answers that are mostly errors."""
    with documented():
        _client(Canned(answers_in(data))).task_progress(INSTANCE.id, "t", deadline())
    return ()


def task_pages(data: bytes) -> Sequence[bytes]:
    """Read the pages of a listing of tasks twice, and render its tasks."""
    texts: list[bytes] = []
    with documented():
        texts.append(_tasks_shown(Canned(answers_in(data))))
    return texts


def instances(data: bytes) -> Sequence[bytes]:
    """Read a listing of instances, and show them."""
    texts: list[bytes] = []
    with documented():
        found = _client(Canned(answers_in(data))).list_instances(deadline())
        texts.append(page([Snapshot(instance) for instance in found]))
    return texts


def center_and_progress(data: bytes) -> Sequence[bytes]:
    """Read the same answers as the task centre's, as a task's progress, and as projects."""
    answers = answers_in(data)
    with documented():
        _client(Canned(answers)).list_center_tasks(NOW - LOOKBACK, deadline())
    with documented():
        progress = _client(Canned(answers)).task_progress(INSTANCE.id, "t", deadline())
        for number in (progress.ratio, progress.remaining):
            expect(number is None or math.isfinite(number), f"a progress of {number}")
    with documented():
        _client(Canned(answers), project_id="").list_instances(deadline())
    return ()


def times_and_numbers(data: bytes) -> Sequence[bytes]:
    """Read one JSON value as each kind of value."""
    with suppress(ValueError, RecursionError):
        value = json.loads(data)
        _read_as_each_kind(value)
    return ()


def http_wire(data: bytes) -> Sequence[bytes]:
    """Read the bytes that a server sends, whatever it is asked."""
    peers: list[socket.socket] = []

    def connect(*_args: Any, **_kwargs: Any) -> socket.socket:
        ours, theirs = socket.socketpair()
        peers.append(theirs)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return ours

    transport = _wire()
    try:
        with (
            mock.patch.object(urllib3.util.connection, "create_connection", connect),
            documented(),
        ):
            _client(transport).task_progress(INSTANCE.id, "t", deadline())
    finally:
        transport.close()
        for peer in peers:
            peer.close()
    return ()


@cache
def _wire() -> Transport:
    return Transport(timeout=5, connections=1, user_agent="fuzz")


def _read_as_each_kind(value: object) -> None:
    number = values.number_of(value)
    expect(number is None or math.isfinite(number), f"a number that is {number}")
    moment = parse_time(value)
    expect(moment is None or math.isfinite(moment), f"a time that is {moment}")
    values.integer_of(value)
    values.boolean_of(value)
    tags = values.tags_of(value)
    texts = (
        values.text_of(value),
        values.word_of(value),
        *values.texts_of(value),
        *tags,
        *tags.values(),
    )
    "".join(texts).encode()
    with documented():
        values.required(values.object_of(value, "a row"), "id", "a row")


CLOUD_TARGETS: Final = (
    Target("error_answers", error_answers),
    Target("task_pages", task_pages),
    Target("instances", instances),
    Target("center_and_progress", center_and_progress),
    Target("times_and_numbers", times_and_numbers, "json"),
    Target("http_wire", http_wire, "wire"),
)
