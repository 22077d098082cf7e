"""What docs/install.md tells users to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from tests.support.charts import CASES
from tests.support.real_parts import ROOT
from tests.support.yaml_texts import load_yaml

PAGE = (ROOT / "docs" / "install.md").read_text()
COMPOSE = ROOT / "deploy" / "compose"


def commands() -> Iterator[list[str]]:
    """Yield the words of each command that the page shows."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^    (dcs-task-exporter .*)$", PAGE, re.MULTILINE)
    for block in (*blocks, *lines):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


def test_files_of_the_commands() -> None:
    """Every file of the repository that a command names exists."""
    named = {
        word
        for words in commands()
        for word in words
        if re.match(r"(deploy|prometheus|grafana)/|requirements", word)
    }

    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_secrets_of_compose() -> None:
    """The page makes the files that compose takes the secrets from."""
    made = {word for words in commands() for word in words if word.startswith("secrets/")}
    files = load_yaml((COMPOSE / "compose.yaml").read_text())["secrets"].values()

    assert made == {each["file"].removeprefix("./") for each in files}


def test_every_example_of_the_chart_is_listed() -> None:
    """The page says what each file of example values is for."""
    listed = re.findall(r"`([\w-]+-values\.yaml)`", PAGE)

    assert sorted(listed) == sorted(CASES)
