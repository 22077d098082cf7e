"""Looks for secrets in everything that leaves an exporter, during a whole test run.

It finds each secret that `secrets.py` made, and during a test also those that the exporter was
given in it, whoever made them. A test in which one leaks fails, whatever it tests.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.types import Message
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from dcs_task_exporter.metrics.renderer import Renderer
from dcs_task_exporter.simulator.story import DEMO_KEY
from dcs_task_exporter.text.redaction import Redactor
from tests.support.secrets import MARK, spellings

NAME: Final = "secret-watch"

SHORTEST: Final = 12
"""Characters of the shortest secret without the mark that is looked for: no word is as long."""

MOST_KNOWN: Final = 20
"""Most secrets without the mark that are looked for at once: the latest."""

WRITTEN: Final = ("*.db", "*.db-*", "*.db.*", "*.log")
"""The files that an exporter or its helpers write: state files, those set aside, and logs."""

_MARKS: Final = spellings(MARK)
_MARK_BYTES: Final = tuple(mark.encode() for mark in _MARKS)


def pytest_configure(config: pytest.Config) -> None:
    """Watch from the beginning of the run."""
    config.pluginmanager.register(SecretWatch(), NAME)


@pytest.fixture(autouse=True, scope="session")
def secrets_stay_out_of_files(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Look into all files that the tests have left, and at what came after the last test."""
    yield
    watch = watch_of(pytestconfig)
    watch.look_into(tmp_path_factory.getbasetemp())
    watch.check()


@pytest.fixture(autouse=True)
def secrets_stay_secret(pytestconfig: pytest.Config) -> Iterator[None]:
    """Fail a test in which a secret leaked."""
    yield
    watch_of(pytestconfig).check()


def watch_of(config: pytest.Config) -> SecretWatch:
    """Return the watch over a run."""
    watch: SecretWatch = config.pluginmanager.getplugin(NAME)
    return watch


class SecretWatch:
    """Makes each test fail in which a secret leaves an exporter.

    It looks into log records, answers to HTTP requests, metrics, errors that tests catch, what
    processes and commands print, and the files that are left.
    """

    def __init__(self) -> None:
        self._patches = pytest.MonkeyPatch()
        self._known: deque[str] = deque(maxlen=MOST_KNOWN)
        self._lock = threading.Lock()
        self._leaks: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Begin to look."""
        for owner, name, make in (
            (logging.Logger, "handle", self._log),
            (Starlette, "__call__", self._app),
            (RequestResponseCycle, "send", self._server),
            (Renderer, "exposition", self._metrics),
            (pytest.RaisesExc, "__exit__", self._errors),
            (pytest.CaptureFixture, "readouterr", self._printed),
            (subprocess.Popen, "__init__", self._pipes),
            (subprocess.Popen, "communicate", self._said),
            (tempfile.TemporaryDirectory, "cleanup", self._folder),
        ):
            self._patches.setattr(owner, name, make(getattr(owner, name)))
        self._patches.setattr(Redactor, "of", classmethod(self._secrets(Redactor.of)))

    def pytest_unconfigure(self) -> None:
        """Look no more."""
        self._patches.undo()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Look at what a test printed and did not read."""
        report = yield
        for title, content in report.sections:
            if title.startswith("Captured std"):
                self.look(title, content)
        return report

    def look(self, outlet: str, text: str | bytes) -> None:
        """Note a leak if a text holds a secret."""
        if isinstance(text, bytes):
            known: Iterable[bytes] = [secret.encode() for secret in self._known]
            found = any(mark in text for mark in _MARK_BYTES) or any(one in text for one in known)
        else:
            found = any(mark in text for mark in _MARKS) or any(one in text for one in self._known)
        if found:
            with self._lock:
                self._leaks.append(outlet)

    def check(self) -> None:
        """Fail if a secret has leaked since the latest check."""
        with self._lock:
            leaks, self._leaks = self._leaks, []
        self._known.clear()
        assert not leaks, f"a secret leaked: {', '.join(dict.fromkeys(leaks))}"

    def look_into(self, folder: Path) -> None:
        """Look into all files below a folder that an exporter may have written."""
        for pattern in WRITTEN:
            for path in folder.rglob(pattern):
                if path.is_file():
                    self.look(f"the file {path}", path.read_bytes())

    def _error(self, outlet: str, error: BaseException | None) -> None:
        """Look at the texts of an error and of those that its traceback shows with it."""
        while error is not None:
            self.look(f"{outlet} {type(error).__name__}", f"{error} {error!r}")
            hidden = error.__suppress_context__
            error = error.__cause__ or (None if hidden else error.__context__)

    # What each function is wrapped in. Tests themselves may log and raise what they like.

    def _log(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        def handled(logger: logging.Logger, record: logging.LogRecord) -> None:
            handle(logger, record)
            if not record.name.startswith("tests."):
                fields = getattr(record, "fields", "")
                self.look(f"the log of {record.name}", f"{record.msg} {record.args} {fields}")
                if record.exc_info:
                    self._error("the traceback of", record.exc_info[1])

        return handled

    def _app(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def called(app: Starlette, scope: Any, receive: Any, send: Any) -> None:
            async def looked(message: Message) -> None:
                self._message(message)
                await send(message)

            await call(app, scope, receive, looked)

        return called

    def _server(self, send: Callable[..., Any]) -> Callable[..., Any]:
        async def sent(cycle: RequestResponseCycle, message: Message) -> None:
            self._message(message)
            await send(cycle, message)

        return sent

    def _message(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.look("the headers of an answer", repr(message.get("headers")))
        else:
            self.look("the body of an answer", _plain(message.get("body", b"")))

    def _metrics(self, exposition: Callable[..., Any]) -> Callable[..., Any]:
        def exposed(renderer: Renderer, *args: Any) -> Any:
            made = exposition(renderer, *args)
            self.look("the metrics", _plain(made.body))
            return made

        return exposed

    def _errors(self, leave: Callable[..., Any]) -> Callable[..., Any]:
        def left(raises: Any, kind: Any, error: BaseException | None, *more: Any) -> bool:
            if error is not None and type(error).__module__.startswith("dcs_task_exporter."):
                self._error("the error", error)
            return bool(leave(raises, kind, error, *more))

        return left

    def _printed(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def looked(capture: Any) -> Any:
            result = read(capture)
            for text in result:
                self.look("what a command prints", text)
            return result

        return looked

    def _pipes(self, begin: Callable[..., Any]) -> Callable[..., Any]:
        def begun(process: subprocess.Popen[Any], *args: Any, **more: Any) -> None:
            begin(process, *args, **more)
            for name in ("stdout", "stderr"):
                pipe = getattr(process, name)
                if pipe is not None:
                    setattr(process, name, Heard(pipe, self.look))

        return begun

    def _said(self, communicate: Callable[..., Any]) -> Callable[..., Any]:
        def looked(process: subprocess.Popen[Any], *args: Any, **more: Any) -> Any:
            result = communicate(process, *args, **more)
            for text in filter(None, result):
                self.look("what a process prints", text)
            return result

        return looked

    def _folder(self, cleanup: Callable[..., Any]) -> Callable[..., Any]:
        def cleaned(folder: tempfile.TemporaryDirectory[str]) -> None:
            self.look_into(Path(folder.name))
            cleanup(folder)

        return cleaned

    def _secrets(self, of: Callable[..., Any]) -> Callable[..., Any]:
        def known(_cls: type[Redactor], secrets: Iterable[str]) -> Redactor:
            given = tuple(secrets)
            for one in given:
                is_marked = MARK in one or one in (*DEMO_KEY, *self._known)
                if len(one) >= SHORTEST and not is_marked:
                    self._known.append(one)
            made: Redactor = of(given)
            return made

        return known


class Heard:
    """The pipe of a process, of which each line that a test reads is looked at."""

    def __init__(self, pipe: Any, look: Callable[[str, str | bytes], None]) -> None:
        self._pipe = pipe
        self._look = look

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.readline, type(self._pipe.readline(0))())

    def readline(self, *args: int) -> Any:
        """Return the next line."""
        line = self._pipe.readline(*args)
        self._look("what a process prints", line)
        return line


def _plain(body: bytes) -> bytes:
    """Return a body as it was before it was compressed."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    return zlib.decompressobj(31).decompress(body)
