"""Every command that a document shows is tried by a test, or has a reason why it cannot be."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dcs_task_exporter.arguments import parse_flags
from tests.support.documents import PAGES, blocks
from tests.support.promtool import accepts
from tests.support.real_parts import ROOT

EXPORTER = "dcs-task-exporter"
TRIED = {
    "amtool": "here, and for silences their form",
    "promtool": "tests/content/test_alerts.py and test_pages.py, with the files of the repository",
    "make": "tests/content/test_docs.py: every target exists",
    "pip": "tests/deploy/test_container.py: the same steps, into a fresh prefix",
    "python": "tests/bench/test_main.py: every command of the bench exists",
    "helm": "tests/deploy/test_chart.py: the real Helm, as a library",
    "cloud=http://127.0.0.1:12345": "tests/demo/test_demo.py runs the blocks of the page",
    "export": "likewise",
    "cp": "likewise",
    "sed": "likewise",
    "scp": "tests/commands/test_state.py, as a copy on this machine",
    "systemctl": "tests/deploy/test_systemd.py: what it starts, without systemd as process 1",
}
"""Programs whose commands a test tries, and which."""

UNTRIED = {
    "docker": "there is no container engine: tests/deploy/test_container.py runs what a build does",
    "kubectl": "there is no cluster: tests/deploy/test_chart.py validates every object",
    "install": "writes to /etc: tests/deploy/test_install_page.py compares the paths",
    "mkdir": "likewise",
    "cd": "likewise",
    "journalctl": "there is no journal",
    "pipx": "installs from the network",
    "python3": "makes a virtual environment in /opt; alerts.py: tests/content/test_alerts.py",
    "curl": "tests/commands/test_reloading.py sends the same request",
    "htpasswd": "is another project's; tests/web/test_web_config.py has its hashes",
    "pytest": "is how this test runs",
}
"""Programs whose commands no test can try, and why."""

PROGRAMS = (EXPORTER, *TRIED, *UNTRIED)
SILENCE = re.compile(
    r"amtool silence add alertname=\w+( \w+=\w+)* --duration=\d+[mhd] --comment='[^']+'"
)


def written() -> Iterator[tuple[Path, str]]:
    """Yield each command of the documents: of blocks, of indented lines, and within a sentence."""
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            yield block.path, line
    first = "|".join(map(re.escape, PROGRAMS))
    for path in PAGES:
        text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for line in re.findall(rf"^    ((?:{first})(?: .*)?)$", text, re.MULTILINE):
            yield path, line
        for line in re.findall(rf"`((?:{first}) [^`\n]+)`", text):
            yield path, line


def commands() -> list[tuple[Path, Sequence[str]]]:
    """Return the words of each command, and the document that has it."""
    split = ((path, shlex.split(line, comments=True)) for path, line in written())
    return [(path, words) for path, words in split if words]


COMMANDS = commands()


def program(words: Sequence[str]) -> str:
    """Return the program of a command, without its folder."""
    return words[0] if "=" in words[0] else Path(words[0]).name


def test_every_command_is_tried() -> None:
    """Each program that a document runs has its test, or a reason why there is none."""
    named = {program(words) for _, words in COMMANDS}

    assert named - set(PROGRAMS) == set()
    assert set(PROGRAMS) - named == set()


def test_commands_of_the_exporter() -> None:
    """The command line takes every command of the exporter that a document shows."""
    ours = [words[1:] for _, words in COMMANDS if program(words) == EXPORTER]

    assert len(ours) > 30
    for words in ours:
        if not {"COMMAND", "--help", "--version"} & set(words):
            parse_flags(words)


def test_silences() -> None:
    """Each silence that a runbook shows names its alert, an end and a comment."""
    shown = [line for _, line in written() if line.startswith("amtool silence")]

    assert len(shown) >= 23
    assert [line for line in shown if not SILENCE.fullmatch(line)] == []


@pytest.mark.real
def test_amtool_takes_a_silence(alertmanager: Path) -> None:
    """Amtool understands a silence of this form: it only finds no Alertmanager."""
    (silence, *_) = (words for _, words in COMMANDS if words[:2] == ["amtool", "silence"])
    done = subprocess.run(  # noqa: S603 - a test's own
        [alertmanager.parent / "amtool", *silence[1:], "--alertmanager.url=http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "connection refused" in done.stderr


@pytest.mark.real
def test_amtool_takes_the_commands_of_its_page(alertmanager: Path) -> None:
    """What the page of Alertmanager tells to type works with the example."""
    shown = [words for path, words in COMMANDS if path.name == "alertmanager.md"]

    assert len(shown) == 2
    for words in shown:
        arguments = [
            word.replace("alertmanager.yml", "alertmanager.example.yml") for word in words[1:]
        ]
        accepts(alertmanager.parent / "amtool", *arguments, folder=ROOT / "prometheus")
