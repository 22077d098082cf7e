"""The JSON Schema of the configuration file, for editors: `dcs-task-exporter.schema.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from dcs_task_exporter.config.model import Config

VARIABLE: Final = {"type": "string", "pattern": r"\$\{"}
"""A value that holds `${ENV_VAR}`: what it stands for is not known to an editor."""

TEXTS: Final = ("description", "default")
NOISE: Final = ("title", "discriminator", "writeOnly")
"""What pydantic adds and no editor shows."""


def config_schema(duration: Callable[[float], str]) -> str:
    """Return the schema as JSON; `duration` writes seconds as the configuration file does."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_for_editors(Config.model_json_schema(), duration),
        "title": "The configuration file of dcs-task-exporter",
    }
    return f"{json.dumps(made, indent=1)}\n"


def _for_editors(part: Any, duration: Callable[[float], str]) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return a part of the schema: values that are no free text may also be variables."""
    if isinstance(part, list):
        return [_for_editors(each, duration) for each in part]
    if not isinstance(part, dict):
        return part
    made = {
        key: {name: _for_editors(each, duration) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _for_editors(value, duration)
        for key, value in part.items()
        if key not in NOISE
    }
    default = made.get("default")
    if "pattern" in made and isinstance(default, int | float):
        made["default"] = duration(default)
    if made.get("type") not in ("integer", "number", "boolean") and not {"pattern", "enum"} & {
        *made
    }:
        return made
    texts = {key: made.pop(key) for key in TEXTS if key in made}
    return {**texts, "anyOf": [made, VARIABLE]}
