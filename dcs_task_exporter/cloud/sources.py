"""Where the key or token of each request comes from: what all sources have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dcs_task_exporter.cloud.credentials import Credential
from dcs_task_exporter.errors import AuthError, CredentialsError


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
