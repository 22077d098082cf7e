"""What the program prints when something is wrong stands in docs/troubleshooting.md."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import trustme

from dcs_task_exporter.cli import main
from dcs_task_exporter.commands.reloading import Reloader
from dcs_task_exporter.errors import API_ERRORS, ConfigError
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.simulator.faults import FAULTS
from dcs_task_exporter.state.file import StateFile
from dcs_task_exporter.web.listen import ListenError, listen_on
from tests.support.clouds import World, exporter_of, hide_instances, scrape, world
from tests.support.log_stream import log_to
from tests.support.messages import PAGE, explanation_of
from tests.support.real_parts import TESTDATA
from tests.support.served import served
from tests.support.web_config_files import USERS, put_certificates, start_server
from tests.support.yaml_texts import load_yaml

MISTAKES = load_yaml((TESTDATA / "config" / "mistakes.yaml").read_text())

CONFIG = """\
projects:
  - name: prod
    region: eu-de
    credentials: {type: access_key, access_key: AK, secret_key: SK}
    instances: [{id: i0, name: orders}]
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(2) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def failure_of(exporter: Exporter) -> str:
    """Return the message of the first instance, as the status page shows it."""
    failure = exporter.refresher.snapshots()[0].failure
    return failure.message if failure else ""


def test_every_reason_is_explained() -> None:
    """Each reason of a failed request has a row of its own."""
    section = PAGE.read_text().split("\n## The reason\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ", section, re.MULTILINE)

    assert sorted(rows) == sorted(kind.reason for kind in API_ERRORS)


def test_every_code_of_the_gateway_is_explained() -> None:
    """Each error code with which the simulated cloud refuses a key or instance has its row."""
    refusals = [reply for reply in FAULTS.values() if reply.status in (401, 403, 404, 429)]
    codes = {
        code for reply in refusals for code in re.findall(rb'"error_code": "(.*?)"', reply.body)
    }

    assert len(codes) > 5
    assert [code for code in codes if f"`{code.decode()}`" not in PAGE.read_text()] == []


@pytest.mark.parametrize("file", MISTAKES)
def test_mistakes_of_a_configuration(file: str) -> None:
    """What `check` says of each broken file of the tests is on the page."""
    assert [line for line in MISTAKES[file] if explanation_of(line) is None] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--config.flie=x", "there is no flag <flag>; did you mean <flag>?"),
        ("chekc", "there is no command <word>; did you mean <command>?"),
        ("check config.yml", "<command> takes flags only, not <word>"),
        ("tasks --online", "<command> does not take <flag>: it is a flag of <commands>"),
        (
            "--online",
            (
                "<command>, the command where none is named, does not take <flag>: "
                "it is a flag of <commands>"
            ),
        ),
        ("--config.file=", "expected the name of a file, not an empty text"),
        ("--shard=one", "expected a whole number, not <text>"),
        (
            "check --verbose",
            "--verbose needs --online: it lists the instances that --online reads",
        ),
        (
            "--web.telemetry-path=/-/ready",
            "not a path for metrics: <path>; write it like /metrics",
        ),
        (
            "--web.listen-address=39327",
            "<address> has no port: write host:port, or :port for all addresses",
        ),
        (
            "--web.listen-address=:http",
            "<address>: the port must be a number from 0 to <number>, not <port>",
        ),
        ("check --config.file=/no/such/file", "cannot be read: <reason>"),
        ("check --config.file=CONFIG --total-shards=0", "must be at least 1, is <number>"),
        (
            "check --config.file=CONFIG --shard=3 --total-shards=2",
            "is <number>, but with --total-shards=<number> shards are 0 to <number>",
        ),
        (
            "check --config.file=CONFIG",
            (
                "<region> is no region that the official SDK knows: "
                "for another cloud, set cloud or endpoint"
            ),
        ),
        ("check --config.file=CONFIG --web.config.file=/no/file", "cannot be read: <reason>"),
        (
            "state show --config.file=CONFIG",
            "the configuration has no state.path: name the file with --state.file",
        ),
        ("state show --state.file=/no/file", "cannot read the state file <path>: <reason>"),
        ("state verify --state.file=CONFIG", "cannot be used: <reason>"),
        (
            "ready --web.listen-address=127.0.0.1:1",
            "dcs-task-exporter: <url> does not answer: <reason>",
        ),
        (
            "--web.systemd-socket --config.file=CONFIG",
            "--web.systemd-socket: systemd passed no socket; start the .socket unit",
        ),
    ],
)
def test_commands(
    words: str, message: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a command that fails prints on the terminal is on the page."""
    main(words.replace("CONFIG", str(config)).split())

    assert explanation_of(capsys.readouterr().err) == message


def test_nothing_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file and without a key, the exporter says what to set, and the page explains it."""
    monkeypatch.chdir(tmp_path)
    main([])

    found = [explanation_of(line) for line in capsys.readouterr().err.splitlines()[1:]]
    assert found == [
        "does not exist",
        "without a file, set <variables>, and one of <variables>",
    ]


def test_a_state_file_in_use(
    here: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page explains why a second exporter with the same state file does not start."""
    state, config = tmp_path / "state.db", tmp_path / "config.yml"
    config.write_text(f"{here.config_text()}state: {{path: {state}}}\n")
    held = StateFile(state, here.clock.clock)
    status = main(["--config.file", str(config)])
    held.close()

    assert status == 2
    assert explanation_of(capsys.readouterr().err) == (
        "the state file <path> is in use by another process: "
        "stop that one, or set state.path to a file of its own"
    )


def test_a_port_in_use() -> None:
    """The page explains why a second exporter cannot listen on the port."""
    with socket.create_server(("127.0.0.1", 0)) as first, pytest.raises(ListenError) as caught:
        listen_on([("127.0.0.1", first.getsockname()[1])])

    assert explanation_of(str(caught.value)) == (
        "cannot listen on <address>: <reason>; choose another with --web.listen-address"
    )


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("html_200", "the answer is not JSON (<type>, <number> bytes)"),
        ("redirect", "a redirect, which a signed request cannot follow: check the endpoint"),
        ("html_502", "HTTP <status> without an explanation"),
        ("cut", "the answer was cut after <number> bytes"),
        ("reset", "the connection to <url> failed: <reason>"),
        ("silence", "no complete answer from <url> within <number> s"),
        ("a_list", "the answer is <type>, not an object"),
        ("tasks_a_text", "<key> is <type>, not a list"),
        ("task_without_id", "a task has no <key>"),
    ],
)
def test_an_instance_that_cannot_be_read(
    here: World, fault: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the status page and the log say of an instance that cannot be read is on the page."""
    here.cloud.faults.add(fault)
    with here.exporter(timeout="200ms") as exporter:
        scrape(exporter)
        told = failure_of(exporter)
    here.cloud.faults.clear()

    assert explanation_of(told) == message
    assert {explanation_of(line) for line in caplog.messages} == {"the instance cannot be read"}


def test_the_line_that_is_shown(here: World) -> None:
    """The line of the log that the page shows as an example is one that the exporter writes."""
    here.cloud.faults.add("forbidden", instance_id="i0")
    stream = io.StringIO()
    with log_to(stream), here.exporter() as exporter:
        scrape(exporter)
    (line,) = stream.getvalue().splitlines()

    shown = PAGE.read_text().split("```text\n")[1].split("```")[0]
    assert line.partition(" ")[2] == " ".join(shown.split())


def test_a_refused_key(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The page explains a refused key, and why the next request is not sent."""
    here.cloud.faults.add("bad_signature")
    with here.exporter() as exporter:
        scrape(exporter, here.clock)
        scrape(exporter, here.clock)
        told = failure_of(exporter)

    assert explanation_of(told) == (
        "not asked: the key was refused, next try in <number> s: <words of the cloud>"
    )
    (line,) = caplog.messages
    assert (explanation_of(line) or "").startswith("the cloud refuses the credentials of this")


def test_a_status_that_nobody_knows(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The page explains an unknown status."""
    here.cloud.start_task("i0", "EXTEND", "PONDERING")
    with here.exporter() as exporter:
        scrape(exporter)

    (line,) = caplog.messages
    assert explanation_of(line) == line


def test_a_wrong_clock(here: World) -> None:
    """The page explains the sentence about a wrong clock."""
    with here.exporter() as exporter:
        here.clock.wall += 86_400
        (sentence,) = exporter.problems()

    assert explanation_of(sentence) == (
        "The clock of this machine is <doubt> (project <name>): set it right. "
        "Until then nothing is forgotten."
    )


def test_a_discovery_that_finds_none(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The page explains an empty answer to a search for instances."""
    hide_instances(here)
    text = here.config_text().split("    instances:")[0] + "    discovery: {enabled: true}\n"
    with exporter_of(here, text) as exporter:
        exporter.fleet.refresh_and_wait(20)
        (sentence,) = exporter.problems()

    assert explanation_of(sentence) == (
        "The instances of project <name> cannot be listed: <problem>. None was found before."
    )
    assert [explanation_of(line) for line in caplog.messages] == [
        "discovery cannot list the instances: none was found before"
    ]


def test_a_reload_that_fails(here: World, config: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The page explains a configuration that is not reloaded."""
    config.write_text(here.config_text().replace("retries: 0", "retires: 0"))
    with here.exporter() as exporter, pytest.raises(ConfigError) as caught:
        Reloader(exporter, config, {}).reload()

    assert [explanation_of(line) for line in caplog.messages] == [
        "the configuration was not reloaded, the one before stays"
    ]
    assert explanation_of(str(caught.value)) == "unknown key `<key>`; did you mean `<key>`?"


def test_answers(here: World) -> None:
    """What the exporter answers to each wrong request is on the page, with its status."""
    wrong = {
        ("GET", "/metrics?collect[]=all"): "Unknown collect[]=<text>: there are <parts>",
        ("GET", "/probe"): "Which instance? <path>?target=<id or name>",
        ("GET", "/probe?target=orders"): (
            "No instance <target> is watched: a target is the id or the name of a configured or "
            "discovered one, as <path> lists them"
        ),
        ("GET", "/sd?project=test"): "No project <name>: there are <names>",
        ("POST", "/-/reload"): "Lifecycle API is not enabled.",
        ("GET", "/metric"): "Not found: metrics are at <path>, the status page is at <path>",
        ("POST", "/metrics"): "Method not allowed: use <methods>",
    }
    with served(here) as url:
        answers = {
            (method, path): requests.request(method, f"{url}{path}", timeout=10)
            for method, path in wrong
        }

    assert {asked: explanation_of(answer.text) for asked, answer in answers.items()} == wrong
    rows = [f"| `{wrong[asked]}` | {answer.status_code}" for asked, answer in answers.items()]
    assert [row for row in rows if row not in PAGE.read_text()] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (USERS, "Unauthorized: this exporter asks for a user and a password"),
        (
            "rate_limit: {interval: 1h}\n",
            "Too many requests: rate_limit of the web configuration file refuses this one",
        ),
    ],
    ids=["password", "rate limit"],
)
def test_answers_of_the_web_configuration(tmp_path: Path, text: str, message: str) -> None:
    """What a client without a password, or one too many, is told is on the page."""
    put_certificates(tmp_path, trustme.CA())
    server = start_server(tmp_path, text)
    answer = requests.get(f"{server.url}/metrics", timeout=10)
    server.stop()

    assert explanation_of(answer.text) == message


def test_an_unknown_line() -> None:
    """A line that the exporter does not print has no explanation."""
    assert explanation_of("i0: the instance cannot be written: see the moon") is None
