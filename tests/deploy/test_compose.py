"""The compose file: valid by the specification's schema, hardened, and complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.config.model import load_config
from tests.support.charts import tool
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
SERVICES: dict[str, Any] = load_yaml(FILE.read_text())["services"]


def problems_of(document: Any) -> list[str]:
    """Return what the compose specification's schema has against a document."""
    folder = Path(tool("check_jsonschema").__file__).parent
    schema = folder / "builtin_schemas" / "vendor" / "compose-spec.json"
    judge = import_module("jsonschema").Draft202012Validator(json.loads(schema.read_text()))
    return [error.message for error in judge.iter_errors(document)]


@pytest.mark.real
def test_it_is_valid() -> None:
    """The specification's schema has nothing against the file."""
    assert problems_of(load_yaml(FILE.read_text())) == []


@pytest.mark.real
def test_a_misspelt_key_is_seen() -> None:
    """The schema sees a key that does not exist."""
    document = load_yaml(FILE.read_text().replace("read_only:", "readonly:"))

    assert any("readonly" in told for told in problems_of(document))


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened(name: str) -> None:
    """Every service has a read-only root, no capability, and a port for this machine only."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert ":latest" not in service["image"]
    assert ":" in service["image"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"exporter"}))
def test_services_have_health_checks(name: str) -> None:
    """Every service has a health check; the exporter's is in its image."""
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_secrets_are_files() -> None:
    """Keys and passwords are in files that git does not take, never in the environment."""
    document = load_yaml(FILE.read_text())
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}

    assert used == set(document["secrets"])
    assert all(list(each) == ["file"] for each in document["secrets"].values())
    assert (FOLDER / ".gitignore").read_text() == "/secrets/\n"
    for service in SERVICES.values():
        named = [key for key in service.get("environment", {}) if "PASSWORD" in key or "KEY" in key]
        assert all(key.endswith("__FILE") for key in named)


def test_mounted_files_exist() -> None:
    """Every file that a service mounts is in the repository."""
    mounted = [
        text.split(":")[0]
        for service in SERVICES.values()
        for text in service["volumes"]
        if text.startswith(".")
    ]

    assert len(mounted) > 5
    assert [name for name in mounted if not (FOLDER / name).exists()] == []


def test_the_configuration_loads(tmp_path: Path) -> None:
    """The exporter takes its configuration, and finds the secrets where compose puts them."""
    text = (FOLDER / "dcs-task-exporter.yml").read_text()
    names = re.findall(r"/run/secrets/(\S+)", text)
    for name in names:
        (tmp_path / name).write_text("secret")
    config = tmp_path / "config.yml"
    config.write_text(text.replace("/run/secrets", str(tmp_path)))

    assert load_config(config, {}).projects[0].discovery.enabled
    assert names == SERVICES["exporter"]["secrets"]


@pytest.mark.real
def test_prometheus_takes_its_configuration(promtools: list[Path], tmp_path: Path) -> None:
    """Prometheus takes its configuration with our rules, and scrapes the job that they expect."""
    text = (FOLDER / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(ROOT / "prometheus" / "dcs-tasks-alerts.yml", tmp_path)
    for promtool in promtools:
        done = subprocess.run(  # noqa: S603 - a test's own
            [promtool, "check", "config", tmp_path / "prometheus.yml"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (job,) = load_yaml(text)["scrape_configs"]
    assert job["job_name"] == "dcs-tasks"
    assert job["static_configs"] == [{"targets": ["exporter:39327"]}]


def test_grafana_asks_prometheus() -> None:
    """Grafana's data source is the one of grafana/, at the address of the service."""
    ours = load_yaml((ROOT / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    ours["datasources"][0]["url"] = "http://prometheus:9090"

    assert load_yaml((FOLDER / "grafana-datasource.yaml").read_text()) == ours
