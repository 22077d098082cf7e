"""Temporary keys for the token of another identity provider: each variable, and what is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcs_task_exporter.cloud.credential import AccessKey, Carried
from dcs_task_exporter.config.types import LONGEST_LIFE, SHORTEST_LIFE
from dcs_task_exporter.credentials.oidc import OidcLogin, sts_url
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.errors import CredentialsError, ForbiddenError
from tests.support.asked_service import NOW, AskedService, made
from tests.support.refresh_settings import project

NEEDED = {"PROVIDER_URN": "p", "AGENCY_URN": "a", "ID_TOKEN": "token"}


def login(asked: AskedService, **variables: str) -> Fresh:
    """Log in with these variables beside the needed ones; an empty one is not set."""
    environ = {f"HUAWEICLOUD_OIDC_{key}": text for key, text in {**NEEDED, **variables}.items()}
    return OidcLogin(asked.service, environ, lambda path: f"from {path}")(9.0)


def test_what_is_sent() -> None:
    """The provider, the agency, the token, a usual name and life are sent."""
    asked = AskedService(made())
    fresh = login(asked)
    (call,) = asked.calls

    assert asked.body == {
        "provider_urn": "p",
        "agency_urn": "a",
        "agency_session_name": "oidc-sts-session",
        "id_token": "token",
        "duration_seconds": 3600,
    }
    assert call.url == "https://service/v5/agencies/assume-with-oidc"
    assert (call.method, call.operation, call.deadline) == ("POST", "assume_agency_with_oidc", 9.0)
    assert call.headers == {"Content-Type": "application/json"}
    assert call.key == Carried(("token", "other"))
    key = AccessKey("AK", "SK", "ST", NOW + 3600, ("token", "other"))
    assert fresh == Fresh(key, 3600.0)


def test_what_else_may_be_sent() -> None:
    """A name, a policy, its parts and a life may be chosen; blanks do not count."""
    asked = AskedService(made())
    login(
        asked, SESSION_NAME=" me ", POLICY="{}", POLICY_IDS=" x,, y ,", DURATION_SECONDS="1000",
    )  # fmt: skip

    assert asked.body["agency_session_name"] == "me"
    assert asked.body["policy"] == "{}"
    assert asked.body["policy_ids"] == ["x", "y"]
    assert asked.body["duration_seconds"] == 1000


@pytest.mark.parametrize(("text", "life"), [("1", SHORTEST_LIFE), ("99999", LONGEST_LIFE)])
def test_a_life_is_bounded(text: str, life: float) -> None:
    """A life that is too short or too long is the nearest that may be."""
    asked = AskedService(made())
    login(asked, DURATION_SECONDS=text)

    assert asked.body["duration_seconds"] == life


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "\u0661", "9999999999"])
def test_a_life_that_is_none(text: str) -> None:
    """A life that is no number is named."""
    with pytest.raises(CredentialsError) as raised:
        login(AskedService(), DURATION_SECONDS=text)

    assert str(raised.value) == "HUAWEICLOUD_OIDC_DURATION_SECONDS is no number of seconds"


@pytest.mark.parametrize("name", ["PROVIDER_URN", "AGENCY_URN"])
def test_a_variable_that_lacks(name: str) -> None:
    """A variable that is needed is named."""
    with pytest.raises(CredentialsError) as raised:
        login(AskedService(), **{name: " "})

    assert str(raised.value) == f"HUAWEICLOUD_OIDC_{name} is not set"


def test_the_token_of_a_file() -> None:
    """Without a token of its own, the file that is named is read."""
    asked = AskedService(made())
    login(asked, ID_TOKEN="", TOKEN_FILE="/a/b")

    assert asked.body["id_token"] == f"from {Path('/a/b')}"


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (
            "",
            "HUAWEICLOUD_OIDC_TOKEN_FILE is not set, and no HUAWEICLOUD_OIDC_ID_TOKEN",
        ),
        ("a b\n", "HUAWEICLOUD_OIDC_ID_TOKEN must hold"),
    ],
)
def test_a_token_that_is_none(token: str, told: str) -> None:
    """A token that lacks, or that no header can carry, is named."""
    with pytest.raises(CredentialsError) as raised:
        login(AskedService(), ID_TOKEN=token)

    assert str(raised.value).startswith(told)


def test_no_token_in_the_clear() -> None:
    """A service far away is asked over TLS only."""
    with pytest.raises(CredentialsError) as raised:
        login(AskedService(url="http://sts.example.com"))

    told = "HUAWEICLOUD_SDK_STS_ENDPOINT must be https, or http to an address of this network"
    assert str(raised.value) == told


def test_a_refusal_says_what_to_check() -> None:
    """A refusal ends with what to check."""
    with pytest.raises(ForbiddenError) as raised:
        login(AskedService(ForbiddenError("no")))

    assert raised.value.message == ("no (check the variables HUAWEICLOUD_OIDC_... and the token)")


@pytest.mark.parametrize("named", [" https://sts/ ", "", "  "])
def test_where_the_service_is(named: str) -> None:
    """The service is the one of the environment, or that of the region."""
    own = project(endpoint="https://dcs")
    environ = {"HUAWEICLOUD_SDK_STS_ENDPOINT": named} if named else {}

    assert sts_url(own, environ) == ("https://sts" if named.strip() else own.sts_url)
