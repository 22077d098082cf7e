"""Write the files of deploy/ that repeat others: in the chart, and the plain manifests.

python scripts/generate_deploy.py            # write the files
python scripts/generate_deploy.py --check    # fail if a file is out of date

- The alert rules and the dashboards of the chart are copies: Helm reads no file outside a chart.
- The chart's schema knows every key of the configuration file, and refuses secrets in it.
- The plain manifests are what Helm makes of the chart, without the labels that only Helm uses.
- The version of pyproject.toml is that of the chart, of the image, and of the page on installing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from dcs_task_exporter.config.model import Config
from dcs_task_exporter.logs.formats import FORMATS, LEVELS

ROOT: Final = Path(__file__).parent.parent
CHART: Final = ROOT / "deploy" / "helm" / "dcs-task-exporter"
SCHEMA: Final = CHART / "values.schema.json"
MANIFESTS: Final = ROOT / "deploy" / "kubernetes"
RELEASE: Final = "dcs-task-exporter"
NAMESPACE: Final = "monitoring"

VARIABLE: Final = r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$"
"""A reference to a variable of the environment, without a default: the only secret in values."""

PROXY: Final = r"^https?://[^@]*$"
"""The URL of a proxy, without a password."""

OF_HELM: Final = re.compile(
    r"^ *(?:helm\.sh/chart|app\.kubernetes\.io/managed-by|checksum/config): .*\n", re.MULTILINE
)
VERSIONED: Final = {
    CHART / "Chart.yaml": r"^(?:version|appVersion): (.*)$",
    ROOT / "deploy" / "container" / "Dockerfile": r"^ARG VERSION=(.*)$",
    ROOT / "deploy" / "compose" / "compose.yaml": r"image: dcs-task-exporter:(.*)$",
    ROOT / "docs" / "install.md": r"dcs-task-exporter:([\d.]+\w*)",
}
"""The files that name the version, and how to find it there."""

TITLES: Final = {
    "exporter": "The exporter. Set your projects in the ConfigMap, and your image.",
    "prometheus-operator": "How the Prometheus operator scrapes the exporter, and the alerts.",
}
HEAD: Final = """\
# {title}
# Generated: do not edit. Change the chart or values.yaml, and run `make deploy`.
"""


def copies() -> Mapping[Path, str]:
    """Return the content of the files in the chart that are copies."""
    files = {CHART / "files" / "dcs-tasks-alerts.yml": ROOT / "prometheus" / "dcs-tasks-alerts.yml"}
    for board in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        files[CHART / "files" / "dashboards" / board.name] = board
    return {copy: original.read_text() for copy, original in files.items()}


def version() -> str:
    """Return the version of the exporter, which stands in pyproject.toml."""
    # Without tomllib: Python 3.10 does not have it.
    found = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        message = "pyproject.toml has no version"
        raise ValueError(message)
    return found[1]


def versioned() -> Mapping[Path, str]:
    """Return the content of the files that name the version."""
    new = version()
    return {
        path: re.sub(
            pattern,
            lambda found: found[0].replace(found[1], new),
            path.read_text(),
            flags=re.MULTILINE,
        )
        for path, pattern in VERSIONED.items()
    }


def schema() -> str:
    """Return the chart's schema, with the exporter's own in place of the one that it has."""
    document = json.loads(SCHEMA.read_text())
    document["properties"]["log"]["properties"] = {
        "level": {"enum": list(LEVELS)},
        "format": {"enum": list(FORMATS)},
    }
    made = Config.model_json_schema()
    sections = {**made.pop("$defs"), "Config": made}
    # The chart's templates say better what is missing, and take no projects beside a ConfigMap.
    made.pop("required", None)
    made["properties"]["projects"].pop("minItems", None)
    document["$defs"] = {name: _for_values(section) for name, section in sorted(sections.items())}
    return f"{json.dumps(document, indent=2)}\n"


def _for_values(part: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return a part of the configuration's schema as the chart takes it: without secrets."""
    if isinstance(part, list):
        return [_for_values(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {
        key: _for_values(value)
        for key, value in part.items()
        if key not in ("default", "discriminator", "format")
    }
    if "pattern" in kept:  # Helm's regular expressions look neither ahead nor behind
        kept |= {"pattern": kept["pattern"].replace(r"(?=\d)", ""), "minLength": 1}
    if part.get("format") == "password":
        kept["pattern"] = VARIABLE
    for key, value in kept.get("properties", {}).items():
        if key == "proxy_url":
            value["anyOf"].append({"type": "string", "pattern": PROXY})
    return kept


def manifests() -> Mapping[Path, str]:
    """Return the plain manifests, as Helm makes them; raises `ImportError` without Helm."""
    chart = import_module("helm_python").Chart.load(CHART)
    values = yaml.safe_load((MANIFESTS / "values.yaml").read_text())
    rendered: Mapping[str, str] = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    parts: dict[str, list[str]] = {name: [] for name in TITLES}
    for document in _documents(rendered):
        operators = "\napiVersion: monitoring.coreos.com/" in f"\n{document}"
        parts["prometheus-operator" if operators else "exporter"].append(document)
    return {
        MANIFESTS / f"{name}.yaml": HEAD.format(title=TITLES[name]) + "---\n".join(documents)
        for name, documents in parts.items()
    }


def _documents(rendered: Mapping[str, str]) -> Iterator[str]:
    """Yield the objects that are installed, without what only Helm needs."""
    for template in sorted(rendered):
        for document in re.split(r"^---\n", rendered[template], flags=re.MULTILINE):
            if "\nkind: " in document and "helm.sh/hook: " not in document:
                yield f"{OF_HELM.sub('', document).strip()}\n"


def generated() -> Mapping[Path, str]:
    """Return the content of every file that needs no Helm."""
    return {**copies(), **versioned(), SCHEMA: schema()}


def main() -> int:
    """Write the files, or compare them with --check."""
    check = "--check" in sys.argv[1:]
    stale: list[Path] = []
    # The manifests are made with the chart's other files.
    for make in (generated, manifests):
        for path, text in make().items():
            if not path.exists() or path.read_text() != text:
                stale.append(path)
                if not check:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
    if check:
        sys.stderr.writelines(f"{path} is out of date: run make deploy\n" for path in stale)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
