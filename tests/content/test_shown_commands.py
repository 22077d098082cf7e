"""Every command that a document shows does what it says, or is tried elsewhere."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dcs_task_exporter.arguments import parse_flags
from dcs_task_exporter.cli import main
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.tasks.instance_state import InstanceState
from tests.support.clouds import world_of_today
from tests.support.documents import PAGES, blocks
from tests.support.promtool import accepts
from tests.support.real_pager import alerting, paging
from tests.support.real_parts import ROOT
from tests.support.served import get, served

OURS = "dcs-task-exporter"
TRIED = {
    OURS: "here, and each command of the demo's page in tests/demo/test_demo.py",
    "amtool": "here",
    "promtool": "here",
    ".venv/bin/pytest": "here",
    "make": "tests/content/test_docs.py has its targets",
    "pip": "tests/deploy/test_container.py takes the same steps, into a fresh prefix",
    "/opt/dcs-task-exporter/bin/pip": "likewise",
    "/opt/dcs-task-exporter/bin/dcs-task-exporter": "here",
    "python3": "a virtual environment, or prometheus/alerts.py",
    "helm": "tests/deploy/test_chart.py renders what it installs",
}
"""Where the commands of each program are tried."""

ELSEWHERE = ("docker", "kubectl", "systemctl", "scp")
"""Programs that need an engine, a cluster, systemd or another machine."""

SHELL = ("cd", "cp", "export", "install", "mkdir", "sed", "curl", "ss", "date", "printf", "openssl")
"""What every machine has."""

ENDLESS = ("serve", "demo")
"""Commands that run until they are ended: tests/commands and tests/demo run them."""


def shown() -> Iterator[list[str]]:
    """Yield the words of each command in the blocks of all documents."""
    programs = "|".join(map(re.escape, (*TRIED, *ELSEWHERE)))
    indented = re.compile(rf"^    ((?:{programs}) .*|{OURS})$", re.MULTILINE)
    texts = [block.text for block in blocks("sh")]
    texts += [line for path in PAGES for line in indented.findall(path.read_text())]
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and not re.fullmatch(r"\w+=\S+", words[0]):
                yield words


def named() -> Iterator[list[str]]:
    """Yield the words of each command of ours that stands within a sentence."""
    for path in PAGES:
        for text in re.findall(rf"`{OURS} ([^`<]*)`", path.read_text()):
            yield [OURS, *shlex.split(text.replace("COMMAND", "check"))]


def of(program: str) -> list[list[str]]:
    """Return the different commands of a program, without its name."""
    found = {tuple(words[1:]) for words in shown() if words[0] == program}
    return [list(words) for words in sorted(found)]


def ours() -> list[str]:
    """Return our commands, as they are written."""
    found = [*named(), *(words for words in shown() if words[0].rpartition("/")[2] == OURS)]
    return sorted({shlex.join(words[1:]) for words in found})


def with_file(word: str, files: Mapping[str, Path]) -> str:
    """Return a flag with a file of the test in place of the one that a document names."""
    name = word.partition("=")[0]
    return f"{name}={files[name]}" if name in files else word


def test_every_program_is_known() -> None:
    """No document shows a command of a program that no test tries."""
    programs = {words[0] for words in shown()}

    assert programs >= {OURS, "amtool", "promtool"}
    assert sorted(programs - {*TRIED, *ELSEWHERE, *SHELL}) == []


@pytest.mark.parametrize("command", ours())
def test_ours(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of ours does its work in a folder with a configuration."""
    words = shlex.split(command)
    if parse_flags(words).command in ENDLESS and not {"--help", "--version"} & {*words}:
        return
    files = {
        "--config.file": tmp_path / "dcs-task-exporter.yml",
        "--web.config.file": tmp_path / "web.yml",
        "--state.file": tmp_path / "state.db",
    }
    words = [with_file(word, files) for word in words]
    monkeypatch.chdir(tmp_path)
    with world_of_today(1) as here, served(here) as url:
        get(f"{url}/metrics")
        state = StateFile(files["--state.file"], here.clock.clock)
        state.save("i0", InstanceState(baseline_at=time.time()))
        state.close()
        text = f"{here.config_text()}state: {{path: {files['--state.file']}}}\n"
        files["--config.file"].write_text(text)
        files["--web.config.file"].write_text("")
        if words[0] == "ready":
            words.append(f"--web.listen-address={url.removeprefix('http://')}")

        assert main(words) == 0


def test_tests() -> None:
    """Each path that a command gives to pytest exists."""
    paths = [word for words in of(".venv/bin/pytest") for word in words if "/" in word]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.real
def test_promtool(promtool: Path, tmp_path: Path) -> None:
    """Each command of promtool accepts the examples, put where the command has them."""
    put_examples(tmp_path)

    assert of("promtool")
    for words in of("promtool"):
        accepts(promtool, *words, folder=tmp_path)


@pytest.mark.real
def test_amtool(alertmanager: Path, tmp_path: Path) -> None:
    """A real Alertmanager takes each silence, and amtool accepts the example."""
    put_examples(tmp_path)

    assert len(of("amtool")) > 20
    with paging() as pager, alerting(alertmanager, tmp_path / "data", pager) as running:
        running.wait_for(lambda _: True)
        at = f"--alertmanager.url=http://{running.address}"
        for words in of("amtool"):
            accepts(alertmanager.parent / "amtool", at, *words, folder=tmp_path)


def put_examples(folder: Path) -> None:
    """Put the example configurations into a folder, under the names that the documents use."""
    for path in (ROOT / "prometheus").glob("*.yml"):
        (folder / path.name.replace(".example", "")).write_text(path.read_text())
