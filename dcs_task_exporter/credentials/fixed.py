"""Credentials that stand in the configuration, in its files or in the environment.

Secrets are read as late as possible, from their file where there is one, so that a rotated secret
is used without a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dcs_task_exporter.cloud.credential import AccessKey, Credential, Token
from dcs_task_exporter.config.credentials import (
    AccessKeyCredentials,
    EnvironmentCredentials,
    TokenCredentials,
)
from dcs_task_exporter.config.secrets import read_secret, sendable
from dcs_task_exporter.errors import AuthError, CredentialsError
from dcs_task_exporter.text.times import parse_time

ENVIRONMENT_NAMES: Final[Mapping[tuple[str, str], str]] = {
    ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"): "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    ("CLOUD_SDK_AK", "CLOUD_SDK_SK"): "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    ("HW_ACCESS_KEY", "HW_SECRET_KEY"): "HW_SECURITY_TOKEN",
}
"""The pairs of variables that hold a key: the SDK's, the API page's samples', Terraform's.

Beside each is the variable that holds the security token of a temporary key.
"""


def no_key() -> Credential:
    """Raise `CredentialsError`: each call of a service that makes keys brings its own."""
    message = "this call needs a key of its own"
    raise CredentialsError(message)


@dataclass(frozen=True, slots=True)
class FixedSource:
    """Credentials that nothing but a change of the configuration, or of its files, renews."""

    read: Callable[[], Credential] = field(repr=False)

    def current(self) -> Credential:
        """Return the credentials as they are now. Raises `CredentialsError`."""
        return self.read()

    def renewed(self, _deadline: float) -> Credential:
        """Return the credentials as they are now. Raises `CredentialsError`."""
        return self.read()

    def refuse(self, credential: Credential, _error: AuthError) -> bool:
        """Return whether the credentials have changed since the refused ones were read."""
        try:
            return self.read() != credential
        except CredentialsError:
            return False  # the next request says so

    def close(self) -> None:
        """Do nothing: no thread waits here."""


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
