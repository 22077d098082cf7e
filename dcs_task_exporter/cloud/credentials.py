"""Where keys and tokens come from, and when they expire.

Secrets are read as late as possible, from their file where there is one, so that a rotated secret
is used without a restart. No `repr` here shows a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from dcs_task_exporter.config.credentials import (
    AccessKeyCredentials,
    EnvironmentCredentials,
    TokenCredentials,
)
from dcs_task_exporter.config.secrets import read_secret, sendable
from dcs_task_exporter.errors import CredentialsError
from dcs_task_exporter.text.redaction import Redactor
from dcs_task_exporter.text.times import parse_time

ENVIRONMENT_NAMES: Final = (
    ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
    ("CLOUD_SDK_AK", "CLOUD_SDK_SK"),
    ("HW_ACCESS_KEY", "HW_SECRET_KEY"),
)
"""The pairs of variables that hold a key: the SDK's, the API page's samples', Terraform's."""

SECURITY_TOKEN_NAMES: Final = (
    "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    "HW_SECURITY_TOKEN",
)
"""Of each pair the variable that holds the security token of a temporary key."""


@dataclass(frozen=True)
class AccessKey:
    """An access key pair, with a security token where it is temporary."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    expires_at: float | None = None
    others: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor of all parts of this key, and of `others`: errors echo them."""
        parts = (self.secret_key, self.security_token, self.access_key)
        return Redactor.of((*parts, *self.others))


@dataclass(frozen=True)
class Token:
    """A token of the identity service, sent as ``X-Auth-Token``."""

    token: str = field(repr=False)
    expires_at: float | None = None
    others: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def redactor(self) -> Redactor:
        """The redactor of the token, and of `others`."""
        return Redactor.of((self.token, *self.others))


Credential = AccessKey | Token


class CredentialSource(Protocol):
    """Provides the key or token to use now."""

    def current(self) -> Credential:
        """Return the key or token to use now.

        Raises `CredentialsError` when there is none; the message names the key or file to change.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """The access key of the configuration, in it or in the files it names."""

    config: AccessKeyCredentials
    read: Callable[[Path], str]
    others: tuple[str, ...] = field(default=(), repr=False)

    def current(self) -> Credential:
        """Return the key as it is now in the configuration and its files."""
        config = self.config
        return AccessKey(
            access_key=self._secret("access_key"),
            secret_key=self._secret("secret_key"),
            security_token=self._secret("security_token"),
            expires_at=parse_time(config.expires_at),
            others=self.others,
        )

    def _secret(self, name: str) -> str:
        return _secret(self.config, name, self.read)


@dataclass(frozen=True, slots=True)
class ConfiguredToken:
    """The token of the configuration, in it or in the file it names."""

    config: TokenCredentials
    read: Callable[[Path], str]
    others: tuple[str, ...] = field(default=(), repr=False)

    def current(self) -> Credential:
        """Return the token as it is now in the configuration or its file."""
        return Token(
            token=_secret(self.config, "token", self.read),
            expires_at=parse_time(self.config.expires_at),
            others=self.others,
        )


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """The access key in the environment, under any of the known names."""

    environ: Mapping[str, str] = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)

    def current(self) -> Credential:
        """Return the first complete pair that the environment holds."""
        for (access_name, secret_name), token_name in zip(
            ENVIRONMENT_NAMES, SECURITY_TOKEN_NAMES, strict=True
        ):
            access_key = self.environ.get(access_name, "").strip()
            secret_key = self.environ.get(secret_name, "").strip()
            if access_key and secret_key:
                token = self.environ.get(token_name, "").strip()
                return AccessKey(
                    sendable(access_key, access_name),
                    sendable(secret_key, secret_name),
                    sendable(token, token_name),
                    others=self.others,
                )
        pairs = ", or ".join(" and ".join(pair) for pair in ENVIRONMENT_NAMES)
        message = f"no access key in the environment: set {pairs}"
        raise CredentialsError(message)


def has_key(environ: Mapping[str, str]) -> bool:
    """Whether the environment holds an access key."""
    return any(all(environ.get(name, "").strip() for name in pair) for pair in ENVIRONMENT_NAMES)


def credential_source(
    config: AccessKeyCredentials | TokenCredentials | EnvironmentCredentials,
    environ: Mapping[str, str],
    others: tuple[str, ...] = (),
) -> CredentialSource:
    """Return the source that the configuration asks for.

    `others` are secrets beside the key, such as a proxy's password, which are redacted with it.
    """
    if isinstance(config, AccessKeyCredentials):
        return ConfiguredKey(config, read_secret, others)
    if isinstance(config, TokenCredentials):
        return ConfiguredToken(config, read_secret, others)
    return EnvironmentKey(environ, others)


def _secret(
    config: AccessKeyCredentials | TokenCredentials, name: str, read: Callable[[Path], str]
) -> str:
    path = getattr(config, f"{name}_file")
    if path is not None:
        return read(path)
    value = getattr(config, name)
    return "" if value is None else str(value.get_secret_value())
