"""The pages of docs/ are found from the index, and what they show can be used."""

from __future__ import annotations

import re

from tests.support.real_parts import ROOT

DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text()


def test_the_index_has_every_page() -> None:
    """Each page of docs/ answers exactly one line of the index."""
    linked = re.findall(r"\]\(([\w-]+\.md)\) \|$", INDEX, re.MULTILINE)
    english = {path.name for path in DOCS.glob("*.md") if ".zh" not in path.name}

    assert sorted(linked) == sorted(english - {"index.md"})
