"""Credentials that the identity service makes: what it is asked, and what it may answer."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcs_task_exporter.cloud import transport
from dcs_task_exporter.cloud.credential import AccessKey, Carried, Credential, Token
from dcs_task_exporter.cloud.request import Retries
from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.credentials import context
from dcs_task_exporter.credentials.identity import AgencyLogin, PasswordLogin, is_safe
from dcs_task_exporter.credentials.oidc import STS_ENDPOINT
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.credentials.sources import check_this_machine, service_urls, source_of
from dcs_task_exporter.credentials.temporary_keys import (
    MAX_LIFE,
    MAX_SECRET,
    Ending,
    parse_temporary_key,
    parse_token,
)
from dcs_task_exporter.errors import (
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    AuthError,
    CredentialsError,
    InvalidResponseError,
    NotFoundError,
    RefusedEarlierError,
    ServerError,
)
from dcs_task_exporter.metrics.telemetry import ApiTelemetry
from dcs_task_exporter.simulator.faults import Reply, json_reply
from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.asked_service import AskedService, made
from tests.support.clouds import (
    ACCESS_KEY,
    NOW,
    PROJECT,
    SECRET_KEY,
    World,
    exporter_of,
    scrape,
    value,
    world,
)
from tests.support.credentials import (
    ACCOUNT,
    KEY,
    PASSWORD,
    SOURCES,
    USER,
    Made,
    ask,
    exporter_with,
    text_with,
)
from tests.support.secrets import secret

each_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)

END = "2025-06-16T15:06:40.000000Z"
"""A day after the clock of the tests."""

AGENCY: Mapping[str, Any] = {
    "type": "assume_agency",
    "agency_name": "dcs-reader",
    "domain_name": "other-account",
}
SECRET = secret("secret-that-no-error-shows-")
KEYS: Mapping[str, Any] = {
    "access": "AK",
    "secret": SECRET,
    "securitytoken": "ST",
    "expires_at": END,
}
TOKEN: Mapping[str, Any] = {"token": SECRET, "body": {"token": {"expires_at": END}}}


def last_body(here: World, operation: str) -> Any:
    """Return the body of the latest request of an operation."""
    found = [request for request in here.cloud.requests if request.operation == operation]
    return json.loads(found[-1].body)


@pytest.mark.parametrize(
    ("line", "scope"),
    [(f"    project_id: {PROJECT}\n", {"id": PROJECT}), ("", {"name": "cn-north-4"})],
)
def test_what_a_login_says(line: str, scope: Mapping[str, str], tmp_path: Path) -> None:
    """A login names the user, his account and the project, by its id or by its name."""
    with world(1) as here:
        made = SOURCES["password"](here, tmp_path)
        text = text_with(here, made.section).replace(f"    project_id: {PROJECT}\n", line)
        with exporter_of(here, text) as exporter:
            ask(exporter, here)
        body = last_body(here, "create_token")
        asked = here.cloud.requests[0]

    user = body["auth"]["identity"]["password"]["user"]
    assert user == {"name": USER, "password": PASSWORD, "domain": {"name": ACCOUNT}}
    assert body["auth"]["scope"] == {"project": scope}
    assert (asked.path, dict(asked.query)) == ("/v3/auth/tokens", {"nocatalog": "true"})


@each_source
def test_requests_are_counted(make: Callable[[World, Path], Made], tmp_path: Path) -> None:
    """The requests for credentials are counted under their operation, and the expiry is shown."""
    with world(1) as here:
        made = make(here, tmp_path)
        with exporter_with(here, made) as exporter:
            found = scrape(exporter)

    counted = value(found, "dcs_api_requests_total", operation=made.operation, code="200")
    counted = counted or value(
        found, "dcs_api_requests_total", operation=made.operation, code="201"
    )
    assert counted == 1
    assert value(found, "dcs_credentials_expiry_timestamp_seconds") == NOW + made.life
    assert value(found, "dcs_api_errors_total", operation=made.operation, reason="auth") == 0


@each_source
def test_refused_once(make: Callable[[World, Path], Made], tmp_path: Path) -> None:
    """On a 401 that says "must be updated", a request is sent again with fresh credentials."""
    with world(1) as here:
        made = make(here, tmp_path)
        with exporter_with(here, made) as exporter:
            ask(exporter, here)
            here.clock.advance(300)
            here.cloud.faults.add("old_token", times=1, operation="list_tasks")
            ask(exporter, here)
            asked = here.cloud.count("list_tasks"), here.cloud.identity.made[made.operation]

    assert asked == (3, 2)


@each_source
def test_refused_again(make: Callable[[World, Path], Made], tmp_path: Path) -> None:
    """If fresh credentials are refused too, nothing more is asked for five minutes."""
    with world(1) as here:
        made = make(here, tmp_path)
        with exporter_with(here, made) as exporter:
            ask(exporter, here)
            here.clock.advance(300)
            here.cloud.faults.add("old_token", operation="list_tasks")
            for _ in range(20):
                with pytest.raises(AuthError):
                    ask(exporter, here)
                here.clock.advance(15)
            asked = here.cloud.count("list_tasks"), here.cloud.identity.made[made.operation]

    assert asked == (3, 2)


def test_wrong_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is tried once in five minutes: the user is not locked."""
    with world(3) as here:
        made = SOURCES["password"](here, tmp_path)
        here.cloud.identity.add_user(ACCOUNT, USER, "another")
        with exporter_with(here, made) as exporter:
            for _ in range(20):
                scrape(exporter, here.clock)
            failed = exporter.refresher.snapshots()[0].failure
        asked = here.cloud.count()

    assert asked == 1
    assert failed is not None
    assert failed.reason == "auth"
    assert "check user_name, password and domain_name" in failed.message
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) <= 2


def test_a_renewed_token_is_tried_at_once(tmp_path: Path) -> None:
    """A token that was refused holds back nothing once another one has taken its place."""
    with world(1, Quirks(token_life=400)) as here:
        made = SOURCES["password"](here, tmp_path)
        with exporter_with(here, made) as exporter:
            ask(exporter, here)
            here.clock.advance(300)
            here.cloud.faults.add("bad_token", operation="list_tasks")
            for _ in range(3):
                with pytest.raises(AuthError):
                    ask(exporter, here)
            refused = here.cloud.count("list_tasks")
            here.cloud.faults.clear()
            here.clock.advance(70)
            ask(exporter, here)

    assert refused == 2


CHECKED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "no file": (
        {"type": "profile", "path": "/no/such/file"},
        "cannot read the file of credentials /no/such/file",
    ),
    "no pod": ({"type": "pod_identity"}, "this is no pod with an identity"),
    "no key": ({"type": "environment"}, "no access key in the environment"),
    "no key for the agency": (
        {**AGENCY, "source": {"type": "environment"}},
        "no access key in the environment",
    ),
    "elsewhere": ({"type": "metadata"}, ""),
    "anywhere": ({"type": "auto"}, ""),
    "with the file": (
        {"type": "password", "user_name": "u", "domain_name": "d", "password": "p"},
        "",
    ),
}


@pytest.mark.parametrize("case", CHECKED)
def test_what_is_checked_without_the_cloud(case: str) -> None:
    """What credentials need of this machine is checked without asking anybody."""
    section, words = CHECKED[case]
    with world(1) as here:
        config = parse_config(text_with(here, section), "test", {}).projects[0].credentials
    with pytest.raises(CredentialsError, match=words) if words else nullcontext():
        check_this_machine(config, {})


def test_changed_password_file(tmp_path: Path) -> None:
    """After a refused password, the file that changed is tried at the next refresh."""
    file = tmp_path / "password"
    file.write_text("wrong\n")
    with world(1) as here:
        made = SOURCES["password"](here, tmp_path)
        section = {key: item for key, item in made.section.items() if key != "password"}
        section["password_file"] = str(file)
        with exporter_with(here, Made(section, made.operation, made.life, {})) as exporter:
            scrape(exporter, here.clock)
            file.write_text(f"{PASSWORD}\n")
            scrape(exporter, here.clock)

            assert exporter.refresher.snapshots()[0].up


def test_oidc_through_the_proxy(tmp_path: Path) -> None:
    """The service of temporary keys is asked through the proxy of the project."""
    with world(1) as here:
        made = SOURCES["auto by OIDC"](here, tmp_path)
        environ = {**made.environ, "HUAWEICLOUD_SDK_STS_ENDPOINT": "http://localhost:1"}
        text = text_with(here, made.section).replace(
            "    endpoint:", f"    proxy_url: {here.server.url}\n    endpoint:"
        )
        with exporter_of(here, text, environ) as exporter:
            ask(exporter, here)

        assert here.cloud.identity.made[made.operation] == 1


STS = "https://sts.cn-north-4.myhuaweicloud.com"


@pytest.mark.parametrize(
    ("section", "environ", "urls"),
    [
        ({"type": "auto"}, {}, [STS]),
        ({**AGENCY, "source": {"type": "auto"}}, {}, [STS]),
        (
            {"type": "auto"},
            {STS_ENDPOINT: " https://sts.example.com/ "},
            ["https://sts.example.com"],
        ),
        ({"type": "auto"}, {STS_ENDPOINT: "http://["}, []),
        ({"type": "environment"}, {}, []),
    ],
)
def test_where_else_credentials_are_asked_for(
    section: Mapping[str, Any], environ: Mapping[str, str], urls: list[str]
) -> None:
    """Only `auto` may ask a third service, the environment's or that of the region."""
    with world(1) as here:
        project = parse_config(text_with(here, section), "test", {}).projects[0]

    assert service_urls(project.credentials, project, environ) == urls


def test_agency_by_an_outdated_token(tmp_path: Path) -> None:
    """An agency is assumed again with a fresh token when the old one must be updated."""
    with world(1) as here:
        made = SOURCES["assume_agency by password"](here, tmp_path)
        with exporter_with(here, made) as exporter:
            ask(exporter, here)
            here.clock.advance(made.life)
            here.cloud.faults.add("old_token", times=1, operation="assume_agency")
            ask(exporter, here)
            found = dict(here.cloud.identity.made)

    assert found == {"create_token": 2, "assume_agency": 2}


def test_unknown_agency(tmp_path: Path) -> None:
    """An agency that is not there is an error that says what to check."""
    with world(1) as here:
        made = SOURCES["assume_agency"](here, tmp_path)
        section = {**made.section, "agency_name": "another"}
        with (
            exporter_with(here, Made(section, made.operation, made.life, {})) as exporter,
            pytest.raises(NotFoundError, match="check agency_name and domain_name"),
        ):
            ask(exporter, here)


def test_agency_with_a_wrong_key(tmp_path: Path) -> None:
    """An agency is not asked for again and again with a key that is refused."""
    with world(1) as here:
        made = SOURCES["assume_agency"](here, tmp_path)
        section = {**made.section, "source": {**KEY, "secret_key": "wrong"}}
        with exporter_with(here, Made(section, made.operation, made.life, {})) as exporter:
            for _ in range(20):
                with pytest.raises(AuthError):
                    ask(exporter, here)
                here.clock.advance(15)
        asked = here.cloud.count()

    assert asked == 1


HOSTILE: Mapping[str, tuple[Reply, type[ApiError]]] = {
    "HTML": (Reply(200, b"<html>", {"Content-Type": "text/html"}), InvalidResponseError),
    "empty": (Reply(200, b""), InvalidResponseError),
    "a list": (json_reply(200, []), InvalidResponseError),
    "deep": (Reply(200, b"[" * 100_000), InvalidResponseError),
    "another object": (json_reply(200, {"token": 7, "credential": 7}), InvalidResponseError),
    "many values": (json_reply(200, [0] * 200_000), InvalidResponseError),
    "redirect": (Reply(302, b"", {"Location": "http://127.0.0.1:9/"}), InvalidResponseError),
    "server error": (json_reply(500, {"error_msg": "busy " * 6000}), ServerError),
    "cut": (Reply(200, b'{"credential": ', manner="cut"), ApiConnectionError),
    "reset": (Reply(200, b"", manner="reset"), ApiConnectionError),
    "silence": (Reply(200, b"", manner="silence"), ApiTimeoutError),
    "slow": (Reply(200, b"{}" * 100, manner="drip_body"), ApiTimeoutError),
}
"""Answers that no service should give, and the errors that they are."""


@each_source
@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_answers(
    make: Callable[[World, Path], Made],
    answer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hostile answer to a request for credentials is a bounded, clear error, and then a pause."""
    monkeypatch.setattr(context, "LOCAL_TIMEOUT", 0.3)
    reply, kind = HOSTILE[answer]
    with world(1) as here:
        made = make(here, tmp_path)
        with exporter_with(here, made, timeout="300ms") as exporter:
            here.cloud.faults.add(reply, operation=made.operation)
            if made.section["type"] == "auto":
                kind = AuthError  # which lists what each place answered
            texts = []
            for _ in range(3):
                with pytest.raises(kind) as caught:
                    ask(exporter, here)
                texts.append(str(caught.value))
            asked = here.cloud.count(made.operation)
            here.cloud.faults.clear()
            here.clock.advance(60)
            ask(exporter, here)

    assert asked == 1
    assert max(map(len, texts)) < 2000


def test_a_huge_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An answer that is too large is an error, not a full memory."""
    monkeypatch.setattr(transport, "MAX_BODY_SIZE", 10_000)
    with world(1) as here:
        made = SOURCES["password"](here, tmp_path)
        here.cloud.faults.add(Reply(201, b" " * 20_000), operation="create_token")
        with (
            exporter_with(here, made) as exporter,
            pytest.raises(InvalidResponseError, match="larger than"),
        ):
            ask(exporter, here)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("2020-01-01T00:00:00Z", "ended 172163200 s ago: set the clock"),
        ("soon", "does not say when the credentials end"),
        ("", "does not say when the credentials end"),
        (None, "does not say when the credentials end"),
        (7, "does not say when the credentials end"),
        ({}, "does not say when the credentials end"),
        ("2025-13-45T99:99:99Z", "does not say when the credentials end"),
        ("9" * 1000, "does not say when the credentials end"),
    ],
)
def test_odd_ends(end: object, words: str, tmp_path: Path) -> None:
    """An end that has passed, or that nobody can read, is an error that says so."""
    with world(1) as here:
        made = SOURCES["metadata"](here, tmp_path)
        reply = json_reply(200, {"credential": {**KEYS, "expires_at": end}})
        here.cloud.faults.add(reply, operation="metadata_key")
        with (
            exporter_with(here, made) as exporter,
            pytest.raises(InvalidResponseError, match=words) as caught,
        ):
            ask(exporter, here)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("end", "life"),
    [
        (END, 86_400),
        ("2025-06-16T15:06:40", 86_400),
        ("2025-06-16 15:06:40+00:00", 86_400),
        ("9999-01-01T00:00:00Z", MAX_LIFE),
    ],
)
def test_readable_ends(end: str, life: float) -> None:
    """An end without a zone is in UTC, and one that is absurdly far away is a week away."""
    ending = parse_temporary_key({"credential": {**KEYS, "expires_at": end}})

    assert ending.fresh(NOW, 0).life == life


def test_the_services_clock_counts() -> None:
    """How long credentials live is measured by the clock of the service, if its answer tells it."""
    ending = Ending(Token("t"), 1000.0, 600.0)

    assert [ending.fresh(at, 7.0).life for at in (900.0, None)] == [100, 400]
    assert Ending(Token("t"), 1000.0).fresh(None, 7.0).life == 993


SPELLINGS = (
    {"access": "A", "secret": "S", "securitytoken": "T", "expires_at": END},
    {"accessKeyId": "A", "secretAccessKey": "S", "securityToken": "T", "expiration": END},
    {"access_key_id": "A", "secret_access_key": "S", "security_token": "T", "expiration": END},
)


@pytest.mark.parametrize("wrap", ["credential", "credentials", None])
@pytest.mark.parametrize("keys", SPELLINGS)
def test_shapes(keys: Mapping[str, str], wrap: str | None) -> None:
    """Temporary keys come in three spellings, in an object or alone."""
    found = parse_temporary_key({wrap: keys} if wrap else keys).credential

    assert isinstance(found, AccessKey)
    assert (found.access_key, found.secret_key, found.security_token) == ("A", "S", "T")


@pytest.mark.parametrize("name", ["access", "secret", "securitytoken"])
@pytest.mark.parametrize(
    "odd", [None, "", 7, [], {}, "with blank", "line\nbreak", "\u00e4", "x" * (MAX_SECRET + 1)]
)
def test_unusable_keys(name: str, odd: object) -> None:
    """A key that no header can carry is an error that names it, and does not show it."""
    with pytest.raises(InvalidResponseError, match=f"the answer has no (usable )?{name}") as caught:
        parse_temporary_key({"credential": {**KEYS, name: odd}})

    assert "blank" not in str(caught.value)


@pytest.mark.parametrize("odd", [None, "", "a b", "x" * (MAX_SECRET + 1)])
def test_unusable_tokens(odd: object) -> None:
    """A token that no header can carry is an error."""
    with pytest.raises(InvalidResponseError, match="X-Subject-Token"):
        parse_token({**TOKEN, "token": odd})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just(END),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["credential", "token", "body", "issued_at", *KEYS]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from([parse_token, parse_temporary_key]))
def test_any_json(data: object, parse: Callable[[object], Ending]) -> None:
    """No JSON at all breaks the parsers: it is credentials, or a clear error."""
    try:
        parse(data)
    except InvalidResponseError:
        return


def test_repr_shows_nothing() -> None:
    """No representation of what is read shows a secret."""
    shown = repr(parse_temporary_key({"credential": KEYS}, (SECRET,)))
    shown += repr(parse_token(TOKEN)) + repr(partial(parse_token)(TOKEN).fresh(NOW, 0))

    assert SECRET not in shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://sts.example.com", True),
        ("http://127.0.0.1:80/v1", True),
        ("http://localhost/v1", True),
        ("http://169.254.170.23/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://[fd00::1]/v1", True),
        ("http://8.8.8.8/v1", False),
        ("http://example.com/v1", False),
        ("ftp://127.0.0.1/", False),
        ("https://", False),
        ("", False),
        ("http://[/", False),
    ],
)
def test_safe_urls(url: str, expected: bool) -> None:  # noqa: FBT001 - a case
    """Secrets are sent in the clear only within the network."""
    assert is_safe(url) is expected


OIDC_MISTAKES: Mapping[str, tuple[str, str]] = {
    "no URN": ("HUAWEICLOUD_OIDC_AGENCY_URN", ""),
    "no provider": ("HUAWEICLOUD_OIDC_PROVIDER_URN", ""),
    "no file": ("HUAWEICLOUD_OIDC_TOKEN_FILE", "/no/such/file"),
    "no token": ("HUAWEICLOUD_OIDC_TOKEN_FILE", ""),
    "no number": ("HUAWEICLOUD_OIDC_DURATION_SECONDS", "soon"),
    "in the clear": ("HUAWEICLOUD_SDK_STS_ENDPOINT", "http://sts.example.com"),
}


@pytest.mark.parametrize("mistake", OIDC_MISTAKES)
def test_oidc_mistakes(mistake: str, tmp_path: Path) -> None:
    """A variable that is missing or wrong is named, and nobody is asked."""
    name, wrong = OIDC_MISTAKES[mistake]
    with world(1) as here:
        made = SOURCES["auto by OIDC"](here, tmp_path)
        environ = {**made.environ, name: wrong}
        with (
            exporter_with(here, replace(made, environ=environ)) as exporter,
            pytest.raises(AuthError, match=r"no credentials were found\. oidc: ") as caught,
        ):
            ask(exporter, here)

    assert name in str(caught.value) or "name hidden" in str(caught.value)


# Single logins, each with a service whose answers the test chooses.


class Source:
    """A source of credentials that notes what was refused."""

    def __init__(self, *, has_another: bool = True) -> None:
        self.refused: list[tuple[str, int | None]] = []
        self.has_another = has_another
        self.deadlines: list[float] = []

    def current(self) -> AccessKey:
        return AccessKey("A", f"S{len(self.deadlines)}")

    def renewed(self, deadline: float) -> AccessKey:
        self.deadlines.append(deadline)
        return self.current()

    def refuse(self, credential: Credential, error: AuthError) -> bool:
        assert isinstance(credential, AccessKey)
        self.refused.append((credential.secret_key, error.status))
        return self.has_another

    def close(self) -> None:
        """Do nothing."""


def agency_login(asked: AskedService, source: Source) -> Fresh:
    """Log in to an agency."""
    return AgencyLogin(asked.service, source, "reader", {"domain_id": "d"}, 3599.6)(9.0)


def test_what_an_agency_is_asked() -> None:
    """The agency, its account and the life are sent, signed with the key of this account."""
    asked, source = AskedService(made()), Source()
    fresh = agency_login(asked, source)
    (call,) = asked.calls

    role = {"agency_name": "reader", "domain_id": "d", "duration_seconds": 3600}
    assert asked.body == {"auth": {"identity": {"methods": ["assume_role"], "assume_role": role}}}
    assert call.url == "https://service/v3.0/OS-CREDENTIAL/securitytokens"
    assert (call.method, call.operation, call.deadline) == ("POST", "assume_agency", 9.0)
    assert call.headers == {"Content-Type": "application/json"}
    assert call.key == AccessKey("A", "S1")
    assert source.deadlines == [9.0]
    assert (fresh.life, fresh.credential.expires_at) == (3600.0, NOW + 3600)
    assert set(fresh.credential.secrets) >= {"S1", "SK"}


def test_an_agency_with_an_outdated_key() -> None:
    """A key that is refused is replaced once by another one, if there is one."""
    refused = AuthError("no", status=401)
    asked, source = AskedService(refused, made()), Source()
    agency_login(asked, source)

    assert [call.key for call in asked.calls] == [AccessKey("A", "S1"), AccessKey("A", "S2")]
    assert source.refused == [("S1", 401)]


@pytest.mark.parametrize(
    ("error", "has_another", "refused"),
    [
        (AuthError("no", status=401), False, 1),
        (AuthError("no", status=403), True, 0),
        (RefusedEarlierError("no", status=401), True, 0),
    ],
)
def test_an_agency_that_refuses(error: AuthError, *, has_another: bool, refused: int) -> None:
    """Without another key, or for another reason, the refusal stands, with what to check."""
    asked, source = AskedService(error), Source(has_another=has_another)
    with pytest.raises(AuthError, match="no"):
        agency_login(asked, source)

    assert (len(asked.calls), len(source.refused)) == (1, refused)


def test_the_token_of_a_login() -> None:
    """The token is that of the header, with its end, and is redacted with the password."""
    body = {"token": {"expires_at": END, "issued_at": "2025-06-15T15:06:30Z"}}
    asked = AskedService(made(body, **{"X-Subject-Token": "T"}))
    scope = {"name": "r"}
    fresh = PasswordLogin(asked.service, "user", "account", scope, lambda: "secret")(9.0)
    (call,) = asked.calls

    user = {"name": "user", "password": "secret", "domain": {"name": "account"}}
    identity = {"methods": ["password"], "password": {"user": user}}
    assert asked.body == {"auth": {"identity": identity, "scope": {"project": scope}}}
    assert (call.url, call.query) == ("https://service/v3/auth/tokens", {"nocatalog": "true"})
    assert call.key == Carried(("secret", "other"), "account/user")
    assert fresh.credential == Token("T", NOW + 86_400, ("secret", "other"))
    assert fresh.life == 86_410


def profile(_: World, folder: Path) -> Made:
    (folder / "credentials").write_text(f"[basic]\nak = {ACCESS_KEY}\nsk = {SECRET_KEY}\n")
    return Made({"type": "profile", "path": str(folder / "credentials")}, "", 0.0, {})


@pytest.mark.parametrize("kind", [SOURCES["metadata"], SOURCES["pod_identity"], profile])
def test_keys_of_this_machine_are_redacted_with_the_others(
    kind: Callable[[World, Path], Made], tmp_path: Path
) -> None:
    """The key that a source on this machine has takes the project's other secrets out of texts."""
    other = secret("password-of-a-proxy-")
    with world(1) as here:
        it = kind(here, tmp_path)
        (project,) = parse_config(text_with(here, it.section), "test", {}).projects
        parts = context.CredentialContext(
            project,
            it.environ,
            here.clock.clock,
            transport.Transport(timeout=10, connections=1, user_agent="test"),
            Retries(0, lambda _: False, lambda: 0.0),
            ApiTelemetry(),
            context.Services(),
            100.0,
            (other,),
        )
        source = source_of(project.credentials, parts)
        key = source.renewed(here.clock.steady + 10)
        source.close()

    assert other not in key.redactor.text(f"the cloud says {other}")
