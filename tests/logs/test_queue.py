"""The log of a bad night: nobody reads it, or it says the same for hours."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.logs.formats import LogfmtFormatter
from dcs_task_exporter.logs.queue import LogQueue
from dcs_task_exporter.logs.repeats import MAX_KINDS, REPEAT_INTERVAL
from dcs_task_exporter.refresh.workers import Job, WorkerPool
from tests.support.clouds import SettableClock, World, value, world_of_today
from tests.support.clouds import samples as parsed
from tests.support.fault_rows import FaultRow, fault
from tests.support.log_stream import log_to, messages

COMMAND = [sys.executable, "-W", "ignore", "-m", "dcs_task_exporter"]


class Stuck(io.StringIO):
    """A stream that nobody reads, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = threading.Event()

    def write(self, text: str) -> int:
        self.flows.wait()
        return super().write(text)


class Broken(io.StringIO):
    """A stream that cannot be written, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = threading.Event()
        self.tried = threading.Event()

    def write(self, text: str) -> int:
        if not self.mended.is_set():
            self.tried.set()
            raise BrokenPipeError
        return super().write(text)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


Open = Callable[[io.StringIO], LogQueue]


@pytest.fixture
def queue_of(clock: SettableClock) -> Iterator[Open]:
    """Send the log to a stream, by a clock that stands still."""
    with contextlib.ExitStack() as opened:
        yield lambda stream: opened.enter_context(log_to(stream, lambda: clock.steady))


logger = logging.getLogger(__name__)


def test_a_log_that_nobody_reads_keeps_nobody_waiting(queue_of: Open) -> None:
    """20,000 lines into a stream that nobody reads are taken; what finds no room is counted."""
    stream = Stuck()
    queue = queue_of(stream)
    for number in range(20_000):
        logger.warning("line", extra={"fields": {"number": number}})
    lost = queue.lost
    stream.flows.set()
    queue.close()

    lines = messages(stream)
    assert 0 < lost < 20_000
    assert lines[-1] == f'"log lines were lost" lines={lost}'
    assert len(lines) - 1 + lost == 20_000


def test_the_queue_is_bounded_whatever_the_lines_hold(queue_of: Open) -> None:
    """What waits to be written is at most a million characters, also of long lines."""
    stream = Stuck()
    queue = queue_of(stream)
    for number in range(1000):
        fields = {f"field{at}": f"{number} {'x' * 900}" for at in range(10)}
        logger.warning("line", extra={"fields": fields})
    stream.flows.set()
    queue.close()

    assert len(stream.getvalue()) < (1 << 20) + 200
    assert queue.lost > 800


@fault(
    "Nobody reads the log, or its disk is full",
    where="process",
    metrics=("dcs_task_exporter_log_lines_lost_total rises",),
    log=("warning: log lines were lost",),
    recovers="not needed: lines without room are lost, and counted when others are written",
)
def test_a_log_whose_reader_is_gone(queue_of: Open, row: FaultRow) -> None:
    """Lines that cannot be written are lost and counted, and that is said when others can be."""
    stream = Broken()
    queue = queue_of(stream)
    logger.warning("lost")
    stream.tried.wait()
    stream.mended.set()
    logger.warning("written")
    queue.close()

    assert messages(stream) == ["written", '"log lines were lost" lines=1']
    assert row.log == ("warning: log lines were lost",)
    assert queue.lost == 1


def test_the_same_line_once_a_minute(queue_of: Open, clock: SettableClock) -> None:
    """A line that is meant 57 times in a minute is written once, and then with the number."""
    stream = io.StringIO()
    queue = queue_of(stream)
    for _ in range(57):
        logger.warning("the disk is full", extra={"fields": {"disk": "/x"}})
    clock.advance(REPEAT_INTERVAL)
    logger.warning("something else")
    queue.close()

    assert messages(stream) == [
        '"the disk is full" disk=/x',
        '"the disk is full" disk=/x repeated=56',
        '"something else"',
    ]


def test_what_is_said_for_ever_is_said_once_a_minute(queue_of: Open, clock: SettableClock) -> None:
    """A line that comes every second for an hour is written once a minute; no time is left out."""
    stream = io.StringIO()
    queue = queue_of(stream)
    for _ in range(3600):
        logger.warning("again")
        clock.advance(1)
    queue.close()

    lines = messages(stream)
    assert len(lines) == 61
    assert sum(int(line.partition("repeated=")[2]) for line in lines[1:]) == 3599


def test_a_line_of_long_ago_is_written_at_once(queue_of: Open, clock: SettableClock) -> None:
    """A line that was written more than a minute ago, once, is written again without a number."""
    stream = io.StringIO()
    queue = queue_of(stream)
    logger.warning("once")
    clock.advance(REPEAT_INTERVAL)
    logger.warning("once")
    queue.close()

    assert messages(stream) == ["once", "once"]


@pytest.mark.parametrize("field", ["request_id", "pause_seconds"])
def test_what_always_differs_makes_no_other_line(queue_of: Open, field: str) -> None:
    """Lines that differ in the cloud's request id, or a random pause, are the same."""
    stream = io.StringIO()
    queue = queue_of(stream)
    for number in range(10):
        logger.warning("refused", extra={"fields": {field: number}})
    queue.close()

    assert messages(stream) == [f"refused {field}=0", f"refused {field}=9 repeated=9"]


def test_lines_that_differ_are_all_written(queue_of: Open) -> None:
    """Lines of different instances, at different levels, are different lines."""
    stream = io.StringIO()
    queue = queue_of(stream)
    for number in range(2 * MAX_KINDS):
        logger.warning("down", extra={"fields": {"dcs_instance_id": f"i{number}"}})
    logger.error("down", extra={"fields": {"dcs_instance_id": "i1999"}})
    queue.close()

    assert len(messages(stream)) == 2 * MAX_KINDS + 1


def test_the_end_waits_once(queue_of: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python closes every handler once more as it ends: the log does not wait again."""
    waits: list[float | None] = []
    queue = queue_of(io.StringIO())
    monkeypatch.setattr(threading.Thread, "join", lambda _, timeout=None: waits.append(timeout))
    queue.close()
    queue.close()

    assert len(waits) == 1


def test_a_value_that_cannot_be_shown(queue_of: Open) -> None:
    """A line about something that cannot be shown says so, and breaks nothing."""

    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError

    stream = io.StringIO()
    queue = queue_of(stream)
    queue.handle(logging.makeLogRecord({"msg": "it is %r", "args": (Unshowable(),)}))
    queue.close()

    assert "a log line cannot be formed" in stream.getvalue()


def test_jobs_that_break_are_told_once_a_minute(queue_of: Open) -> None:
    """A hundred jobs that break at the same place are one traceback and one number."""
    stream = io.StringIO()
    queue = queue_of(stream)
    done = threading.Semaphore(0)

    def broken(number: int) -> None:
        done.release()
        message = f"number {number}"
        raise RuntimeError(message)

    pool = WorkerPool("prod", 1)
    pool.submit([Job(partial(broken, number), drop=lambda: None) for number in range(100)])
    pool.submit([Job(done.release, drop=lambda: None)])
    for _ in range(101):
        done.acquire()
    pool.stop()
    queue.close()

    text = stream.getvalue()
    assert (
        text.count("a job of a worker thread broke"),
        text.count("Traceback"),
        text.count("repeated=99"),
    ) == (
        2,
        1,
        1,
    )


def test_asyncio_names_no_new_line_by_an_address(queue_of: Open) -> None:
    """What asyncio says of a thousand connections, each with its address in memory, is one line."""
    stream = io.StringIO()
    queue = queue_of(stream)
    for number in range(1000):
        told = f"SSL failed\ntransport: <_Transport {number:#x}>"  # as asyncio hands it over
        logging.getLogger("asyncio").error(told)
    queue.close()

    assert len(messages(stream)) == 2


def test_a_record_that_cannot_be_formed(queue_of: Open) -> None:
    """A record whose arguments do not fit is named, and nothing else is written to the stream."""
    stream = io.StringIO()
    queue = queue_of(stream)
    queue.emit(logging.makeLogRecord({"name": "x", "msg": "%d of %d", "args": (1,)}))
    queue.close()

    (line,) = messages(stream)
    assert line.startswith('"a log line cannot be formed" logger=x text="%d of %d"')


def test_a_process_without_a_standard_error() -> None:
    """Where there is no stream there is no log, and nobody fails for that."""
    queue = LogQueue(None)
    queue.setFormatter(LogfmtFormatter())
    queue.emit(logging.makeLogRecord({"msg": "unheard"}))
    queue.close()

    assert queue.lost == 0


MANY = """
import logging, sys
from dcs_task_exporter.logs.formats import set_up_logging

log = set_up_logging("info", "logfmt", sys.stderr)
for number in range(3000):
    logging.getLogger("dcs_task_exporter.x").info("line", extra={"fields": {"number": number}})
log.close()
"""


def test_nothing_is_lost_at_a_normal_end() -> None:
    """All that a command logged before its end is written, in order."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True)  # noqa: S603

    numbers = [line.rpartition("=")[2] for line in done.stderr.splitlines()]
    assert numbers == [str(number) for number in range(3000)]


@pytest.fixture
def here() -> Iterator[World]:
    with world_of_today(2) as made:
        yield made


@contextlib.contextmanager
def serving_with_a_stuck_log(config: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the exporter with a standard error that is full before it starts."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b"x" * 4096)
    address = url.removeprefix("http://")
    command = [*COMMAND, f"--config.file={config}", f"--web.listen-address={address}"]
    process = subprocess.Popen(command, stderr=writer)  # noqa: S603 - a test's own
    os.close(writer)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def answered(url: str) -> str:
    """Ask until somebody listens."""
    while True:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(url, timeout=30).text
        time.sleep(0.05)  # for another process there is nothing to wait on


def test_a_stuck_log_stops_neither_scrapes_nor_the_end(here: World, tmp_path: Path) -> None:
    """With a full pipe for a log, scrapes and health are answered, and SIGTERM ends the process."""
    (tmp_path / "config.yml").write_text(here.config_text())
    url = f"http://127.0.0.1:{free_port()}"
    with serving_with_a_stuck_log(tmp_path / "config.yml", url) as process:
        assert "ealthy" in answered(f"{url}/-/healthy")
        here.cloud.faults.add("internal")
        *_, found = [parsed(answered(f"{url}/metrics")) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=30)

    assert value(found, "dcs_task_exporter_log_lines_lost_total") == 0
    assert value(found, "dcs_instance_up", dcs_instance_id="i0") is not None
    assert status == 0
