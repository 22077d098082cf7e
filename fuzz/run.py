"""Fuzz one target, guided by coverage: ``python -m fuzz.run TARGET --runs N --seconds S``.

It goes on after a failure, and prints each only once: its kind, and the line of this package that
raised it. An input that fails is made as small as possible and kept under ``fuzz/corpus``, where a
test reads it again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["dcs_task_exporter", "http", "email", "urllib3"]):
    from fuzz.fuzz_targets import TARGETS, Target, check_exposition

from fuzz.fuzz_mutations import TOKENS, json_mutated, mutated
from fuzz.fuzz_seeds import seeds_of

CORPUS: Final = Path(__file__).parent / "corpus"

SLOW: Final = 0.1
"""Seconds of processor time that no input may take."""

MAX_LENGTH: Final = 16_384
"""Bytes of an input at most."""

OWN_SHARE: Final = 0.25
"""Share of the inputs that libFuzzer mutates itself; in the others a value of the JSON changes."""

SMALLER_TRIES: Final = 400
"""How often an input that fails is tried with less in it."""

_PACKAGE: Final = "dcs_task_exporter"


@dataclass(slots=True)
class Campaign:
    """One run over a target: its inputs and its failures."""

    target: Target
    runs: int
    seconds: float
    work: Path
    began: float = field(default_factory=time.monotonic)
    inputs: int = 0
    slow: int = 0
    slowest: float = 0.0
    failures: dict[str, bytes] = field(default_factory=dict)

    def one(self, data: bytes) -> None:
        """Try one input, and end the process after the last one."""
        self.inputs += 1
        failure, took = tried(self.target, data)
        if failure and failure not in self.failures:
            self._found(failure, data)
        if took > SLOW:
            took = self._slow(data, took)
        self.slowest = max(self.slowest, took)
        if self.inputs >= self.runs or time.monotonic() - self.began >= self.seconds:
            self.end()

    def end(self) -> None:
        """Print the failures and end the process: libFuzzer would end it without printing."""
        known = len(list(self.work.glob("found/*")))
        took = time.monotonic() - self.began
        shutil.rmtree(self.work)
        sys.stdout.write(
            f"{self.target.name}: {self.inputs} inputs in {took:.0f} s, "
            f"{known} of them reached something new; distinct failures: {len(self.failures)}; "
            f"inputs over {SLOW * 1000:.0f} ms: {self.slow}, the slowest: "
            f"{self.slowest * 1000:.0f} ms\n"
        )
        sys.stdout.flush()
        os._exit(1 if self.failures or self.slow else 0)

    def _found(self, failure: str, data: bytes) -> None:
        self.failures[failure] = data
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
        if least > SLOW:
            self.slow += 1
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
    path.write_bytes(data)
    return path


def kept_as(target: Target, data: bytes) -> Path:
    """Return where an input is kept, or would be."""
    return CORPUS / target.name / sha256(data).hexdigest()[:12]


def mutator(target: str) -> Callable[[bytes, int, int], bytes]:
    """Return the function that makes one input of another, as libFuzzer calls it."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < OWN_SHARE:
            own: bytes = atheris.Mutate(data, max_size)
            return own
        if target == "times_and_numbers":
            return json_mutated(data, random)[:max_size]
        return mutated(data, random, wire=target == "http_wire")[:max_size]

    return mutate


def prepare(target: str, work: Path) -> list[str]:
    """Write the seeds and the dictionary, and return libFuzzer's arguments for them."""
    for folder in ("found", "seeds"):
        (work / folder).mkdir()
    for number, seed in enumerate(seeds_of(target)):
        (work / "seeds" / str(number)).write_bytes(seed)
    words = (token.encode("utf-8", "surrogatepass") for token in TOKENS)
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
    (work / "words").write_text("".join(f'"{word}"\n' for word in quoted))
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    folders = [str(work / "found"), str(work / "seeds"), str(CORPUS / target)]
    return [f"-dict={work / 'words'}", f"-max_len={MAX_LENGTH}", *folders]


def main(arguments: Any = None) -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    campaign = Campaign(TARGETS[chosen.target], chosen.runs, chosen.seconds, work)
    options = [f"-seed={chosen.seed}", "-timeout=30", f"-artifact_prefix={work}/"]
    atheris.Setup(
        [sys.argv[0], *options, *prepare(chosen.target, work)],
        campaign.one,
        custom_mutator=mutator(chosen.target),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
