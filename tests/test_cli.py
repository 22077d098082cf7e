"""The command line as a person and as systemd use it: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest
import requests
from clouds import ACCESS_KEY, PROJECT, SECRET_KEY, SettableClock, World, samples, value, world
from real_prometheus import Prometheus, free_port

from dcs_task_exporter.simulator import DEMO_KEY, Quirks

Center = Literal["served", "403", "404"]

ROOT = Path(__file__).parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
COMMAND = [sys.executable, "-W", "ignore", "-m", "dcs_task_exporter"]


@pytest.fixture
def here() -> Iterator[World]:
    with world(2, clock=SettableClock(wall=time.time())) as made:
        yield made


@pytest.fixture
def config(here: World, tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(here.config_text())
    return path


def run(
    *arguments: str,
    folder: Path | None = None,
    command: Sequence[str] = COMMAND,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - a test's own
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**os.environ, **environ},
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
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        found = re.search(r"msg=listening url=(\S+)", line)
        if found:
            return found[1], lines
    message = "".join(lines)
    raise AssertionError(message)


def test_flags_are_documented() -> None:
    """The table of flags has every flag of every command, and no other."""
    text = CONFIGURATION[CONFIGURATION.index("## Flags") :]
    documented = set(re.findall(r"^\| `(--[\w.-]+)` \|", text, re.MULTILINE))
    usages = [run(*command, "--help").stdout for command in ([], ["check"], ["tasks"], ["demo"])]
    shown = {flag for usage in usages for flag in re.findall(r"--[\w.-]+", usage)}

    assert documented == {flag.rstrip(".") for flag in shown} - {"--help", "--version"}


def test_query_parameters_are_documented() -> None:
    """The table of query parameters has every one that the web app reads, and no other."""
    text = CONFIGURATION[CONFIGURATION.index("## Query parameters") :]
    app = (ROOT / "dcs_task_exporter" / "web" / "app.py").read_text()

    assert set(re.findall(r"[?&]([\w\[\]]+)=", text)) == set(
        re.findall(r'query_params\.get(?:list)?\("([^"]+)"', app)
    )


def test_broken_configuration(tmp_path: Path) -> None:
    """A broken configuration: exit status 2, every mistake, nothing starts."""
    path = tmp_path / "config.yml"
    path.write_text("projects: []\ncollector: {retries: many, timeout: 5}\n")

    done = run(f"--config.file={path}")

    assert done.returncode == 2
    assert "3 problems" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_configuration() -> None:
    """A missing file: exit status 2, and its name."""
    done = run("--config.file=/nowhere/config.yml")

    assert done.returncode == 2
    assert "/nowhere/config.yml" in done.stderr


NAMES = "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or CLOUD_SDK_AK and CLOUD_SDK_SK"
NO_KEY = dict.fromkeys(re.findall(r"\w+_[AS]K", NAMES), "")


def test_no_configuration_at_all(tmp_path: Path) -> None:
    """Without a file and without a key: exit status 2, and the variables that would do."""
    done = run("check", folder=tmp_path, **NO_KEY)

    assert done.returncode == 2
    assert "dcs-task-exporter.yml: 2 problems\n  - is not there\n" in done.stderr
    assert f"environment: without a file, set {NAMES}, and one of HUAWEICLOUD_SDK" in done.stderr


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
        ("HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_AK"),
        ("CLOUD_SDK_AK", "CLOUD_SDK_SK"),
    ],
)
def test_half_a_key(tmp_path: Path, given: str, missing: str) -> None:
    """Of a key that is half there the missing variable is named, and nothing of the key shown."""
    done = run("check", folder=tmp_path, **{**NO_KEY, given: "hunter2"})

    assert done.returncode == 2
    assert f"  - {missing}: is missing: {given} is set without it\n" in done.stderr
    assert "hunter2" not in done.stderr


def test_missing_secret_file(config: Path) -> None:
    """A secret file that cannot be read is a mistake of the configuration."""
    config.write_text(
        config.read_text().replace(f"secret_key: {SECRET_KEY}", "secret_key_file: /nowhere/sk")
    )

    done = run("check", f"--config.file={config}")

    assert done.returncode == 2
    assert "projects[0].credentials.secret_key_file: cannot read the secret file" in done.stderr


def test_bad_flag() -> None:
    """A bad address: exit status 2, and what to write instead."""
    done = run("--web.listen-address=everywhere")

    assert done.returncode == 2
    assert "host:port" in done.stderr


def test_check(config: Path) -> None:
    """`check` says that a good configuration is good, and asks the cloud nothing."""
    done = run("check", f"--config.file={config}")

    assert (done.returncode, done.stderr) == (0, "")
    assert "1 project(s), 2 instance(s), valid" in done.stdout


def test_check_online(config: Path, here: World) -> None:
    """`check --online` tries the key and reads each instance."""
    here.cloud.start_task("i0", "EXTEND")

    done = run("check", "--online", f"--config.file={config}")

    assert done.returncode == 0
    assert "the credentials work; 2 instance(s) there" in done.stdout
    assert "instance cache-0 (i0): 1 recent task(s)" in done.stdout


def test_check_online_says_how_long_a_pass_takes(config: Path, here: World) -> None:
    """`check --online` says how old the data get with so many instances and this budget."""
    config.write_text(here.config_text(collector={"requests_per_second": 4}))

    done = run("check", "--online", f"--config.file={config}")

    assert "project prod: a full pass takes 0.5 s at 4 requests per second" in done.stdout


def test_shards(config: Path) -> None:
    """With --shard and --total-shards, each of two exporters reads what the other does not."""
    outputs = [
        run("tasks", "--json", f"--config.file={config}", "--total-shards=2", f"--shard={shard}")
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
    by_name = run("tasks", f"--config.file={config}", "--total-shards=2", POD_NAME="dcs-1")
    by_flag = run("tasks", f"--config.file={config}", "--total-shards=2", "--shard=1")

    assert (by_name.returncode, by_name.stdout) == (0, by_flag.stdout)


def test_shard_that_is_none(config: Path) -> None:
    """Shards that nobody can count: exit status 2, and what to write instead."""
    done = run("check", f"--config.file={config}", "--total-shards=2", "--shard=2")

    assert done.returncode == 2
    assert "--shard" in done.stderr


def test_without_a_file(here: World, tmp_path: Path) -> None:
    """Without a file, a key and a region in the environment are enough."""
    done = run(
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
    assert "environment: 1 project(s), 0 instance(s), valid" in done.stdout
    assert "instance cache-1 (i1): 0 recent task(s)" in done.stdout


def discovering(here: World, rules: str = "", more: str = "") -> str:
    """Return a configuration that finds the instances by itself."""
    text = here.config_text()
    start, end = text.index("    instances:"), text.index("collector:")
    return f"{text[:start]}    discovery: {{enabled: true{rules}}}\n{more}{text[end:]}"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("", "watches 2 of 2 instance(s)"),
        (', include: "1"', "watches 1 of 2 instance(s)"),
        (
            ", exclude: x, statuses: [RUNING]",
            "watches NONE of 2 instance(s): the rules of discovery (exclude, statuses) admit none",
        ),
    ],
)
def test_check_online_says_what_is_watched(
    config: Path, here: World, rules: str, told: str
) -> None:
    """`check --online` says how many instances there are, and how many the rules admit."""
    config.write_text(discovering(here, rules))

    done = run("check", "--online", f"--config.file={config}", "--log.level=error")

    warned = "finds no instance to watch" in done.stderr
    assert (done.returncode, warned) == (0, "NONE" in told)
    assert f"project prod: discovery {told}\n" in done.stdout


def test_check_online_of_an_empty_project(config: Path, here: World) -> None:
    """`check --online` says so when there is nothing to watch."""
    config.write_text(discovering(here))
    here.cloud.hide_instances(hidden=True)

    done = run("check", "--online", f"--config.file={config}")

    assert "project prod: discovery watches NONE of 0 instance(s)\n" in done.stdout


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

    done = run(*command, f"--config.file={config}", "--log.level=error")

    assert done.returncode == 1
    told = f"dcs-task-exporter: The instances of project prod cannot be listed: {reason}: "
    assert told in done.stderr
    assert ACCESS_KEY not in done.stdout + done.stderr


def test_instances_that_are_not_listed_in_time(config: Path, here: World) -> None:
    """Where discovery gets no answer as long as a command waits: exit status 1, and why."""
    config.write_text(discovering(here))
    here.cloud.faults.add("silence")
    program = (
        "import sys; from dcs_task_exporter import cli; cli.PATIENCE = 0.1; sys.exit(cli.main())"
    )

    done = run("tasks", f"--config.file={config}", command=[sys.executable, "-c", program])

    assert done.returncode == 1
    assert "The instances of project prod were not listed in time.\n" in done.stderr


def test_a_wrong_key_without_a_file(here: World, tmp_path: Path) -> None:
    """Without a file, a wrong key: exit status 1, and why."""
    done = run(
        "tasks",
        folder=tmp_path,
        HUAWEICLOUD_SDK_AK=ACCESS_KEY,
        HUAWEICLOUD_SDK_SK="a-wrong-secret-key",
        HUAWEICLOUD_SDK_REGION="cn-north-4",
        HUAWEICLOUD_SDK_PROJECT_ID=PROJECT,
        HUAWEICLOUD_SDK_REGION_DCS_CN_NORTH_4=here.server.url,
    )

    assert done.returncode == 1
    assert "The instances of project cn-north-4 cannot be listed: auth: " in done.stderr


@pytest.mark.parametrize(
    ("center", "told", "status"),
    [
        ("served", "works; 1 task(s) of the last hour\n", 0),
        ("403", "does not work: Policy does not allow getBackgroundTask. (HTTP 403, DCS.2007", 1),
        ("404", "does not work: The API does not exist. (HTTP 404", 1),
    ],
)
def test_check_online_tries_the_task_centre(
    config: Path, here: World, center: Center, told: str, status: int
) -> None:
    """`check --online` says whether the task centre works; a refusal makes it fail."""
    here.cloud.quirks = Quirks(center=center)
    here.cloud.start_task("i0", "EXTEND")
    config.write_text(discovering(here, more="    task_center: {enabled: true}\n"))

    done = run("check", "--online", f"--config.file={config}")

    assert f"project prod: the task centre {told}" in done.stdout
    assert done.returncode == status


def test_check_online_leaves_the_task_centre_alone(config: Path, here: World) -> None:
    """Where the task centre is off, `check --online` does not ask it."""
    run("check", "--online", f"--config.file={config}")

    assert here.cloud.count("list_center_tasks") == 0


def test_check_online_with_a_wrong_key(config: Path, here: World) -> None:
    """`check --online` with a wrong key: exit status 1, and the error code."""
    here.cloud.access.revoke(ACCESS_KEY)

    done = run("check", "--online", f"--config.file={config}")

    assert done.returncode == 1
    assert "APIGW.0301" in done.stdout
    assert ACCESS_KEY not in done.stdout + done.stderr


def test_scrape(config: Path, here: World) -> None:
    """`scrape` prints the metrics of one pass."""
    here.cloud.start_task("i0", "EXTEND")

    done = run("scrape", f"--config.file={config}")

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


def test_address_in_use(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """A taken port: exit status 1, and the flag that chooses another."""
    url, _ = serve(started, f"--config.file={config}")

    done = run(f"--config.file={config}", f"--web.listen-address={url.removeprefix('http://')}")

    assert done.returncode == 1
    assert "--web.listen-address" in done.stderr


def test_wrong_key_in_the_log(config: Path, started: list[subprocess.Popen[str]]) -> None:
    """A wrong key gives one clear log line with the error code, and no secret."""
    config.write_text(config.read_text().replace(SECRET_KEY, "a-wrong-secret-key"))
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
    assert "a-wrong-secret-key" not in output


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
    assert re.fullmatch(r"dcs-task-exporter \d+\.\d+\.\d+\n", run("--version").stdout)


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


def test_tasks(here: World, config: Path) -> None:
    """`tasks` lists the latest tasks of each instance as a table, and what has none."""
    details = {"old_capacity": "1", "new_capacity": "2"}
    here.cloud.start_task("i0", "EXTEND", "FAILED", details=details, error_code="DCS.4842")

    done = run("tasks", f"--config.file={config}")

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

    done = run("tasks", "--json", f"--config.file={config}")

    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["tasks"][0]["task_name"], first["tasks"][0]["outcome"]) == ("EXTEND", "success")
    assert (done.returncode, second["tasks"], second["error"]["reason"]) == (1, None, "forbidden")


@pytest.mark.real
def test_the_demo_starts_prometheus(
    started: list[subprocess.Popen[str]], prometheus: Path, alertmanager: Path, tmp_path: Path
) -> None:
    """Where they are installed, the demo starts Prometheus with our rules, and Alertmanager."""
    (tmp_path / "prometheus").symlink_to(Path(__file__).parent.parent / "prometheus")
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


@pytest.mark.parametrize("path", ["/probe", "/sd", "/", "/-/ready", "metrics"])
def test_a_path_that_is_taken(path: str) -> None:
    """A path for the metrics that is none, or that has another answer, is refused by its name."""
    done = run(f"--web.telemetry-path={path}")

    assert done.returncode == 2
    assert f"not a path for metrics: '{path}'; write it like /metrics" in done.stderr
