"""Standard output and standard error."""

from __future__ import annotations

import errno
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, TextIO

from dcs_task_exporter.errors import ExporterError

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
"""How the tables write times, in UTC."""


class ReaderGoneError(ExporterError):
    """The reader of the output has closed it, as `head` does."""


def say(line: str) -> None:
    """Print a line on standard output."""
    write(f"{line}\n")


def warn(line: str) -> None:
    """Print a line on standard error; where that cannot be written, nobody can be told."""
    if sys.stderr is not None:
        with suppress(ExporterError):
            _write(f"{line}\n", sys.stderr)


def write(text: str) -> None:
    """Print a text on standard output.

    Raises `ReaderGoneError` where nobody reads it any more, and `ExporterError` where it cannot be
    written, as on a full disk.
    """
    if sys.stdout is None:  # it was closed before the process started
        raise _lost(os.strerror(errno.EBADF))
    _write(text, sys.stdout)


def use_utf8() -> None:
    """Make standard output UTF-8, whatever the locale: the encoding of a format for programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """Return rows in columns below their header, if there are any, and then the notes.

    Control characters, which a terminal would obey, are replaced: names come from outside.
    """
    lines = [header, *rows] if rows else []
    widths = [max(_width(line[at]) for line in lines) for at in range(len(header) - 1) if lines]
    shown = ["  ".join([*map(_padded, line, widths), line[-1]]).rstrip() for line in lines]
    return "".join(f"{printable(line)}\n" for line in (*shown, *notes))


def printable(line: str) -> str:
    """Return a line without control characters."""
    return "".join(char if char.isprintable() else "?" for char in line)


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for each Chinese character."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _write(text: str, stream: TextIO) -> None:
    try:
        stream.write(_encodable(text, stream.encoding or "utf-8"))
        stream.flush()
    except OSError as error:
        # The rest of the buffer would fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from None
        raise _lost(error.strerror) from None


def _encodable(text: str, encoding: str) -> str:
    """Return the text with codes for the characters that the encoding of the locale lacks."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _lost(reason: str | None) -> ExporterError:
    return ExporterError(f"cannot write the output: {reason}")
