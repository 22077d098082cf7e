"""The pages of docs/ are found from the index, and what they show can be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import certifi
import generate_docs
import pytest
import yaml

from dcs_task_exporter.config.model import Config, parse_config
from tests.support.charts import tool
from tests.support.documents import Block, blocks
from tests.support.real_parts import ROOT

DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text()
CLOUDS = (DOCS / "other-clouds.md").read_text()
EXAMPLE = ROOT / "config.example.yaml"
SHOWN = [block for block in blocks("yaml") if "projects" in yaml.safe_load(block.text)]
FILES = [
    EXAMPLE,
    ROOT / "deploy" / "systemd" / "config.yml",
    ROOT / "deploy" / "compose" / "dcs-task-exporter.yml",
]

each_shown = pytest.mark.parametrize("block", SHOWN, ids=lambda block: block.name)


def loaded(text: str, folder: Path) -> Config:
    """Return the configuration of a page, with the files that it names."""
    secret = folder / "secret"
    secret.write_text("text")
    text = re.sub(r"/\S+\.pem", certifi.where(), re.sub(r"/run/secrets/[\w-]+", str(secret), text))
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "text")
    return parse_config(text, "page", variables)


def mistakes(document: Any) -> list[str]:
    """Return what the published schema has against a configuration."""
    schema = json.loads(generate_docs.SCHEMA.read_text())
    judge = tool("jsonschema").Draft202012Validator(schema)
    return [error.message for error in judge.iter_errors(document)]


def test_the_index_has_every_page() -> None:
    """Each page of docs/ answers exactly one line of the index."""
    linked = re.findall(r"\]\(([\w-]+\.md)\) \|$", INDEX, re.MULTILINE)
    english = {path.name for path in DOCS.glob("*.md") if ".zh" not in path.name}

    assert sorted(linked) == sorted(english - {"index.md"})


@each_shown
def test_configurations_load(block: Block, tmp_path: Path) -> None:
    """Each configuration that a page shows is valid."""
    assert loaded(block.text, tmp_path).projects


@pytest.mark.real
@each_shown
def test_the_schema_takes_the_configurations(block: Block) -> None:
    """The published schema has nothing against a configuration that a page shows."""
    assert mistakes(yaml.safe_load(block.text)) == []


@pytest.mark.real
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_schema_takes_the_files(path: Path) -> None:
    """The published schema has nothing against the configurations of the repository."""
    assert mistakes(yaml.safe_load(path.read_text())) == []


@pytest.mark.real
def test_the_schema_takes_variables() -> None:
    """The published schema takes a variable for a number, a duration, a choice and a boolean."""
    collector = {
        "page_size": "${N}",
        "lookback": "${N}",
        "start_parameter": "${N}",
        "task_progress": "${N}",
    }

    assert mistakes(yaml.safe_load(EXAMPLE.read_text()) | {"collector": collector}) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("lookback", "look_back"),
        ("secret_key:", "secretkey:"),
        ("7d", "7 days"),
        ("requests_per_second: 10 ", "requests_per_second: many "),
    ],
)
def test_the_schema_refuses_mistakes(right: str, wrong: str) -> None:
    """The published schema refuses a misspelt key, a wrong duration and a wrong number."""
    text = EXAMPLE.read_text()

    assert right in text
    assert mistakes(yaml.safe_load(text.replace(right, wrong, 1)))


def test_the_example_names_the_schema() -> None:
    """The first line of the example names the schema, as YAML's language server reads it."""
    first = EXAMPLE.read_text().partition("\n")[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)

    assert named
    assert EXAMPLE.parent / named[1] == generate_docs.SCHEMA


def test_every_cloud_has_its_endpoints(tmp_path: Path) -> None:
    """The configuration of each cloud leads to the endpoints that the table has."""
    table = re.findall(
        r"^\| \[[^]]+\]\(#([\w-]+)\) \| `([^`]+)`.*? \| `([^`]+)`", CLOUDS, re.MULTILINE
    )
    made = []
    for block in SHOWN:
        if block.path.name == "other-clouds.md":
            (project,) = loaded(block.text, tmp_path).projects
            made.append((project.dcs_endpoint, project.iam_url))

    assert len(table) == 5
    assert [row[1:] for row in table] == made
