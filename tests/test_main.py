"""The start of the program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

import pytest

from dcs_task_exporter.__main__ import main

CLI = "dcs_task_exporter.cli"


class CtrlC:
    """A finder of modules during whose search somebody presses Ctrl-C."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None, _target: object = None
    ) -> ModuleSpec | None:
        """Interrupt the import of the command line."""
        if name == CLI:
            raise KeyboardInterrupt
        return None


def test_an_interrupt_while_the_program_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while the modules are loaded ends the program with one line and status 130."""
    package = pytest.importorskip("dcs_task_exporter")
    monkeypatch.delitem(sys.modules, CLI, raising=False)
    monkeypatch.delattr(package, "cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [CtrlC, *sys.meta_path])

    assert main() == 130
    assert capsys.readouterr() == ("", "dcs-task-exporter: interrupted\n")
