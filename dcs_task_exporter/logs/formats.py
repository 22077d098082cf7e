"""Log lines in logfmt or JSON, from the standard library's logging.

A message is a constant text; its values are in ``extra={"fields": {...}}``, so that lines can be
searched by field.
"""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from dcs_task_exporter.logs.queue import LogQueue
from dcs_task_exporter.logs.repeats import TRACEBACK, kind_of
from dcs_task_exporter.text.display import shown

LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")

MAX_FRAMES: Final = 20
"""Most frames of a traceback that are logged: the innermost."""

_LEVEL_NAMES: Final = {"WARNING": "warn", "CRITICAL": "error"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the time, level and message of a record, then the fields of the call."""
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
    parts = [redact(part).rstrip("\n") for part in formatted][-3 * MAX_FRAMES :]
    # The text of an error may be a whole body: each of its lines is bounded.
    return "\n".join(shown(line) for part in parts for line in part.split("\n")[:MAX_FRAMES])


def log_unforeseen(
    logger: logging.Logger,
    message: str,
    error: BaseException,
    fields: Mapping[str, object],
    redact: Callable[[str], str] = str,
) -> None:
    """Log an error with its traceback; `redact` removes secrets from it.

    Errors of one type from one place are the same line to the log, whatever their `fields`.
    """
    # As text: the log handler of another program would format the error itself, with secrets.
    text = {"error": type(error).__name__, TRACEBACK: traceback_of(error, redact)}
    logger.error(message, extra={"fields": {**fields, **text}, "kind": kind_of(error)})


class LogfmtFormatter(logging.Formatter):
    """``ts=... level=info msg="..." key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return " ".join(f"{key}={_logfmt(value)}" for key, value in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return json.dumps(_fields(record), default=str, ensure_ascii=False)


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
    # urllib3 would warn at each request; `cloud/tls.py` warns once a day.
    warnings.filterwarnings("ignore", message="Unverified HTTPS request")
    return handler


def _logfmt(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text and not any(char in text for char in ' ="\\') and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=False)
