"""Which log lines are the same, and how often each was logged in the last minute."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final

REPEAT_INTERVAL: Final = 60.0
"""Seconds in which the same line is written once."""

MAX_KINDS: Final = 1000
"""Most different lines that are remembered."""

REPEATED: Final = "repeated"
"""The field with the number of times that a line was logged since it was last written."""

VARYING: Final = frozenset({"request_id", "pause_seconds"})
"""Fields that differ in lines that are otherwise the same."""

_ADDRESS: Final = re.compile("0x[0-9a-fA-F]+")
"""An address in memory: asyncio names its connections by it."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A line that was written, and its latest repetition that was not."""

    until: float
    record: logging.LogRecord
    number: int = 0


class Repeats:
    """The lines of the last minute, each with its number of repetitions.

    `monotonic` returns seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._held: dict[int, _Held] = {}

    def admits(self, record: logging.LogRecord) -> bool:
        """Whether to write a record now; count it if not."""
        try:
            kind = _kind(record)
        except Exception:  # noqa: BLE001 - the queue says that this record cannot be shown
            return True
        held = self._held.get(kind)
        if held is None:
            self._hold(kind, record)
            return True
        self._held[kind] = replace(held, record=_without_traceback(record), number=held.number + 1)
        return False

    def ended(self, *, end_all: bool = False) -> Iterator[logging.LogRecord]:
        """Yield the lines that were repeated and whose minute is over, with the number as a field.

        With `end_all`, yield the others too.
        """
        now = self._monotonic()
        for kind, held in list(self._held.items()):  # in the order of their ends
            forget = end_all or len(self._held) > MAX_KINDS
            if now < held.until and not forget:
                return
            del self._held[kind]
            if held.number:
                if not forget:
                    self._hold(kind, held.record)
                yield _with_number(held.record, held.number)

    def until_next(self) -> float | None:
        """Return the seconds until a minute ends, or None if no line is held."""
        first = next(iter(self._held.values()), None)
        return max(0.0, first.until - self._monotonic()) if first else None

    def _hold(self, kind: int, record: logging.LogRecord) -> None:
        self._held[kind] = _Held(self._monotonic() + REPEAT_INTERVAL, _without_traceback(record))


def place_of(trace: TracebackType | None) -> tuple[str, int] | None:
    """Return the file and line where an error was raised."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def _kind(record: logging.LogRecord) -> int:
    """Return a number that equal lines have in common, and hardly any others."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    said = tuple((key, str(value)) for key, value in fields.items() if key not in VARYING)
    text = _ADDRESS.sub("0x", f"{record.msg} {record.args or ''}")
    _, error, trace = record.exc_info or (None, None, None)
    return hash((record.name, record.levelno, text, said, type(error), place_of(trace)))


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    """Return a record that keeps no traceback, and with it none of the objects in its frames."""
    if not record.exc_info:
        return record
    fields = {**getattr(record, "fields", {}), "error": record.exc_info[1]}
    texts = {key: str(value) for key, value in fields.items()}
    kept = {**record.__dict__, "exc_info": None, "exc_text": None, "fields": texts}
    return logging.makeLogRecord(kept)


def _with_number(record: logging.LogRecord, number: int) -> logging.LogRecord:
    fields = {**getattr(record, "fields", {}), REPEATED: number}
    return logging.makeLogRecord({**record.__dict__, "fields": fields})
