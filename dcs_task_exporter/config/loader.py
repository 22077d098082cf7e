"""From the text of a YAML file to a pydantic model, with every mistake reported at once.

Only the model knows the keys. No message shows a value: it could be a secret, in its own key or in
a wrong one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dcs_task_exporter.config.yaml_text import KEY_NAME, join_path, read_yaml
from dcs_task_exporter.errors import ConfigError, Problem

MISSING: Final = "is missing"
"""The beginning of each message about a key that is not there."""

TAG_OF_LATER: Final = "union_tag_later"
"""The kind of error of a section whose type (its `tag`) comes with a later version."""

CrossCheck = Callable[[object], list[Problem]]
"""Finds mistakes in the expanded data that no single key shows; the data may be of any shape."""

_Model = TypeVar("_Model", bound=BaseModel)
_Loc = tuple[int | str, ...]


class _Unset:
    """A value whose variable is not set: of no type that a key takes."""


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
    model: type[_Model], text: str, source: str, environ: Mapping[str, str], check: CrossCheck
) -> _Model:
    """Return the model that `text` describes; `source` names the text in errors.

    Raises `ConfigError` with every mistake of the text.
    """
    try:
        data, problems = read_yaml(text)
        data = _expand(data, "", environ, problems)
    except RecursionError:
        problems = [Problem("", "is nested too deeply")]
        data = None
    if not isinstance(data, dict):
        raise ConfigError(source, tuple(problems))
    config, items = _validate(model, data)
    found = [_problem(model, item) for item in items] + check(data)
    # Report a misspelt key only once, not as missing too, and an unset variable not as wrong too.
    misspelt = {_meant(model, item) for item in items}
    unset = {problem.path for problem in problems}
    problems += [
        problem
        for problem in found
        if problem.path not in unset
        and not (problem.message.startswith(MISSING) and problem.path in misspelt)
    ]
    if config is None or problems:
        # Raised outside the handler, else pydantic's error with the values would be its context.
        raise ConfigError(source, tuple(dict.fromkeys(problems)))
    return config


_VARIABLE_NAME: Final = re.compile(r"[A-Z]{1,16}|(?=.{1,64}$)[A-Z0-9]+(?:_[A-Z0-9]+)+")
"""The usual form of a variable's name; anything else could be a secret in its place."""

_VARIABLE: Final = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def _expand(value: object, path: str, environ: Mapping[str, str], found: list[Problem]) -> object:
    """Return `value` with its variables replaced, or `_Unset`; add the reason to `found`."""
    if isinstance(value, dict):
        return {
            key: _expand(item, join_path(path, key), environ, found) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_expand(item, f"{path}[{at}]", environ, found) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    wrong = list(dict.fromkeys(_wrong_variables(value, environ)))
    found += [Problem(path, message) for message in wrong]
    return _Unset() if wrong else _VARIABLE.sub(lambda match: _replaced(match, environ), value)


def _wrong_variables(text: str, environ: Mapping[str, str]) -> Iterator[str]:
    for escaped, name, default in (match.groups() for match in _VARIABLE.finditer(text)):
        if escaped:
            continue
        if name is None:
            yield "`${` must begin ${NAME} or ${NAME:-default}; write $${ for the text itself"
        elif name not in environ and default is None:
            shown = name if _VARIABLE_NAME.fullmatch(name) else "that is named here"
            yield f"the environment variable {shown} is not set"


def _replaced(match: re.Match[str], environ: Mapping[str, str]) -> str:
    escaped, name, default = match.groups()
    if escaped:
        return match.group()[1:]
    return environ.get(name, "") or default or ""


_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {
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
        "missing": MISSING,
        "model": "a section of keys and values is expected",
        "string": "text is expected: put it in quotes",
        "string_too_short": "must not be empty",
        "string_unicode": "must be UTF-8 text",
        "too_short": "must list at least one",
        "tuple": "a list is expected",
    }
)
_UNKNOWN_KEY: Final = ("extra_forbidden", "invalid_key")
_TAG_MISTAKES: Final = ("union_tag_invalid", "union_tag_not_found", TAG_OF_LATER)


def _validate(model: type[_Model], data: object) -> tuple[_Model | None, list[ErrorDetails]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        items = error.errors(include_url=False)
    # pydantic counts a list whose every item is wrong as empty too.
    return None, [item for item in items if not (item["type"] == "too_short" and item["input"])]


def _meant(model: type[BaseModel], item: ErrorDetails) -> str | None:
    """Return the path of the key that an unknown one is probably meant to be."""
    if item["type"] not in _UNKNOWN_KEY:
        return None
    path, section, _ = _walk(model, item["loc"][:-1])
    near = _nearest(str(item["loc"][-1]), section)
    return join_path(path, near) if near else None


def _problem(model: type[BaseModel], item: ErrorDetails) -> Problem:
    kind, loc = item["type"], item["loc"]
    if kind in _UNKNOWN_KEY:
        path, section, _ = _walk(model, loc[:-1])
        return Problem(path, _unknown_key(str(loc[-1]), section))
    path, _, field = _walk(model, loc)
    if kind in _TAG_MISTAKES and field is not None:
        path = join_path(path, field.discriminator)
    return Problem(path, _message(item, field))


def _message(item: ErrorDetails, field: FieldInfo | None) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _TAG_MISTAKES and field is not None:
        later = f"{context['tag']} comes with a later version; " if kind == TAG_OF_LATER else ""
        return f"{later}must be one of {', '.join(_members(field))}"
    if item["input"] is None and kind != "missing":
        return "has no value: give it one, or remove the key"
    text = _EXPECTED.get(kind) or _EXPECTED.get(kind.split("_")[0], "is of the wrong type")
    return text.format_map(context)


def _walk(
    model: type[BaseModel], loc: _Loc
) -> tuple[str, type[BaseModel] | None, FieldInfo | None]:
    """Return the path of a location in the file, and the section or field that is there."""
    path, section, field = "", model, None
    parts = iter(loc)
    here: type[BaseModel] | None = section
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        path = join_path(path, part)
        field = here.model_fields.get(part) if here else None
        here = _section(field.annotation) if field and not field.discriminator else None
        if field and field.discriminator:
            here = _members(field).get(str(next(parts, "")))  # not a key of the file
    return path, here, field


def _section(annotation: object) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section(argument) for argument in get_args(annotation))
    return next((model for model in inner if model), None)


def _members(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """Return the models of a discriminated union by their tags."""
    return {
        str(tag): member
        for member in get_args(field.annotation)
        for tag in get_args(member.model_fields[str(field.discriminator)].annotation)
    }


def _unknown_key(key: str, section: type[BaseModel] | None) -> str:
    near = _nearest(key, section)
    # In ``{type: token, hunter2}`` a secret stands as a key.
    shown = f" `{key}`" if KEY_NAME.fullmatch(key) and (near or not _is_secret(section)) else ""
    known = ", ".join(sorted(_keys(section)))
    hint = f"did you mean `{near}`?" if near else f"known here: {known}"
    return f"unknown key{shown}; {hint}"


def _is_secret(section: type[BaseModel] | None) -> bool:
    """Whether a section may hold secrets: one without a type may be of any type."""
    fields = section.model_fields.values() if section else ()
    return section is None or any("Secret" in str(field.annotation) for field in fields)


def _nearest(key: str, section: type[BaseModel] | None) -> str | None:
    return next(iter(difflib.get_close_matches(key, _keys(section), n=1)), None)


def _keys(section: type[BaseModel] | None) -> list[str]:
    fields = section.model_fields.items() if section else ()
    return [field.alias or name for name, field in fields]
