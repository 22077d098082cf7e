"""The Chinese pages are in step with the English ones: what both share is the same, in its section.

The prose is compared by nobody but its readers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import generate_docs
import pytest

from tests.support.real_parts import ROOT

DOCS = ROOT / "docs"
CHINESE = DOCS / "zh-CN"
OPERATORS_PAGES = (
    "install",
    "create-a-key",
    "permissions",
    "configuration",
    "metrics",
    "prometheus",
    "alertmanager",
    "troubleshooting",
)
PAGES = {ROOT / "README.md": ROOT / "README.zh-CN.md"} | {
    DOCS / path.relative_to(CHINESE): path for path in sorted(CHINESE.rglob("*.md"))
}
"""The English pages that there are in Chinese, with those."""

FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?:    .*\n)+")
COMMENT = re.compile(r"[ \t]+# .*$", re.MULTILINE)
LANGUAGE_LINE = re.compile(r"^\[(?:简体中文|English)\]\((\S+)\)$", re.MULTILINE)

each_page = pytest.mark.parametrize(
    ("english", "chinese"),
    [pytest.param(*pair, id=pair[0].relative_to(ROOT).as_posix()) for pair in PAGES.items()],
)


@dataclass(frozen=True)
class Section:
    """What is below one heading, up to the next."""

    level: int
    heading: str
    code: Sequence[str]
    """The blocks of code, without comments."""
    prose: str

    @property
    def anchor(self) -> str:
        """Return the anchor of the heading, as GitHub makes it."""
        return re.sub(r"[^\w -]", "", self.heading).lower().replace(" ", "-")


@cache
def sections(path: Path) -> Sequence[Section]:
    """Return the sections of a page, without what is generated and the link to the other page."""
    text = generate_docs.BLOCK.sub(r"\1\3", LANGUAGE_LINE.sub("", path.read_text()))
    blocks = FENCE.findall(text)
    text = FENCE.sub("\0", text)
    found = []
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        marks, _, heading = head.partition(" ")
        code = [blocks.pop(0) for _ in range(body.count("\0"))] + INDENTED.findall(body)
        bare = [COMMENT.sub("", block) for block in code]
        found.append(Section(len(marks), heading, bare, INDENTED.sub("", body.replace("\0", ""))))
    return found


def pairs(english: Path, chinese: Path) -> Iterator[tuple[Section, Section]]:
    """Yield the sections of two pages side by side."""
    return zip(sections(english), sections(chinese), strict=True)


def lacks(
    english: Path, chinese: Path, facet: Callable[[Section], set[str]], *, both: bool
) -> list[str]:
    """Say what each section of a Chinese page lacks and, if `both`, what it has too much."""
    wrong = []
    for a, b in pairs(english, chinese):
        here, there = facet(a), facet(b)
        wrong += [f"{b.heading}: {word} is missing" for word in sorted(here - there)]
        wrong += [f"{b.heading}: {word} is new" for word in sorted(there - here) if both]
    return wrong


def code_in(text: str) -> set[str]:
    """Return what a text shows as code, between single or double marks."""
    spans = re.findall(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)", text, re.DOTALL)
    return {span for _marks, span in spans}


def names_in(text: str) -> set[str]:
    """Return the alerts, variables and names in camel case of a text, as code or not."""
    return set(re.findall(r"\b[A-Z]+_[A-Z_]+\b|\b\w*[a-z][A-Z]\w*\b", text, re.ASCII))


def alerts_in(text: str) -> set[str]:
    """Return the alerts that a text names."""
    return set(re.findall(r"\bDCS[A-Z][a-z]\w+", text, re.ASCII))


def numbers_in(text: str) -> set[str]:
    """Return the numbers of a text that are written in digits."""
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


def tables_in(section: Section) -> list[str]:
    """Return the names of the generated tables."""
    return [found[2] for found in generate_docs.BLOCK.finditer(section.prose)]


def rows_of(section: Section) -> list[tuple[int, set[str]]]:
    """Return of each row of a table the number of cells, and the code in the first one."""
    rows = map(generate_docs.cells, re.findall(r"^\|.*$", section.prose, re.MULTILINE))
    return [(len(row), code_in(row[0])) for row in rows]


def items_of(section: Section) -> list[str]:
    """Return the marks of all items of lists."""
    return re.findall(r"^ *(-|\d+\.) ", section.prose, re.MULTILINE)


def links_of(path: Path, section: Section) -> Iterator[str]:
    """Yield where the links and pictures of a section lead, as a link of the root would say it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", section.prose):
        if re.match(r"https?:", target):
            yield target
        else:
            file, mark, anchor = target.partition("#")
            there = os.path.normpath(path.parent / file) if file else str(path)
            yield f"{os.path.relpath(there, ROOT)}{mark}{anchor}"


def in_chinese(link: str) -> str:
    """Return where a link of an English page leads in Chinese."""
    file, _, anchor = link.partition("#")
    english = ROOT / file
    if english not in PAGES:
        return link
    there = PAGES[english].relative_to(ROOT).as_posix()
    if not anchor:
        return there
    place = [section.anchor for section in sections(english)].index(anchor)
    return f"{there}#{sections(PAGES[english])[place].anchor}"


def test_what_an_operator_needs_is_there() -> None:
    """The pages that an operator needs, and all runbooks, are there in Chinese."""
    needed = [DOCS / f"{name}.md" for name in OPERATORS_PAGES] + [*DOCS.glob("runbooks/*.md")]

    assert [path.name for path in needed if path not in PAGES] == []
    assert [path.name for path in PAGES if not path.is_file()] == []


@each_page
def test_each_leads_to_the_other(english: Path, chinese: Path) -> None:
    """Below its title, each page has a line that leads to the same page in the other language."""
    for path, other, name in ((english, chinese, "简体中文"), (chinese, english, "English")):
        link = os.path.relpath(other, path.parent)

        assert path.read_text().splitlines()[1:4] == ["", f"[{name}]({link})", ""]


@each_page
def test_headings(english: Path, chinese: Path) -> None:
    """The headings are as many, of the same levels, and with the same code and names in them."""
    outlines = [
        [(each.level, code_in(each.heading), names_in(each.heading)) for each in sections(path)]
        for path in (english, chinese)
    ]

    assert outlines[0] == outlines[1]


@each_page
def test_code(english: Path, chinese: Path) -> None:
    """Each section has the same blocks of code, but for comments, and the same generated tables."""
    for a, b in pairs(english, chinese):
        assert (a.code, tables_in(a)) == (b.code, tables_in(b)), b.heading


@each_page
def test_code_in_the_prose(english: Path, chinese: Path) -> None:
    """Each section names the same keys, flags, metrics, labels, values and paths as code."""
    wrong = lacks(english, chinese, lambda section: code_in(section.prose), both=True)

    assert not wrong, "\n".join(wrong)


@each_page
def test_names(english: Path, chinese: Path) -> None:
    """Each section has the alerts, variables and names of the English one, and may have more."""
    wrong = lacks(english, chinese, lambda section: names_in(section.prose), both=False)

    assert not wrong, "\n".join(wrong)


@each_page
def test_alerts(english: Path, chinese: Path) -> None:
    """Each section names the same alerts."""
    wrong = lacks(english, chinese, lambda section: alerts_in(section.prose), both=True)

    assert not wrong, "\n".join(wrong)


def test_runbooks_are_alike() -> None:
    """The sections of all runbooks have the same names in Chinese, too."""
    pages = CHINESE.glob("runbooks/DCS*.md")

    assert len({tuple(each.heading for each in sections(page)[1:]) for page in pages}) == 1


@each_page
def test_numbers(english: Path, chinese: Path) -> None:
    """Each section has the numbers of the English one, and may have more: those in words."""
    wrong = lacks(english, chinese, lambda section: numbers_in(section.prose), both=False)

    assert not wrong, "\n".join(wrong)


@each_page
def test_tables(english: Path, chinese: Path) -> None:
    """Each section has the same tables, row for row by the code in their first cells."""
    for a, b in pairs(english, chinese):
        assert rows_of(a) == rows_of(b), b.heading


@each_page
def test_lists(english: Path, chinese: Path) -> None:
    """Each section has as many items and steps."""
    for a, b in pairs(english, chinese):
        assert items_of(a) == items_of(b), b.heading


@each_page
def test_links(english: Path, chinese: Path) -> None:
    """Each section leads to the same places: to the Chinese page where there is one."""
    for a, b in pairs(english, chinese):
        wanted = {in_chinese(link) for link in links_of(english, a)}

        assert set(links_of(chinese, b)) == wanted, b.heading


def test_what_is_bold_is_shown_so() -> None:
    """No bold text ends with a Chinese mark before a word: GitHub would show the asterisks."""
    texts = [path.read_text() for path in PAGES.values()]
    bold = [found for text in texts for found in re.findall(r"\*\*[^*\n]+\*\*(?=\w)", text)]

    assert [text for text in bold if not text[-3].isalnum()] == []


def test_each_cell_is_translated() -> None:
    """Each cell of the generated tables has its Chinese; an English text that changed has none."""
    english, known = generate_docs.cells_to_translate(), generate_docs.translations().keys()

    assert sorted(english - known) == []
    assert sorted(known - english) == []


def test_translations_keep_names_and_numbers() -> None:
    """What a cell shows as code, its names and its numbers are the same in Chinese."""
    wrong = [
        english
        for english, chinese in generate_docs.translations().items()
        if code_in(english) != code_in(chinese)
        or names_in(english) - names_in(chinese)
        or numbers_in(english) - numbers_in(chinese)
    ]

    assert wrong == []
