"""What pyproject.toml promises of the versions that it takes."""

from __future__ import annotations

import re
from pathlib import Path

import lowest_versions
import pytest

from tests.support.real_parts import ROOT

PROJECT = (ROOT / "pyproject.toml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_lowest_versions(capsys: pytest.CaptureFixture[str]) -> None:
    """Every dependency has a lower bound, and the lowest versions are made from these alone."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    declared = tomllib.loads(PROJECT)["project"]["dependencies"]

    assert lowest_versions.main() == 0

    lowest = capsys.readouterr().out.splitlines()
    assert lowest == [re.sub(r"([\w-]+)>=([\w.]+).*", r"\1==\2", line) for line in declared]


def test_a_dependency_without_a_lower_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A dependency that takes any version is named as a mistake."""
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = [\n  "a>=1.2,<2", # why\n  "certifi",\n]\n')
    monkeypatch.setattr(lowest_versions, "PROJECT", project)

    assert (lowest_versions.main(), capsys.readouterr().err) == (
        1,
        f"certifi has no lower bound in {project}\n",
    )


def test_uvicorn_has_an_upper_bound() -> None:
    """The next uvicorn is not taken untested: the web server builds on its inner classes."""
    assert re.search(r'"uvicorn>=[\d.]+,<[\d.]+"', PROJECT)


def test_the_workflow_tests_every_python() -> None:
    """The workflow tests each Python that `make unit-all` does, and the lowest versions."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    of_make = re.search(r"for version in ([\d. ]+);", MAKEFILE)
    container = re.findall(r"container: python:([\d.]+)-", workflow)
    matrix = re.search(r"python: \[(.*)\]", workflow)

    assert of_make is not None
    assert matrix is not None
    assert sorted([*container, *re.findall(r"[\d.]+", matrix[1])]) == of_make[1].split()
    assert f'requires-python = ">={of_make[1].split()[0]}"' in PROJECT
    assert "make unit-lowest" in workflow
