"""What fuzzing found once stays mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_seeds import seeds_of
from fuzz_targets import TARGETS, verify

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"
INPUTS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}-{path.name}" for path in INPUTS])
def test_input(path: Path) -> None:
    """What a fuzzer found raises documented errors only, and is shown as valid text."""
    verify(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    """So does all that a fuzzer begins with."""
    for seed in seeds_of(target):
        verify(TARGETS[target], seed)
