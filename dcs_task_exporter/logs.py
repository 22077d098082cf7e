"""Log lines in logfmt or JSON, from the standard library's logging.

A message is a constant text; what varies is in ``extra={"fields": {...}}``, so that lines can be
searched by field. Every text in a line is valid, bounded, and without control characters.
"""

from __future__ import annotations

import json
import logging
import warnings
from datetime import datetime, timezone
from typing import Any, Final, TextIO

from urllib3.exceptions import InsecureRequestWarning

from dcs_task_exporter.texts import shown, shown_lines

LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")

_LEVEL_NAMES: Final = {"WARNING": "warn", "CRITICAL": "error"}


class _FieldFormatter(logging.Formatter):
    """Turns a record into its fields: time, level, message, then those of the call."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        moment = datetime.fromtimestamp(record.created, tz=timezone.utc)
        found: dict[str, Any] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": _LEVEL_NAMES.get(record.levelname, record.levelname.lower()),
            "msg": shown(record.getMessage()),
        }
        given = getattr(record, "fields", {})
        found.update(
            {key: _bounded(value) for key, value in given.items() if value not in (None, "")}
        )
        if record.exc_info:
            found["exception"] = shown_lines(self.formatException(record.exc_info))
        return found


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


def set_up_logging(level: str, form: str, stream: TextIO) -> None:
    """Send the log of this process to `stream`; libraries only from warnings on.

    Warnings of Python are logged too, but for the one of each connection whose certificate is not
    checked: the exporter says that once.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    number = logging.WARNING if level == "warn" else logging.getLevelName(level.upper())
    logging.getLogger("dcs_task_exporter").setLevel(number)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("ignore", InsecureRequestWarning)


def _bounded(value: object) -> object:
    """Return a number as it is, and the text of anything else as a line can hold it."""
    return value if value is None or isinstance(value, int | float) else shown(str(value))


def _logfmt(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if text and not any(char in text for char in ' ="\\') and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=False)
