"""What every target shares: what a target is, and what no input may bring about."""

from __future__ import annotations

import atexit
import logging
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from dcs_task_exporter.logs.formats import JsonFormatter, LogfmtFormatter
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import ScrapeRequest
from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.tasks.snapshots import Snapshot
from tests.support.fast_folder import fast_folder

NOW: Final = 1_592_381_900.0
"""When each input is read (Unix seconds): a little after the tasks of the API page's sample."""

SECRET: Final = "zq9SecretXK4jw8vTn3R"  # noqa: S105 - a mark that no output may hold
"""Stands for a secret in inputs: no error, log line or `repr` may show it."""

Form = Literal["answers", "wire", "json", "text", "bytes"]
"""How an input is changed: a few answers, one on the wire, JSON, lines of text, anything."""


class UnsoundError(Exception):
    """The output is wrong, or unfit for a log, a page or a scraper."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target to fuzz: `read` gives an input to the package, and returns the texts it renders.

    `read` lets only undocumented errors out, and raises `UnsoundError` for a wrong answer. `words`
    mean something to what is read. No input may take more than `limit` seconds of processor time.
    """

    name: str
    read: Callable[[bytes], Sequence[bytes]]
    form: Form = "answers"
    words: Sequence[str] = ()
    limit: float = 0.1


def verify(target: Target, data: bytes) -> None:
    """Raise an error if the package answers an input wrongly; documented errors are right."""
    for text in target.read(data):
        check_exposition(text)


@lru_cache(maxsize=1000)
def check_exposition(text: bytes) -> None:
    """Raise when a scrape's text is not strictly valid, or says a number that is none."""
    read: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
    for family in read(text.decode()):
        for sample in family.samples:
            expect(math.isfinite(sample.value), f"{sample.name} is {sample.value}")


def expect(holds: object, otherwise: str) -> None:
    """Raise `UnsoundError` unless something holds."""
    if not holds:
        raise UnsoundError(otherwise)


def expect_plain(*texts: str) -> None:
    """Expect texts that a log can show: they can be encoded, and hold no secret."""
    for text in texts:
        expect(SECRET not in text, "a secret is shown")
        text.encode()


def page(snapshots: Sequence[Snapshot]) -> bytes:
    """Render snapshots as a scrape gets them."""
    collector = TaskCollector(lambda _: snapshots, personal=True, tags=("key1", "key2"))
    renderer = Renderer(collector, CollectorRegistry())
    return renderer.exposition(ScrapeRequest("application/openmetrics-text;version=1.0.0")).body


@cache
def folder() -> Path:
    """Return a folder for the files of this process, in memory where the system has such."""
    made = Path(tempfile.mkdtemp(prefix="fuzz-files-", dir=fast_folder()))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


class StrictLog(logging.Handler):
    """Writes each line in both formats, and throws it away; a line that cannot be is an error.

    So is an unforeseen error that is logged: what catches it reports it like a documented one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, and raise the error that it tells of."""
        for formatter in (LogfmtFormatter(), JsonFormatter()):
            expect_plain(formatter.format(record))
        caught = sys.exc_info()[1]
        if record.levelno >= logging.ERROR and isinstance(caught, Exception):
            raise caught


@contextmanager
def logged(
    handler: logging.Handler | None = None, name: str = "dcs_task_exporter"
) -> Iterator[None]:
    """Give each log line of the block to a `StrictLog`, or to another handler."""
    logger, strict = logging.getLogger(name), handler or StrictLog()
    before = logger.level, logger.propagate
    logger.addHandler(strict)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(strict)
        logger.level, logger.propagate = before
