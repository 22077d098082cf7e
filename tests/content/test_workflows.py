"""The workflows: what they run exists, with no more rights than they need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def jobs_of(path: Path) -> dict[str, Any]:
    """Return the jobs of a workflow, by name."""
    found: dict[str, Any] = load_yaml(path.read_text())["jobs"]
    return found


def steps_of(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every step of a workflow."""
    for job in jobs_of(path).values():
        yield from job.get("steps", ())


def test_there_is_one_for_each_purpose() -> None:
    """There are workflows for the tests, the audit, the nightly fuzzing and a release."""
    assert [path.stem for path in WORKFLOWS] == ["audit", "ci", "nightly", "release"]


@each_workflow
def test_targets(path: Path) -> None:
    """Every target of make that a workflow runs exists."""
    runs = "\n".join(step.get("run", "") for step in steps_of(path))
    named = re.findall(r"\bmake (?:--silent )?([a-z-]+)", runs)

    assert [name for name in named if not re.search(rf"^{name}:", MAKEFILE, re.MULTILINE)] == []


@each_workflow
def test_a_workflow_may_only_read(path: Path) -> None:
    """A workflow may read the repository, and nothing else unless a job says so."""
    assert load_yaml(path.read_text())["permissions"] == {"contents": "read"}


def test_who_may_write() -> None:
    """Only two jobs of a release may do more: one publishes and attests, one makes its page."""
    more = {
        f"{path.stem}.{name}": job["permissions"]
        for path in WORKFLOWS
        for name, job in jobs_of(path).items()
        if "permissions" in job
    }

    assert more == {
        "release.publish": {"id-token": "write", "attestations": "write"},
        "release.announce": {"contents": "write"},
    }


@each_workflow
def test_actions_are_named_by_their_commit(path: Path) -> None:
    """Every action is named by a whole commit hash, with its version beside it."""
    used = re.findall(r"\buses: (?!\./)(.*)", path.read_text())

    assert [it for it in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", it)] == []


def test_an_action_has_one_version() -> None:
    """All workflows use the same version of an action."""
    used = set(re.findall(r"\buses: (\S+@.*)", "".join(path.read_text() for path in WORKFLOWS)))
    names = [each.partition("@")[0] for each in used]

    assert len(names) == len(set(names))


@each_workflow
def test_no_key_of_the_repository_stays(path: Path) -> None:
    """What the steps run finds no key of the repository in the checkout."""
    checkouts = [step for step in steps_of(path) if "actions/checkout@" in step.get("uses", "")]

    assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []


@each_workflow
def test_nothing_is_put_into_a_shell(path: Path) -> None:
    """No expression stands in a shell's text: a branch's name must not become a command."""
    assert [step["run"] for step in steps_of(path) if "${{" in step.get("run", "")] == []


@each_workflow
def test_every_job_ends(path: Path) -> None:
    """Every job that runs steps has a limit of its time."""
    found = {name: job.get("timeout-minutes") for name, job in jobs_of(path).items()}

    assert [name for name, limit in found.items() if not limit] == (
        ["test"] if path.stem == "release" else []  # the jobs of ci.yml have their own
    )


def test_a_release_is_tested_and_checked_first() -> None:
    """Nothing is published before all tests pass, nothing is missing, and the bytes are equal."""
    jobs = jobs_of(FOLDER / "release.yml")
    built = [step.get("run", "") for step in jobs["build"]["steps"]]

    assert jobs["test"]["uses"] == "./.github/workflows/ci.yml"
    assert set(jobs["publish"]["needs"]) == {"test", "build"}
    assert 'make --silent release-notes TAG="$GITHUB_REF_NAME" >notes.md' in built
    assert "make dist" in built
    assert jobs["publish"]["environment"] == "release"


def test_what_is_published_says_where_it_comes_from() -> None:
    """The files of a release are attested before they are published."""
    steps = jobs_of(FOLDER / "release.yml")["publish"]["steps"]
    used = [step["uses"].partition("@")[0] for step in steps]

    assert used == [
        "actions/download-artifact",
        "actions/attest-build-provenance",
        "pypa/gh-action-pypi-publish",
    ]
    assert steps[1]["with"] == {"subject-path": "dist/*"}
    assert steps[2]["with"] == {"attestations": True}


def test_the_nightly_run_keeps_what_it_finds() -> None:
    """Each night, fuzzing begins with another seed, and inputs that fail are kept."""
    runs = list(steps_of(FOLDER / "nightly.yml"))

    assert runs[-2]["run"] == 'make fuzz SEED="$GITHUB_RUN_NUMBER"'
    assert runs[-1]["if"] == "failure()"
    assert runs[-1]["with"]["path"] == "fuzz/corpus"
