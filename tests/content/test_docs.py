"""What the documents say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import generate_docs
import pytest

from dcs_task_exporter.config.model import load_config
from dcs_task_exporter.web.web_config import (
    HeadersConfig,
    HttpServerConfig,
    RateLimitConfig,
    TlsServerConfig,
    WebConfig,
)
from tests.support.documents import PAGES
from tests.support.messages import explained, is_explained, printed, unknown_part
from tests.support.real_parts import ROOT

PACKAGE = ROOT / "dcs_task_exporter"
DOCUMENTS = PAGES
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
WALKS = (ROOT / "docs" / "how-it-works.md").read_text().split("\n## ")[1:]
MAKEFILE = (ROOT / "Makefile").read_text()

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_tables_are_generated() -> None:
    """Every table of metrics, reasons, keys and flags is the one that `make docs` writes."""
    written = generate_docs.generated()

    assert [path.name for path, text in written.items() if path.read_text() != text] == []


def test_tables_are_shown() -> None:
    """Every table that the code yields has its place in a document."""
    shown = [
        found[2]
        for path in DOCUMENTS
        if path.parent != generate_docs.CHINESE
        for found in generate_docs.BLOCK.finditer(path.read_text())
    ]

    assert sorted(shown) == sorted(generate_docs.tables())


@each_document
def test_links(path: Path) -> None:
    """Every link within the repository leads to a file, and to a heading of it."""
    broken = []
    for target in re.findall(r"\]\(([^)#\s]*#?[^)\s]*)\)", path.read_text()):
        if not re.match(r"https?:", target):
            file, _, anchor = target.partition("#")
            found = (path.parent / file).resolve() if file else path
            if not found.exists() or (anchor and anchor not in anchors(found)):
                broken.append(target)

    assert broken == []


def test_documents_that_others_name() -> None:
    """Every document that the code, an example, a template or a board names exists."""
    folders = ("dcs_task_exporter", "deploy", "prometheus", "grafana", "scripts", "bench", "fuzz")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    broken = []
    for path in [*files, ROOT / "Makefile", *ROOT.glob("*.toml"), *ROOT.glob("*.yaml")]:
        text = path.read_text(errors="replace")
        for file, anchor in re.findall(r"\b(docs/[\w/.-]+\.md)(?:#([\w-]+))?", text):
            found = ROOT / file
            if not found.exists() or (anchor and anchor not in anchors(found)):
                broken.append(f"{path.name}: {file}#{anchor}")

    assert broken == []


@each_document
def test_paths(path: Path) -> None:
    """Every file that a document names exists, in the repository or in the package."""
    named = re.findall(
        r"(?<![\w/.<-])((?:[\w-]+/)+[\w.-]+\.(?:py|md|ya?ml|toml|html|json))\b", path.read_text()
    )
    roots = (ROOT, PACKAGE, path.parent)
    missing = [name for name in named if not any((root / name).exists() for root in roots)]

    assert [name for name in missing if "NAME" not in name] == []


@each_document
def test_make_targets(path: Path) -> None:
    """Every target of make that a document names exists."""
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", path.read_text(), re.MULTILINE))

    assert named <= set(re.findall(r"^([a-z-]+):.* ## ", MAKEFILE, re.MULTILINE))


def test_make_help_lists_every_target() -> None:
    """Every target of the Makefile is phony, and has a line in `make help`."""
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)

    assert phony
    assert sorted(targets) == sorted(phony[1].split())
    assert targets == re.findall(r"^([a-z-]+):.* ## ", MAKEFILE, re.MULTILINE)


def test_the_tour_draws_every_room() -> None:
    """The tree of CONTRIBUTING has every package and top-level module, as imports go down."""
    tree = CONTRIBUTING[CONTRIBUTING.index("```\ndcs_task_exporter/") :].split("```")[1]
    drawn = re.findall(r"^[├└]── (\w+(?:/|\.py))", tree, re.MULTILINE)
    project = (ROOT / "pyproject.toml").read_text()
    layers = re.search(r"^layers = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)

    assert layers
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert set(drawn) == packages | modules
    assert [re.sub(r"/|\.py", "", name) for name in drawn] == re.findall(r"\w+", layers[1])


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.partition("\n")[0])
def test_walks(walk: str) -> None:
    """Every module that a walk passes exists, and no walk passes one twice."""
    passed = re.findall(r"^\d+\. `(\S+\.py)`", walk, re.MULTILINE)

    assert len(passed) >= 3
    assert [name for name in passed if not (PACKAGE / name).is_file()] == []
    assert len(passed) == len(set(passed))


def test_example_loads() -> None:
    """The example configuration is valid."""
    environ = {"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "b"}

    config = load_config(ROOT / "config.example.yaml", environ)

    assert config.projects[0].dcs_endpoint == "https://dcs.cn-north-4.myhuaweicloud.com"


def test_web_keys_are_documented() -> None:
    """The table of the web configuration names every key of its models."""
    text = (ROOT / "docs" / "web-configuration.md").read_text()
    sections = (WebConfig, TlsServerConfig, HttpServerConfig, RateLimitConfig)
    keys = {key for section in sections for key in section.model_fields}
    headers = {field.alias for field in HeadersConfig.model_fields.values()}

    assert not [key for key in keys | headers if not re.search(rf"\b{key}[.`]", text)]


def test_the_contact_for_vulnerabilities_is_one_place_to_fill_in() -> None:
    """SECURITY.md names no address that nobody has: one line is to be filled in, and says so."""
    text = (ROOT / "SECURITY.md").read_text()

    assert re.findall(r"^> \*\*(.*)\*\*$", text, re.MULTILINE) == [
        "SECURITY CONTACT: to be filled in by the maintainers before the first release"
    ]
    assert re.findall(r"\S+@\S+", text) == []


def test_the_messages_to_systemd_are_documented() -> None:
    """The table of messages to systemd has each that the exporter sends."""
    module = (PACKAGE / "commands" / "systemd.py").read_text()
    documented = (ROOT / "docs" / "operations.md").read_text()

    sent = set(re.findall(r"\"([A-Z_]+=1?)", module))
    assert sent == {"READY=1", "RELOADING=1", "MONOTONIC_USEC=", "STOPPING=1", "WATCHDOG=1"}
    assert [message for message in sent if f"`{message}`" not in documented] == []


def test_every_message_is_explained() -> None:
    """Each message of the package stands in a table of docs/troubleshooting.md."""
    assert [text for text in sorted(printed()) if not is_explained(text)] == []


def test_no_other_message_is_explained() -> None:
    """Each message of docs/troubleshooting.md is one that the package can print, word by word."""
    found = {text: unknown_part(text) for text in explained()}

    assert {text: part for text, part in found.items() if part} == {}
