"""The command line as a person and as systemd use it: a process, its output, its exit status."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import bcrypt
import pytest
import requests

from dcs_task_exporter.cli import main
from dcs_task_exporter.commands import one_pass
from dcs_task_exporter.commands.output import table
from dcs_task_exporter.demo.monitoring import free_port
from dcs_task_exporter.flags import COMMANDS
from dcs_task_exporter.simulator.story import DEMO_KEY
from tests.support.clouds import (
    ACCESS_KEY,
    PROJECT,
    SECRET_KEY,
    World,
    hide_instances,
    samples,
    value,
    world_of_today,
)
from tests.support.command_line import run_here
from tests.support.fault_rows import fault
from tests.support.real_parts import ROOT
from tests.support.real_process import until_listening
from tests.support.real_prometheus import Prometheus
from tests.support.secrets import secret

CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
WRONG_KEY = secret("a-wrong-secret-key-")
PYTHON = ["/usr/bin/env", "--default-signal", sys.executable]
"""Not ignoring what the tests may ignore: SIGHUP under nohup, SIGINT in the background."""

COMMAND = [*PYTHON, "-W", "ignore", "-m", "dcs_task_exporter"]


@pytest.fixture
def here() -> Iterator[World]:
    with world_of_today(2) as made:
        yield made


@pytest.fixture
def many() -> Iterator[World]:
    with world_of_today(30) as made:
        yield made


@pytest.fixture
def config(here: World, tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(here.config_text())
    return path


def run_apart(
    *arguments: str, command: Sequence[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(  # noqa: S603 - a test's own
        [*command, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def serve(
    started: list[subprocess.Popen[str]], *arguments: str, folder: Path | None = None
) -> tuple[str, list[str]]:
    """Start a server; return its URL, and the lines that it printed until then."""
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*COMMAND, *arguments, "--web.listen-address=127.0.0.1:0", "--log.level=debug"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=folder,
    )
    started.append(process)
    return until_listening(process.stdout or ())


def test_flags_are_documented() -> None:
    """The table of flags has every flag of every command, and no other."""
    text = CONFIGURATION[CONFIGURATION.index("## Flags") :]
    documented = set(re.findall(r"^\| `(--[\w.-]+)` \|", text, re.MULTILINE))
    commands = ([], *(name.split() for name in COMMANDS))
    usages = [run_here(*command, "--help").stdout for command in commands]
    shown = {flag for usage in usages for flag in re.findall(r"--[\w.-]+", usage)}

    assert documented == {flag.rstrip(".") for flag in shown} - {"--help", "--version"}


def test_query_parameters_are_documented() -> None:
    """The table of query parameters has every one that the web app reads, and no other."""
    text = CONFIGURATION[CONFIGURATION.index("## Query parameters") :]
    app = (ROOT / "dcs_task_exporter" / "web" / "app.py").read_text()

    assert set(re.findall(r"[?&]([\w\[\]]+)=", text)) == set(
        re.findall(r'query_params\.get(?:list)?\("([^"]+)"', app)
    )


@fault(
    "The configuration file has mistakes when the exporter starts",
    where="process",
    log=("the exit status is 2: every mistake, with its path and a remedy",),
    metrics=("up = 0",),
    page=("no answer",),
    alerts=("DCSProjectNotWatched", "DCSTaskExporterDown"),
    recovers="nothing: it does not start; `dcs-task-exporter check` finds them before",
)
def test_broken_configuration(tmp_path: Path) -> None:
    """A broken configuration: exit status 2, every mistake, nothing starts."""
    path = tmp_path / "config.yml"
    path.write_text("projects: []\ncollector: {retries: many, timeout: 5}\n")

    done = run_here(f"--config.file={path}")

    assert done.returncode == 2
    assert "3 problems" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_configuration() -> None:
    """A missing file: exit status 2, and its name."""
    done = run_here("--config.file=/nowhere/config.yml")

    assert done.returncode == 2
    assert "/nowhere/config.yml" in done.stderr


NAMES = (
    "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or CLOUD_SDK_AK and CLOUD_SDK_SK, "
    "or HW_ACCESS_KEY and HW_SECRET_KEY"
)
NO_KEY = dict.fromkeys(re.findall(r"\w+_(?:[AS]K|KEY)", NAMES), "")


def test_no_configuration_at_all(tmp_path: Path) -> None:
    """Without a file and without a key: exit status 2, and the variables that would do."""
    done = run_here("check", folder=tmp_path, **NO_KEY)

    assert done.returncode == 2
    assert "dcs-task-exporter.yml: 2 problems\n  - does not exist\n" in done.stderr
    assert f"environment: without a file, set {NAMES}, and one of HUAWEICLOUD_SDK" in done.stderr


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
        ("HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_AK"),
        ("CLOUD_SDK_AK", "CLOUD_SDK_SK"),
        ("HW_SECRET_KEY", "HW_ACCESS_KEY"),
    ],
)
def test_half_a_key(tmp_path: Path, given: str, missing: str) -> None:
    """Of a key that is half there the missing variable is named, and nothing of the key shown."""
    done = run_here("check", folder=tmp_path, **{**NO_KEY, given: WRONG_KEY})

    assert done.returncode == 2
    assert f"  - {missing}: is missing: only {given} is set\n" in done.stderr
    assert WRONG_KEY not in done.stderr


def test_missing_secret_file(config: Path) -> None:
    """A secret file that cannot be read is a mistake of the configuration."""
    config.write_text(
        config.read_text().replace(f"secret_key: {SECRET_KEY}", "secret_key_file: /nowhere/sk")
    )

    done = run_here("check", f"--config.file={config}")

    assert done.returncode == 2
    assert "projects[0].credentials.secret_key_file: cannot read the secret file" in done.stderr


def test_bad_flag() -> None:
    """A bad address: exit status 2, and what to write instead."""
    done = run_here("--web.listen-address=everywhere")

    assert done.returncode == 2
    assert "host:port" in done.stderr


def test_check(config: Path) -> None:
    """`check` says that a good configuration is good, and asks the cloud nothing."""
    done = run_here("check", f"--config.file={config}")

    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == f"{config}: valid\nproject prod: watches 2 instances of the configuration\n"
    )


def test_check_online(config: Path, here: World) -> None:
    """`check --online` tries the key and reads each instance."""
    here.cloud.start_task("i0", "EXTEND")

    done = run_here("check", "--online", f"--config.file={config}")

    assert done.returncode == 0
    assert "project prod: the credentials work; found 2 instances\n" in done.stdout
    assert "project prod: cache-0 (i0), Redis 5.0, RUNNING: 1 recent task\n" in done.stdout


def test_check_online_says_how_long_a_pass_takes(config: Path, here: World) -> None:
    """`check --online` says how old the data get with so many instances and this budget."""
    config.write_text(here.config_text(collector={"requests_per_second": 4}))

    done = run_here("check", "--online", f"--config.file={config}")

    assert "project prod: a full pass takes 0.5 s at 4 requests per second" in done.stdout


def test_check_online_says_no_pass_time_after_a_failure(config: Path, here: World) -> None:
    """How long a pass takes is not said of one that failed."""
    here.cloud.faults.add("forbidden", instance_id="i1")

    done = run_here("check", "--online", f"--config.file={config}")

    assert "a full pass takes" not in done.stdout


def test_shards(config: Path) -> None:
    """With --shard and --total-shards, each of two exporters reads what the other does not."""
    outputs = [
        run_here(
            "tasks", "--json", f"--config.file={config}", "--total-shards=2", f"--shard={shard}"
        )
        for shard in (0, 1)
    ]

    read = [
        json.loads(line)["dcs_instance_id"]
        for one in outputs
        for line in one.stdout.split("\n")
        if line
    ]
    assert sorted(read) == ["i0", "i1"]


def test_shard_of_a_pod(config: Path) -> None:
    """The name of a StatefulSet's pod says which shard it is."""
    by_name = run_here("tasks", f"--config.file={config}", "--total-shards=2", POD_NAME="dcs-1")
    by_flag = run_here("tasks", f"--config.file={config}", "--total-shards=2", "--shard=1")

    assert (by_name.returncode, by_name.stdout) == (0, by_flag.stdout)


def test_shard_that_is_none(config: Path) -> None:
    """Shards that nobody can count: exit status 2, and what to write instead."""
    done = run_here("check", f"--config.file={config}", "--total-shards=2", "--shard=2")

    assert done.returncode == 2
    assert "--shard" in done.stderr


def test_without_a_file(here: World, tmp_path: Path) -> None:
    """Without a file, a key and a region in the environment are enough."""
    done = run_here(
        "check",
        "--online",
        folder=tmp_path,
        HUAWEICLOUD_SDK_AK=ACCESS_KEY,
        HUAWEICLOUD_SDK_SK=SECRET_KEY,
        HUAWEICLOUD_SDK_REGION="cn-north-4",
        HUAWEICLOUD_SDK_REGION_DCS_CN_NORTH_4=here.server.url,
        HUAWEICLOUD_SDK_IAM_ENDPOINT=here.server.url,
    )

    assert done.returncode == 0
    assert done.stdout.startswith("environment: valid\n")
    assert last_line(done) == "OK: 2 instances of 1 project"


def test_without_a_file_by_terraforms_names(here: World, tmp_path: Path) -> None:
    """The variables of the Terraform provider are enough, too."""
    done = run_here(
        "check",
        "--online",
        folder=tmp_path,
        **NO_KEY
        | {
            "HW_ACCESS_KEY": ACCESS_KEY,
            "HW_SECRET_KEY": SECRET_KEY,
            "HW_REGION_NAME": "cn-north-4",
            "HUAWEICLOUD_SDK_REGION_DCS_CN_NORTH_4": here.server.url,
            "HUAWEICLOUD_SDK_IAM_ENDPOINT": here.server.url,
        },
    )

    assert (done.returncode, last_line(done)) == (0, "OK: 2 instances of 1 project")


def discovering(here: World, rules: str = "", more: str = "") -> str:
    """Return a configuration that finds the instances by itself."""
    text = here.config_text()
    start, end = text.index("    instances:"), text.index("collector:")
    return f"{text[:start]}    discovery: {{enabled: true{rules}}}\n{more}{text[end:]}"


NONE_ADMITTED = "watches NONE of 2 instances: the rules of discovery (exclude, statuses) admit none"


@pytest.mark.parametrize(
    ("rules", "told", "status"),
    [
        ("", "watches 2 of 2 instances", 0),
        (', include: "1"', "watches 1 of 2 instances", 0),
        (", exclude: x, statuses: [RUNING]", NONE_ADMITTED, 1),
    ],
)
def test_check_online_says_what_is_watched(
    config: Path, here: World, rules: str, told: str, status: int
) -> None:
    """`check --online` says how many instances there are, how many the rules admit; 0 is exit 1."""
    config.write_text(discovering(here, rules))

    done = run_here("check", "--online", f"--config.file={config}", "--log.level=error")

    assert (done.returncode, "finds no instance to watch" in done.stderr) == (status, bool(status))
    assert f"project prod: discovery {told}\n" in done.stdout


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("", "all instances that discovery finds"),
        (
            ", include: x, statuses: [RUNNING]",
            "all instances that discovery finds and its rules (include, statuses) admit",
        ),
    ],
)
def test_check_says_what_discovery_will_watch(
    config: Path, here: World, rules: str, told: str
) -> None:
    """`check` says what will be watched where discovery finds the instances."""
    config.write_text(discovering(here, rules))

    done = run_here("check", f"--config.file={config}")

    assert done.stdout == f"{config}: valid\nproject prod: watches {told}\n"


def test_check_of_a_shard(config: Path) -> None:
    """`check` of one shard says that it reads a share only."""
    done = run_here("check", f"--config.file={config}", "--total-shards=2", "--shard=1")

    assert done.stdout.endswith("\nshard 1 of 2: reads its share of them\n")


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command said last on its standard output."""
    return done.stdout.splitlines()[-1]


def test_the_verdict_on_what_works(config: Path) -> None:
    """`check --online` ends with one line that says how much of what works."""
    done = run_here("check", "--online", f"--config.file={config}")

    assert (done.returncode, last_line(done)) == (0, "OK: 2 instances of 1 project")


def test_the_verdict_on_instances_that_fail(config: Path, here: World) -> None:
    """Where instances cannot be read, the last line says how many of how many, and why."""
    here.cloud.faults.add("forbidden", instance_id="i1")

    done = run_here("check", "--online", f"--config.file={config}")

    told = "FAILED: 1 of 2 instances cannot be read (forbidden: 1)"
    assert (done.returncode, last_line(done)) == (1, told)


@pytest.mark.parametrize(
    ("more", "fault", "told"),
    [
        (", include: nothing", "", "discovery admits no instance of project prod"),
        ("", "list_instances", "discovery cannot list the instances of project prod"),
    ],
)
def test_the_verdict_on_discovery(
    config: Path, here: World, more: str, fault: str, told: str
) -> None:
    """Discovery that admits no instance, or that cannot list them, is a failure: exit status 1."""
    config.write_text(discovering(here, more))
    if fault:
        here.cloud.faults.add("forbidden", operation=fault)

    done = run_here("check", "--online", f"--config.file={config}")

    assert (done.returncode, last_line(done)) == (1, f"FAILED: {told}")


def test_the_verdict_comes_after_the_log(config: Path, here: World) -> None:
    """The verdict is the last line of all, also where the log goes to the same place."""
    here.cloud.faults.add("forbidden", instance_id="i1")
    command = ["bash", "-c", 'exec 2>&1; exec "$@"', "bash", *COMMAND]

    flags = [f"--config.file={config}", "--log.level=debug"]

    done = run_apart("check", "--online", *flags, command=command)

    assert last_line(done).startswith("FAILED: 1 of 2 instances")


def listed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the ids of the instances that a check listed, in their order."""
    return re.findall(r"^project prod: \S+ \((\w+)\)", done.stdout, re.MULTILINE)


def test_check_online_lists_twenty(many: World, tmp_path: Path) -> None:
    """`check --online` lists 20 instances, first those that fail, and says how many more."""
    config = tmp_path / "config.yml"
    config.write_text(many.config_text())
    many.cloud.faults.add("forbidden", instance_id="i29")

    done = run_here("check", "--online", f"--config.file={config}")

    assert (len(listed(done)), listed(done)[0]) == (20, "i29")
    assert "\n10 more instances: --verbose lists them all\n" in done.stdout


def test_verbose_needs_online(config: Path) -> None:
    """`check --verbose` alone would list nothing more: it is refused."""
    done = run_here("check", "--verbose", f"--config.file={config}")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dcs-task-exporter: --verbose needs --online")


def test_check_online_lists_all_when_told(many: World, tmp_path: Path) -> None:
    """`check --online --verbose` lists every instance."""
    config = tmp_path / "config.yml"
    config.write_text(many.config_text())

    done = run_here("check", "--online", "--verbose", f"--config.file={config}")

    assert sorted(listed(done)) == sorted(many.instances)


def test_check_online_lists_what_is_not_watched(config: Path, here: World) -> None:
    """`check --online` lists the instances that the project has and the exporter does not watch."""
    config.write_text(discovering(here, ", include: '1'"))

    done = run_here("check", "--online", f"--config.file={config}")

    assert "project prod: cache-0 (i0), Redis 5.0, RUNNING: not watched\n" in done.stdout


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            "{folder}/none/state.db",
            "no file can be made in {folder}/none: No such file or directory",
        ),
        ("{folder}/pipe", "{folder}/pipe is no regular file"),
        (
            "{folder}/config.yml/state.db",
            "no file can be made in {folder}/config.yml: Not a directory",
        ),
    ],
)
def test_check_of_an_unusable_state_path(
    config: Path, tmp_path: Path, state: str, told: str
) -> None:
    """`check` refuses a state file that cannot be kept: exit status 2, the key, and why."""
    os.mkfifo(tmp_path / "pipe")
    config.write_text(f"{config.read_text()}state: {{path: '{state.format(folder=tmp_path)}'}}\n")

    done = run_here("check", f"--config.file={config}")

    assert done.returncode == 2
    assert f"  - state.path: cannot be used: {told.format(folder=tmp_path)}\n" in done.stderr


def test_check_leaves_no_state_file(config: Path, tmp_path: Path) -> None:
    """`check` of a state file that can be kept makes none."""
    config.write_text(f"{config.read_text()}state: {{path: '{tmp_path}/state.db'}}\n")

    done = run_here("check", f"--config.file={config}")

    assert (done.returncode, [*tmp_path.iterdir()]) == (0, [config])


def test_check_without_the_key_of_the_environment(tmp_path: Path) -> None:
    """`check` misses a key that is to come from the environment: exit status 2, and its names."""
    config = tmp_path / "config.yml"
    text = "{name: a, region: cn-north-4, credentials: {type: environment}, instances: [{id: i0}]}"
    config.write_text(f"projects: [{text}]\n")

    done = run_here("check", f"--config.file={config}", folder=tmp_path, **NO_KEY)

    told = f"projects[0].credentials: no access key in the environment: set {NAMES}\n"
    assert done.returncode == 2
    assert told in done.stderr


def test_check_of_the_web_configuration(config: Path, tmp_path: Path) -> None:
    """`check` reads the web configuration too, and tells its mistakes beside the other file's."""
    (tmp_path / "auth.yml").write_text("basic_auth_users: {prometheus: secret}\n")
    config.write_text(config.read_text().replace("retries: 0", "retries: many"))

    done = run_here("check", f"--config.file={config}", f"--web.config.file={tmp_path}/auth.yml")

    assert done.returncode == 2
    assert f"{config}: 1 problem\n  - collector.retries: " in done.stderr
    assert f"{tmp_path}/auth.yml: 1 problem\n  - basic_auth_users.prometheus: " in done.stderr


def elsewhere(config: Path, region: str, more: str = "") -> None:
    """Write a configuration of another region, by whose name the endpoints are found."""
    text = re.sub(r"    (iam_)?endpoint: .*\n", "", config.read_text())
    config.write_text(text.replace("region: cn-north-4\n", f"region: {region}\n{more}"))


@pytest.mark.parametrize(
    ("region", "told"),
    [
        ("cn-nroth-4", "did you mean cn-north-4?"),
        ("eu-de", "for another cloud, set cloud or endpoint"),
    ],
)
def test_check_of_an_unknown_region(config: Path, region: str, told: str) -> None:
    """A region that nobody knows is a warning with the nearest name that is known."""
    elsewhere(config, region)

    done = run_here("check", f"--config.file={config}")

    warning = f"warning: project prod: {region} is no region that the official SDK knows: {told}\n"
    assert (done.returncode, done.stderr) == (0, warning)


@pytest.mark.parametrize(
    ("region", "more"),
    [
        ("cn-north-4", ""),
        ("eu-de", "    endpoint: https://dcs.eu-de.otc.t-systems.com\n"),
        ("eu-de", "    cloud: otc.t-systems.com\n"),
    ],
)
def test_check_of_a_region_that_is_right(config: Path, region: str, more: str) -> None:
    """A known region gets no warning, nor does one of another cloud."""
    elsewhere(config, region, more)

    assert run_here("check", f"--config.file={config}").stderr == ""


def test_a_start_with_an_unknown_region(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """A start with a region that nobody knows logs a warning with the nearest name."""
    elsewhere(config, "cn-nroth-4")

    _, lines = serve(started, f"--config.file={config}")

    assert [line for line in lines if "level=warn" in line and "did you mean cn-north-4?" in line]


def test_check_online_of_an_empty_project(config: Path, here: World) -> None:
    """`check --online` says so when there is nothing to watch."""
    config.write_text(discovering(here))
    hide_instances(here)

    done = run_here("check", "--online", f"--config.file={config}")

    assert "project prod: discovery watches NONE of 0 instances\n" in done.stdout
    told = "FAILED: discovery cannot list the instances of project prod"
    assert (done.returncode, last_line(done)) == (1, told)


@pytest.mark.parametrize("command", [["check", "--online"], ["scrape"], ["tasks"]], ids=" ".join)
@pytest.mark.parametrize("reason", ["auth", "forbidden"])
def test_instances_that_cannot_be_listed(
    config: Path, here: World, command: list[str], reason: str
) -> None:
    """Where discovery finds nothing because it may not: exit status 1, and why, on stderr."""
    config.write_text(discovering(here))
    if reason == "auth":
        here.cloud.access.revoke(ACCESS_KEY)
    else:
        here.cloud.faults.add("forbidden", operation="list_instances")

    done = run_here(*command, f"--config.file={config}", "--log.level=error")

    assert done.returncode == 1
    told = f"dcs-task-exporter: The instances of project prod cannot be listed: {reason}: "
    assert told in done.stderr
    assert ACCESS_KEY not in done.stdout + done.stderr


def test_instances_that_are_not_listed_in_time(
    config: Path, here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where discovery gets no answer as long as a command waits: exit status 1, and why."""
    config.write_text(discovering(here))
    here.cloud.faults.add("silence")
    monkeypatch.setattr(one_pass, "PATIENCE", 0.1)

    done = run_here("tasks", f"--config.file={config}")

    assert done.returncode == 1
    assert "The instances of project prod were not listed in time.\n" in done.stderr


def test_a_wrong_key_without_a_file(here: World, tmp_path: Path) -> None:
    """Without a file, a wrong key: exit status 1, and why."""
    done = run_here(
        "tasks",
        folder=tmp_path,
        HUAWEICLOUD_SDK_AK=ACCESS_KEY,
        HUAWEICLOUD_SDK_SK=WRONG_KEY,
        HUAWEICLOUD_SDK_REGION="cn-north-4",
        HUAWEICLOUD_SDK_PROJECT_ID=PROJECT,
        HUAWEICLOUD_SDK_REGION_DCS_CN_NORTH_4=here.server.url,
    )

    assert done.returncode == 1
    assert "The instances of project cn-north-4 cannot be listed: auth: " in done.stderr


@pytest.mark.parametrize(
    ("faults", "told", "status"),
    [
        ([], "works; 1 task in the last hour\n", 0),
        (
            ["forbidden"],
            "does not work: Policy does not allow getBackgroundTask. (HTTP 403, DCS.2007",
            1,
        ),
        (["no_such_api"], "does not work: The API does not exist. (HTTP 404", 1),
    ],
)
def test_check_online_tries_the_task_center(
    config: Path, here: World, faults: list[str], told: str, status: int
) -> None:
    """`check --online` says whether the task center works; a refusal makes it fail."""
    for failure in faults:
        here.cloud.faults.add(failure, operation="list_center_tasks")
    here.cloud.start_task("i0", "EXTEND")
    config.write_text(discovering(here, more="    task_center: {enabled: true}\n"))

    done = run_here("check", "--online", f"--config.file={config}")

    assert f"project prod: the task center {told}" in done.stdout
    assert done.returncode == status


def test_the_verdict_on_the_task_center(config: Path, here: World) -> None:
    """A task center that refuses is in the verdict."""
    here.cloud.faults.add("forbidden", operation="list_center_tasks")
    config.write_text(discovering(here, more="    task_center: {enabled: true}\n"))

    done = run_here("check", "--online", f"--config.file={config}")

    assert last_line(done) == "FAILED: the task center does not work in project prod"


def test_check_online_leaves_the_task_center_alone(config: Path, here: World) -> None:
    """Where the task center is off, `check --online` does not ask it."""
    run_here("check", "--online", f"--config.file={config}")

    assert here.cloud.count("list_center_tasks") == 0


def test_check_online_with_a_wrong_key(config: Path, here: World) -> None:
    """`check --online` with a wrong key: exit status 1, and the error code."""
    here.cloud.access.revoke(ACCESS_KEY)

    done = run_here("check", "--online", f"--config.file={config}")

    assert done.returncode == 1
    assert "APIGW.0301" in done.stdout
    assert ACCESS_KEY not in done.stdout + done.stderr


def test_scrape(config: Path, here: World) -> None:
    """`scrape` prints the metrics of one pass."""
    here.cloud.start_task("i0", "EXTEND")

    done = run_here("scrape", f"--config.file={config}")

    assert done.returncode == 0
    found = samples(done.stdout)
    assert value(found, "dcs_tasks_active", dcs_instance_id="i0", task_name="EXTEND") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops(
    config: Path, here: World, started: list[subprocess.Popen[str]], number: signal.Signals
) -> None:
    """A signal stops it with exit status 0, also while the cloud is silent and a scrape waits."""
    url, _ = serve(started, f"--config.file={config}")
    here.cloud.faults.add("silence")
    with pytest.raises(requests.Timeout):
        requests.get(f"{url}/metrics", timeout=0.3)

    started[0].send_signal(number)
    output, _ = started[0].communicate(timeout=20)

    assert started[0].returncode == 0
    assert "Traceback" not in output


def next_line(process: subprocess.Popen[str], *words: str) -> str:
    """Return the next line that the process prints with these words."""
    assert process.stdout is not None
    return next(line for line in process.stdout if all(word in line for word in words))


def names(url: str) -> set[str]:
    """Return the names of the instances that a scrape shows."""
    found = samples(requests.get(f"{url}/metrics", timeout=10).text)
    return {
        dict(labels)["dcs_instance_name"] for name, labels in found if name == "dcs_instance_up"
    }


def test_sighup_reloads(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """At SIGHUP the file is taken as it is now, or the log has its mistakes; scrapes go on."""
    url, _ = serve(started, f"--config.file={config}")
    config.write_text(config.read_text().replace("cache-1", "orders"))
    started[0].send_signal(signal.SIGHUP)
    good = next_line(started[0], "the configuration was reloaded")
    reloaded = names(url)
    config.write_text("projects: []\ncolector: {}\n")
    started[0].send_signal(signal.SIGHUP)
    bad = [next_line(started[0], "was not reloaded") for _ in range(2)]

    assert ("level=info" in good, f"file={config}" in good) == (True, True)
    assert all("level=error" in line for line in bad)
    assert "did you mean `collector`?" in "".join(bad)
    assert reloaded == names(url) == {"cache-0", "orders"}


def test_reload_by_the_web(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """With the flag a POST reloads, and is answered with the mistakes of a bad file."""
    url, _ = serve(started, f"--config.file={config}", "--web.enable-lifecycle")
    config.write_text(config.read_text().replace("cache-1", "orders"))
    good = requests.post(f"{url}/-/reload", timeout=10)
    config.write_text(config.read_text().replace("concurrency", "conccurrency"))
    config.write_text(config.read_text().replace("timeout: 2s", "timeout: 2"))
    bad = requests.put(f"{url}/-/reload", timeout=10)
    found = samples(requests.get(f"{url}/metrics", timeout=10).text)

    assert (good.status_code, names(url)) == (200, {"cache-0", "orders"})
    assert bad.status_code == 500
    assert "collector.timeout: needs a unit: write 2s for seconds" in bad.text
    assert value(found, "dcs_task_exporter_config_last_reload_successful") == 0


def test_reload_by_the_web_is_off(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """Without the flag a POST is refused, in Prometheus' own words."""
    url, _ = serve(started, f"--config.file={config}")
    answer = requests.post(f"{url}/-/reload", timeout=10)

    assert (answer.status_code, answer.text) == (403, "Lifecycle API is not enabled.\n")


def test_reload_needs_the_password(
    config: Path, started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The web configuration's users reload, and nobody else; its mistakes are in the answer."""
    web = tmp_path / "web.yml"
    users = f"basic_auth_users: {{me: '{bcrypt.hashpw(b'right', bcrypt.gensalt(4)).decode()}'}}\n"
    web.write_text(users)
    flags = (f"--config.file={config}", f"--web.config.file={web}", "--web.enable-lifecycle")
    url, _ = serve(started, *flags)
    config.write_text(config.read_text().replace("cache-1", "orders"))

    def ask(*auth: str) -> requests.Response:
        given = (auth[0], auth[1]) if auth else None
        return requests.post(f"{url}/-/reload", auth=given, timeout=10)

    refused = [ask().status_code, ask("me", "wrong").status_code]
    log = [ask("me", "right").status_code, next_line(started[0], "was reloaded")]
    web.write_text(users.replace("basic_auth_users", "basic_auth_usrs"))
    broken = ask("me", "right")

    assert (refused, log[0]) == ([401, 401], 200)
    assert "reload=1 " in str(log[1])
    assert broken.status_code == 500
    assert "basic_auth_users" in broken.text


def test_a_changed_file_is_noticed(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """With an interval, a changed file is taken without a word from anybody."""
    url, _ = serve(started, f"--config.file={config}", "--config.auto-reload-interval=50ms")
    config.write_text(config.read_text().replace("cache-1", "orders"))
    next_line(started[0], "the configuration was reloaded")

    assert names(url) == {"cache-0", "orders"}


def test_sighup_ends_the_demo(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """A demo whose terminal is closed ends in order: nobody would find it again."""
    serve(started, "demo", folder=tmp_path)

    started[0].send_signal(signal.SIGHUP)
    output, _ = started[0].communicate(timeout=20)

    assert (started[0].returncode, "msg=stopping" in output) == (0, True)


def test_address_in_use(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """A taken port: exit status 1, and the flag that chooses another."""
    url, _ = serve(started, f"--config.file={config}")

    done = run_apart(
        f"--config.file={config}", f"--web.listen-address={url.removeprefix('http://')}"
    )

    assert done.returncode == 1
    assert "--web.listen-address" in done.stderr


def test_wrong_key_in_the_log(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """A wrong key gives one clear log line with the error code, and no secret."""
    config.write_text(config.read_text().replace(SECRET_KEY, WRONG_KEY))
    url, _ = serve(started, f"--config.file={config}")
    for _ in range(3):
        requests.get(f"{url}/metrics", timeout=10)

    started[0].terminate()
    output, _ = started[0].communicate(timeout=20)

    lines = [
        line for line in output.splitlines() if "reason=auth" in line and "level=debug" not in line
    ]
    assert len(lines) == 1
    assert "error_code=APIGW.0301" in lines[0]
    assert WRONG_KEY not in output


def test_demo(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """The demo prints what to open, and answers scrapes; its key is nowhere, at level debug."""
    url, lines = serve(started, "demo", folder=tmp_path)
    page = requests.get(url, timeout=10).text
    metrics = requests.get(f"{url}/metrics", timeout=10).text

    started[0].terminate()
    output, _ = started[0].communicate(timeout=20)

    found = samples(metrics)
    assert value(found, "dcs_instance_up", dcs_instance_name="orders-cache") == 1
    everything = "".join(lines) + page + metrics + output
    assert not [part for part in DEMO_KEY if part in everything]


def test_json_log(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """With --log.format=json each line is an object."""
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [
            *COMMAND,
            f"--config.file={config}",
            "--web.listen-address=127.0.0.1:0",
            "--log.format=json",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    assert process.stderr is not None

    line = json.loads(process.stderr.readline())

    assert (line["level"], line["msg"], line["instances"]) == ("info", "listening", 2)


def test_version() -> None:
    """--version names the program and its version."""
    assert re.fullmatch(r"dcs-task-exporter \d+\.\d+\.\d+\n", run_apart("--version").stdout)


def test_the_counts_of_the_demo_survive(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The demo, killed and started again, shows the counts of its first life at once."""
    url, _ = serve(started, "demo", folder=tmp_path)
    before: dict[str, float] = {}
    while not any(before.values()):
        time.sleep(0.5)  # the story's own pace
        before = finished(url)
    before = finished(url)
    started[0].kill()
    started[0].wait()

    url, _ = serve(started, "demo", folder=tmp_path)
    after = finished(url)

    assert all(after[series] >= number for series, number in before.items())


def finished(url: str) -> dict[str, float]:
    """Return the counters of finished tasks by their labels."""
    found = samples(requests.get(f"{url}/metrics", timeout=30).text)
    return {
        repr(sorted(labels)): number
        for (name, labels), number in found.items()
        if name == "dcs_tasks_finished_total"
    }


def test_a_missing_key_in_the_log(here: World, config: Path) -> None:
    """Of a key that is not there the log does not say that the cloud refused it."""
    pair = rf"type: access_key\n.*{ACCESS_KEY}\n.*{SECRET_KEY}"
    config.write_text(re.sub(pair, "type: environment", config.read_text()))

    done = run_here("tasks", f"--config.file={config}", folder=config.parent, **NO_KEY)

    assert "there is no usable key or token for this project" in done.stderr
    assert ("refuses" in done.stderr, here.cloud.count()) == (False, 0)


def test_tasks(here: World, config: Path) -> None:
    """`tasks` lists the latest tasks of each instance as a table, and what has none."""
    details = {"old_capacity": "1", "new_capacity": "2"}
    here.cloud.start_task("i0", "EXTEND", "FAILED", details=details, error_code="DCS.4842")

    done = run_here("tasks", f"--config.file={config}")

    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0].split()) == (
        0,
        ["INSTANCE", "TASK", "STATUS", "STARTED", "ENDED", "TOOK", "WHAT", "CHANGED"],
    )
    assert lines[1].startswith("cache-0   EXTEND  FAILED DCS.4842  20")
    assert lines[1].endswith("tried to extend from 1 GB to 2 GB")
    assert lines[2] == "cache-1 (i1) has no task in the look-back window"


def test_tasks_as_json(here: World, config: Path) -> None:
    """`tasks --json` prints an object for each instance; one not read has null, and exit 1."""
    here.cloud.start_task("i0", "EXTEND", "SUCCESS")
    here.cloud.faults.add("forbidden", instance_id="i1")

    done = run_here("tasks", "--json", f"--config.file={config}")

    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["tasks"][0]["task_name"], first["tasks"][0]["outcome"]) == ("EXTEND", "success")
    assert (done.returncode, second["tasks"], second["error"]["reason"]) == (1, None, "forbidden")


@pytest.mark.real
def test_the_demo_starts_prometheus(
    started: list[subprocess.Popen[str]], prometheus: Path, alertmanager: Path, tmp_path: Path
) -> None:
    """Where they are installed, the demo starts Prometheus with our rules, and Alertmanager."""
    (tmp_path / "prometheus").symlink_to(ROOT / "prometheus")
    port = free_port()
    path = f"{prometheus.parent}:{alertmanager.parent}"
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*COMMAND, "demo", f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    started.append(process)
    assert process.stdout is not None
    found = None
    while found is None:
        found = re.search(r"Alerts (http://\S+)/alerts", process.stdout.readline())
    server = Prometheus(found[1], process)
    server.wait_for('up{job="dcs-tasks"} == 1')
    groups = requests.get(f"{found[1]}/api/v1/rules", timeout=10).json()["data"]["groups"]
    process.terminate()
    process.wait(timeout=30)

    assert len(groups) == 3
    with pytest.raises(requests.ConnectionError):
        requests.get(found[1], timeout=5)


def test_a_password_before_the_command(
    config: Path, started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A web configuration that is named before the command protects what is served."""
    hashed = bcrypt.hashpw(secret("hunter2").encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "auth.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    words = [f"--web.config.file={tmp_path}/auth.yml", "serve", f"--config.file={config}"]

    url, _ = serve(started, *words)

    assert requests.get(f"{url}/metrics", timeout=10).status_code == 401


@pytest.mark.parametrize("command", ["check", "scrape", "tasks", "--help"])
def test_a_reader_that_has_enough(config: Path, command: str) -> None:
    """Where nobody reads the output any more: exit status 1, and no word of it."""
    reader, writer = os.pipe()
    os.close(reader)
    flags = [] if command == "--help" else [f"--config.file={config}", "--log.level=error"]

    done = subprocess.run(  # noqa: S603 - a test's own
        [*COMMAND, command, *flags],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


def test_a_full_disk(config: Path) -> None:
    """Output that cannot be written: exit status 1, and why."""
    full = ["bash", "-c", '"$@" > /dev/full', "bash"]

    done = run_apart("check", f"--config.file={config}", command=[*full, *COMMAND])

    told = "dcs-task-exporter: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_closed_output(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Output to a file descriptor that was closed at the start: exit status 1, and why."""
    monkeypatch.setattr(sys, "stdout", None)

    status = main(["check", f"--config.file={config}"])

    told = "dcs-task-exporter: cannot write the output: Bad file descriptor\n"
    assert (status, capsys.readouterr().err) == (1, told)


def test_a_closed_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a standard error, a mistake has its exit status all the same."""
    monkeypatch.setattr(sys, "stderr", None)

    assert main(["chek"]) == 2


def test_a_full_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that cannot be told, as on a full disk, has its exit status all the same."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)

        assert main(["chek"]) == 2


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("check", b"project \\u751f\\u4ea7: watches"),
        ("tasks", b"\\u8ba2\\u5355"),
        ("scrape", 'project="生产"'.encode()),
    ],
)
def test_a_terminal_that_lacks_a_character(
    command: str, told: bytes, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that the encoding of the locale lacks is written by its code; metrics are UTF-8."""
    text = config.read_text().replace("name: prod", "name: 生产")
    config.write_text(text.replace("name: cache-0", "name: 订单"))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))

    assert main([command, f"--config.file={config}"]) == 0

    assert told in out.getvalue()


def test_a_table_of_chinese_names() -> None:
    """In a table, a Chinese character takes two columns, as in a terminal."""
    rows = [("订单", "EXTEND"), ("carts-1", "modify")]

    assert table(("NAME", "TASK"), rows) == ("NAME     TASK\n订单     EXTEND\ncarts-1  modify\n")


def test_ctrl_c(config: Path, here: World, started: list[subprocess.Popen[str]]) -> None:
    """Ctrl-C ends a command that waits for the cloud with exit status 130 and one line."""
    config.write_text(here.config_text(collector={"timeout": "10s"}))
    here.cloud.faults.add("silence")
    process = subprocess.Popen(  # noqa: S603 - a test's own
        [*COMMAND, "tasks", f"--config.file={config}"], stderr=subprocess.PIPE, text=True
    )
    started.append(process)
    assert here.cloud.wait_for(lambda: here.cloud.count("list_tasks") > 0)

    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=20)

    assert (process.returncode, output) == (130, "dcs-task-exporter: interrupted\n")


def test_a_connection_error_names_the_url(config: Path, here: World) -> None:
    """Where there is no connection, the URL that was tried is named, and no bare number."""
    url = f"http://127.0.0.1:{free_port()}"
    config.write_text(config.read_text().replace(here.server.url, url))

    done = run_here("tasks", f"--config.file={config}", "--log.level=error")

    tried = f"{url}/v2/{PROJECT}/instances/i0/tasks"
    assert f"connection: the connection to {tried} failed: Connection refused\n" in done.stdout
    assert "Errno" not in done.stdout


@pytest.mark.parametrize("path", ["/probe", "/sd", "/", "/-/ready", "metrics"])
def test_a_path_that_is_taken(path: str) -> None:
    """A path for the metrics that is none, or that has another answer, is refused by its name."""
    done = run_here(f"--web.telemetry-path={path}")

    assert done.returncode == 2
    assert f"not a path for metrics: '{path}'; write it like /metrics" in done.stderr
