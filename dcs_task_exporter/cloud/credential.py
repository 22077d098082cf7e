"""What a request proves itself with, and whom it asks for that.

The sources are in the package `credentials`. No `repr` here shows a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from dcs_task_exporter.errors import AuthError
from dcs_task_exporter.text.redaction import Redactor


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


class CredentialSource(Protocol):
    """Provides the key or token to use now; safe to use from threads."""

    def current(self) -> Credential:
        """Return the key or token to use now, without waiting.

        Raises `CredentialsError` when there is none; the message names the key or file to change.
        """
        ...

    def renewed(self, deadline: float) -> Credential:
        """Return the key or token to use now, renewed before if that is due.

        It may ask the cloud for another one, and wait until `deadline` (monotonic) for the answer.
        Raises `CredentialsError`, and the `ApiError` of a renewal that failed.
        """
        ...

    def refuse(self, credential: Credential, error: AuthError) -> bool:
        """Learn that the cloud refuses a key; return whether there is, or will be, another one."""
        ...

    def close(self) -> None:
        """Let no thread wait any longer: the exporter stops."""
        ...
