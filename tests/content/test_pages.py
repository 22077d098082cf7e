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
from dcs_task_exporter.web import paths
from tests.support import promql
from tests.support.charts import CHART, refusal, tool
from tests.support.documents import Block, blocks
from tests.support.promtool import accepts
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

DOCS = ROOT / "docs"
INDEX = (DOCS / "index.md").read_text()
CLOUDS = (DOCS / "other-clouds.md").read_text()
EXAMPLE = ROOT / "config.example.yaml"
PROMETHEUS = ROOT / "prometheus"
KINDS = {
    "configuration": {"projects", "collector", "state", "status_words"},
    "credentials": {"credentials"},
    "prometheus": {"global", "rule_files", "scrape_configs", "alerting"},
    "job": {"http_sd_configs"},
    "alertmanager": {"route", "receivers"},
    "web configuration": {
        "tls_server_config",
        "http_server_config",
        "basic_auth_users",
        "rate_limit",
    },
    "chart": {
        "shards",
        "image",
        "config",
        "credentials",
        "serviceMonitor",
        "scrapeConfig",
        "prometheusRule",
        "dashboards",
    },
}
"""What YAML a page may show, by its first keys: a test of each kind is in this file or named here.

The web configuration's is in tests/web/test_web_config.py.
"""


def kind(block: Block) -> str:
    """Return the kind of a block of YAML; fails where it has none."""
    keys = load_yaml(block.text).keys()
    return next((name for name, first in KINDS.items() if keys <= first), "unknown")


def shown(name: str) -> list[Block]:
    """Return all blocks of a kind."""
    return [block for block in blocks("yaml") if kind(block) == name]


SHOWN = shown("configuration")
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
    assert mistakes(load_yaml(block.text)) == []


@pytest.mark.real
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_schema_takes_the_files(path: Path) -> None:
    """The published schema has nothing against the configurations of the repository."""
    assert mistakes(load_yaml(path.read_text())) == []


@pytest.mark.real
def test_the_schema_is_one() -> None:
    """The published schema is itself valid."""
    schema = json.loads(generate_docs.SCHEMA.read_text())

    tool("jsonschema").Draft202012Validator.check_schema(schema)


@pytest.mark.real
def test_the_schema_takes_variables() -> None:
    """The published schema takes a variable for a number, a duration, a choice and a boolean."""
    collector = {
        "page_size": "${N}",
        "lookback": "${N}",
        "start_parameter": "${N}",
        "task_progress": "${N}",
    }

    assert mistakes(load_yaml(EXAMPLE.read_text()) | {"collector": collector}) == []


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
    assert mistakes(load_yaml(text.replace(right, wrong, 1)))


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
            assert project.region_doubt == ""

    assert len(table) == 5
    assert [row[1:] for row in table] == made


def test_every_example_is_checked() -> None:
    """Each block of YAML is of a kind that a test checks."""
    assert [block.name for block in blocks("yaml") if kind(block) == "unknown"] == []


@pytest.mark.parametrize("block", shown("credentials"), ids=lambda block: block.name)
def test_credentials_load(block: Block, tmp_path: Path) -> None:
    """Each section of credentials that a page shows is valid."""
    project = {"name": "p", "region": "cn-north-4", "discovery": {"enabled": True}}
    project |= load_yaml(block.text)

    assert loaded(yaml.safe_dump({"projects": [project]}), tmp_path).projects


@pytest.mark.real
@pytest.mark.parametrize(
    "block", [*shown("prometheus"), *shown("job")], ids=lambda block: block.name
)
def test_promtool_accepts_it(block: Block, promtool: Path, tmp_path: Path) -> None:
    """Promtool accepts each part of Prometheus' configuration that a page shows."""
    document = load_yaml(block.text)
    if kind(block) == "job":
        document = {"scrape_configs": [{"job_name": "any", **document}]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))

    accepts(promtool, "check", "config", "--syntax-only", "prometheus.yml", folder=tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("block", shown("alertmanager"), ids=lambda block: block.name)
def test_amtool_accepts_it(block: Block, alertmanager: Path, tmp_path: Path) -> None:
    """Amtool accepts the example with each part that a page shows."""
    document = load_yaml((PROMETHEUS / "alertmanager.example.yml").read_text())
    part = load_yaml(block.text)
    document["route"]["routes"] += part.get("route", {}).get("routes", [])
    document["receivers"] = part.get("receivers", document["receivers"])
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(document))

    accepts(alertmanager.parent / "amtool", "check-config", "alertmanager.yml", folder=tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("block", shown("chart"), ids=lambda block: block.name)
def test_helm_takes_it(block: Block) -> None:
    """Helm takes the values that a page shows, beside the smallest ones."""
    smallest = load_yaml((CHART / "ci" / "minimal-values.yaml").read_text())

    assert refusal(smallest | load_yaml(block.text)) == ""


def test_what_mutes_what() -> None:
    """The table of causes and of what they mute is the example's; no failed task is muted."""
    example = load_yaml((PROMETHEUS / "alertmanager.example.yml").read_text())
    rows = []
    for rule in example["inhibit_rules"]:
        cause, muted = (
            re.findall(r"\"(.+)\"", rule[key][0])[0]
            for key in ("source_matchers", "target_matchers")
        )
        first, _, endings = muted.rstrip(")").partition("(")
        names = [first + ending for ending in endings.split("|")] if endings else muted.split("|")
        equal = ", ".join(f"`{label}`" for label in rule.get("equal", ()))
        rows.append(f"| {cause} | {equal} | {', '.join(names)} |".replace("|  |", "| |"))
        assert "DCSTaskFailed" not in names

    page = (DOCS / "alertmanager.md").read_text()
    assert re.findall(r"^\| DCS.*$", page, re.MULTILINE) == rows


def test_every_path_of_the_port_is_on_the_page() -> None:
    """The page on security lists every path that the exporter serves, and no other."""
    constants = (value for name, value in vars(paths).items() if name.endswith("_PATH"))
    served = {value for value in constants if isinstance(value, str)}
    table = (DOCS / "security.md").read_text().partition("| path |")[2].partition("\n\n")[0]

    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert set(re.findall(r"`([^`]+)`", " ".join(cells))) == served | {"/metrics"}


def test_queries_use_real_names() -> None:
    """Every query on a page, in a block or in a table, reads metrics that exist."""
    described = promql.described()
    inline = [
        query
        for path in (ROOT / "README.md", *DOCS.glob("*.md"))
        for query in re.findall(r"`([^`\n]*\bdcs_\w+[^`\n]*[({<>][^`\n]*)`", path.read_text())
    ]
    queries = [*(block.text for block in blocks("promql")), *inline]
    ours = [
        (query, {name for name in promql.metrics(query) if name.startswith("dcs_")})
        for query in queries
    ]

    assert len(ours) > 60
    assert [query for query, names in ours if not names <= set(described)] == []
