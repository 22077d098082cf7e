"""The log of this process, written to a stream as the exporter writes it."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator

from dcs_task_exporter.logs.formats import LogfmtFormatter
from dcs_task_exporter.logs.queue import LogQueue


@contextlib.contextmanager
def log_to(stream: io.StringIO, monotonic: Callable[[], float] = lambda: 0.0) -> Iterator[LogQueue]:
    """Send the log to a stream; its clock stands still, and all of it is written at the end."""
    queue = LogQueue(stream, monotonic, patience=60)
    queue.setFormatter(LogfmtFormatter())
    root = logging.getLogger()
    root.addHandler(queue)
    try:
        yield queue
    finally:
        root.removeHandler(queue)
        queue.close()


def messages(stream: io.StringIO) -> list[str]:
    """Return the lines without their time and level."""
    return [line.split(" msg=", 1)[1] for line in stream.getvalue().splitlines()]
