"""Where keys and tokens come from, and when they expire.

Secrets are read as late as possible, from their file where there is one, so that a rotated secret
is used without a restart. No `repr` here shows a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from dcs_task_exporter.config.credentials import (
    AccessKeyCredentials,
    EnvironmentCredentials,
    TokenCredentials,
)
from dcs_task_exporter.config.secrets import read_secret, sendable
from dcs_task_exporter.errors import CredentialsError
from dcs_task_exporter.text.redaction import Redactor
from dcs_task_exporter.text.times import parse_time

ENVIRONMENT_NAMES: Final[Mapping[tuple[str, str], str]] = {
    ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"): "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    ("CLOUD_SDK_AK", "CLOUD_SDK_SK"): "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    ("HW_ACCESS_KEY", "HW_SECRET_KEY"): "HW_SECURITY_TOKEN",
}
"""The pairs of variables that hold a key: the SDK's, the API page's samples', Terraform's.

Beside each is the variable that holds the security token of a temporary key.
"""


@dataclass(frozen=True)
class AccessKey:
    """An access key pair, with a security token where it is temporary."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    expires_at: float | None = None
    others: tuple[str, ...] = field(default=(), repr=False)

    @property
    def locked_as(self) -> str:
        """The part of the key that the cloud locks after bad signatures."""
        return self.access_key

    @property
    def secrets(self) -> tuple[str, ...]:
        """All parts of this key, and the `others`."""
        return (self.secret_key, self.security_token, self.access_key, *self.others)

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor of the secrets: errors echo them."""
        return Redactor.of(self.secrets)


@dataclass(frozen=True)
class Token:
    """A token of the identity service, sent as ``X-Auth-Token``."""

    token: str = field(repr=False)
    expires_at: float | None = None
    others: tuple[str, ...] = field(default=(), repr=False)

    @property
    def locked_as(self) -> str:
        """The token: there is no other part."""
        return self.token

    @property
    def secrets(self) -> tuple[str, ...]:
        """The token, and the `others`."""
        return (self.token, *self.others)

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor of the secrets."""
        return Redactor.of(self.secrets)


@dataclass(frozen=True)
class Carried:
    """Secrets that a request carries in its own body or headers: nothing is added to it.

    `locked_as` names who proves himself by them: the cloud locks it after wrong ones.
    """

    secrets: tuple[str, ...] = field(repr=False)
    locked_as: str = field(default="", repr=False)
    expires_at: None = None

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor of the secrets."""
        return Redactor.of(self.secrets)


Credential = AccessKey | Token | Carried


def credential_reader(
    config: AccessKeyCredentials | TokenCredentials | EnvironmentCredentials,
    environ: Mapping[str, str],
    others: tuple[str, ...] = (),
) -> Callable[[], Credential]:
    """Return a function that reads the key that the configuration asks for, as it is now.

    It raises `CredentialsError` where there is none; the message names the key or file to change.
    `others` are secrets beside the key, such as a proxy's password, which are redacted with it.
    """
    # No `partial`: its `repr` would show the others.
    if isinstance(config, AccessKeyCredentials):
        return lambda: _configured_key(config, others)
    if isinstance(config, TokenCredentials):
        return lambda: _configured_token(config, others)
    return lambda: environment_key(environ, others)


def has_key(environ: Mapping[str, str]) -> bool:
    """Whether the environment holds an access key."""
    return _whole_pair(environ) is not None


def environment_key(environ: Mapping[str, str], others: tuple[str, ...] = ()) -> AccessKey:
    """Return the first complete pair that the environment holds, under any of the known names."""
    pair = _whole_pair(environ)
    if pair is None:
        pairs = ", or ".join(" and ".join(pair) for pair in ENVIRONMENT_NAMES)
        message = f"no access key in the environment: set {pairs}"
        raise CredentialsError(message)
    access_key, secret_key, security_token = (
        sendable(environ.get(name, "").strip(), name) for name in (*pair, ENVIRONMENT_NAMES[pair])
    )
    return AccessKey(access_key, secret_key, security_token, others=others)


def _whole_pair(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the first pair of variables that both hold something, or None."""
    for pair in ENVIRONMENT_NAMES:
        if all(environ.get(name, "").strip() for name in pair):
            return pair
    return None


def _configured_key(config: AccessKeyCredentials, others: tuple[str, ...]) -> AccessKey:
    """Return the key as it is now in the configuration and its files."""
    return AccessKey(
        access_key=_secret(config, "access_key"),
        secret_key=_secret(config, "secret_key"),
        security_token=_secret(config, "security_token"),
        expires_at=parse_time(config.expires_at),
        others=others,
    )


def _configured_token(config: TokenCredentials, others: tuple[str, ...]) -> Token:
    """Return the token as it is now in the configuration or its file."""
    return Token(_secret(config, "token"), parse_time(config.expires_at), others)


def _secret(config: AccessKeyCredentials | TokenCredentials, name: str) -> str:
    path = getattr(config, f"{name}_file")
    if path is not None:
        return read_secret(path)
    value = getattr(config, name)
    return "" if value is None else str(value.get_secret_value())
