"""Write log lines from a thread, so that a slow reader of the log holds up nothing else.

Lines wait in a queue of bounded length; a line that finds no room is lost, and counted. The same
line is written at most once a minute, with the number of its repetitions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

from dcs_task_exporter.logs.repeats import Repeats

MAX_WAITING: Final = 1 << 20
"""Most characters of lines that wait to be written: a few thousand lines."""


class LogQueue(logging.Handler):
    """Takes log records without waiting, and writes them from a thread.

    `stream` is None in a process without a standard error: it has no log. `monotonic` returns
    seconds; `close` waits for `patience` seconds.
    """

    def __init__(
        self,
        stream: TextIO | None,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = 0.5,
    ) -> None:
        super().__init__()
        self._patience = patience
        self._write = _writer(stream)
        self._changed = threading.Condition()
        self._repeats = Repeats(monotonic)
        self._lines: deque[str] = deque()
        self._waiting = 0
        self._lost = 0
        self._reported = 0
        self._flows = True
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """The number of lines that were lost so far."""
        return self._lost

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, unless the same line was written in the last minute."""
        with self._changed:
            if self._closing:
                self._lost += 1
                return
            self._put_due()
            if self._repeats.admits(record):
                self._put(record)
            self._changed.notify()

    def close(self) -> None:
        """Write the queue, within the patience; later records are lost."""
        with self._changed:
            if self._closing:  # `logging` closes all handlers again at the end of Python
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
            self._lines.append(line)
            self._waiting += len(line)

    def _line_of(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001 - a library's record may break in many ways
            # The base class would write to the stream itself, and wait.
            fields = {"logger": record.name, "text": record.msg, "error": error}
            return self.format(_warning("a log line cannot be formed", fields))

    def _put_due(self) -> None:
        """Queue the ends of repetitions, and how many lines are missing at this place.

        The loss is said as soon as lines are written again.
        """
        for record in self._repeats.ended(end_all=self._closing):
            self._put(record)
        if self._flows and not self._lines and self._lost > self._reported:
            self._put(_warning("log lines were lost", {"lines": self._lost - self._reported}))
            self._reported = self._lost

    def _work(self) -> None:
        while line := self._next_line():
            flows = False
            with contextlib.suppress(OSError, ValueError):  # no reader, full, closed
                self._write(line)
                flows = True
            with self._changed:
                self._lines.popleft()
                self._waiting -= len(line)
                self._lost += not flows
                self._flows = flows

    def _next_line(self) -> str:
        """Wait for a line to write; return the empty text when there will be no more."""
        with self._changed:
            self._put_due()
            while not (self._lines or self._closing):
                self._changed.wait(self._repeats.until_next())
                self._put_due()
            return self._lines[0] if self._lines else ""


def lines_lost() -> int:
    """Return the number of lines that this process's log has lost."""
    handlers = logging.getLogger().handlers
    return sum(handler.lost for handler in handlers if isinstance(handler, LogQueue))


def _warning(message: str, fields: dict[str, object]) -> logging.LogRecord:
    level = {"levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({**level, "msg": message, "fields": fields})


def _writer(stream: TextIO | None) -> Callable[[str], object]:
    """Return a function that writes to a stream.

    It avoids the stream's buffer, because the end of Python waits for the buffer's lock.
    """
    if stream is None:
        return lambda _: None
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return stream.write
    return lambda text: _write_all(descriptor, text.encode(errors="backslashreplace"))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        # Another program may have made the descriptor non-blocking.
        select.select((), (descriptor,), ())
        data = data[os.write(descriptor, data) :]
