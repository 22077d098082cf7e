"""The wheel: the same bytes from every build, its list of parts, and the page of the package."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import build_hooks
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from tests.support.charts import tool
from tests.support.real_parts import ROOT

README = (ROOT / "README.md").read_text()
LOCK = (ROOT / "requirements.txt").read_text()
REPOSITORY = "https://code.example.org/dcs-task-exporter"


@dataclass(frozen=True)
class Built:
    """A wheel and an sdist of this repository."""

    wheel: Path
    sdist: Path

    def metadata(self) -> Message:
        """Return the metadata of the wheel."""
        return Parser().parsestr(self.of_the_wheel(".dist-info/METADATA"))

    def of_the_wheel(self, ending: str) -> str:
        """Return the only file of the wheel whose path has this ending."""
        with ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(ending))
            return archive.read(name).decode()

    def parts(self) -> Any:
        """Return the list of parts."""
        return json.loads(self.of_the_wheel(".dist-info/sboms/dcs-task-exporter.cdx.json"))


def build(root: Path, target: Path) -> Built:
    """Build both, without a network."""
    (wheel,) = WheelBuilder(str(root)).build(directory=str(target), versions=["standard"])
    (sdist,) = SdistBuilder(str(root)).build(directory=str(target))
    return Built(Path(wheel), Path(sdist))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A wheel and an sdist, built once."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_the_bytes_of_every_build_are_equal(built: Built, tmp_path: Path) -> None:
    """A build elsewhere, later, from what the sdist has, makes the same wheel and sdist."""
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (copy,) = tmp_path.iterdir()
    (copy / "PKG-INFO").unlink()
    again = build(copy, tmp_path / "dist")

    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    assert again.sdist.read_bytes() == built.sdist.read_bytes()


def test_the_wheel_has_nothing_but_the_package(built: Built) -> None:
    """Tests, documents and tools stay out of the wheel."""
    with ZipFile(built.wheel) as archive:
        roots = {name.split("/")[0] for name in archive.namelist()}

    assert roots == {
        "dcs_task_exporter",
        built.wheel.name.replace("-py3-none-any.whl", ".dist-info"),
    }


@pytest.mark.real
def test_the_list_of_parts_is_valid(built: Built) -> None:
    """CycloneDX's own schema has nothing against the list, also strictly."""
    tool("cyclonedx")
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - installed only for these tests
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - likewise

    judge = JsonStrictValidator(SchemaVersion.V1_6)

    assert judge.validate_str(json.dumps(built.parts())) is None


def test_the_list_has_what_is_locked(built: Built) -> None:
    """The list has each version of the lock file, and only these."""
    parts = built.parts()
    locked = set(re.findall(r"^([a-z].*?)==(\S+)", LOCK, re.MULTILINE))

    assert {(part["name"], part["version"]) for part in parts["components"]} == locked
    assert parts["metadata"]["component"]["version"] == built.metadata()["Version"]


def test_the_list_says_who_needs_what(built: Built) -> None:
    """The package needs what it declares, each part is needed by another, and none is unknown."""
    needs = {each["ref"]: set(each["dependsOn"]) for each in built.parts()["dependencies"]}
    known = {part["bom-ref"] for part in built.parts()["components"]}
    root = f"pkg:pypi/dcs-task-exporter@{built.metadata()['Version']}"
    declared = {
        re.match(r"[\w-]+", text).group()  # type: ignore[union-attr] # a requirement has a name
        for text in built.metadata().get_all("Requires-Dist", [])
        if "extra ==" not in text
    }

    assert {re.split("[/@]", ref)[1] for ref in needs[root]} == declared
    assert set(needs) == known | {root}
    assert set().union(*needs.values()) == known


def test_a_part_of_some_pythons_only() -> None:
    """A part that only some Pythons need is optional, and says for which; both versions count."""
    lock = (
        "a==1.0 ; python_full_version < '3.11' \\\n    # via x\n"
        "a==2.0 ; python_full_version >= '3.11' \\\n"
        "    # via\n    #   b\n    #   x (pyproject.toml)\n"
        "b==3.0 \\\n    --hash=sha256:00\n    # via x\n"
    )
    found = build_hooks.bill_of_materials("x", "1", "Apache-2.0", lock)

    assert [part.get("scope") for part in found["components"]] == ["optional", "optional", None]
    assert found["components"][0]["properties"][0]["value"] == "python_full_version < '3.11'"
    assert found["dependencies"][0]["dependsOn"] == [
        "pkg:pypi/a@1.0",
        "pkg:pypi/a@2.0",
        "pkg:pypi/b@3.0",
    ]
    assert found["dependencies"][-1]["dependsOn"] == ["pkg:pypi/a@1.0", "pkg:pypi/a@2.0"]


def test_classifiers(built: Built) -> None:
    """The package names each Python that the workflow tests, from the lowest that it takes."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    tested = re.findall(r"container: python:([\d.]+)-", workflow)
    tested += re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[1])  # type: ignore[index] # the matrix is there
    found = built.metadata()
    named = re.findall(
        r"Python :: (3\.\d+)$", "\n".join(found.get_all("Classifier", [])), re.MULTILINE
    )

    assert named == sorted(tested, key=lambda python: int(python[2:]))
    assert found["Requires-Python"] == f">={named[0]}"


# The page of the package.

PAGES: Mapping[str, Callable[[], str]] = {
    "without an address": lambda: build_hooks.package_page(README, "", "1.2.3"),
    "with an address": lambda: build_hooks.package_page(README, REPOSITORY, "1.2.3"),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_leads_nowhere_else(page: str) -> None:
    """Every link on the page is a whole address, and there is no picture of the repository."""
    text = PAGES[page]()
    targets = re.findall(r"\]\(([^)]*)\)", text)

    assert "![" not in text
    assert [target for target in targets if not target.startswith("https://")] == []
    assert bool([target for target in targets if target.startswith(REPOSITORY)]) == (
        page == "with an address"
    )


@pytest.mark.parametrize("page", PAGES)
def test_the_page_speaks_to_who_installs_it(page: str) -> None:
    """The page installs the package; a clone has a makefile and files that others do not have."""
    text = PAGES[page]()

    assert "pip install dcs-task-exporter\n" in text
    assert [
        word for word in ("make ", "pip install .", "config.example.yaml  ") if word in text
    ] == []
    assert ("## Read on" in text) == (page == "with an address")


def test_what_the_page_replaces_is_in_the_readme() -> None:
    """The README has each text that the page of the package says in another way."""
    assert [text for text in build_hooks.ON_THE_PAGE if text not in README] == []


def test_links_of_the_page_lead_to_files() -> None:
    """With an address, each link leads to a file of this version that exists."""
    text = PAGES["with an address"]()
    names = re.findall(rf"\({REPOSITORY}/blob/v1\.2\.3/([^)#]*)", text)

    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_addresses_of_the_project(built: Built) -> None:
    """The package names the addresses of the repository as soon as there is one."""
    found = build_hooks.project_urls(REPOSITORY, "1.2.3")

    assert found["Source"] == REPOSITORY
    assert found["Changelog"] == f"{REPOSITORY}/blob/v1.2.3/CHANGELOG.md"
    assert build_hooks.project_urls("", "1.2.3") == {}
    assert built.metadata().get_payload() == PAGES["without an address"]()
