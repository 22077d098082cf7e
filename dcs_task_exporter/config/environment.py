"""The configuration of an exporter without a file, from environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from dcs_task_exporter.config.model import Config, parse_config
from dcs_task_exporter.errors import ConfigError, Problem

ENVIRONMENT: Final = "environment"
"""The name of the environment as the source of a configuration."""

REGION_NAMES: Final = ("HUAWEICLOUD_SDK_REGION", "HW_REGION_NAME", "OS_REGION_NAME")
"""The variables that name the region where there is no file."""

_ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "region": REGION_NAMES,
    "project_id": ("HUAWEICLOUD_SDK_PROJECT_ID", "HW_PROJECT_ID"),
    "iam_endpoint": ("HUAWEICLOUD_SDK_IAM_ENDPOINT",),
}
"""Names in the environment, of the SDK and of the Terraform provider (dcs-api.md 4.4)."""


def config_of_environment(environ: Mapping[str, str]) -> Config:
    """Return the configuration of an exporter without a file: all instances of one project.

    Raises `ConfigError` when the environment names no region, or an impossible one.
    """
    found = {
        key: next((environ[name].strip() for name in names if environ.get(name, "").strip()), "")
        for key, names in _ENVIRONMENT.items()
    }
    region = found["region"]
    endpoint = environ.get(f"HUAWEICLOUD_SDK_REGION_DCS_{region.upper().replace('-', '_')}", "")
    project = {
        "name": region or "default",
        **{key: value for key, value in found.items() if value},
        **({"endpoint": endpoint.split(",")[0].strip()} if endpoint.strip() else {}),
        "credentials": {"type": "environment"},
        "discovery": {"enabled": True},
    }
    if not region:
        names = " or ".join(REGION_NAMES)
        problem = Problem("region", f"is missing: set {names}, or write a configuration file")
        raise ConfigError(ENVIRONMENT, (problem,))
    # JSON is YAML; a ${...} in a value of the environment is plain text.
    text = json.dumps({"projects": [project]}).replace("${", "$${")
    return parse_config(text, ENVIRONMENT, environ)
