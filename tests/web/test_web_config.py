"""The web configuration file: what is one, in our eyes and in promtool's."""

from __future__ import annotations

import re
import subprocess
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.web.web_config import WebConfig, load_web_config
from dcs_task_exporter.web.web_config_file import WebConfigFile
from tests.support.real_parts import ROOT, TESTDATA
from tests.support.web_config_files import HASH, TLS, USERS, filled, put_odd_certificates
from tests.support.yaml_texts import load_yaml

pytestmark = [
    pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1"),  # old versions are on purpose here
]

DOCUMENT = " ".join((ROOT / "docs" / "web-configuration.md").read_text().split())
MINOR = {"2": "2.42", "3": "3"}
"""The column of each major version of Prometheus."""

ROWS: Sequence[dict[str, Any]] = load_yaml((TESTDATA / "web-config" / "verdicts.yaml").read_text())


def write(row: dict[str, Any], path: Path) -> Path:
    """Write the file of a row."""
    path.write_text(filled(row["file"], path.parent), encoding=row.get("encoding", "utf-8"))
    return path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_verdict(folder: Path, authority: trustme.CA, row: dict[str, Any]) -> None:
    """Each file is taken, or each of its mistakes is reported with its key and its remedy."""
    put_odd_certificates(folder, authority)
    path = write(row, folder / "web.yml")

    if row["ours"] == "taken":
        WebConfigFile(path)
        return
    with pytest.raises(ConfigError) as caught:
        WebConfigFile(path)
    problems = list(map(str, caught.value.problems))
    begins = [said[: len(begin)] for begin, said in zip(row["ours"], problems, strict=True)]
    assert begins == row["ours"]


@pytest.mark.real
def test_promtool_judges(
    promtool: Path, prometheus_major: str, folder: Path, authority: trustme.CA
) -> None:
    """Promtool takes and refuses what the table says."""
    put_odd_certificates(folder, authority)
    paths = [write(row, folder / f"{at}.yml") for at, row in enumerate(ROWS)]

    done = subprocess.run(  # noqa: S603 - a test's own
        [str(promtool), "check", "web-config", *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )

    verdicts = dict(re.findall(r"/(\d+)\.yml (SUCCESS|FAILED)", done.stdout + done.stderr))
    taken = [row["name"] for at, row in enumerate(ROWS) if verdicts[str(at)] == "SUCCESS"]
    column = MINOR[prometheus_major]
    assert taken == [row["name"] for row in ROWS if row[column] == "taken"]


def test_no_refusal_without_a_reason() -> None:
    """What promtool 3 takes and we refuse has its reason in the document."""
    silent = [
        row["name"]
        for row in ROWS
        if row["3"] == "taken" != row["ours"] and row.get("reason", "?") not in DOCUMENT
    ]

    assert silent == []


def test_no_reason_without_a_refusal() -> None:
    """Each reason in the document is one of the table, which shows a file for it."""
    listed = DOCUMENT.partition("## What it refuses")[2].partition("##")[0]
    reasons = {row["reason"] for row in ROWS if "reason" in row}

    assert {text.strip() for text in listed.split(" - ")[1:]} == reasons


def loaded(folder: Path, text: str) -> WebConfig:
    (folder / "web.yml").write_text(filled(text, folder))
    return load_web_config(folder / "web.yml")


@pytest.mark.parametrize("place", ["key: hunter22", "key: |\n    {key}\n  min_version: TLS14"])
def test_a_mistake_shows_no_key(folder: Path, place: str) -> None:
    """A key inside the file is in no error, and in no `repr`."""
    text = f"tls_server_config:\n  cert_file: cert.pem\n  {place}\n"
    secret = (folder / "key.pem").read_text().splitlines()[1]
    (folder / "web.yml").write_text(filled(text, folder))

    with pytest.raises(ConfigError) as caught:
        WebConfigFile(folder / "web.yml")

    said = "".join(traceback.format_exception(caught.value))
    assert "hunter22" not in said
    assert secret not in said


def test_secrets_are_not_shown(folder: Path) -> None:
    """The `repr` of a configuration shows neither the key nor a hash."""
    text = "tls_server_config:\n  cert_file: cert.pem\n  key: |\n    {key}\n" + USERS

    shown = repr(loaded(folder, text))

    assert (folder / "key.pem").read_text().splitlines()[1] not in shown
    assert HASH not in shown


def test_defaults(folder: Path) -> None:
    """An empty file asks nothing of clients and sets no header."""
    config = loaded(folder, "")

    assert (config.tls, config.headers(), config.basic_auth_users) == (None, {}, {})
    assert config.rate_limit.interval == 0


def test_empty_names_of_files_are_no_tls(folder: Path) -> None:
    """Names of files that are empty texts are as good as none: plain HTTP, as in the toolkit."""
    assert loaded(folder, 'tls_server_config: {cert_file: "", key_file: ""}').tls is None


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("1", "1"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("off", "off"),
        ("1.50", "1.50"),
        ("2024-01-01", "2024-01-01"),
        ('"1; mode=block"', "1; mode=block"),
        ("|\n      1;\n      mode=block\n", "1; mode=block"),
        ("${POLICY}", "${POLICY}"),
        ("$${POLICY}", "$${POLICY}"),
    ],
)
def test_values_are_texts(folder: Path, written: str, sent: str) -> None:
    """A value is the text that stands in the file, in quotes or not; lines become one."""
    text = f"http_server_config:\n  headers:\n    X-XSS-Protection: {written}\n"

    assert loaded(folder, text).headers() == {"X-XSS-Protection": sent}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("1s", 1),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1),
        ("250ms", 0.25),
        ("10us", 10e-6),
        ("10\u00b5s", 10e-6),
        ("10\u03bcs", 10e-6),
        ("5ns", 5e-9),
        ("1h2m3s", 3723),
        ("+1m", 60),
        ("-1m", -60),
    ],
)
def test_intervals(folder: Path, written: str, seconds: float) -> None:
    """An interval is written as Go writes durations."""
    config = loaded(folder, f"rate_limit: {{interval: {written}, burst: 1}}")

    assert config.rate_limit.interval == pytest.approx(seconds)


@pytest.mark.parametrize("word", ["true", "Yes", "ON", "y", "false", "no", "Off", "N"])
def test_switches(folder: Path, word: str) -> None:
    """A switch takes all words of YAML 1.1."""
    config = loaded(folder, f"{TLS}  prefer_server_cipher_suites: {word}\n")

    is_on = word.lower() in ("true", "yes", "on", "y")
    assert config.tls_server_config.prefer_server_cipher_suites is is_on


def test_a_burst_may_be_negative(folder: Path) -> None:
    """A burst below 0 is a whole number: it lets nothing through."""
    assert loaded(folder, "rate_limit: {interval: 1s, burst: -1}").rate_limit.burst == -1


def test_any_name_may_be_a_users(folder: Path) -> None:
    """A user may have any name: it is no key of the file."""
    assert list(loaded(folder, f"basic_auth_users: {{'{{x}}': {HASH}}}").basic_auth_users) == [
        "{x}"
    ]
