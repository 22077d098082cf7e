"""One run over a target: tries inputs, and keeps those that fail, as small as they can be."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

from fuzz.checks import Target, UnsoundError, check_exposition
from fuzz.mutations import json_mutated, mutated
from fuzz.text_mutations import bytes_mutated, text_mutated

CORPUS: Final = Path(__file__).parent / "corpus"

HANGING: Final = 1.0
"""Seconds of processor time from which on an input hangs."""

MAX_LENGTH: Final = 16_384
"""Bytes of an input at most."""

SMALLER_TRIES: Final = 400
"""How often an input that fails is tried with less in it."""

_PACKAGE: Final = "dcs_task_exporter"


@dataclass(slots=True)
class Campaign:
    """One run over a target: its inputs and its failures."""

    target: Target
    runs: int
    seconds: float
    began: float = field(default_factory=time.monotonic)
    inputs: int = 0
    slow: int = 0
    hanging: int = 0
    slowest: float = 0.0
    failures: dict[str, bytes] = field(default_factory=dict)
    unsound: int = 0

    @property
    def is_over(self) -> bool:
        """Whether there were enough inputs, or enough time passed."""
        return self.inputs >= self.runs or time.monotonic() - self.began >= self.seconds

    @property
    def status(self) -> int:
        """The exit status: 1 if an input failed or took too long."""
        return 1 if self.failures or self.slow else 0

    def one(self, data: bytes) -> str:
        """Try one input, and return its failure, if any."""
        self.inputs += 1
        failure, took = tried(self.target, data)
        if failure and failure not in self.failures:
            self._found(failure, data)
        if took > self.target.limit:
            took = self._slow(data, took)
        self.slowest = max(self.slowest, took)
        return failure

    def report(self) -> str:
        """Return the sums in a line."""
        took, limit = time.monotonic() - self.began, self.target.limit
        return (
            f"{self.target.name}: {self.inputs} inputs in {took:.0f} s; "
            f"crashes: {len(self.failures) - self.unsound}, wrong answers: {self.unsound}, "
            f"hangs over {HANGING:.0f} s: {self.hanging}, over {limit * 1000:.0f} ms: {self.slow}, "
            f"the slowest: {self.slowest * 1000:.0f} ms\n"
        )

    def _found(self, failure: str, data: bytes) -> None:
        self.failures[failure] = data
        self.unsound += failure.startswith(UnsoundError.__name__)
        path = kept_as(self.target, data)
        if not path.exists():
            small = smaller(data, lambda part: tried(self.target, part)[0] == failure)
            path = kept(self.target, small)
        where = path.relative_to(CORPUS.parent.parent)
        sys.stdout.write(f"{self.target.name}: input {self.inputs}: {failure}: {where}\n")
        sys.stdout.flush()

    def _slow(self, data: bytes, took: float) -> float:
        """Note an input that takes too long, three times in a row: once can be chance."""
        least = min(took, *(tried(self.target, data)[1] for _ in range(2)))
        if least > self.target.limit:
            self.slow += 1
            self.hanging += least > HANGING
            where = kept(self.target, data).name
            sys.stdout.write(f"{self.target.name}: {least * 1000:.0f} ms: {where}\n")
        return least


def tried(target: Target, data: bytes) -> tuple[str, float]:
    """Return the kind of failure and its line, or nothing; and the processor time it took.

    The time is the package's, without that of checking the texts it renders.
    """
    began = time.process_time()
    took: float | None = None
    try:
        texts = target.read(data)
        took = time.process_time() - began
        for text in texts:
            check_exposition(text)
    except Exception as error:  # noqa: BLE001 - any error is a failure
        failure = f"{type(error).__name__} at {_line_of(error)}"
        return failure, time.process_time() - began if took is None else took
    return "", took


def _line_of(error: Exception) -> str:
    """Return the innermost line of this package, or of all when none is of it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _PACKAGE in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def smaller(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return an input without every part that can be left out."""
    size, tries = len(data) // 2, 0
    while size and tries < SMALLER_TRIES:
        at = 0
        while at < len(data) and tries < SMALLER_TRIES:
            part = data[:at] + data[at + size :]
            tries += 1
            data, at = (part, at) if fails(part) else (data, at + size)
        size //= 2
    return data


def kept(target: Target, data: bytes) -> Path:
    """Write an input to the corpus of a target, and return where."""
    path = kept_as(target, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def kept_as(target: Target, data: bytes) -> Path:
    """Return where an input is kept, or would be."""
    return CORPUS / target.name / sha256(data).hexdigest()[:12]


def changed(target: Target, data: bytes, random: Random) -> bytes:
    """Return an input that differs from another in a way that its reader may not notice."""
    match target.form:
        case "json":
            made = json_mutated(data, random)
        case "text":
            made = text_mutated(data, random, target.words)
        case "bytes":
            made = bytes_mutated(data, random)
        case _:
            made = mutated(data, random, wire=target.form == "wire")
    return made[:MAX_LENGTH]
