"""Which log lines are the same, and how often each was logged in the last minute."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

REPEAT_INTERVAL: Final = 60.0
"""Seconds in which the same line is written once."""

MAX_KINDS: Final = 1000
"""Most different lines that are remembered."""

TRACEBACK: Final = "exception"
"""The field of a traceback: a text, bounded and without secrets."""

VARYING: Final = frozenset({"request_id", "pause_seconds"})
"""Fields that differ in lines that are otherwise the same."""

_ADDRESS: Final = re.compile("0x[0-9a-fA-F]+")
"""An address in memory: asyncio names its connections by it."""


class _Held(NamedTuple):
    """A line that was written, as it was logged last, and how often it was not written since."""

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
            kind, kept = _kind(record), _without_traceback(record)
        except Exception:  # noqa: BLE001 - the queue says that this record cannot be shown
            return True
        held = self._held.get(kind) or _Held(self._monotonic() + REPEAT_INTERVAL, kept, -1)
        self._held[kind] = _Held(held.until, kept, held.number + 1)
        return held.number < 0

    def ended(self, *, end_all: bool = False) -> Iterator[logging.LogRecord]:
        """Yield the lines that were repeated and whose minute is over, with the number as a field.

        With `end_all`, yield the others too.
        """
        now = self._monotonic()
        for kind, (until, record, number) in list(self._held.items()):  # in the order of their ends
            forget = end_all or len(self._held) > MAX_KINDS
            if now < until and not forget:
                return
            del self._held[kind]
            if number:
                if not forget:
                    self._held[kind] = _Held(now + REPEAT_INTERVAL, record)
                yield _without_traceback(record, repeated=number)

    def until_next(self) -> float | None:
        """Return the seconds until a minute ends, or None if no line is held."""
        first = next(iter(self._held.values()), None)
        return max(0.0, first.until - self._monotonic()) if first else None


def kind_of(error: BaseException) -> tuple[object, ...]:
    """Return the type of an error, and the file and line where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return type(error), place


def _kind(record: logging.LogRecord) -> int:
    """Return a number that equal lines have in common, and hardly any others.

    Lines about an error of one kind are equal, whatever their fields.
    """
    text = _ADDRESS.sub("0x", f"{record.msg} {record.args or ''}")
    if record.exc_info and record.exc_info[1]:
        said = kind_of(record.exc_info[1])
    else:
        fields: dict[str, Any] = getattr(record, "fields", {})
        said = tuple((key, str(value)) for key, value in fields.items() if key not in VARYING)
        said = getattr(record, "kind", said)
    return hash((record.name, record.levelno, text, said))


def _without_traceback(record: logging.LogRecord, **more: object) -> logging.LogRecord:
    """Return a record that keeps no traceback, and with it none of the objects in its frames."""
    fields = {**getattr(record, "fields", {}), **more}
    fields.pop(TRACEBACK, None)
    if record.exc_info:
        fields["error"] = str(record.exc_info[1])
    kept = {**record.__dict__, "exc_info": None, "exc_text": None, "fields": fields}
    return logging.makeLogRecord(kept)
