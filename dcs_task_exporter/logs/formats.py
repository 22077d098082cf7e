"""Log lines in logfmt or JSON, from the standard library's logging.

A message is a constant text; its values are in ``extra={"fields": {...}}``, so that lines can be
searched by field.
"""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from urllib3.exceptions import InsecureRequestWarning

from dcs_task_exporter.logs.queue import LogQueue
from dcs_task_exporter.text.display import shown

LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")

TRACEBACK: Final = "exception"
"""The field of a traceback, which `traceback_of` has bounded already."""

MAX_FRAMES: Final = 20
"""Most frames of a traceback that are logged: the innermost."""

_LEVEL_NAMES: Final = {"WARNING": "warn", "CRITICAL": "error"}


class _FieldFormatter(logging.Formatter):
    """Turns a record into its fields: time, level, message, then the fields of the call."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = datetime.fromtimestamp(record.created, tz=timezone.utc)
        found: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _LEVEL_NAMES.get(record.levelname, record.levelname.lower()),
            "msg": shown(record.getMessage()),
        }
        for key, value in getattr(record, "fields", {}).items():
            if value not in (None, ""):
                is_bounded = key == TRACEBACK or isinstance(value, int | float)
                found[key] = value if is_bounded else shown(str(value))
        if record.exc_info and record.exc_info[1]:
            found[TRACEBACK] = traceback_of(record.exc_info[1])
        return found


def traceback_of(error: BaseException, redact: Callable[[str], str] = str) -> str:
    """Return the innermost frames of an error and of its causes, without variables.

    `redact` removes the secrets.
    """
    formatted = traceback.TracebackException.from_exception(error, limit=-MAX_FRAMES).format()
    # The text of an error may be a whole body: each of its lines is bounded.
    lines = [redact(part).rstrip("\n") for part in formatted]
    return "\n".join(_shown_lines(part) for part in lines[-3 * MAX_FRAMES :])


def _shown_lines(part: str) -> str:
    return "\n".join(shown(line) for line in part.split("\n")[:MAX_FRAMES])


class LogfmtFormatter(_FieldFormatter):
    """``ts=... level=info msg="..." key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return " ".join(f"{key}={_logfmt(value)}" for key, value in self.fields(record).items())


class JsonFormatter(_FieldFormatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return json.dumps(self.fields(record), default=str, ensure_ascii=False)


def set_up_logging(level: str, form: str, stream: TextIO | None) -> LogQueue:
    """Send the log of this process to `stream`, until the returned handler is closed.

    Of libraries, only warnings and errors are logged. Python's warnings are logged too, except the
    one for each connection without a check of the certificate: the exporter says that once.
    """
    handler = LogQueue(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    number = logging.WARNING if level == "warn" else logging.getLevelName(level.upper())
    logging.getLogger("dcs_task_exporter").setLevel(number)
    # Its warnings quote an answer that it could not parse, and an answer may echo a secret.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("ignore", InsecureRequestWarning)
    return handler


def _logfmt(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text and not any(char in text for char in ' ="\\') and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=False)
