"""Signatures: the two known vectors, and the official SDK as the judge of all others."""

from __future__ import annotations

import hashlib
import string
from datetime import datetime, timezone

import pytest
import requests
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.cloud.auth import RequestAuth
from dcs_task_exporter.cloud.credential import AccessKey, Token
from dcs_task_exporter.cloud.signing import (
    DATE_FORMAT,
    authorization,
    canonical_query,
    canonical_request,
    signature,
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)
SEGMENT = st.text(string.ascii_letters + string.digits + "-_.~ +%:@äß中", min_size=1, max_size=12)
TOKEN = st.text(string.ascii_letters + string.digits, min_size=1, max_size=30)


def test_published_vector() -> None:
    """The canonical request of the vendor's page has the hash that the page prints."""
    query = canonical_query([("limit", "2"), ("marker", "13551d6b-755d-4757-b956-536f674975c0")])
    canonical = canonical_request(
        "GET",
        "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
        query,
        {
            "content-type": "application/json",
            "host": "service.region.example.com",
            "x-sdk-date": "20191115T033655Z",
        },
    )

    assert (
        hashlib.sha256(canonical.encode()).hexdigest()
        == "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"
    )


def test_vector_of_the_sdk() -> None:
    """A request signed as the SDK 3.1.219 signed it has the same signature."""
    moment = datetime(2020, 6, 18, tzinfo=timezone.utc).timestamp()
    project = "a4d31cb63d724fdc8ec96e3a41e47f71"
    query = canonical_query(
        {
            "start_time": "20200609160000",
            "end_time": "20200617155959",
            "limit": "10",
            "offset": "0",
        }.items()
    )
    request = requests.Request(
        "GET",
        f"https://dcs.cn-north-4.myhuaweicloud.com/v2/{project}/instances/"
        f"5560df16-cebf-4473-95c4-d1b573c16e79/tasks?{query}",
    ).prepare()

    signed = RequestAuth(AccessKey("AKEXAMPLE", "SKEXAMPLE"), project, lambda: moment)(request)

    assert (
        signed.headers["Authorization"]
        == "SDK-HMAC-SHA256 Access=AKEXAMPLE, SignedHeaders=host;x-project-id;x-sdk-date, "
        "Signature=27c62fb4c22e09360269725a2d2cc90f245542f45f5c286489e9ccf8f5830b12"
    )


@given(
    key=TOKEN,
    secret=TOKEN,
    project=TOKEN,
    security_token=st.one_of(st.just(""), TOKEN),
    segments=st.lists(SEGMENT, max_size=4),
    query=st.dictionaries(TEXT.filter(bool), TEXT, max_size=5),
    moment=st.integers(0, 4_000_000_000),
)
def test_equal_to_the_sdk(
    key: str,
    secret: str,
    project: str,
    security_token: str,
    segments: list[str],
    query: dict[str, str],
    moment: int,
) -> None:
    """For any request, our Authorization header equals the official SDK's."""
    path = "/v2/" + "/".join(segments)
    date = datetime.fromtimestamp(moment, tz=timezone.utc).strftime(DATE_FORMAT)
    headers = {"Host": "127.0.0.1:8443", "X-Sdk-Date": date, "X-Project-Id": project}
    if security_token:
        headers["X-Security-Token"] = security_token
    credentials = BasicCredentials(key, secret, project)
    theirs = Signer(credentials).sign(
        SdkRequest(
            method="GET",
            schema="https",
            host="127.0.0.1:8443",
            resource_path=path,
            uri=path,
            query_params=list(query.items()),
            header_params=dict(headers),
            body="",
        )
    )

    canonical = canonical_request("GET", path, canonical_query(query.items()), headers)
    ours = authorization(key, headers, signature(secret, date, canonical))

    assert theirs.header_params["Authorization"] == ours


def test_security_token_is_sent_and_signed() -> None:
    """A temporary key sends its security token, and signs it."""
    request = requests.Request("GET", "https://127.0.0.1/v2/p/instances").prepare()

    signed = RequestAuth(AccessKey("a", "b", "temporary"), "", lambda: 0.0)(request)

    assert signed.headers["X-Security-Token"] == "temporary"
    assert "SignedHeaders=host;x-sdk-date;x-security-token" in signed.headers["Authorization"]


def test_token() -> None:
    """A token is sent as X-Auth-Token, without a signature."""
    request = requests.Request("GET", "https://127.0.0.1/v2/p/instances").prepare()

    sent = RequestAuth(Token("a-token"), "", lambda: 0.0)(request)

    assert sent.headers["X-Auth-Token"] == "a-token"
    assert "Authorization" not in sent.headers


def test_keys_hide_themselves() -> None:
    """The repr of a key shows no part of it."""
    shown = repr(AccessKey("my-access", "my-secret", "my-token"))

    assert not [part for part in ("my-access", "my-secret", "my-token") if part in shown]


def test_tokens_hide_themselves() -> None:
    """The repr of a token shows no part of it."""
    assert "a-token" not in repr(Token("a-token"))


@pytest.mark.parametrize(
    "credential", [AccessKey("a", "b", others=("pw",)), Token("a", others=("pw",))]
)
def test_credentials_hide_what_is_beside_them(credential: AccessKey | Token) -> None:
    """The repr of a key or token shows no other secret, such as a proxy's password."""
    assert "pw" not in repr(credential)


@pytest.mark.parametrize(
    ("path", "signed"),
    [
        ("/v2/a-b_c.d~e", "/v2/a-b_c.d~e/"),
        ("/v2/a/", "/v2/a/"),
        ("/v2/p%2F1/a%20b~/%E4%B8%AD", "/v2/p%2F1/a%20b~/%E4%B8%AD/"),
        ("/v2/a b:c/", "/v2/a%20b%3Ac/"),
    ],
)
def test_the_path_that_is_signed(path: str, signed: str) -> None:
    """Each segment is encoded once, but for a tilde; the path ends with a slash."""
    assert canonical_request("GET", path, "", {}).split("\n")[1] == signed
