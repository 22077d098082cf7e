"""Keys and tokens of the configuration, its files and the environment, and when they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.cloud.credential import AccessKey, Credential, Token
from dcs_task_exporter.config.credentials import (
    AccessKeyCredentials,
    EnvironmentCredentials,
    TokenCredentials,
)
from dcs_task_exporter.credentials.fixed import credential_reader, environment_key, has_key
from dcs_task_exporter.errors import CredentialsError

EXPIRES = "2025-06-15T15:06:40Z"
AT = 1_750_000_000.0
PAIRS = [
    ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"),
    ("CLOUD_SDK_AK", "CLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"),
    ("HW_ACCESS_KEY", "HW_SECRET_KEY", "HW_SECURITY_TOKEN"),
]


def read(config: Any, environ: dict[str, str] | None = None) -> Credential:
    """Read the credentials of a section of the configuration."""
    return credential_reader(config, environ or {}, ("proxy-password",))()


def test_a_configured_key() -> None:
    """A key has all parts of its section, and the other secrets."""
    config = AccessKeyCredentials.model_validate(
        {
            "type": "access_key",
            "access_key": "ak",
            "secret_key": "sk",
            "security_token": "st",
            "expires_at": EXPIRES,
        }
    )

    assert read(config) == AccessKey("ak", "sk", "st", AT, ("proxy-password",))


def test_a_key_without_a_token() -> None:
    """A permanent key has no security token, and does not end."""
    config = AccessKeyCredentials.model_validate(
        {"type": "access_key", "access_key": "ak", "secret_key": "sk"}
    )

    assert read(config) == AccessKey("ak", "sk", "", None, ("proxy-password",))


def test_a_key_in_a_file(tmp_path: Path) -> None:
    """A part in a file is read each time that a key is asked for."""
    file = tmp_path / "sk"
    file.write_text("one\n")
    config = AccessKeyCredentials.model_validate(
        {"type": "access_key", "access_key": "ak", "secret_key_file": str(file)}
    )
    reader = credential_reader(config, {})
    first = reader()
    file.write_text("two\n")

    assert (first, reader()) == (AccessKey("ak", "one"), AccessKey("ak", "two"))


def test_a_configured_token() -> None:
    """A token has its end, and the other secrets."""
    config = TokenCredentials.model_validate({"type": "token", "token": "t", "expires_at": EXPIRES})

    assert read(config) == Token("t", AT, ("proxy-password",))


@pytest.mark.parametrize("names", PAIRS)
def test_a_key_of_the_environment(names: tuple[str, str, str]) -> None:
    """A key is taken from each pair of names, with the token of its own."""
    environ = dict(zip(names, ("ak", " sk ", "st"), strict=True))
    config = EnvironmentCredentials.model_validate({"type": "environment"})

    assert has_key(environ)
    assert environment_key(environ) == AccessKey("ak", "sk", "st")
    assert read(config, environ) == AccessKey("ak", "sk", "st", None, ("proxy-password",))


def test_the_first_pair_wins() -> None:
    """Of several pairs the SDK's own names come first."""
    environ = {name: f"{name} value".replace(" ", "-") for pair in PAIRS for name in pair}

    assert environment_key(environ).access_key == "HUAWEICLOUD_SDK_AK-value"


@pytest.mark.parametrize("second", ["", "  "])
def test_half_a_pair(second: str) -> None:
    """A pair of which one is missing or blank is none; the next one is taken."""
    half = {"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": second}

    assert not has_key(half)
    assert environment_key({**half, "HW_ACCESS_KEY": "ak", "HW_SECRET_KEY": "sk"}) == AccessKey(
        "ak", "sk"
    )


def test_no_key_in_the_environment() -> None:
    """The error names all pairs of variables that may be set."""
    with pytest.raises(CredentialsError) as raised:
        environment_key({})

    assert str(raised.value) == (
        "no access key in the environment: set HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, "
        "or CLOUD_SDK_AK and CLOUD_SDK_SK, or HW_ACCESS_KEY and HW_SECRET_KEY"
    )
