"""A Dockerfile, read as far as the tests need it: its stages and their instructions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, such as ``RUN``, with all that stands behind it."""

    word: str
    text: str


def stages_of(path: Path) -> Sequence[Sequence[Instruction]]:
    """Return the instructions of each stage, each of which begins with ``FROM``."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[list[Instruction]] = []
    for line in filter(None, joined.splitlines()):
        word, _, text = line.partition(" ")
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(Instruction(word, re.sub(r" +", " ", text)))
    return stages


def texts(stage: Sequence[Instruction], word: str) -> Sequence[str]:
    """Return what stands behind each instruction of this word."""
    return [each.text for each in stage if each.word == word]
