"""Write the dashboards as JSON: for provisioning, and with inputs for import by hand.

python grafana/dashboards.py            # write
python grafana/dashboards.py --check    # fail when what is written differs
"""

from __future__ import annotations

import json
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
    files = {}
    for name, made in (
        ("fleet", fleet.build()),
        ("instance", instance_story.build()),
        ("exporter", exporter_health.build()),
    ):
        document = _document(made)
        files[FOLDER / "dashboards" / f"{name}.json"] = _text(document)
        files[FOLDER / "import" / f"{name}.json"] = _text(_importable(document))
    return files


def _document(made: dashboard.Dashboard) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    document.update(id=None, schemaVersion=SCHEMA_VERSION)
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    return document


def _importable(document: dict[str, Any]) -> dict[str, Any]:
    """Return the form in which grafana.com keeps dashboards."""
    source = {"label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}
    requires = [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.4.0"},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
    ]
    text = json.dumps(document).replace("${datasource}", f"${{{INPUT}}}")
    changed: dict[str, Any] = json.loads(text)
    variables = changed["templating"]["list"]
    changed["templating"]["list"] = [one for one in variables if one["type"] != "datasource"]
    inputs = [{"name": INPUT, "pluginName": "Prometheus", "description": "", **source}]
    return {"__inputs": inputs, "__requires": requires, **changed}


def _text(document: dict[str, Any]) -> str:
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n"


def main() -> int:
    """Write the files, or compare them."""
    files = generated()
    if "--check" in sys.argv[1:]:
        return int(any(not p.exists() or p.read_text() != text for p, text in files.items()))
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
