"""The messages that the package can print, and those that docs/troubleshooting.md explains."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from tests.support.real_parts import ROOT

PACKAGE: Final = ROOT / "dcs_task_exporter"
PAGE: Final = ROOT / "docs" / "troubleshooting.md"

ANY: Final = "…"
"""What stands in a template for a value."""

_SILENT: Final = ("simulator/*", "metrics/*", "tasks/*", "state/schema.py")
"""Modules whose texts are answers of the simulated cloud, HELP of metrics, labels and SQL."""

_HELPS: Final = ("_choice", "_switch", "_value", "_addresses", "_web", "Command", "help_of")
"""What makes the text of `--help`."""

_OTHERS: Final = (
    *(*_HELPS, "add_argument", "compile", "filterwarnings"),
    *("_introduction", "demo_config", "monitoring", "_prometheus_config", "_age"),
)
"""Functions whose texts, within and as arguments, are help, patterns, files, and no trouble."""

_LOGGED: Final = ("debug", "info", "warning", "error", "exception")

_OTHER: Final = re.compile(
    r"\n|%Y|, or $|(?:SELECT|INSERT|UPDATE|DELETE|PRAGMA|BEGIN) |\S+ \| None|tuple\["
    r"|default-src |Basic |GET, HEAD|gzip, |IP Address| object at|.*Signature=|WHAT "
    r"|state (?:show|verify)$|.* min .* s$|The key of the simulated|Huawei Cloud DCS "
)
"""Beginnings of texts that are no messages: SQL, types, headers, names, lengths of time."""

_ON_PAGE: Final = re.compile(
    r"<(?:h2|strong)>([^<>]+)</|class=\"nodata\">(.*?)</p>|pill\(\"failing\", \"(.*?)\""
)
"""What the template of the status page says when not all is well."""

_VALUE: Final = re.compile(r"%s|\{[a-z]*(?:![a-z])?(?::[a-z]+)?\}|\{\{.*?\}\}")
_TABLE: Final = re.compile(r"^\| message \|.*\n\|-.*\n((?:\|.*\n)+)", re.MULTILINE)
_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_PLACE: Final = re.compile(r"<[a-z][^<>]*>")
_LETTERS: Final = re.compile("[A-Za-z]{2}")
_BLANKS: Final = re.compile(r"\S\s+\S")


@cache
def printed() -> frozenset[str]:
    """Return the template of each message in the package, with `ANY` for each value."""
    page = (PACKAGE / "web" / "status.html").read_text()
    shown = {_VALUE.sub(ANY, "".join(found)) for found in _ON_PAGE.findall(page)}
    texts = (text for text in {*_all_texts(), *shown} if not _OTHER.match(text))
    lines = {text.partition("\n")[0].strip() for text in texts}
    return frozenset(filter(_LETTERS.search, lines))


@cache
def explained() -> frozenset[str]:
    """Return each message of the page, with `<...>` for each value."""
    rows = [row for table in _TABLE.findall(PAGE.read_text()) for row in table.splitlines()]
    cells = [row.split(" | ")[0] for row in rows]
    return frozenset(span[2].strip() for cell in cells for span in _SPAN.finditer(cell))


def is_explained(template: str) -> bool:
    """Whether a message of the page holds a template of the package."""
    pattern = re.compile(_start_of(template) + ".*".join(map(re.escape, template.split(ANY))))
    return any(pattern.search(message) for message in explained())


def unknown_part(message: str) -> str:
    """Return what no message of the package has of a message of the page."""
    known = [_PLACE, *(_whole(part) for part in _fragments() if part in message)]
    spans = [found.span() for pattern in known for found in pattern.finditer(message)]
    covered = {at for start, end in spans for at in range(start, end)}
    rest = "".join(char for at, char in enumerate(message) if at not in covered)
    return rest.strip() if _LETTERS.search(rest) else ""


def explanation_of(line: str) -> str | None:
    """Return the message of the page that explains a printed line, the longest one; or None."""
    found = [message for message in explained() if _pattern(message).search(line)]
    return max(found, key=lambda message: len(_PLACE.sub("", message)), default=None)


@cache
def _pattern(message: str) -> re.Pattern[str]:
    parts = map(re.escape, _PLACE.split(message))
    return re.compile(rf"(?:^|(?<=[ (])){'(?:.+?)'.join(parts)}(?=$|[\n;])", re.MULTILINE)


@cache
def _fragments() -> frozenset[str]:
    """Return all that stands between values, in messages and elsewhere."""
    texts = {*_all_texts(words=True), *printed()}
    return frozenset(part.strip() for text in texts for part in text.split(ANY) if part.strip())


@cache
def _whole(part: str) -> re.Pattern[str]:
    end = "s?(?![A-Za-z])" if part[-1].isalpha() else ""
    return re.compile(f"{_start_of(part)}{re.escape(part)}{end}")


def _start_of(text: str) -> str:
    return "(?<![A-Za-z])" if text[:1].isalpha() else ""


def _all_texts(*, words: bool = False) -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        if not any(path.relative_to(PACKAGE).match(pattern) for pattern in _SILENT):
            yield from _texts(ast.parse(path.read_text()), is_message=words)


def _texts(node: ast.AST, *, is_message: bool) -> Iterator[str]:
    """Yield the texts below a node that have two words, or where it `is_message`, one."""
    if isinstance(node, ast.Constant | ast.JoinedStr):
        text = _template(node)
        if is_message or _BLANKS.search(text):
            yield text
    called = node.func if isinstance(node, ast.Call) else node
    name = getattr(called, "attr", getattr(called, "id", getattr(called, "name", "")))
    if name in _OTHERS:
        return
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        is_part = isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)
        if not is_docstring and not is_part:
            is_logged = isinstance(node, ast.Call) and name in _LOGGED and child in node.args
            yield from _texts(child, is_message=is_message or is_logged)


def _template(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return _VALUE.sub(ANY, node.value) if isinstance(node.value, str) else ""
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values
    )
