"""What the documents say is what the code does."""

from __future__ import annotations

import re

from dcs_task_exporter.config.model import (
    AccessKeyCredentials,
    CollectorConfig,
    DiscoveryConfig,
    InstanceConfig,
    ProjectConfig,
    StateConfig,
    StatusWordsConfig,
    TaskCenterConfig,
    TlsConfig,
    TokenCredentials,
    load_config,
)
from dcs_task_exporter.errors import API_ERRORS
from dcs_task_exporter.flags import parse_flags
from dcs_task_exporter.web.web_config import (
    HeadersConfig,
    HttpServerConfig,
    TlsServerConfig,
    WebConfig,
)
from tests.support.clouds import world
from tests.support.real_parts import ROOT

METRICS = (ROOT / "docs" / "metrics.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


def test_metrics_are_documented() -> None:
    """The table of metrics is what the exporter describes, with its types."""
    rows = dict(re.findall(r"^\| `(dcs_\w+)` \| (\w+) \|", METRICS, re.MULTILINE))
    described = {}
    with world(1) as here, here.exporter() as exporter:
        for family in exporter.registry.collect():
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            described[family.name + suffix] = family.type.replace("info", "gauge")

    assert rows == described


def test_reasons_are_documented() -> None:
    """Every reason of an API error is named."""
    assert not [error.reason for error in API_ERRORS if f"`{error.reason}`" not in METRICS]


def test_keys_are_documented() -> None:
    """The tables of keys are the keys of the models."""
    tables = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", CONFIGURATION, re.MULTILINE)
    documented = {key for cell in tables for key in re.findall(r"`(\w+)`", cell)}
    known: set[str] = set()
    for model in (
        ProjectConfig,
        TlsConfig,
        AccessKeyCredentials,
        TokenCredentials,
        InstanceConfig,
        DiscoveryConfig,
        TaskCenterConfig,
        CollectorConfig,
        StateConfig,
        StatusWordsConfig,
    ):
        known |= set(model.model_fields)

    assert documented == known


def test_defaults_are_documented() -> None:
    """The defaults of the collector's keys are the ones written down."""
    section = CONFIGURATION[CONFIGURATION.index("## `collector`") :]
    for key, default in re.findall(r"^\| `(\w+)` \| duration \| `(\w+)`", section, re.MULTILINE):
        collector = CollectorConfig.model_validate({key: default})
        assert collector == CollectorConfig(), key


def test_example_loads() -> None:
    """The example configuration is valid."""
    environ = {"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "b"}

    config = load_config(ROOT / "config.example.yaml", environ)

    assert config.projects[0].dcs_endpoint == "https://dcs.cn-north-4.myhuaweicloud.com"


def test_commands_of_the_readme_exist() -> None:
    """Every command that the README shows is one of the command line."""
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^    dcs-task-exporter ?(.*?)(?: +#.*)?$", readme, re.MULTILINE)

    assert shown
    for command in shown:
        parse_flags(command.split())


def test_web_keys_are_documented() -> None:
    """The table of the web configuration names every key of its models."""
    text = (ROOT / "docs" / "web-configuration.md").read_text()
    keys = {*WebConfig.model_fields, *TlsServerConfig.model_fields, *HttpServerConfig.model_fields}
    headers = {field.alias for field in HeadersConfig.model_fields.values()}

    assert not [key for key in keys | headers if not re.search(rf"\b{key}[.`]", text)]
