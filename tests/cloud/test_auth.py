"""The headers that prove who asks."""

from __future__ import annotations

import pytest
import requests

from dcs_task_exporter.cloud.auth import RequestAuth
from dcs_task_exporter.cloud.credential import AccessKey, Carried, Credential, Token
from dcs_task_exporter.cloud.signing import authorization, canonical_request, signature

NOW = 1_750_000_000.0
DATE = "20250615T150640Z"


def prepared(
    url: str = "https://dcs:8443/v2/p/tasks?limit=1", body: str | bytes | None = None
) -> requests.PreparedRequest:
    """Return a request without any header."""
    request = requests.PreparedRequest()
    request.method, request.url, request.body = "POST", url, body
    request.headers = {}  # type: ignore[assignment]
    return request


def signed(
    credential: Credential, request: requests.PreparedRequest, project: str = ""
) -> dict[str, str | bytes]:
    """Return the headers of a signed request."""
    assert RequestAuth(credential, project, lambda: NOW)(request) is request
    return dict(request.headers)


@pytest.mark.parametrize(("body", "hashed"), [(None, b""), ("text", b"text"), (b"raw", b"raw")])
def test_what_is_signed(body: str | bytes | None, hashed: bytes) -> None:
    """The method, path, query, body, host and date are signed."""
    headers = {"Host": "dcs:8443", "X-Sdk-Date": DATE}
    canonical = canonical_request("POST", "/v2/p/tasks", "limit=1", headers, hashed)
    proof = authorization("ak", headers, signature("sk", DATE, canonical))

    assert signed(AccessKey("ak", "sk"), prepared(body=body)) == {
        **headers,
        "Authorization": proof,
    }


def test_the_project_and_the_token_are_signed() -> None:
    """Where there are a project and a security token, they are sent and signed too."""
    headers = {
        "Host": "dcs",
        "X-Sdk-Date": DATE,
        "X-Project-Id": "p",
        "X-Security-Token": "st",
    }
    canonical = canonical_request("POST", "/", "", headers, b"")
    proof = authorization("ak", headers, signature("sk", DATE, canonical))

    assert signed(AccessKey("ak", "sk", "st"), prepared("https://dcs"), "p") == {
        **headers,
        "Authorization": proof,
    }


def test_a_token_is_sent_alone() -> None:
    """A token is one header."""
    assert signed(Token("t"), prepared(), "p") == {"X-Auth-Token": "t"}


def test_what_carries_its_own_secrets() -> None:
    """Nothing is added to a request that carries its own secrets."""
    assert signed(Carried(("pw",)), prepared(), "p") == {}
