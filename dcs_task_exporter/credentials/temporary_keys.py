"""Temporary keys and tokens in the answers of the services that make them, and how long they live.

The shapes are those that the official SDK reads: an object `credential` or `credentials`, or
neither, with names in three spellings. Nothing here puts a value into an error: each may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dcs_task_exporter.cloud.credential import AccessKey, Credential, Token
from dcs_task_exporter.cloud.values import object_of
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.errors import InvalidResponseError
from dcs_task_exporter.text.times import parse_time

MAX_SECRET: Final = 32_768
"""Longest key or token in characters: a header of more is refused by any server."""

MAX_LIFE: Final = 604_800.0
"""Seconds after which credentials are renewed in any case, whatever end they claim: a week."""

ACCESS_KEYS: Final = ("access", "accessKeyId", "access_key_id")
SECRET_KEYS: Final = ("secret", "secretAccessKey", "secret_access_key")
SECURITY_TOKENS: Final = ("securitytoken", "securityToken", "security_token")
ENDS: Final = ("expires_at", "expiration")

SENDABLE: Final = re.compile(f"[!-~]{{1,{MAX_SECRET}}}")
"""The form of a key or token: a header can carry it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Credentials of an answer, and their begin and end (Unix seconds) by the service's clock."""

    credential: Credential = field(repr=False)
    ends_at: float
    began_at: float | None = None

    def fresh(self, answered_at: float | None, now: float) -> Fresh:
        """Return the credentials with the time that they have left.

        `answered_at` is the service's time if its answer has one, `now` that of this machine, which
        may be wrong. Raises `InvalidResponseError` for credentials that have ended.
        """
        asked_at = next(at for at in (answered_at, self.began_at, now) if at is not None)
        life = self.ends_at - asked_at
        if life <= 0:
            message = (
                f"the new credentials ended {-life:.0f} s ago: set the clock of this machine "
                "right, or that of the service that makes them"
            )
            raise InvalidResponseError(message)
        return Fresh(self.credential, min(life, MAX_LIFE))


def parse_temporary_key(data: object, others: tuple[str, ...] = ()) -> Ending:
    """Return the temporary access key of an answer; `others` are redacted with it.

    Raises `InvalidResponseError`.
    """
    body = object_of(data, "the answer")
    inner = next((body[name] for name in ("credential", "credentials") if name in body), body)
    row = object_of(inner, "the temporary key")
    ends_at = _end(row)
    key = AccessKey(
        _secret(row, ACCESS_KEYS),
        _secret(row, SECRET_KEYS),
        _secret(row, SECURITY_TOKENS),
        ends_at,
        others,
    )
    return Ending(key, ends_at)


def parse_token(data: object, others: tuple[str, ...] = ()) -> Ending:
    """Return the token of an answer of the identity service; `others` are redacted with it.

    `data` has the header under `token` and the body under `body`. Raises `InvalidResponseError`.
    """
    both = object_of(data, "the answer")
    row = object_of(
        object_of(both.get("body"), "the answer").get("token"), "the token's description"
    )
    ends_at = _end(row)
    token = Token(_secret(both, ("token",), "header X-Subject-Token"), ends_at, others)
    return Ending(token, ends_at, parse_time(row.get("issued_at")))


def _end(row: Mapping[str, Any]) -> float:
    value = next((row[name] for name in ENDS if row.get(name)), None)
    ends_at = parse_time(value) if isinstance(value, str) else None
    if ends_at is None:
        message = "the answer does not say when the credentials end, or in no form that can be read"
        raise InvalidResponseError(message)
    return ends_at


def _secret(row: Mapping[str, Any], names: tuple[str, ...], shown: str = "") -> str:
    value = next((row[name] for name in names if row.get(name)), None)
    if isinstance(value, str) and SENDABLE.fullmatch(value):
        return value
    what = "no" if value is None else "no usable"
    message = f"the answer has {what} {shown or names[0]}"
    raise InvalidResponseError(message)
