"""The image: what hadolint says of the Dockerfile, and its steps run without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from tests.support.clouds import World, samples, value, world_of_today
from tests.support.confined import (
    PATIENCE,
    USER,
    confined,
    confinement,
    need_confinement,
    open_folder,
)
from tests.support.dockerfiles import stages_of, texts
from tests.support.real_parts import ROOT, missing, real_part
from tests.support.yaml_texts import load_yaml

pytestmark = pytest.mark.real

FOLDER = ROOT / "deploy" / "container"
DOCKERFILE = FOLDER / "Dockerfile"
BUILD, FINAL = stages_of(DOCKERFILE)
WHEELS = ROOT / ".tools" / "wheels"
PLACES = ("/src", "/build", "/wheels", "/state", "/opt/dcs-task-exporter")
STATE = "/var/lib/dcs-task-exporter"
CONFIG = "/etc/dcs-task-exporter"


def hadolint(path: Path) -> str:
    """Return what hadolint has against a Dockerfile."""
    program = real_part(Path(sys.executable).with_name("hadolint"), "hadolint")
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)  # noqa: S603 - a test's own
    return done.stdout + done.stderr


def moved(text: str, root: Path) -> str:
    """Return a command with the image's places inside `root`."""
    places = "|".join(map(re.escape, (*PLACES, STATE, CONFIG)))
    return re.sub(rf"(?<![\w./-])({places})(?![\w-])", rf"{root}\1", text)


def environ_of(texts_of_env: list[str], root: Path) -> Mapping[str, str]:
    """Return the variables of a stage's ENV."""
    words = [word for text in texts_of_env for word in shlex.split(text)]
    return {name: moved(text, root) for name, text in (word.split("=", 1) for word in words)}


def test_hadolint() -> None:
    """Hadolint has nothing against the Dockerfile."""
    assert hadolint(DOCKERFILE) == ""


def test_hadolint_sees_a_mistake(tmp_path: Path) -> None:
    """Hadolint sees a mistake, so that its silence means something."""
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace('["dcs-task-exporter"]', "dcs-task-exporter"))

    assert "DL3025" in hadolint(wrong)


def test_the_user() -> None:
    """The user is a number, which Kubernetes can compare with 0, and that of the chart."""
    chart = load_yaml((ROOT / "deploy/helm/dcs-task-exporter/values.yaml").read_text())
    security = chart["podSecurityContext"]

    assert texts(FINAL, "USER") == [f"{USER}:{USER}"]
    assert (security["runAsUser"], security["runAsGroup"]) == (USER, USER)


def test_no_shell_is_needed() -> None:
    """What runs in the container is started without a shell."""
    (health,) = texts(FINAL, "HEALTHCHECK")
    (entry,) = texts(FINAL, "ENTRYPOINT")

    assert json.loads(health.partition(" CMD ")[2]) == ["dcs-task-exporter", "ready"]
    assert json.loads(entry) == ["dcs-task-exporter"]
    assert texts(FINAL, "RUN") == texts(FINAL, "CMD") == []


def test_everything_is_locked() -> None:
    """Every install is of files with known hashes, or of what was just built, without an index."""
    steps = [step for text in texts(BUILD, "RUN") for step in text.split("&&")]
    installs = [step for step in steps if re.search(r"pip .*(install|wheel)\b", step)]

    assert len(installs) == 4
    assert all("--require-hashes" in step or "--no-index" in step for step in installs)


def test_the_context_has_what_is_copied() -> None:
    """The build's context is cut to what the Dockerfile copies, and nothing else."""
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    let_in = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    copied = {word for text in texts(BUILD, "COPY") for word in text.split()[:-1]}

    assert "*" in ignored
    assert copied == let_in
    assert [name for name in copied if not (ROOT / name).exists()] == []


def build(root: Path) -> None:
    """Run the steps of the first stage in `root`, with packages that are here already."""
    source = root / "src"
    for place in ("src", "opt"):
        (root / place).mkdir()
    python = root / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}")
    environ = {
        **environ_of(list(texts(BUILD, "ENV")), root),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(root),
        "PIP_NO_INDEX": "1",
        "PIP_NO_COMPILE": "1",  # it runs twice
        "PIP_FIND_LINKS": str(WHEELS),
    }
    for instruction in BUILD:
        if instruction.word == "COPY":
            *names, target = instruction.text.split()
            for name in names:
                copy_into(ROOT / name, source / target)
        if instruction.word == "RUN":
            done = subprocess.run(  # noqa: S603 - the Dockerfile's
                ["/bin/sh", "-ec", moved(instruction.text, root)],
                capture_output=True,
                text=True,
                check=False,
                cwd=source,
                env=environ,
            )
            assert done.returncode == 0, done.stdout + done.stderr


def copy_into(original: Path, target: Path) -> None:
    """Copy as COPY does: a file into a folder, or what is in a folder."""
    if original.is_dir():
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(original, target, dirs_exist_ok=True, ignore=skipped)
    else:
        target.parent.mkdir(exist_ok=True)
        shutil.copy(original, target)


def configure(root: Path, here: World) -> None:
    """Write the configuration where the image looks for it."""
    folder = root / CONFIG.lstrip("/")
    folder.mkdir(parents=True)
    text = f"{here.config_text()}state: {{path: {root}{STATE}/state.db}}\n"
    (folder / "dcs-task-exporter.yml").write_text(text)


def test_its_steps() -> None:
    """What the steps install runs as the image's user, can write only its state, and is scraped.

    Its health check passes, and its stop signal ends it with status 0.
    """
    need_confinement()
    if not WHEELS.exists():
        missing(f"{WHEELS} is not here: run make tools")
    with open_folder() as root, world_of_today(2) as here:
        build(root)
        configure(root, here)
        state = root / STATE.lstrip("/")
        state.mkdir(parents=True)
        environ = environ_of(list(texts(FINAL, "ENV")), root)
        program = shutil.which(json.loads(texts(FINAL, "ENTRYPOINT")[0])[0], path=environ["PATH"])
        assert program == f"{root}/opt/dcs-task-exporter/bin/dcs-task-exporter"
        listen = "--web.listen-address=127.0.0.1:0"
        (cwd,) = (moved(text, root) for text in texts(FINAL, "WORKDIR"))
        with confined([program, listen], state, environ, Path(cwd)) as running:
            found = samples(requests.get(f"{running.url}/metrics", timeout=PATIENCE).text)
            healthy = subprocess.run(  # noqa: S603 - the image's
                [*confinement(state), program, "ready", f"--web.listen-address={running.address}"],
                capture_output=True,
                text=True,
                check=False,
                env=environ,
            )
            running.process.send_signal(signal.Signals[texts(FINAL, "STOPSIGNAL")[0]])
            status = running.process.wait(PATIENCE)

    assert value(found, "dcs_instance_up", dcs_instance_id="i1") == 1
    assert value(found, "dcs_task_exporter_state_errors_total") == 0
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert healthy.stdout.endswith(": ready\n")
    assert status == 0
