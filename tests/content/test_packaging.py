"""What pyproject.toml promises of the versions that it takes, and which the lock file has."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import lowest_versions
import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from tests.support.real_parts import ROOT

PROJECT = (ROOT / "pyproject.toml").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
LOCK = (ROOT / "requirements.txt").read_text()


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


# The lock file: what is installed with hashes is what pyproject.toml takes, and all of it.

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def declared() -> list[Requirement]:
    """Return the dependencies of pyproject.toml."""
    found = re.search(r"^dependencies = \[\n(.*?)^\]", PROJECT, re.DOTALL | re.MULTILINE)
    return [
        Requirement(text)
        for text in re.findall(r'^  "(.+?)"', found[1] if found else "", re.MULTILINE)
    ]


def locked(python: str) -> dict[str, str]:
    """Return the versions that the lock file has for a Python, by package."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = [Requirement(line) for line in re.findall(r"^([a-z].*?) *\\$", LOCK, re.MULTILINE)]
    return {
        pin.name: str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(environment)
    }


def needed(name: str, python: str) -> list[NormalizedName]:
    """Return the packages that an installed package needs; none where it is not installed."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    try:
        texts = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    asked = map(Requirement, texts)
    return [
        canonicalize_name(one.name)
        for one in asked
        if one.marker is None or one.marker.evaluate(environment)
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_what_the_project_takes(python: str) -> None:
    """Each dependency of the project is locked, in a version that pyproject.toml takes."""
    versions = locked(python)

    assert [
        str(one)
        for one in declared()
        if not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))
    ] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_complete(python: str) -> None:
    """What the dependencies need is locked as well, and nothing else is."""
    todo, reached = [canonicalize_name(one.name) for one in declared()], set()
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += needed(name, python)

    assert set(locked(python)) == reached


def test_every_locked_version_has_hashes() -> None:
    """Each entry of the lock names one version, and the hashes of its files."""
    entries = re.split(r"^(?=[a-z])", LOCK, flags=re.MULTILINE)[1:]
    complete = re.compile(r"[\w-]+==[\w.]+ (; [^\n]+ )?\\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+")

    assert len(entries) > 15
    assert [entry for entry in entries if not complete.match(entry)] == []


def test_the_lock_names_no_registry() -> None:
    """Where the packages come from is the business of who installs them."""
    assert ("://" in LOCK, re.findall(r"^-.*", LOCK, re.MULTILINE)) == (False, [])


def test_the_workflow_audits_the_lock() -> None:
    """The workflow looks up known vulnerabilities of the locked versions each day."""
    workflow = (ROOT / ".github" / "workflows" / "audit.yml").read_text()

    assert "schedule:" in workflow
    assert "run: make audit" in workflow
    assert re.search(r"pip-audit --requirement requirements.txt --require-hashes", MAKEFILE)
