"""A fuzzing run finds what fails, keeps it small, and says what it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from fuzz import campaign
from fuzz.campaign import Campaign, changed
from fuzz.checks import Target, expect
from fuzz.targets import TARGETS, seeds_of


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep inputs elsewhere."""
    monkeypatch.setattr(campaign, "CORPUS", tmp_path / "fuzz" / "corpus")
    return tmp_path / "fuzz" / "corpus"


def reader(data: bytes) -> Sequence[bytes]:
    expect(b"wrong" not in data, "a wrong answer")
    if b"crash" in data:
        raise ZeroDivisionError
    return ()


def test_failures(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each failure is kept once, as small as it can be; wrong answers are told from crashes."""
    run = Campaign(Target("reader", reader), runs=5, seconds=60)

    for data in (b"right", b"a long crash here", b"another crash", b"wrong", b"right"):
        run.one(data)

    assert sorted(path.read_bytes() for path in corpus.glob("reader/*")) == [b"crash", b"wrong"]
    assert run.status == 1
    assert run.is_over
    assert "5 inputs" in run.report()
    assert "crashes: 1, wrong answers: 1, hangs over 1 s: 0" in run.report()
    assert capsys.readouterr().out.count("reader: input") == 2


def test_nothing(corpus: Path) -> None:
    """A run in which nothing fails keeps nothing."""
    run = Campaign(Target("reader", reader), runs=5, seconds=60)

    assert run.one(b"right") == ""

    assert run.status == 0
    assert not run.is_over
    assert not corpus.exists()


@pytest.mark.parametrize("name", TARGETS)
def test_changes(name: str) -> None:
    """An input can be changed in many ways, the same in each run."""
    seed = max(seeds_of(name), key=len)[:2000]

    made, again = ([changed(TARGETS[name], seed, Random(at)) for at in range(50)] for _ in "ab")  # noqa: S311 - a seeded one

    assert len(set(made)) > 25
    assert made == again
