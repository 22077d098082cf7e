"""The configuration: every mistake gets a clear error, all at once, and no secret is shown."""

from __future__ import annotations

import re
import textwrap
import traceback
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.config.durations import parse_duration
from dcs_task_exporter.config.model import (
    Config,
    load_config,
    parse_config,
)
from dcs_task_exporter.errors import ConfigError
from tests.support.real_parts import TESTDATA
from tests.support.yaml_texts import load_yaml

GOOD = """\
projects:
  - name: prod
    region: cn-north-4
    credentials: {type: access_key, access_key: AK, secret_key: SK}
    instances: [{id: i0, name: orders}]
"""


FOLDER = TESTDATA / "config"
EXPECTED = load_yaml((FOLDER / "mistakes.yaml").read_text())
BROKEN = sorted(FOLDER.glob("bad-*.yaml"))


def mistakes(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return the lines of the error that a configuration gets."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yml", environ or {})
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_file(path: Path) -> None:
    """Each broken file gets the mistakes that are written down for it, all at once."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})

    assert [str(problem) for problem in caught.value.problems] == EXPECTED[path.name]


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_file_keeps_its_secret(path: Path) -> None:
    """No secret of a broken file is in its error, nor in what caused it."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_every_broken_file_is_written_down() -> None:
    """The list of mistakes names the files that there are."""
    assert sorted(EXPECTED) == [path.name for path in BROKEN]


def test_all_mistakes_at_once() -> None:
    """A variable that is not set, a misspelt key and a wrong value are reported together."""
    text = GOOD.replace("region", "regoin").replace("AK", '"${NOT_SET}"')

    found = mistakes(text + "collector: {retries: many}\n")

    assert [problem.split(":")[0] for problem in found] == [
        "projects[0].credentials.access_key",
        "projects[0]",
        "collector.retries",
    ]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)
SECTIONS: st.SearchStrategy[object] = st.dictionaries(
    st.sampled_from(["projects", "collector", "status_words", "credentials", "instances", "type"]),
    st.deferred(lambda: SECTIONS | st.lists(SECTIONS, max_size=2) | PLAIN),
    max_size=4,
)


@given(SECTIONS | PLAIN)
def test_any_data_get_a_clear_error(data: object) -> None:
    """Data of any shape are a configuration or a `ConfigError`, never another exception."""
    with pytest.raises(ConfigError) as caught:
        parse_config(yaml.safe_dump(data), "test.yml", {})

    assert caught.value.problems


@given(st.text(alphabet="ab:{}[]-&*!|>'\"#%@`$ \n\t?,~<", max_size=40))
def test_any_text_gets_a_clear_error(text: str) -> None:
    """Text that is hardly YAML gets a `ConfigError` too."""
    with pytest.raises(ConfigError):
        parse_config(text, "test.yml", {})


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


TRUE = ["true", "True", "on", "yes", "Y", "t", "1"]


@pytest.mark.parametrize("text", TRUE)
def test_discovery_by_variable(text: str) -> None:
    """What a variable says for true switches discovery on: no instances need be listed."""
    found = 'discovery: {enabled: "${DISCOVERY}"}'
    config = GOOD.replace("instances: [{id: i0, name: orders}]", found)

    assert parse_config(config, "test.yml", {"DISCOVERY": text}).projects[0].discovery.enabled


@pytest.mark.parametrize("text", TRUE)
def test_task_center_by_variable(text: str) -> None:
    """What a variable says for true switches the task centre on, and its checks with it."""
    center = '    task_center: {enabled: "${CENTER}", full_pass_interval: 2h}\n'

    assert mistakes(GOOD + center, {"CENTER": text}) == [
        "projects[0].task_center.full_pass_interval: must be shorter than collector.max_staleness"
    ]


@pytest.mark.parametrize("interval", ["0s", "1s"])
def test_shortest_refresh_interval(interval: str) -> None:
    """The exporter refreshes by itself once a second at most, or never."""
    config = parse_config(f"{GOOD}collector: {{refresh_interval: {interval}}}\n", "test.yml", {})

    assert config.collector.refresh_interval == parse_duration(interval)


def test_deep_pattern() -> None:
    """A pattern that is nested too deeply is a mistake like any other."""
    pattern = "(" * 5000 + ")" * 5000
    found = mistakes(f"{GOOD}    discovery: {{include: '{pattern}'}}\n")

    assert [problem.split(": ")[0] for problem in found] == ["projects[0].discovery.include"]


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

    assert secret not in shown


YAML_SIGNS = ["'", '"', "&", "*", "!", "!!", "%", "|", ">", "{", "}", "[", "]", ",", ": ", "- "]


# No name of a key: outside the sections with secrets, an unknown key is shown.
@given(st.lists(st.sampled_from(["hunter2+", *YAML_SIGNS, "? ", "#", "\\", "\n", "\t", " "])))
def test_no_secret_in_an_error_of_yaml(pieces: list[str]) -> None:
    """Whatever is wrong with the YAML around a secret, the error does not show it."""
    assert "hunter2" not in "".join(mistakes("".join(pieces)))


def test_a_file_whose_name_may_be_the_secret() -> None:
    """A missing file of secrets is not named where its name may be the secret, and that is said."""
    (told,) = mistakes(GOOD.replace("secret_key: SK", "secret_key_file: hunter2"))

    reason = "(name hidden, it could be the secret): No such file or directory"
    assert told.endswith(f"secret_key_file: cannot read the secret file {reason}")


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
        (lambda path: path.write_text("a: \x07"), "not YAML: a character that YAML forbids"),
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
    assert set(Config.model_json_schema()["properties"]) == set(Config.model_fields)


def test_error_as_text() -> None:
    """The text of the error is a list that a person reads once."""
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace("region", "regoin"), "test.yml", {})

    expected = """\
        test.yml: 1 problem
          - projects[0]: unknown key `regoin`; did you mean `region`?"""
    assert str(caught.value) == textwrap.dedent(expected)
