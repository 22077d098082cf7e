"""From the text of a YAML file to plain data, or to the mistakes in it.

No message shows a value: it could be a secret, in its own key or in a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import yaml

from dcs_task_exporter.errors import Problem

MOST_VALUES: Final = 100_000
"""Values in one file, counted where they are used: aliases can make many out of few."""

MOST_DEPTH: Final = 50
"""How deep values may be nested; an alias of itself is nested without an end."""

_WORD: Final = "(?:[A-Z][a-z]*|[a-z]+)[0-9]?"

KEY_NAME: Final = re.compile(rf"(?=.{{1,40}}$){_WORD}(?:[_-]{_WORD})*|<<")
"""The words that a key of the file consists of: anything else could be a secret, never shown."""

_NO_VALUE: Final = re.compile(r"""(?:[^'"]|'(?:[^\w'"]{1,2}|\\t|<[a-z ]+>)')*""", re.ASCII)
"""The beginning of an error of the YAML library that quotes nothing but the signs of YAML."""


class _ShallowLoader(yaml.SafeLoader):
    """YAML that is not nested deeply: a thousand deep, brackets take the library a second."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, unless it is too deep."""
        if self._depth > MOST_DEPTH:
            raise _too_deep(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Loader(_ShallowLoader):
    """YAML in which a time is a text, as it is in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base's
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _TextLoader(_ShallowLoader):
    """YAML in which every value is the text that stands there; only no value is None."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base's
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(text: str) -> tuple[object, list[Problem]]:
    """Return the data with the keys that are repeated, or None with the reason."""
    data, problems = _read(text, _Loader)
    if data is None and not problems:
        problems = [Problem("", "is empty")]
    return data, problems


def read_texts(text: str) -> tuple[object, list[Problem]]:
    """Return the data as `read_yaml`, but with texts as the only values; an empty text has none."""
    data, problems = _read(text, _TextLoader)
    return {} if data is None and not problems else data, problems


def _read(text: str, loader: type[yaml.SafeLoader]) -> tuple[object, list[Problem]]:
    try:
        data, problems = _construct(text, loader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        return None, [_at(len(before) - 1, len(before[-1]), "a character that YAML forbids")]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        said = ", ".join(filter(None, (error.context, error.problem)))
        return None, [_at(line, column, _without_values(said))]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None, [Problem("", "not YAML: a value that does not fit its tag")]
    if problems or data is None or isinstance(data, dict):
        return data, problems
    return None, [Problem("", "is no mapping of keys to values")]


def _construct(text: str, loader: type[yaml.SafeLoader]) -> tuple[object, list[Problem]]:
    node = yaml.compose(text, loader)
    if node is None:
        return None, []
    problems: list[Problem] = []
    if sum(1 for _ in islice(_nodes(node, problems), MOST_VALUES + 1)) > MOST_VALUES:
        return None, [Problem("", f"holds more than {MOST_VALUES} values")]
    return loader("").construct_document(node), problems


def _nodes(root: yaml.Node, problems: list[Problem]) -> Iterator[yaml.Node]:
    """Yield every node where it is used; note the keys that a mapping repeats."""
    waiting = [("", root, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise _too_deep(node.start_mark)
        yield node
        depth += 1
        if isinstance(node, yaml.SequenceNode):
            waiting += [(f"{path}[{at}]", item, depth) for at, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            problems += _repeated_keys(node, path)
            waiting += [(join_path(path, key.value), item, depth) for key, item in node.value]


def _too_deep(mark: yaml.Mark) -> yaml.MarkedYAMLError:
    problem = f"nested more than {MOST_DEPTH} deep, or an alias of itself"
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _repeated_keys(node: yaml.MappingNode, path: str) -> list[Problem]:
    first: dict[str, int] = {}
    problems = []
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line = key.start_mark.line + 1
        if key.value in first:
            message = f"is there twice, the first time in line {first[key.value]}"
            problems.append(Problem(join_path(path, key.value), message))
        first.setdefault(key.value, line)
    return problems


def _at(line: int, column: int, message: str) -> Problem:
    return Problem(f"line {line + 1}, column {column + 1}", f"not YAML: {message}")


def _without_values(said: str) -> str:
    """Return the library's words up to the first value that they quote, and a suggestion."""
    match = _NO_VALUE.match(said)
    said = match.group().strip(" ,") if match else ""
    return f"{said}; check the quotes, brackets and indentation here"


def join_path(path: str, key: object) -> str:
    """Return the path of a key, without keys that look like no name: they could be a secret."""
    text = key if isinstance(key, str) and KEY_NAME.fullmatch(key) else "?"
    return f"{path}.{text}" if path else text
