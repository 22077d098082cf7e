"""The files of deploy/ that repeat others are what `make deploy` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import generate_deploy
import pytest

from dcs_task_exporter.config.model import Config
from tests.support.charts import problems_of, tool
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_all_yaml

KUBERNETES = ROOT / "deploy" / "kubernetes"


def test_copies_and_schema() -> None:
    """The rules, the dashboards, the schema and the versions are up to date."""
    files = generate_deploy.generated()

    assert [path for path, text in files.items() if path.read_text() != text] == []


def test_the_version_is_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version in pyproject.toml reaches the chart, the image, compose and the page."""
    monkeypatch.setattr(generate_deploy, "version", lambda: "12.34.56")

    found = {
        path.name: text.count("12.34.56") for path, text in generate_deploy.versioned().items()
    }

    assert found == {"Chart.yaml": 2, "Dockerfile": 1, "compose.yaml": 1, "install.md": 2}


def test_nothing_else_is_copied() -> None:
    """The chart has no copy of a file that is gone."""
    copies = set(generate_deploy.copies())
    found = {path for path in (generate_deploy.CHART / "files").rglob("*") if path.is_file()}

    assert found == copies


def test_the_schema_knows_every_key() -> None:
    """The chart's schema has every section of the configuration file, with the same keys."""
    schema = json.loads(generate_deploy.SCHEMA.read_text())["$defs"]
    ours = Config.model_json_schema()

    assert set(schema["Config"]["properties"]) == set(ours["properties"])
    for name, section in ours["$defs"].items():
        assert set(schema[name].get("properties", ())) == set(section.get("properties", ()))
        assert schema[name]["additionalProperties"] is False


def secrets_of(part: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the pattern of each part of a schema that says it is a secret."""
    if isinstance(part, list):
        part = dict(enumerate(part))
    if isinstance(part, dict):
        if part.get("writeOnly"):
            yield path, part.get("pattern", "")
        for key, below in part.items():
            yield from secrets_of(below, f"{path}/{key}")


def test_the_schema_takes_no_secret() -> None:
    """Whatever is a secret in the configuration file may only be a variable's name in values."""
    schema = json.loads(generate_deploy.SCHEMA.read_text())
    ours = dict(secrets_of(Config.model_json_schema()))
    in_values = dict(secrets_of(schema))

    assert len(ours) > 4
    assert in_values == dict.fromkeys(ours, generate_deploy.VARIABLE)


@pytest.mark.real
def test_manifests() -> None:
    """The plain manifests are what Helm makes of the chart."""
    tool("helm_python")
    files = generate_deploy.manifests()

    assert [path for path, text in files.items() if path.read_text() != text] == []


@pytest.mark.real
@pytest.mark.parametrize("name", ["exporter.yaml", "prometheus-operator.yaml"])
def test_manifests_are_valid(name: str) -> None:
    """Every object of the plain manifests is valid, and nothing in them speaks of Helm."""
    text = (KUBERNETES / name).read_text()
    objects = list(load_all_yaml(text))

    assert [told for item in objects for told in problems_of(item)] == []
    assert "Helm" not in text
    assert "helm.sh" not in text


def test_stale_files_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --check, a file that is out of date is named, and not written."""
    path = generate_deploy.CHART / "files" / "dcs-tasks-alerts.yml"
    before = path.read_text()
    monkeypatch.setattr(generate_deploy, "generated", lambda: {path: "new"})
    monkeypatch.setattr(generate_deploy, "manifests", dict)
    monkeypatch.setattr("sys.argv", ["generate_deploy", "--check"])

    assert generate_deploy.main() == 1

    assert capsys.readouterr().err == f"{path} is out of date: run make deploy\n"
    assert path.read_text() == before
