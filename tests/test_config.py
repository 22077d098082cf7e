"""The configuration: every mistake gets a clear error, all at once, and no secret is shown."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.config import (
    Config,
    json_schema,
    load_config,
    parse_config,
    parse_duration,
)
from dcs_task_exporter.errors import ConfigError

GOOD = """\
projects:
  - name: prod
    region: cn-north-4
    credentials: {type: access_key, access_key: AK, secret_key: SK}
    instances: [{id: i0, name: orders}]
"""


def mistakes(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the lines of the error that a configuration gets."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yml", environ or {})
    return [str(problem) for problem in caught.value.problems]


BAD = {
    "": "is empty, or no mapping: it needs the key projects",
    "[]": "is empty, or no mapping: it needs the key projects",
    "projects: [": "line 1, column 12: not YAML: expected the node content, but found "
    "'<stream end>'",
    "projects: []": "projects: is empty: it needs at least one",
    GOOD + "colector: {}\n": "colector: unknown key; did you mean collector?",
    GOOD + "x: {}\n": "x: unknown key; known here: projects, collector, status_words",
    GOOD + "projects: []\n": "line 6, column 1: not YAML: the key projects is there twice",
    GOOD.replace("region", "regoin"): "projects[0].regoin: unknown key; did you mean region?",
    GOOD.replace("name: prod", "name: ''"): "projects[0].name: 1 to 128 characters, not only "
    "blanks",
    GOOD.replace("access_key: AK, ", ""): "projects[0].credentials: needs exactly one of "
    "access_key and access_key_file",
    GOOD.replace("secret_key: SK", "secret_key: SK, secret_key_file: /x"): "projects[0]."
    "credentials: needs exactly one of secret_key and secret_key_file",
    GOOD.replace("type: access_key", "type: metadata"): "projects[0].credentials: metadata is not "
    "supported yet; type must be one of access_key, token, environment",
    GOOD.replace("type: access_key", "type: magic"): "projects[0].credentials: type must be one "
    "of access_key, token, environment",
    GOOD.replace("type: access_key, ", ""): "projects[0].credentials: type must be one of "
    "access_key, token, environment",
    GOOD.replace("secret_key: SK", "secret_key: SK, secret: x"): "projects[0].credentials.secret: "
    "unknown key; did you mean secret_key?",
    GOOD.replace("id: i0", "id: ../x"): "projects[0].instances[0].id: letters, digits, '-', '_' "
    "and '.' only, as the console shows the id",
    GOOD.replace("id: i0, name", "name"): "projects[0].instances[0].id: is missing",
    GOOD.replace("[{id: i0, name: orders}]", "[{id: i0}, {id: i0}]"): "projects[0]: the instance "
    "i0 is listed twice",
    GOOD.replace("region: cn-north-4", "endpoint: ftp://x"): "projects[0].endpoint: not a URL: "
    "write it like https://dcs.cn-north-4.myhuaweicloud.com",
    GOOD.replace("region: cn-north-4", "endpoint: http://dcs.example"): "projects[0].endpoint: "
    "http would send what is signed in the clear: use https (http: loopback only)",
    GOOD.replace("region: cn-north-4", "endpoint: https://u:p@x"): "projects[0].endpoint: a URL "
    "of scheme, host, port and path only: no user, password, ? or #",
    GOOD.replace("    region: cn-north-4\n", ""): "projects[0]: needs a region, or an endpoint",
    GOOD.replace("region: cn-north-4", "endpoint: https://x"): "projects[0]: needs a project_id, "
    "or a region or project_name to look it up by",
    GOOD + "collector: {lookback: 7}\n": "collector.lookback: a duration needs a unit: write 7s "
    "for seconds, or 5m, 7d",
    GOOD + "collector: {timeout: soon}\n": "collector.timeout: not a duration: write it like "
    "500ms, 30s, 5m, 1h30m or 7d",
    GOOD + "collector: {timeout: 0s}\n": "collector: timeout must be longer than 0s",
    GOOD + "collector: {max_staleness: 1s}\n": "collector: max_staleness must be at least "
    "min_refresh_interval",
    GOOD + "collector: {max_task_names: 5}\n": "collector.max_task_names: Input should be greater "
    "than or equal to 10",
    GOOD.replace("AK", '"${NOT_SET}"'): "projects[0].credentials.access_key: the environment "
    "variable NOT_SET is not set",
}


@pytest.mark.parametrize(("text", "expected"), BAD.items())
def test_one_mistake(text: str, expected: str) -> None:
    """Each mistake is reported alone, with its place and what to change."""
    assert mistakes(text) == [expected]


def test_all_mistakes_at_once() -> None:
    """Three mistakes are reported together."""
    text = GOOD.replace("region", "regoin").replace("AK", '"${NOT_SET}"')

    found = mistakes(text + "collector: {retries: many}\n")

    assert [problem.split(":")[0] for problem in found] == [
        "projects[0].credentials.access_key",
        "projects[0].regoin",
        "collector.retries",
    ]


def test_good() -> None:
    """A small file is enough; the rest has defaults."""
    config = parse_config(GOOD, "test.yml", {})

    project = config.projects[0]
    assert project.dcs_endpoint == "https://dcs.cn-north-4.myhuaweicloud.com"
    assert project.iam_url == "https://iam.cn-north-4.myhuaweicloud.com"
    assert config.collector.lookback == 7 * 86_400


def test_europe() -> None:
    """Europe's regions have a domain of their own."""
    config = parse_config(GOOD.replace("cn-north-4", "eu-west-101"), "test.yml", {})

    assert config.projects[0].dcs_endpoint == "https://dcs.eu-west-101.myhuaweicloud.eu"


def test_variables() -> None:
    """A variable is replaced after the YAML is read: its value cannot add structure."""
    text = GOOD.replace("name: orders", 'name: "${A}-${B:-b}-$${C}"')

    config = parse_config(text, "test.yml", {"A": "x, y: [z]"})

    assert config.projects[0].instances[0].name == "x, y: [z]-b-${C}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("7d", 604800), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are what Prometheus makes of them."""
    assert parse_duration(text) == seconds


@given(
    secret=st.text("ABCDEFGHJKLMNPQRSTUVWXYZ", min_size=16, max_size=24),
    key=st.sampled_from(["secret_key", "security_token", "secret", "expires_at", "type", "id"]),
    where=st.sampled_from(["credentials", "instances", "collector", "projects"]),
)
def test_no_secret_in_an_error(secret: str, key: str, where: str) -> None:
    """Whatever key a secret slipped into, neither an error nor the repr shows it."""
    broken = {
        "credentials": GOOD.replace("secret_key: SK", f"{key}: {secret}"),
        "instances": GOOD.replace("name: orders", f"{key}x: {secret}"),
        "collector": GOOD + f"collector: {{timeout: {secret}, retries: {secret}}}\n",
        "projects": GOOD.replace("region: cn-north-4", f"endpoint: 'https://a:{secret}@x'"),
    }[where]
    try:
        shown = repr(parse_config(broken, "test.yml", {}))
    except ConfigError as error:
        shown = str(error)

    assert secret not in shown or key in ("expires_at", "type")


def test_repr_hides_secrets() -> None:
    """The repr of a configuration shows no secret."""
    text = GOOD.replace("AK", "my-access-key").replace("SK", "my-secret-key")

    shown = repr(parse_config(text, "test.yml", {}))

    assert "my-access-key" not in shown
    assert "my-secret-key" not in shown


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _: None, "cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
        (lambda path: path.write_text("a: \x07"), "not YAML: a character is not allowed"),
    ],
)
def test_unreadable_file(tmp_path: Path, make: object, expected: str) -> None:
    """A file that cannot be read says why."""
    path = tmp_path / "config.yml"
    make(path)  # type: ignore[operator]

    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_config(path, {})


def test_schema_names_every_section() -> None:
    """The JSON Schema for editors knows the sections of the file."""
    assert set(json_schema()["properties"]) == set(Config.model_fields)


def test_error_as_text() -> None:
    """The text of the error is a list that a person reads once."""
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace("region", "regoin"), "test.yml", {})

    expected = """\
        test.yml: 1 problem
          - projects[0].regoin: unknown key; did you mean region?"""
    assert str(caught.value) == textwrap.dedent(expected)
