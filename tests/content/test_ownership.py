"""State has one owner: a class's fields are assigned by its own methods, and nothing is global.

The code is read, not run. Each exception is named with its reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

import dcs_task_exporter

PACKAGE = Path(dcs_task_exporter.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LIBRARY_OBJECTS: Final[Mapping[str, str]] = {
    "cloud/auth.py: request": "requests lets an AuthBase sign its request by setting headers",
    "commands/ready.py: context": "an SSLContext is configured by its attributes",
    "cloud/request.py: failure": "a traceback kept in memory keeps all that its frames hold",
    "cloud/tls.py: context": "an SSLContext is configured by its attributes",
    "cloud/connections.py: manager": "urllib3 takes its kinds of connections that way",
    "cloud/transport.py: request": "requests' own way to send a prepared request elsewhere",
    "logs/formats.py: root": "the root logger gets one handler, in place of those it had",
    "metrics/durations.py: family": "samples are held in a fresh family of the client library",
    "web/app.py: app.router": "Starlette has no parameter for it",
    "web/tls_server.py: context": "an SSLContext is configured by its attributes",
}
"""Objects of libraries that are changed by their attributes, as `module: object`, with reasons."""

LOCK_TYPES: Final = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}
MUTATORS: Final = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
    "popleft", "remove", "setdefault", "update",
}  # fmt: skip


def trees() -> Iterator[tuple[str, ast.Module]]:
    for file in FILES:
        yield file.relative_to(PACKAGE).as_posix(), ast.parse(file.read_text())


def targets_of(node: ast.AST) -> list[ast.expr]:
    """Return the expressions that a statement assigns or deletes."""
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return targets
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [target]
        case ast.For(target=target) | ast.AsyncFor(target=target) | ast.NamedExpr(target=target):
            return [target]
        case ast.withitem(optional_vars=ast.expr() as target):
            return [target]
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[target, *_]):
            return [ast.Attribute(target, "?")]
        case ast.Call(func=ast.Attribute(attr="__setattr__" | "__delattr__"), args=[target, *_]):
            return [ast.Attribute(target, "?")]
        case _:
            return []


def flat(targets: list[ast.expr]) -> Iterator[ast.expr]:
    """Yield the fields and names that are assigned: also those in tuples, and those of items."""
    for target in targets:
        match target:
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                yield from flat(parts)
            case ast.Starred(value=part) | ast.Subscript(value=part):
                yield from flat([part])
            case _:
                yield target


def is_own(target: ast.expr) -> bool:
    """Whether the field belongs to the object whose method this is."""
    return isinstance(target, ast.Attribute) and ast.unparse(target.value) in ("self", "cls")


def foreign_fields(tree: ast.Module) -> list[str]:
    """Return the fields that are assigned on another object than a method's own."""
    found = [target for node in ast.walk(tree) for target in flat(targets_of(node))]
    return [
        ast.unparse(target)
        for target in found
        if isinstance(target, ast.Attribute) and not is_own(target)
    ]


def locks_passed(tree: ast.Module) -> list[str]:
    """Return the parameters and arguments that are locks."""
    own = {
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_lock(node.value)
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            names = {
                part.attr for part in ast.walk(node.annotation) if isinstance(part, ast.Attribute)
            }
            names |= {part.id for part in ast.walk(node.annotation) if isinstance(part, ast.Name)}
            found += [node.arg] if names & LOCK_TYPES else []
        if isinstance(node, ast.Call):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            found += [
                ast.unparse(one)
                for one in given
                if isinstance(one, ast.Attribute)
                and (one.attr in own or one.attr.strip("_") == "lock")
            ]
    return found


def is_lock(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in LOCK_TYPES


def thread_locals(tree: ast.Module) -> list[str]:
    """Return the thread-local and context variables."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)]
    names = {"threading.local", "local", "ContextVar", "contextvars.ContextVar"}
    return [ast.unparse(node) for node in found if ast.unparse(node) in names]


def changed_globals(tree: ast.Module) -> list[str]:
    """Return the names of a module that its functions change."""
    found = [name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]
    names = {
        target.id
        for node in tree.body
        for target in flat(targets_of(node))
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                found += [name] if name in names and method in MUTATORS else []
            case ast.Call(func=ast.Name(id="next"), args=[ast.Name(id=name), *_]):
                found += [name] if name in names else []
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                found += [name] if name in names else []
            case _:
                pass
    return found


def all_found(kind: str) -> set[str]:
    find = {
        "fields": foreign_fields,
        "locks": locks_passed,
        "thread-locals": thread_locals,
        "globals": changed_globals,
    }[kind]
    return {f"{name}: {item}" for name, tree in trees() for item in find(tree)}


def foreign_objects() -> set[str]:
    """Return the objects whose fields others assign, as `module: object`."""
    return {item.rpartition(".")[0] for item in all_found("fields")}


def test_fields_are_assigned_by_their_own_class() -> None:
    """No class's field is assigned, nor an item of it, but through `self` in its own methods."""
    assert foreign_objects() - LIBRARY_OBJECTS.keys() == set()


def test_each_exception_is_needed() -> None:
    """An object of a library that nobody changes any more is no exception."""
    assert LIBRARY_OBJECTS.keys() - foreign_objects() == set()


def test_locks_are_not_passed_around() -> None:
    """No lock is a parameter, and none is handed to another object."""
    assert all_found("locks") == set()


def test_no_thread_locals() -> None:
    """Nothing travels from one call to another through a thread."""
    assert all_found("thread-locals") == set()


def test_no_globals_that_change() -> None:
    """No module has a variable that its functions change."""
    assert all_found("globals") == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("other.field = 1", ["other.field"]),
        ("self.other.field = 1", ["self.other.field"]),
        ("other.field[0] += 1", ["other.field"]),
        ("x, (other.field, y) = 1, (2, 3)", ["other.field"]),
        ("for other.field in x: pass", ["other.field"]),
        ("with x as other.field: pass", ["other.field"]),
        ("del other.field", ["other.field"]),
        ("setattr(other, 'field', 1)", ["other.?"]),
        ("object.__setattr__(other, 'field', 1)", ["other.?"]),
        ("self.field = field = 1", []),
        ("self.field[0] = 1", []),
    ],
)
def test_foreign_fields_are_found(code: str, found: list[str]) -> None:
    """Each way to assign a field of another object is found."""
    assert foreign_fields(ast.parse(code)) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(guard: threading.Lock): pass", ["guard"]),
        ("def f(guard: Lock | None): pass", ["guard"]),
        ("self._guard = threading.Lock()\nOther(self._guard)", ["self._guard"]),
        ("Other(lock=here.lock)", ["here.lock"]),
        ("self._lock = threading.Lock()", []),
    ],
)
def test_passed_locks_are_found(code: str, found: list[str]) -> None:
    """A lock is found as a parameter and as an argument."""
    assert locks_passed(ast.parse(code)) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = 0\ndef f():\n  global x\n  x = 1", ["x"]),
        ("x = []\ndef f(): x.append(1)", ["x"]),
        ("x: dict = {}\ndef f(): x[1] = 2", ["x"]),
        ("x = {}\ndef f(): del x[1]", ["x"]),
        ("x = itertools.count()\ndef f(): return next(x)", ["x"]),
        ("x = {}\ndef f(): return x[1]", []),
    ],
)
def test_changed_globals_are_found(code: str, found: list[str]) -> None:
    """Each way to change a variable of a module is found."""
    assert changed_globals(ast.parse(code)) == found
