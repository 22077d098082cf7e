"""From the text of a YAML file to a pydantic model, with every mistake reported at once.

Only the model knows the keys. No message shows a value: it could be a secret, in its own key or in
a wrong one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dcs_task_exporter.config.yaml_text import KEY_NAME, join_path, read_yaml
from dcs_task_exporter.errors import ConfigError, Problem

_MISSING: Final = "is missing"
"""The beginning of each message about a key that is not there."""

_UNSET: Final = object()
"""A value whose variable is not set: of no type that a key takes."""

_Model = TypeVar("_Model", bound=BaseModel)


def read_text(path: Path) -> str:
    """Return the text of a configuration file. Raises `ConfigError` when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        message = "is not UTF-8 text"
    raise ConfigError(str(path), (Problem("", message),))


def parse(
    model: type[_Model],
    text: str,
    source: str,
    environ: Mapping[str, str] | None,
    check: Callable[[object], list[Problem]],
    *,
    read: Callable[[str], tuple[object, list[Problem]]] = read_yaml,
) -> _Model:
    """Return the model that `text` describes; `source` names the text in errors.

    Without `environ` values hold no variables. `read` returns the data in the text.

    `check` finds the mistakes that no single key shows, and a wrong type of a section that has
    several; the data it gets may be of any shape.

    Raises `ConfigError` with every mistake of the text.
    """
    data, problems = read(text)
    data = data if environ is None else _expand(data, "", environ, problems)
    if not isinstance(data, dict):
        raise ConfigError(source, tuple(problems))
    config, items = _validate(model, data)
    pairs = [_problem(model, item) for item in items]
    found = [problem for problem, _ in pairs] + check(data)
    # Report a misspelt key only once, not as missing too, and an unset variable not as wrong too.
    misspelt = {meant for _, meant in pairs}
    unset = {problem.path for problem in problems}
    problems += [
        problem
        for problem in found
        if problem.path not in unset
        and not (problem.message.startswith(_MISSING) and problem.path in misspelt)
    ]
    if config is None or problems:
        # Raised outside the handler, else pydantic's error with the values would be its context.
        raise ConfigError(source, tuple(dict.fromkeys(problems)))
    return config


_VARIABLE_NAME: Final = re.compile(r"[A-Z]{1,16}|(?=.{1,64}$)[A-Z0-9]+(?:_[A-Z0-9]+)+")
"""The usual form of a variable's name; anything else could be a secret in its place."""

_VARIABLE: Final = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def _expand(value: object, path: str, environ: Mapping[str, str], found: list[Problem]) -> object:
    """Return `value` with its variables replaced, or `_UNSET`; add the reason to `found`."""
    if isinstance(value, dict):
        return {
            key: _expand(item, join_path(path, key), environ, found) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_expand(item, f"{path}[{at}]", environ, found) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    wrong: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match.group()[1:]
        if name is None:
            form = "`${` must begin ${NAME} or ${NAME:-default}"
            wrong.append(f"{form}; write $${{ for the text itself")
        elif name not in environ and default is None:
            shown = name if _VARIABLE_NAME.fullmatch(name) else "that is named here"
            wrong.append(f"the environment variable {shown} is not set")
        return environ.get(name, "") or default or ""

    text = _VARIABLE.sub(replacement, value)
    found += [Problem(path, message) for message in wrong]
    return _UNSET if wrong else text


_EXPECTED: Final[Mapping[str, str]] = {
    "bool": "true or false is expected",
    "finite": "a number is expected",
    "float": "a number is expected",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int": "a whole number is expected",
    "less_than_equal": "must be at most {le:g}",
    "dict": "a section of keys and values is expected",
    "mapping": "a section of keys and values is expected",
    "list": "a list is expected",
    "literal": "must be {expected}",
    "missing": _MISSING,
    "model": "a section of keys and values is expected",
    "string": "text is expected: put it in quotes",
    "string_too_short": "must not be empty",
    "string_unicode": "must be UTF-8 text",
    "too_short": "must list at least one",
    "tuple": "a list is expected",
}
_UNKNOWN_KEY: Final = ("extra_forbidden", "invalid_key")
_IN_CHECK: Final = ("union_tag_invalid", "union_tag_not_found")
"""Kinds of errors that the check reports, by the key that is wrong."""


def _validate(model: type[_Model], data: object) -> tuple[_Model | None, list[ErrorDetails]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        items = error.errors(include_url=False)
    # pydantic counts a list whose every item is wrong as empty too.
    return None, [
        item
        for item in items
        if item["type"] not in _IN_CHECK and not (item["type"] == "too_short" and item["input"])
    ]


def _problem(model: type[BaseModel], item: ErrorDetails) -> tuple[Problem, str | None]:
    """Return an error of pydantic as a problem, and the path of the key that it misspells."""
    kind, loc, context = item["type"], item["loc"], item.get("ctx", {})
    if kind in _UNKNOWN_KEY:
        path, section = _walk(model, loc[:-1])
        message, near = _unknown_key(str(loc[-1]), section)
        return Problem(path, message), join_path(path, near) if near else None
    if kind == "value_error":
        message = str(context["error"])
    elif item["input"] is None and kind != "missing":
        message = "has no value: give it one, or remove the key"
    else:
        text = _EXPECTED.get(kind) or _EXPECTED.get(kind.split("_")[0], "is of the wrong type")
        message = text.format_map(context)
    return Problem(_walk(model, loc)[0], message), None


def _walk(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """Return the path of a location in the file, and the section that is there."""
    path = ""
    here: type[BaseModel] | None = model
    parts = iter(loc)
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        path = join_path(path, part)
        field = here.model_fields.get(part) if here else None
        tag = str(next(parts, "")) if field and field.discriminator else ""  # no key of the file
        here = _section(field.annotation, tag) if field else None
    return path, here


def _section(annotation: object, tag: str) -> type[BaseModel] | None:
    """Return the model in an annotation like ``tuple[Model, ...]``; of a union, that of `tag`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("type")
        return annotation if not kind or tag in get_args(kind.annotation) else None
    inner = (_section(argument, tag) for argument in get_args(annotation))
    return next((model for model in inner if model), None)


def _unknown_key(key: str, section: type[BaseModel] | None) -> tuple[str, str | None]:
    """Return the message about an unknown key, and the known one that is probably meant."""
    fields = section.model_fields.items() if section else ()
    known = [field.alias or name for name, field in fields]
    near = next(iter(difflib.get_close_matches(key, known, n=1)), None)
    # In ``{type: token, hunter2}`` a secret stands as a key.
    shown = f" `{key}`" if KEY_NAME.fullmatch(key) and (near or not _is_secret(section)) else ""
    hint = f"did you mean `{near}`?" if near else f"known here: {', '.join(sorted(known))}"
    return f"unknown key{shown}; {hint}", near


def _is_secret(section: type[BaseModel] | None) -> bool:
    """Whether a section may hold secrets: one without a type may be of any type."""
    fields = section.model_fields.values() if section else ()
    return section is None or any("Secret" in str(field.annotation) for field in fields)
