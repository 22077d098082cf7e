"""docs/stability.md: no name that users build upon goes by chance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import generate_docs
import pytest
from pydantic import BaseModel

from dcs_task_exporter.flags import COMMANDS
from dcs_task_exporter.web.web_config import WebConfig
from tests.support.charts import CHART
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

PAGE = (ROOT / "docs" / "stability.md").read_text()
STABLE: Mapping[str, list[str]] = load_yaml(
    (ROOT / "tests" / "testdata" / "stable.yaml").read_text()
)
RULES = (ROOT / "prometheus" / "dcs-tasks-alerts.yml").read_text()


def experimental() -> set[str]:
    """Return the names that the page lists as experimental."""
    (table,) = re.findall(r"<!-- experimental -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def rows_of(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of a generated table."""
    for line in text.splitlines()[2:]:
        yield [cell.replace("`", "") for cell in generate_docs.cells(line)]


def metrics() -> Iterator[str]:
    """Yield each metric with its type and labels."""
    for table in generate_docs.metrics().values():
        for name, kind, labels, _ in rows_of(table):
            yield f"{name} {kind} {labels}".strip()


def keys() -> Iterator[str]:
    """Yield the path of each key of the configuration file."""
    for section, table in generate_docs.keys().items():
        for name, kind, *_ in rows_of(table):
            yield f"{section}.{name}" + (f" {kind}" if name == "type" else "")


def web_keys(model: type[BaseModel] = WebConfig, path: str = "") -> Iterator[str]:
    """Yield the path of each key of the web configuration file."""
    for name, field in model.model_fields.items():
        below = f"{path}{field.alias or name}"
        yield below
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from web_keys(kind, f"{below}.")


def flags() -> Iterator[str]:
    """Yield each command with each of its flags."""
    for command, described in COMMANDS.items():
        yield command
        yield from (f"{command} {flag.name}" for flag in described.flags)


def alerts() -> Iterator[str]:
    """Yield the name of each alert."""
    yield from set(re.findall(r"- alert: (\w+)", RULES))


def values(section: Mapping[str, Any] | None = None, path: str = "") -> Iterator[str]:
    """Yield the path of each value of the chart."""
    section = load_yaml((CHART / "values.yaml").read_text()) if section is None else section
    for key, part in section.items():
        yield f"{path}{key}"
        if isinstance(part, Mapping) and f"{path}{key}" != "config":
            yield from values(part, f"{path}{key}.")


KINDS: Mapping[str, Callable[[], Iterator[str]]] = {
    "metrics": metrics,
    "keys": keys,
    "web keys": web_keys,
    "flags": flags,
    "alerts": alerts,
    "values": values,
}

each_kind = pytest.mark.parametrize("kind", KINDS)


def stable_now(kind: str) -> set[str]:
    """Return the names of a kind that the code has, without the experimental ones."""
    return {line for line in KINDS[kind]() if line.split(" ")[0] not in experimental()}


@each_kind
def test_no_stable_name_goes(kind: str) -> None:
    """Every stable name is still there: one that should go is deprecated first."""
    assert sorted(set(STABLE[kind]) - stable_now(kind)) == []


@each_kind
def test_every_new_name_is_classified(kind: str) -> None:
    """A new name is experimental, by docs/stability.md, or stable, by testdata/stable.yaml."""
    assert sorted(stable_now(kind) - set(STABLE[kind])) == []


def test_what_is_experimental_exists() -> None:
    """Every experimental name is one that the code has."""
    known = {line.split(" ")[0] for kind in KINDS.values() for line in kind()}
    sections = {name.rpartition(".")[0] for name in known}

    assert experimental() - known - sections == set()
    assert len(experimental()) > 4
