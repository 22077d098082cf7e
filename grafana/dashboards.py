"""Write the dashboards as JSON: one form for provisioning, one for import by hand.

python grafana/dashboards.py            # write the files
python grafana/dashboards.py --check    # fail if a file is out of date
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import exporter_health
import fleet
import instance_story
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER: Final = Path(__file__).parent
SCHEMA_VERSION: Final = 42
INPUT: Final = "DS_PROMETHEUS"


def generated() -> dict[Path, str]:
    """Return the content of every file."""
    made = {
        "fleet": _document(fleet.build()),
        "instance": _document(instance_story.build()),
        "exporter": _document(exporter_health.build()),
    }
    files = {}
    for name, document in _numbered(made).items():
        files[FOLDER / "dashboards" / f"{name}.json"] = _text(document)
        files[FOLDER / "import" / f"{name}.json"] = _text(_importable(document))
    return files


def _document(made: dashboard.Dashboard) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    document.update(id=None, schemaVersion=SCHEMA_VERSION)
    for mark in document.get("annotations", {}).get("list", ()):
        mark["useValueForTime"] = True
    for number, panel in enumerate(all_panels(document), 1):
        panel["id"] = number
    return document


def all_panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels and rows of a board, including the panels inside closed rows."""
    return [each for panel in document["panels"] for each in (panel, *(panel.get("panels") or ()))]


def _numbered(documents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the boards with panel titles in links replaced by panel numbers."""
    numbers = {
        (document["uid"], panel["title"]): panel["id"]
        for document in documents.values()
        for panel in all_panels(document)
    }

    def numbered(found: re.Match[str]) -> str:
        return f"/d/{found[1]}?{found[2]}viewPanel={numbers[found[1], found[3]]}"

    pattern = re.compile(r'/d/([\w-]+)\?([^"]*)viewPanel=([^&"]+)')
    return {
        name: json.loads(pattern.sub(numbered, json.dumps(document)))
        for name, document in documents.items()
    }


def _importable(document: dict[str, Any]) -> dict[str, Any]:
    """Return the form that grafana.com and the import page take."""
    source = {"label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}
    requires = [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.4.0"},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
    ]
    changed: dict[str, Any] = json.loads(json.dumps(document))
    for variable in changed["templating"]["list"]:
        if variable["type"] == "datasource":  # kept, because links and queries name it
            variable["current"] = {"text": f"${{{INPUT}}}", "value": f"${{{INPUT}}}"}
    inputs = [{"name": INPUT, "pluginName": "Prometheus", "description": "", **source}]
    return {"__inputs": inputs, "__requires": requires, **changed}


def _text(document: dict[str, Any]) -> str:
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n"


def main() -> int:
    """Write the files, or compare them with --check."""
    files = generated()
    if "--check" in sys.argv[1:]:
        return int(any(not p.exists() or p.read_text() != text for p, text in files.items()))
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
