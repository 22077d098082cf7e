"""Writing log lines from a thread of its own, so that nobody waits for who reads the log.

Lines wait in a queue of bounded length; what finds no room there is lost, and counted. The same
line is written at most once a minute, and then says how often it was meant.
"""

from __future__ import annotations

import logging
import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, TextIO

MAX_WAITING: Final = 1 << 20
"""Most characters of lines that wait to be written: a few thousand lines."""

REPEAT_INTERVAL: Final = 60.0
"""Seconds in which the same line is written once."""

MAX_KINDS: Final = 1000
"""Most different lines that are remembered, to know one again."""

DRAIN_PATIENCE: Final = 0.5
"""Seconds that the end of the process waits for what is still to be written."""

REPEATED: Final = "repeated"
"""The field that says how often a line was meant since it was written last."""

VARYING: Final = frozenset({"request_id", "pause_seconds"})
"""Fields that differ although the lines say the same."""

_ADDRESS: Final = re.compile("0x[0-9a-fA-F]+")
"""What asyncio names its connections by."""


class LogQueue(logging.Handler):
    """Takes log records without waiting, and writes them from a thread.

    `stream` may be None: a process without a standard error has no log. `monotonic` (seconds)
    tells when the minute of a repeated line is over; `patience` is for how many seconds `close`
    waits.
    """

    def __init__(
        self,
        stream: TextIO | None,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = DRAIN_PATIENCE,
    ) -> None:
        super().__init__()
        self._patience = patience
        self._write = _writer(stream)
        self._changed = threading.Condition()
        self._repeats = _Repeats(monotonic)
        self._lines: deque[str] = deque()
        self._waiting = 0
        self._lost = 0
        self._told = 0
        self._flows = True
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """How many lines were lost so far."""
        return self._lost

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, unless the same line was written in the last minute."""
        with self._changed:
            if self._closing:
                self._lost += 1
                return
            self._tell_repeats()
            if self._repeats.admits(record):
                self._put(record)
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, within the patience; what is logged after that is lost."""
        with self._changed:
            if self._closing:  # `logging` closes all handlers once more at the end of Python
                return
            self._closing = True
            self._changed.notify()
        self._thread.join(self._patience)
        super().close()

    def _put(self, record: logging.LogRecord) -> None:
        line = f"{self._line_of(record)}\n"
        if self._waiting + len(line) > MAX_WAITING:
            self._lost += 1
        else:
            self._queue(line)

    def _queue(self, line: str) -> None:
        self._lines.append(line)
        self._waiting += len(line)

    def _line_of(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001 - a library's record may break in many ways
            # The base would write that to the stream itself, and wait.
            fields = {"logger": record.name, "text": record.msg, "error": error}
            return self.format(_record("a log line cannot be formed", fields))

    def _tell_repeats(self, *, all_of_them: bool = False) -> None:
        for record, number in self._repeats.ended(all_of_them=all_of_them):
            self._put(_repeated(record, number))

    def _work(self) -> None:
        while True:
            line = self._next_line()
            if not line:
                return
            try:
                self._write(line)
            except (OSError, ValueError):
                flows = False  # nobody reads it any more, the disk is full, the stream is closed
            else:
                flows = True
            self._done(line, flows=flows)

    def _next_line(self) -> str:
        """Wait for a line that is to be written; return nothing when there will be no more."""
        with self._changed:
            while True:
                self._tell_repeats(all_of_them=self._closing)
                self._tell_lost()
                if self._lines:
                    return self._lines[0]
                if self._closing:
                    return ""
                self._changed.wait(self._repeats.until_next())

    def _tell_lost(self) -> None:
        """Say how many lines are missing at this place, once lines are written again."""
        if self._lines or not self._flows or self._lost == self._told:
            return
        line = self.format(_record("log lines were lost", {"lines": self._lost - self._told}))
        self._told = self._lost
        self._queue(f"{line}\n")

    def _done(self, line: str, *, flows: bool) -> None:
        with self._changed:
            self._lines.popleft()
            self._waiting -= len(line)
            self._lost += not flows
            self._flows = flows


@dataclass(frozen=True, slots=True)
class _Held:
    """A line that was written, and its latest repetition that was not."""

    until: float
    record: logging.LogRecord
    number: int = 0


class _Repeats:
    """Which lines were written in the last minute, and how often each was meant since."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._held: dict[int, _Held] = {}

    def admits(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be written; one that is not is counted."""
        try:
            kind = _kind(record)
        except Exception:  # noqa: BLE001 - what it is about cannot be shown: `_line_of` says so
            return True
        held = self._held.get(kind)
        if held is None:
            self._hold(kind, record)
            return True
        self._held[kind] = replace(held, record=_kept(record), number=held.number + 1)
        return False

    def ended(self, *, all_of_them: bool = False) -> Iterator[tuple[logging.LogRecord, int]]:
        """Yield the lines whose minute is over and that were meant again, and how often."""
        now = self._monotonic()
        for kind, held in list(self._held.items()):  # the first to end first
            forget = all_of_them or len(self._held) > MAX_KINDS
            if now < held.until and not forget:
                return
            del self._held[kind]
            if held.number:
                if not forget:
                    self._hold(kind, held.record)
                yield held.record, held.number

    def until_next(self) -> float | None:
        """Return the seconds until a minute ends, None where no line is held."""
        for held in self._held.values():
            return max(0.0, held.until - self._monotonic())
        return None

    def _hold(self, kind: int, record: logging.LogRecord) -> None:
        self._held[kind] = _Held(self._monotonic() + REPEAT_INTERVAL, _kept(record))


def lines_lost() -> int:
    """Return how many lines of this process's log were lost."""
    handlers = logging.getLogger().handlers
    return sum(handler.lost for handler in handlers if isinstance(handler, LogQueue))


def _kind(record: logging.LogRecord) -> int:
    """Return a number that the same lines have in common, and hardly any others."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    said = tuple((key, str(value)) for key, value in fields.items() if key not in VARYING)
    text = _ADDRESS.sub("0x", f"{record.msg} {record.args or ''}")
    error = record.exc_info[1:] if record.exc_info else (None, None)
    return hash((record.name, record.levelno, text, said, type(error[0]), _place(error[1])))


def _place(trace: TracebackType | None) -> tuple[str, int] | None:
    """Return where an error was raised."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def _kept(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record without its traceback, which was written, and would hold what it ran on."""
    if not record.exc_info:
        return record
    fields = {**getattr(record, "fields", {}), "error": record.exc_info[1]}
    kept = {"exc_info": None, "exc_text": None, "fields": {k: str(v) for k, v in fields.items()}}
    return logging.makeLogRecord({**record.__dict__, **kept})


def _record(message: str, fields: dict[str, object]) -> logging.LogRecord:
    made = logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING"})
    made.msg, made.fields = message, fields  # as `extra` does
    return made


def _repeated(record: logging.LogRecord, number: int) -> logging.LogRecord:
    """Return the latest of the same lines, which says how many there were."""
    told = logging.makeLogRecord(record.__dict__)
    told.fields = {**getattr(record, "fields", {}), REPEATED: number}
    return told


def _writer(stream: TextIO | None) -> Callable[[str], object]:
    """Return what writes to a stream: past its buffer, whose lock the end of Python waits for."""
    if stream is None:
        return lambda _: None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return stream.write
    return lambda text: _write_all(descriptor, text.encode(errors="backslashreplace"))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever gave us the descriptor made it so
            select.select((), (descriptor,), ())
