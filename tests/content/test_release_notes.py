"""What is printed for a release, and what is missing for one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import release_notes

from dcs_task_exporter import __version__
from tests.support.real_parts import ROOT

CHANGELOG = """# Changelog

## 1.2.4 - unreleased

- Not yet.

## 1.2.3 - 2026-01-02

### Metrics

- New.

## 1.2.2 - 2026-01-01

- Old.
"""


def repository(folder: Path, **files: str) -> Path:
    """Make a repository that is ready for the release of 1.2.3; `files` by name without ending."""
    content = {
        "pyproject.toml": 'version = "1.2.3"\n',
        "CHANGELOG.md": CHANGELOG,
        "SECURITY.md": "Write to security@example.org.\n",
    }
    for name, text in content.items():
        (folder / name).write_text(files.get(name.partition(".")[0], text))
    return folder


def test_the_notes_are_those_of_the_version() -> None:
    """The notes are the changelog's text of the version, up to the version before."""
    assert release_notes.notes(CHANGELOG, "1.2.3") == "### Metrics\n\n- New."
    assert release_notes.notes(CHANGELOG, "1.2.2") == "- Old."


@pytest.mark.parametrize("version", ["1.2.4", "1.2", "9.9.9"])
def test_no_notes_without_a_date(version: str) -> None:
    """A version that has no date in the changelog has no notes."""
    assert release_notes.notes(CHANGELOG, version) == ""


def test_nothing_is_missing(tmp_path: Path) -> None:
    """With its tag, its date, a contact and an address, a release misses nothing."""
    assert list(release_notes.missing(repository(tmp_path), "v1.2.3")) == []


@pytest.mark.parametrize("tag", ["", "1.2.3", "v1.2.4"])
def test_a_wrong_tag(tmp_path: Path, tag: str) -> None:
    """A tag that is not the version is named, with the version."""
    (problem,) = release_notes.missing(repository(tmp_path), tag)

    assert problem.endswith("is not v1.2.3, the version in pyproject.toml")


def test_a_version_that_has_no_text(tmp_path: Path) -> None:
    """A version without a dated heading is named."""
    root = repository(tmp_path, CHANGELOG="## Unreleased\n\n- New.\n")

    assert list(release_notes.missing(root, "v1.2.3")) == [
        "CHANGELOG.md has no text under `## 1.2.3 - YYYY-MM-DD`"
    ]


def test_a_place_to_fill_in(tmp_path: Path) -> None:
    """A place that only the maintainers can fill in is named by its file and line."""
    root = repository(
        tmp_path, SECURITY=f"# Security\n\n> **CONTACT: {release_notes.TO_FILL_IN}**\n"
    )

    assert list(release_notes.missing(root, "v1.2.3")) == [
        f"SECURITY.md:3: CONTACT: {release_notes.TO_FILL_IN}"
    ]


def test_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the notes, or what is missing with the status 1."""
    monkeypatch.setattr(release_notes, "ROOT", repository(tmp_path))
    statuses = []
    for tag in (["v1.2.3"], []):
        monkeypatch.setattr("sys.argv", ["release_notes", *tag])
        statuses.append(release_notes.main())

    assert statuses == [0, 1]
    assert capsys.readouterr() == (
        "### Metrics\n\n- New.\n",
        "the tag TAG is not v1.2.3, the version in pyproject.toml\n",
    )


def test_what_is_to_be_filled_in() -> None:
    """Here, the contact and the address are to be filled in: each in one place, which says so."""
    marked = [
        path.name
        for path in (ROOT / "pyproject.toml", *ROOT.glob("*.md"))
        for _ in re.findall(release_notes.TO_FILL_IN, path.read_text())
    ]

    assert sorted(marked) == sorted(release_notes.WITH_GAPS)


def test_the_version_has_a_heading() -> None:
    """The version of the code has its heading in the changelog, with a date or `unreleased`."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    own = rf"{re.escape(__version__)} - (unreleased|\d{{4}}-\d\d-\d\d)"

    assert [heading for heading in headings if re.fullmatch(own, heading)] != []


def test_the_first_version_changes_nothing() -> None:
    """The changelog of the first version says what is there, and not what an earlier one did."""
    first = (ROOT / "CHANGELOG.md").read_text().partition("## 0.1.0 - ")[2]
    assert not re.findall(r"used to|no longer|not supported yet|anymore", first)
