"""What services answer that make credentials, and the SDK's file of credentials, as functions of
bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Final

from requests import PreparedRequest

from dcs_task_exporter.cloud.auth import RequestAuth
from dcs_task_exporter.cloud.credential import AccessKey, Credential, Token
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.credentials.fixed import FixedSource, no_key
from dcs_task_exporter.credentials.identity import AgencyLogin, PasswordLogin, Service
from dcs_task_exporter.credentials.metadata import (
    POD_TOKEN_FILE,
    POD_URI,
    PodIdentity,
    ServerAgency,
)
from dcs_task_exporter.credentials.oidc import PREFIX, OidcLogin
from dcs_task_exporter.credentials.profile import ProfileKey
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.credentials.temporary_keys import MAX_LIFE
from dcs_task_exporter.errors import ApiError, CredentialsError
from dcs_task_exporter.simulator.faults import FAULTS
from fuzz.checks import NOW, SECRET, Target, expect, expect_plain, folder, logged
from fuzz.cloud_targets import KEY, Canned, answers_in, caller_of, deadline
from fuzz.words import PROFILE_WORDS

_END: Final = "2020-06-18T08:18:20.000000Z"
"""A day after `NOW`."""

_POD: Final = {POD_URI: "http://127.0.0.1:7547/v1/credentials", POD_TOKEN_FILE: "/pod-token"}
_OIDC: Final = {
    f"{PREFIX}ID_TOKEN": "id-token",
    f"{PREFIX}PROVIDER_URN": "urn:p",
    f"{PREFIX}AGENCY_URN": "urn:a",
}


def _fetched(data: bytes, login: Callable[[Service], Callable[[float], Fresh]]) -> None:
    """Get credentials from these answers, and look at them, or at the reason why there are none."""
    answers = [_without_secret(answer) for answer in answers_in(data)]
    caller, clock = caller_of(Canned(answers), FixedSource(no_key))
    fetch = login(Service("http://127.0.0.1:7547", caller, clock.now))
    with logged():
        try:
            fresh = fetch(deadline())
        except (ApiError, CredentialsError) as error:
            _check_error(error)
            return
    expect(0 < fresh.life <= MAX_LIFE, f"credentials that live {fresh.life} s")
    _check_credential(fresh.credential)


def _without_secret(answer: Answer) -> Answer:
    """Return an answer, if it is bad without the secret: it is quoted in its own words."""
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    return replace(answer, body=answer.body.replace(SECRET.encode(), b"x"))


def _check_error(error: ApiError | CredentialsError) -> None:
    expect_plain(str(error), repr(error), repr(error.__cause__))


def _check_credential(credential: Credential) -> None:
    expect_plain(repr(credential))
    request = PreparedRequest()
    request.method, request.url, request.body = "GET", "http://dcs.test/v2?a=b", None
    request.headers = {}  # type: ignore[assignment] # their order and case do not matter
    signed = RequestAuth(credential, "p", lambda: NOW)(request)
    for value in signed.headers.values():
        expect(re.fullmatch("[ -~]*", str(value)), "a header that cannot be sent")
    if isinstance(credential, AccessKey):
        expect(credential.access_key and credential.secret_key, "an empty key")
    if isinstance(credential, Token):
        expect(credential.token, "an empty token")


def token_answers(data: bytes) -> Sequence[bytes]:
    """Read the answers of the identity service to a user's name and password."""
    _fetched(
        data, lambda service: PasswordLogin(service, "user", "account", {"id": "p"}, lambda: "pw")
    )
    return ()


def key_answers(data: bytes) -> Sequence[bytes]:
    """Read answers with temporary keys: of an agency, of a pod, and for another's token."""
    own = FixedSource(lambda: KEY)
    _fetched(data, lambda service: AgencyLogin(service, own, "agency", {"domain_id": "d"}, 3600.0))
    _fetched(data, lambda service: PodIdentity(service, _POD, _pod_token))
    _fetched(data, lambda service: OidcLogin(service, _OIDC, _pod_token))
    return ()


def _pod_token(_: Path) -> str:
    return "pod-token"


def metadata_answers(data: bytes) -> Sequence[bytes]:
    """Read the answers of the metadata service: the token, then the keys."""
    _fetched(data, ServerAgency)
    return ()


def profile_file(data: bytes) -> Sequence[bytes]:
    """Read the SDK's file of credentials."""
    path = folder() / "credentials"
    path.write_bytes(data)
    for section in ("basic", "DEFAULT"):
        try:
            key = ProfileKey(path, section, {})()
        except CredentialsError as error:
            expect_plain(str(error), repr(error), repr(error.__cause__ or error.__context__))
        else:
            _check_credential(key)
    return ()


_ROW: Final = {"access": "AK", "secret": SECRET, "securitytoken": SECRET, "expires_at": _END}

_OTHER_ROW: Final = {
    "access_key_id": "AK",
    "secret_access_key": SECRET,
    "security_token": SECRET,
    "expiration": _END,
}


def _answer(body: object, head: str = "") -> bytes:
    text = f"200\nDate: Wed, 17 Jun 2020 08:19:00 GMT\n{head}\n{json.dumps(body)}"
    return text.encode()


def _faults() -> tuple[bytes, ...]:
    return tuple(f"{reply.status}\n\n".encode() + reply.body for reply in FAULTS.values())


CREDENTIAL_TARGETS: Final = (
    Target("token_answers", token_answers),
    Target("key_answers", key_answers),
    Target("metadata_answers", metadata_answers),
    Target("profile_file", profile_file, "text", PROFILE_WORDS),
)
CREDENTIAL_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "token_answers": (
        _answer(
            {"token": {"expires_at": _END, "issued_at": "2020-06-17T08:18:20.000000Z"}},
            f"X-Subject-Token: {SECRET}\n",
        ),
        *_faults(),
    ),
    "key_answers": (
        _answer({"credential": _ROW}),
        _answer({"credentials": _OTHER_ROW}),
        *_faults(),
    ),
    "metadata_answers": (
        f"200\n\n{SECRET}".encode() + b"\n---\n" + _answer({"credential": _ROW}),
        b"404\n\n\n---\n" + _answer({"credential": _ROW}),
        b"404\n\n\n---\n401\n\n{}\n---\n200\n\ntoken\n---\n" + _answer({"credential": _ROW}),
        *_faults(),
    ),
    "profile_file": (
        f"[basic]\nak = AK\nsk = {SECRET}\nsecurity_token = {SECRET}\n".encode(),
        f"# {SECRET}\n[DEFAULT]\nsk: {SECRET}\n[basic]\nak: AK\n".encode(),
        f"[basic]\nak = AK\nsk = %({SECRET})s\n".encode(),
        f"{SECRET}\n[basic\n".encode(),
        b"",
    ),
}
"""The first inputs by target."""
