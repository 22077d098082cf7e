"""One call to the API: what odd answers and odd secrets must not do."""

from __future__ import annotations

import gzip
import traceback
from pathlib import Path

import pytest
from clouds import World, world
from test_client import exporter_of

from dcs_task_exporter import transport
from dcs_task_exporter.caller import MAX_THROTTLE_PAUSE
from dcs_task_exporter.credentials import EnvironmentKey
from dcs_task_exporter.errors import (
    ApiError,
    CredentialsError,
    InvalidResponseError,
    ThrottledError,
)
from dcs_task_exporter.secret_files import read_secret
from dcs_task_exporter.simulator.faults import FAULTS, Fault, Reply, gateway_error


def answer_with(here: World, reply: Reply) -> None:
    """Let the cloud answer everything with this."""
    here.cloud.faults._faults.append(Fault(reply))  # noqa: SLF001 - one that is in no list


def test_a_few_bytes_that_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that unpacks to more than the limit is an error, not a full memory."""
    monkeypatch.setattr(transport, "MAX_BODY_SIZE", 1 << 20)
    bomb = gzip.compress(b" " * (8 << 20))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, bomb, headers))

        with pytest.raises(InvalidResponseError, match="larger than 1 MiB"):
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


def test_a_length_without_end() -> None:
    """A length of more digits than a number may have is an answer like any other."""
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, b"{}", {"Content-Length": "9" * 5000}))

        with pytest.raises(ApiError):
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)


def test_a_cut_answer_is_not_quoted() -> None:
    """What came of a cut answer is in no message: it holds the names of people."""
    body = b'{"task_count": 1, "tasks": [{"user_name": "alice@example.com", "id": "'
    with world(1) as here, here.exporter() as exporter:
        answer_with(here, Reply(200, body, {"Content-Length": "1000"}, manner="cut"))

        with pytest.raises(ApiError) as raised:
            exporter.clients["prod"].list_tasks("i0", 0, here.clock.steady + 60)

    assert (
        raised.value.message == f"the connection broke: the answer was cut after {len(body)} bytes"
    )


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
        exporter.refresh_and_wait(10)
        here.cloud.faults.clear()
        here.clock.advance(MAX_THROTTLE_PAUSE + 1)
        exporter.refresh_and_wait(10)

        assert exporter.snapshots()[0].up


def test_a_failed_look_up_stands_for_all() -> None:
    """When the project's id cannot be looked up, that is asked once, not by each instance."""
    with world(20) as here:
        line = next(line for line in here.config_text().splitlines() if "project_id" in line)
        with exporter_of(here, here.config_text().replace(f"{line}\n", "")) as exporter:
            here.cloud.faults.add("unavailable")
            exporter.refresh_and_wait(10)

            assert here.cloud.count("list_projects") == 1
            here.cloud.faults.clear()
            here.clock.advance(15)
            exporter.refresh_and_wait(10)
            assert all(snapshot.up for snapshot in exporter.snapshots())


@pytest.mark.parametrize("content", ["abc\ndef", "abc def", "pässword", "abc\x00"])
def test_a_secret_that_no_header_carries(tmp_path: Path, content: str) -> None:
    """A secret that was wrapped or cut is refused where it is read; the error does not show it."""
    file = tmp_path / "sk"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(CredentialsError, match="printable ASCII") as from_file:
        read_secret(file)
    with pytest.raises(CredentialsError, match="CLOUD_SDK_SK must hold") as from_environment:
        EnvironmentKey({"CLOUD_SDK_AK": "a", "CLOUD_SDK_SK": content}).current()

    for caught in (from_file, from_environment):
        assert content not in "".join(traceback.format_exception(caught.value))


def test_every_fault_is_survived() -> None:
    """After any failure that the cloud knows, an instance is read again once it is over."""
    quick = [name for name, reply in FAULTS.items() if not reply.manner.startswith(("dr", "sil"))]
    with world(1) as here, here.exporter() as exporter:
        for name in quick:
            here.cloud.faults.add(name)
            here.clock.advance(400)
            exporter.refresh_and_wait(10)
            assert not exporter.snapshots()[0].up, name
            here.cloud.faults.clear()
            here.clock.advance(400)
            exporter.refresh_and_wait(10)
            assert exporter.snapshots()[0].up, name
