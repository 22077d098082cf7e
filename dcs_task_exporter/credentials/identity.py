"""Credentials from the identity service: a token for a password, temporary keys for an agency."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from dcs_task_exporter.cloud.calls import JSON_BODY, Call
from dcs_task_exporter.cloud.credential import Carried, Credential, CredentialSource
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.cloud.responses import read_json
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.credentials.temporary_keys import Ending, parse_temporary_key, parse_token
from dcs_task_exporter.errors import (
    AuthError,
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    RefusedEarlierError,
)
from dcs_task_exporter.text.redaction import Redactor

CREATE_TOKEN: Final = "create_token"  # noqa: S105 - the name of an operation
ASSUME_AGENCY: Final = "assume_agency"
ASSUME_WITH_OIDC: Final = "assume_agency_with_oidc"


@dataclass(frozen=True, slots=True)
class Service:
    """A service that makes credentials: its URL, who calls it, and the time of this machine.

    `others` are secrets that are redacted with those that it makes.
    """

    url: str
    caller: ApiCaller
    now: Callable[[], float]
    others: tuple[str, ...] = field(default=(), repr=False)

    def ask(self, call: Call[Ending], advice: str) -> Fresh:
        """Make a call and return its credentials.

        Raises `ApiError`; a refusal ends with `advice`, which says what to change.
        """
        try:
            reply = self.caller.get(call)
        except (AuthError, BadRequestError, ForbiddenError, NotFoundError) as error:
            failed = error.told_as(type(error), f"{error.message} ({advice})")
        else:
            return reply.value.fresh(reply.answered_at, self.now())
        # Raised outside the handler: its cause would keep the request, with its secrets, alive.
        raise failed

    def post(
        self,
        operation: str,
        path: str,
        body: object,
        deadline: float,
        **more: Any,  # noqa: ANN401 - each of its own type
    ) -> Call[Ending]:
        """Return the call that posts `body`; `more` are further fields of a `Call`."""
        return Call(
            operation,
            self.url + path,
            deadline,
            method="POST",
            body=json.dumps(body).encode(),
            headers=JSON_BODY,
            **more,
        )


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """Gets a token of one project for the name and password of a user.

    `scope` names the project by its `id` or its `name`; `password` reads the password.
    """

    service: Service
    user_name: str
    domain_name: str
    scope: Mapping[str, str]
    password: Callable[[], str]

    def __call__(self, deadline: float) -> Fresh:
        """Return a new token. Raises `ApiError` and `CredentialsError`."""
        password = self.password()
        user = {
            "name": self.user_name,
            "password": password,
            "domain": {"name": self.domain_name},
        }
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": {"project": dict(self.scope)}}}
        secrets = (password, *self.service.others)
        call = self.service.post(
            CREATE_TOKEN,
            "/v3/auth/tokens",
            body,
            deadline,
            query={"nocatalog": "true"},
            parse=partial(parse_token, others=secrets),
            read=_read_token,
            key=Carried(secrets, f"{self.domain_name}/{self.user_name}"),
        )
        return self.service.ask(
            call,
            "check user_name, password and domain_name, that the user may sign in by program "
            "without a second factor, and the project's id or name",
        )


@dataclass(frozen=True, slots=True)
class AgencyLogin:
    """Gets temporary keys of an agency of another account, with credentials of this one.

    `domain` names the other account by its `domain_id` or `domain_name`; `life` is in seconds.
    """

    service: Service
    source: CredentialSource
    agency_name: str
    domain: Mapping[str, str]
    life: float

    def __call__(self, deadline: float) -> Fresh:
        """Return new temporary keys. Raises `ApiError` and `CredentialsError`."""
        key = self.source.renewed(deadline)
        try:
            return self._assume(key, deadline)
        except RefusedEarlierError:
            raise
        except AuthError as error:
            if error.status != HTTPStatus.UNAUTHORIZED or not self.source.refuse(key, error):
                raise
        return self._assume(self.source.renewed(deadline), deadline)

    def _assume(self, key: Credential, deadline: float) -> Fresh:
        role = {
            "agency_name": self.agency_name,
            **self.domain,
            "duration_seconds": round(self.life),
        }
        identity = {"methods": ["assume_role"], "assume_role": role}
        call = self.service.post(
            ASSUME_AGENCY,
            "/v3.0/OS-CREDENTIAL/securitytokens",
            {"auth": {"identity": identity}},
            deadline,
            parse=partial(parse_temporary_key, others=key.secrets),
            key=key,
        )
        return self.service.ask(
            call,
            "check agency_name and domain_name or domain_id, that the agency delegates to this "
            "account, and that the user of credentials.source has the role Agent Operator",
        )


def is_safe(url: str) -> bool:
    """Whether secrets may be sent to a URL of the environment: in the clear only nearby."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return bool(host)
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    return parts.scheme == "http" and (address.is_private or address.is_loopback)


def _read_token(answer: Answer, redactor: Redactor, now: float) -> object:
    """Return the header and the body of an answer with a token. Raises `ApiError`."""
    body = read_json(answer, redactor, now)
    return {"token": answer.headers.get("X-Subject-Token"), "body": body}
