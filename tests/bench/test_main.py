"""The way into the benchmarks: each name has a module that takes its options."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex

import pytest

from bench.__main__ import parser
from tests.support.real_parts import ROOT

TEXTS = [ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
COMMANDS = [
    re.sub(r"\$\(.*\)", "10", found)
    for path in TEXTS
    for found in re.findall(r"python -m bench[ .]([^`\n]*)", path.read_text())
]


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands(command: str) -> None:
    """Every command of the documents and the Makefile is understood, and its module takes it."""
    given = vars(parser().parse_args(shlex.split(command)))

    main = importlib.import_module(f"bench.{given.pop('module')}").main

    assert inspect.signature(main).parameters.keys() == given.keys()


def test_all_are_documented() -> None:
    """No benchmark is without a command in the documents or the Makefile."""
    names = re.findall(r"^    ([a-z-]+)(?: |$)", parser().format_help(), re.MULTILINE)

    assert len(names) > 1
    assert {command.split()[0] for command in COMMANDS} == set(names)
