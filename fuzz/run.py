"""Fuzz one target: ``python -m fuzz.run TARGET --runs N --seconds S``.

Guided by coverage where atheris is installed, else, or with ``--plain``, by chance from the seeds,
the corpus and what they became. It goes on after a failure, and prints each only once: its kind,
and the line of this package that raised it. An input that fails is made as small as possible and
kept under ``fuzz/corpus``, where a test reads it again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

OWN_SHARE: Final = 0.25
"""Share of the inputs that libFuzzer mutates itself; the others are changed as their form asks."""

POOL: Final = 2000
"""Inputs that chance alone goes on from, at most."""

KEPT_SHARE: Final = 0.05
"""Share of its inputs that chance goes on from: nothing says which reached something new."""

RECURSION_LIMIT: Final = sys.getrecursionlimit()
"""How deep calls may be nested, as where the exporter runs."""

SHORT: Final = 2048
"""Bytes of an input from which chance goes on, at most: longer ones only cost time."""

_INSTRUMENTED: Final = ("dcs_task_exporter", "http", "email", "urllib3", "configparser")


def guided(name: str, runs: int, seconds: float, seed: int) -> None:
    """Fuzz a target by coverage, and end the process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from fuzz.targets import TARGETS  # noqa: PLC0415 - only what is imported here is followed
    from fuzz.campaign import MAX_LENGTH, Campaign, changed  # noqa: PLC0415 - after the targets

    target, work = TARGETS[name], Path(tempfile.mkdtemp(prefix="fuzz-"))
    campaign = Campaign(target, runs, seconds)

    def one(data: bytes) -> None:
        sys.setrecursionlimit(RECURSION_LIMIT)  # atheris raises it
        campaign.one(data)
        if campaign.is_over:  # libFuzzer would end the process without printing
            shutil.rmtree(work)
            _end(campaign.report(), campaign.status)

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < OWN_SHARE:
            own: bytes = atheris.Mutate(data, max_size)
            return own
        return changed(target, data, random)[:max_size]

    folders = _prepare(name, work, (*target.words,))
    options = [
        f"-seed={seed}",
        f"-max_len={MAX_LENGTH}",
        "-timeout=30",
        f"-artifact_prefix={work}/",
    ]
    atheris.Setup([sys.argv[0], *options, *folders], one, custom_mutator=mutate)
    atheris.Fuzz()


def _prepare(name: str, work: Path, words: Sequence[str]) -> list[str]:
    """Write the seeds and the dictionary, and return libFuzzer's arguments for them."""
    from fuzz.campaign import CORPUS  # noqa: PLC0415 - as above
    from fuzz.mutations import TOKENS  # noqa: PLC0415 - as above
    from fuzz.targets import seeds_of  # noqa: PLC0415 - as above

    for part in ("found", "seeds"):
        (work / part).mkdir()
    for number, seed in enumerate(seeds_of(name)):
        (work / "seeds" / str(number)).write_bytes(seed)
    known = (word.encode("utf-8", "surrogatepass") for word in words or TOKENS)
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in known)
    (work / "words").write_text("".join(f'"{word}"\n' for word in quoted))
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    folders = [str(work / "found"), str(work / "seeds"), str(CORPUS / name)]
    return [f"-dict={work / 'words'}", *folders]


def by_chance(name: str, runs: int, seconds: float, seed: int) -> None:
    """Fuzz a target by chance, and end the process."""
    from fuzz.campaign import CORPUS, Campaign, changed  # noqa: PLC0415 - not before the others'
    from fuzz.targets import TARGETS, seeds_of  # noqa: PLC0415 - likewise

    random, target = Random(seed), TARGETS[name]
    known = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    begin = [*seeds_of(name), *known]
    pool, campaign = list(begin), Campaign(target, runs, seconds)
    for data in begin:
        campaign.one(data)
    while not campaign.is_over:
        data = random.choice(pool)
        for _ in range(random.choice((1, 1, 2, 4))):
            data = changed(target, data, random)
        is_kept = random.random() < KEPT_SHARE and len(data) <= SHORT
        if not campaign.one(data) and is_kept:
            pool.append(data)
            if len(pool) > POOL:
                del pool[random.randrange(len(begin), POOL)]
    _end(campaign.report(), campaign.status)


def _end(report: str, status: int) -> None:
    sys.stdout.write(report)
    sys.stdout.flush()
    with contextlib.suppress(Exception):
        import fuzz.checks  # noqa: PLC0415 - loaded by now

        shutil.rmtree(fuzz.checks.folder(), ignore_errors=True)
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="do without atheris")
    chosen = parser.parse_args(arguments)
    has_atheris = importlib.util.find_spec("atheris") is not None
    fuzz: Callable[..., None] = guided if has_atheris and not chosen.plain else by_chance
    fuzz(chosen.target, chosen.runs, chosen.seconds, chosen.seed)


if __name__ == "__main__":
    main()
