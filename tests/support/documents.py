"""The documents, and the blocks of code that they show."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.real_parts import ROOT

PAGES: Final[Sequence[Path]] = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob(".github/**/*.md"),
        ROOT / "grafana" / "README.md",
    ]
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: where it is, its language, and its text without indent."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The document and the line, to name a test."""
        return f"{self.path.stem}-{self.line}"


def blocks(language: str) -> Iterator[Block]:
    """Yield the fenced blocks in a language, of all documents."""
    fence = re.compile(rf"^( *)```{language}\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    for path in PAGES:
        text = path.read_text()
        for found in fence.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(path, line, language, textwrap.dedent(found[2]))
