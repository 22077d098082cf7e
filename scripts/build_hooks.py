"""What a build adds to the package: a list of its parts, and a README for the package's page.

hatchling calls the two hooks of this file. Both only use what is in the repository, so that each
build of one commit has the same bytes.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

SBOM: Final = "dcs-task-exporter.cdx.json"
PINNED: Final = re.compile(r"^([a-z0-9][\w.-]*)==(\S+)(?: ; (.*?))? \\$", re.MULTILINE)
ON_THE_PAGE: Final = {
    "    make demo     # a simulated cloud and the exporter; open": "    pip install"
    " dcs-task-exporter\n    dcs-task-exporter demo           # open",
    "    make test     # fetches what the tests need, and passes\n": "",
    "    pip install .\n": "",
    "    cp config.example.yaml dcs-task-exporter.yml     # set your region, your instances and"
    " where the key is": "    export HUAWEICLOUD_SDK_AK=... HUAWEICLOUD_SDK_SK=..."
    " HUAWEICLOUD_SDK_REGION=cn-north-4",
}
"""What the README says in a clone, and what the package's page says in its place."""

NEEDS_FILES: Final = re.compile(r"<!-- needs the files -->\n(.*?)<!-- end -->\n+", re.DOTALL)
PICTURE: Final = re.compile(r"^!\[[^]]*\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
ONLY_A_LINK: Final = re.compile(r"^\[[^]]+\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
LINK: Final = re.compile(r"\[([^]]+)\]\((?!https?:|#)([^)]*)\)")


def bill_of_materials(
    name: str, version: str, license_expression: str, lock: str
) -> Mapping[str, Any]:
    """Return a CycloneDX document: the package, and each package that the lock file has.

    It has no time and no random number, so that it only changes with the lock file.
    """
    pinned = list(PINNED.finditer(lock))
    ends = [found.start() for found in pinned[1:]] + [len(lock)]
    needs: defaultdict[str, set[str]] = defaultdict(set)
    refs = {name: [_purl(name, version)]}
    components = []
    for found, end in zip(pinned, ends, strict=True):
        part, pin, marker = found.groups()
        # A package may have one version for old Pythons, and another.
        refs.setdefault(part, []).append(_purl(part, pin))
        components.append(_component("library", part, pin, marker))
        for parent in _parents(lock[found.end() : end]):
            needs[parent].add(part)
    root = _component("application", name, version, None)
    root["licenses"] = [{"expression": license_expression}]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": root,
            "properties": [
                {
                    "name": f"{name}:versions",
                    "value": "those of requirements.txt; pip may install others that fit",
                }
            ],
        },
        "components": components,
        "dependencies": [
            {
                "ref": ref,
                "dependsOn": [to for need in sorted(needs.get(part, ())) for to in refs[need]],
            }
            for part, found_refs in refs.items()
            for ref in found_refs
        ],
    }


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _component(kind: str, name: str, version: str, marker: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": kind,
        "bom-ref": _purl(name, version),
        "name": name,
        "version": version,
        "purl": _purl(name, version),
    }
    if marker:
        found["scope"] = "optional"
        found["properties"] = [{"name": "dcs-task-exporter:only-if", "value": marker}]
    return found


def _parents(entry: str) -> Sequence[str]:
    """Return the packages that need this one, as the comments of its entry say."""
    comments = re.findall(r"^ +# +(?:via\b *)?(\S*)", entry, re.MULTILINE)
    return [name for name in comments if name]


def package_page(readme: str, repository: str, version: str) -> str:
    """Return the README as a page outside the repository can show it.

    Pictures of the repository are left out. Its links lead to the files of this version. Without an
    address of the repository, the parts that lead to its files are left out, and of other links
    only the words stay.
    """
    text = PICTURE.sub("", NEEDS_FILES.sub(r"\1" if repository else "", readme))
    text = text if repository else ONLY_A_LINK.sub("", text)
    for in_a_clone, on_the_page in ON_THE_PAGE.items():
        text = text.replace(in_a_clone, on_the_page)
    return LINK.sub(rf"[\1]({repository}/blob/v{version}/\2)" if repository else r"\1", text)


def project_urls(repository: str, version: str) -> Mapping[str, str]:
    """Return the addresses that the package names; none without an address of the repository."""
    if not repository:
        return {}
    files = f"{repository}/blob/v{version}"
    return {
        "Source": repository,
        "Documentation": f"{files}/README.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        "Security": f"{files}/SECURITY.md",
    }


class PackagePage(MetadataHookInterface):
    """Sets what depends on the address of the repository: the README and the project's URLs."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the fields in pyproject.toml's table `project`."""
        repository = self.config["repository"].rstrip("/")
        version = metadata["version"]
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": package_page(readme, repository, version),
        }
        metadata["urls"] = dict(project_urls(repository, version))


class BillOfMaterials(BuildHookInterface[Any]):
    """Puts the list of parts into a wheel, where PEP 770 says: `.dist-info/sboms`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's
        """Write the list, and name it to the build."""
        core = self.metadata.core
        lock = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8")
        document = bill_of_materials(
            core.name, self.metadata.version, core.license_expression, lock
        )
        self._folder = TemporaryDirectory()
        path = Path(self._folder.name) / SBOM
        path.write_text(f"{json.dumps(document, indent=2)}\n", encoding="utf-8")
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's
        """Remove the list again: the wheel has it."""
        self._folder.cleanup()
