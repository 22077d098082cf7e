"""The tables of docs/faults.md: a row for each test that is marked with `@fault(...)`.

The rows are read from the source of the tests, and the tests hold them to be true.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dcs_task_exporter.simulator.faults import FAULTS

ROOT: Final = Path(__file__).parent.parent
GROUPS: Final = (
    "cloud",
    "credentials",
    "instances and discovery",
    "clock",
    "state file",
    "web",
    "process",
)
"""Where a fault can be, in the order of the document."""

HEADER: Final = ("fault", "metrics", "log", "page", "alerts", "what mends it", "test")
NO_ANSWER: Final = "no answer"
ONE: Final = " for it alone"
LINE: Final = "<br>"


@dataclass(frozen=True)
class Row:
    """The keys that a test gives to `@fault`, and where the test is."""

    title: str
    keys: Mapping[str, Any]
    path: Path
    test: str

    def words(self, key: str) -> Sequence[str]:
        """Return the texts of a key, without repetitions."""
        found: Sequence[str] = self.keys.get(key, ())
        return tuple(dict.fromkeys(found))


def rows() -> Sequence[Row]:
    """Return the rows of all tests, in the order of their files and lines."""
    return [
        row
        for path in sorted((ROOT / "tests").glob("*/test_*.py"))
        if "@fault(" in (source := path.read_text())
        for row in _rows_of(path, ast.parse(source))
    ]


def _rows_of(path: Path, tree: ast.Module) -> Iterator[Row]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "fault":
                keys = {word.arg or "": ast.literal_eval(word.value) for word in call.keywords}
                title = ast.literal_eval(call.args[0])
                yield Row(title, keys, path.relative_to(ROOT), node.name)


def tables() -> Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Return the header and the cells of the table of each group."""
    found: dict[str, list[Sequence[str]]] = {group: [] for group in GROUPS}
    for row in rows():
        found[row.keys["where"]].append(_cells(row))
    return {f"faults: {group}": (HEADER, cells) for group, cells in found.items()}


def _cells(row: Row) -> Sequence[str]:
    within = row.keys.get("within")
    cells = (
        LINE.join([row.title, *_causes(row.words("causes"))]),
        LINE.join(map(_claim, row.words("metrics"))) or "as before",
        LINE.join(map(_line, row.words("log"))) or "nothing",
        LINE.join(map(_shown, row.words("page"))) or "as before",
        LINE.join(f"[{name}](runbooks/{name}.md)" for name in row.words("alerts")) or "none",
        row.keys["recovers"] + (f": {within} s" if within else ""),
        f"[{row.test}](../{row.path})",
    )
    return [cell.replace("|", "\\|") for cell in cells]


def _causes(causes: Iterable[str]) -> Iterator[str]:
    """Yield the error codes by their status, and then all other causes."""
    codes: dict[str, dict[str, None]] = {}
    others: dict[str, None] = {}
    for cause in causes:
        status, code = _code(cause)
        if code:
            codes.setdefault(status, {})[f"`{code}`"] = None
        else:
            others[status] = None
    for status, known in codes.items():
        yield f"{status}: {', '.join(known)}"
    if others:
        yield ", ".join(others)


def _code(cause: str) -> tuple[str, str]:
    """Return the status and the error code of a cause; its name in words, where it has none."""
    if cause not in FAULTS:
        status, _, code = cause.partition(" ")
        return (status, code) if status.isdigit() else (cause, "")
    reply = FAULTS[cause]
    try:
        body = json.loads(reply.body)
    except ValueError:
        body = {}
    code = body.get("error_code", "") if isinstance(body, dict) else ""
    return (str(reply.status), code) if code else (cause.replace("_", " "), "")


def _claim(claim: str) -> str:
    """Return what a row says of a metric: of which instances, where that is not plain."""
    alone = claim.endswith(ONE)
    name, _, what = claim.removesuffix(ONE).partition(" ")
    scope = " (this instance)" if alone else " (all)" if name == "dcs_instance_up" else ""
    return f"`{name}` {what}{scope}"


def _line(line: str) -> str:
    level, _, message = line.partition(": ")
    return f"{level.replace('warning', 'warn')}: *{message}*"


def _shown(text: str) -> str:
    return text if text == NO_ANSWER else f'"{text}"'
