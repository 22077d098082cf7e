"""Temporary keys that a server or a pod gets from the machine that it runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from dcs_task_exporter.cloud.calls import JSON_BODY, Call
from dcs_task_exporter.cloud.credential import Carried
from dcs_task_exporter.cloud.responses import error_of, read_json
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.credentials.identity import Service, is_safe
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.credentials.temporary_keys import SENDABLE, Ending, parse_temporary_key
from dcs_task_exporter.errors import (
    ApiError,
    CredentialsError,
    ForbiddenError,
    InvalidResponseError,
)
from dcs_task_exporter.text.redaction import Redactor

METADATA_TOKEN: Final = "metadata_token"  # noqa: S105 - the name of an operation
METADATA_KEY: Final = "metadata_key"
POD_IDENTITY: Final = "pod_identity"

TOKEN_LIFE: Final = 21_600
"""Seconds for which a token of the metadata service is asked for; it is used at once."""

POD_URI: Final = "HC_CONTAINER_CREDENTIALS_FULL_URI"
POD_TOKEN_FILE: Final = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - of a variable

_NO_VERSION_2: Final = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What a metadata service without version 2 answers to a request for a token."""

_NO_AGENCY: Final = b"configure Cloud Service Agency"
"""What a metadata service says on a server without an agency."""

_WITHOUT_AGENCY: Final = "this server has no agency"


@dataclass(frozen=True, slots=True)
class ServerAgency:
    """Gets the temporary keys of the agency of this server (ECS), by version 2, or else 1."""

    service: Service

    def __call__(self, deadline: float) -> Fresh:
        """Return the keys that the metadata service has now. Raises `ApiError`."""
        token = self._token(deadline, needed=False)
        try:
            return self._keys(token, deadline)
        except ForbiddenError as error:
            if token or error.status != HTTPStatus.UNAUTHORIZED or _WITHOUT_AGENCY in error.message:
                raise
        # It wants version 2 all the same: there was no token by chance.
        return self._keys(self._token(deadline, needed=True), deadline)

    def _token(self, deadline: float, *, needed: bool) -> str:
        """Return a token of version 2; empty if there is none, unless it is `needed`."""
        call: Call[str] = Call(
            METADATA_TOKEN,
            f"{self.service.url}/meta-data/latest/api/token",
            deadline,
            str,
            method="PUT",
            headers={"X-Metadata-Token-Ttl-Seconds": str(TOKEN_LIFE)},
            key=Carried(self.service.others),
            read=_read_text,
        )
        try:
            return self.service.caller.get(call).value
        except ApiError as error:
            if needed or error.status not in _NO_VERSION_2:
                raise
            return ""

    def _keys(self, token: str, deadline: float) -> Fresh:
        secrets = (*((token,) if token else ()), *self.service.others)
        call: Call[Ending] = Call(
            METADATA_KEY,
            f"{self.service.url}/openstack/latest/securitykey",
            deadline,
            partial(parse_temporary_key, others=secrets),
            headers={"X-Metadata-Token": token} if token else {},
            key=Carried(secrets),
            read=_read_keys,
        )
        return self.service.ask(call, "choose an agency for this server in the ECS console")


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """Gets the temporary keys of this pod's service account (CCE).

    `environ` names the service and the file with the pod's own token; `read` reads that file.
    """

    service: Service
    environ: Mapping[str, str] = field(repr=False)
    read: Callable[[Path], str]

    def __call__(self, deadline: float) -> Fresh:
        """Return new temporary keys. Raises `ApiError` and `CredentialsError`."""
        url, file = pod_place(self.environ)
        token = self.read(file)
        secrets = (token, *self.service.others)
        call: Call[Ending] = Call(
            POD_IDENTITY,
            url,
            deadline,
            partial(parse_temporary_key, others=secrets),
            method="POST",
            body=b"{}",
            headers={**JSON_BODY, "Authorization": token},
            key=Carried(secrets),
        )
        advice = "check that the pod's service account has an association with an agency"
        return self.service.ask(call, advice)


def pod_place(environ: Mapping[str, str]) -> tuple[str, Path]:
    """Return the URL that a pod asks for its keys, and the file of its token.

    Raises `CredentialsError` where the environment is not that of such a pod.
    """
    url = environ.get(POD_URI, "").strip()
    file = environ.get(POD_TOKEN_FILE, "").strip()
    if not url or not file:
        message = (
            f"this is no pod with an identity: {POD_URI} and {POD_TOKEN_FILE} are not set; "
            "CCE sets them for a pod whose service account has an association"
        )
        raise CredentialsError(message)
    if not is_safe(url):
        message = f"{POD_URI} must be https, or http to an address of this machine or network"
        raise CredentialsError(message)
    return url, Path(file)


def _read_text(answer: Answer, _: Redactor, now: float) -> object:
    """Return the token that is the whole body. Raises `ApiError`."""
    if answer.status != HTTPStatus.OK:
        raise error_of(answer, now)
    text = answer.body.decode("latin-1").strip()
    if not SENDABLE.fullmatch(text):
        message = (
            "the answer of the metadata service is no token: does a proxy answer in its place?"
        )
        raise InvalidResponseError(message, status=answer.status)
    return text


def _read_keys(answer: Answer, redactor: Redactor, now: float) -> object:
    """Return the decoded body. Raises `ApiError`; never `AuthError`, for there is no key to lock.

    The gate would hold back the request for a token that this answer may ask for.
    """
    if answer.status != HTTPStatus.UNAUTHORIZED:
        return read_json(answer, redactor, now)
    message = _WITHOUT_AGENCY if _NO_AGENCY in answer.body else error_of(answer, now).message
    raise ForbiddenError(message, status=answer.status)
