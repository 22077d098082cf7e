"""Keys that a server or a pod gets from the machine that it runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.cloud.credential import Carried
from dcs_task_exporter.cloud.transport import Answer
from dcs_task_exporter.credentials.metadata import PodIdentity, ServerAgency, pod_place
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    CredentialsError,
    ForbiddenError,
    InvalidResponseError,
    ServerError,
)
from dcs_task_exporter.simulator.faults import Reply
from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.asked_service import AskedService, made
from tests.support.clouds import World, exporter_of, world
from tests.support.credentials import SOURCES, Made, ask, exporter_with, metadata, text_with

NO_TOKEN = Reply(503, b"", {"Content-Type": "text/plain"})


def operations(here: World) -> list[str]:
    """Return what the metadata service was asked, in order."""
    return [
        request.operation.removeprefix("metadata_")
        for request in here.cloud.requests
        if request.operation.startswith("metadata")
    ]


@pytest.mark.parametrize("version", ["1", "2", "both"])
def test_versions(version: Any, tmp_path: Path) -> None:
    """The keys come by version 2 of the service, and by version 1 where there is no other."""
    with world(1, Quirks(metadata=version)) as here:
        with exporter_with(here, metadata(here, tmp_path)) as exporter:
            ask(exporter, here)
        sent = [request.headers.get("x-metadata-token") for request in here.cloud.requests]

        assert operations(here) == ["token", "key"]
    assert bool(sent[1]) == (version != "1")


@pytest.mark.parametrize("status", [404, 405, 503])
def test_no_version_2(status: int, tmp_path: Path) -> None:
    """What a service without version 2 answers to its request is no failure."""
    with world(1) as here:
        here.cloud.faults.add(Reply(status, b"no"), operation="metadata_token")
        with exporter_with(here, metadata(here, tmp_path)) as exporter:
            ask(exporter, here)


def test_version_2_that_failed_by_chance(tmp_path: Path) -> None:
    """If the service wants version 2 all the same, the token is asked for again."""
    with world(1, Quirks(metadata="2")) as here:
        here.cloud.faults.add(NO_TOKEN, times=1, operation="metadata_token")
        with exporter_with(here, metadata(here, tmp_path)) as exporter:
            ask(exporter, here)

        assert operations(here) == ["token", "key", "token", "key"]


def test_version_2_that_fails(tmp_path: Path) -> None:
    """If it fails again, that is the error."""
    with world(1, Quirks(metadata="2")) as here:
        here.cloud.faults.add(NO_TOKEN, operation="metadata_token")
        with (
            exporter_with(here, metadata(here, tmp_path)) as exporter,
            pytest.raises(ServerError),
        ):
            ask(exporter, here)

        assert operations(here) == ["token", "key", "token"]


@pytest.mark.parametrize("version", ["1", "2"])
def test_no_agency(version: Any, tmp_path: Path) -> None:
    """A server without an agency is an error that says where to choose one, and is asked seldom."""
    with world(1, Quirks(metadata=version)) as here:
        section = {"type": "metadata", "endpoint": here.server.url}
        with exporter_with(here, Made(section, "", 0, {})) as exporter:
            for _ in range(3):
                with pytest.raises(ForbiddenError, match=r"no agency.*choose an agency"):
                    ask(exporter, here)
            asked = operations(here)
            metadata(here, tmp_path)
            here.clock.advance(60)
            ask(exporter, here)

    assert asked == ["token", "key"]


def test_a_token_that_is_none(tmp_path: Path) -> None:
    """A page in place of a token is an error, and is not sent as a header."""
    with world(1) as here:
        here.cloud.faults.add(Reply(200, b"<html> a page"), operation="metadata_token")
        with (
            exporter_with(here, metadata(here, tmp_path)) as exporter,
            pytest.raises(
                InvalidResponseError, match="the answer of the metadata service is no token"
            ),
        ):
            ask(exporter, here)

        assert operations(here) == ["token"]


@pytest.mark.parametrize("kind", ["metadata", "pod_identity"])
def test_no_proxy(kind: str, tmp_path: Path) -> None:
    """The services of this machine are asked without the project's proxy."""
    with world(1) as here:
        made = SOURCES[kind](here, tmp_path)
        dead = "    proxy_url: http://127.0.0.1:9\n    credentials:"
        text = text_with(here, made.section).replace("    credentials:", dead)
        with (
            exporter_of(here, text, made.environ) as exporter,
            pytest.raises(Exception, match=":9"),
        ):
            ask(exporter, here)

        assert here.cloud.identity.made[made.operation] == 1


def test_no_pod() -> None:
    """Outside such a pod, the error names the variables."""
    with pytest.raises(CredentialsError, match="HC_CONTAINER_CREDENTIALS_FULL_URI and HC_"):
        pod_place({})


def test_pod_in_the_clear() -> None:
    """The pod's token is not sent over the internet in the clear."""
    environ = {
        "HC_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/v1",
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/run/token",
    }
    with pytest.raises(CredentialsError, match="must be https"):
        pod_place(environ)


def test_rotated_pod_token(tmp_path: Path) -> None:
    """The token of a pod, which its cluster renews, is read at each renewal."""
    with world(1) as here:
        made = SOURCES["pod_identity"](here, tmp_path)
        with exporter_with(here, made) as exporter:
            ask(exporter, here)
            here.cloud.identity.add_pod("the-next-token")
            (tmp_path / "pod").write_text("the-next-token")
            here.clock.advance(made.life)
            ask(exporter, here)
        sent = [
            request.headers["authorization"]
            for request in here.cloud.requests
            if request.operation == "pod_identity"
        ]

    assert sent[1] == "the-next-token"


def test_wrong_pod_token(tmp_path: Path) -> None:
    """A pod whose token is refused gets an error that says what to check."""
    with world(1) as here:
        made = SOURCES["pod_identity"](here, tmp_path)
        (tmp_path / "pod").write_text("wrong")
        with (
            exporter_with(here, made) as exporter,
            pytest.raises(AuthError, match="service account has an association"),
        ):
            ask(exporter, here)


# Single questions, to a service whose answers the test chooses.

WANTS_A_TOKEN = Answer(401, {}, b"{}")


def test_what_a_server_is_asked() -> None:
    """A token is asked for first, for as long as may be; the keys are asked for with it."""
    asked = AskedService(Answer(200, {}, b" token \n"), made())
    fresh = ServerAgency(asked.service)(9.0)
    token, keys = asked.calls

    assert (token.method, token.operation, token.deadline) == ("PUT", "metadata_token", 9.0)
    assert token.url == "https://service/meta-data/latest/api/token"
    assert dict(token.headers) == {"X-Metadata-Token-Ttl-Seconds": "21600"}
    assert token.key == Carried(("other",))
    assert (keys.method, keys.operation, keys.deadline) == ("GET", "metadata_key", 9.0)
    assert keys.url == "https://service/openstack/latest/securitykey"
    assert dict(keys.headers) == {"X-Metadata-Token": "token"}
    assert keys.key == Carried(("token", "other"))
    assert fresh.life == 3600
    assert "token" in fresh.credential.secrets


@pytest.mark.parametrize("status", [404, 405, 503])
def test_a_server_without_a_token(status: int) -> None:
    """Where there is no token, the keys are asked for without one."""
    asked = AskedService(ApiError("no", status=status), made())
    ServerAgency(asked.service)(9.0)

    assert dict(asked.calls[1].headers) == {}
    assert asked.calls[1].key == Carried(("other",))


def test_a_token_that_fails_otherwise() -> None:
    """Another failure is the error."""
    asked = AskedService(ApiError("no", status=500))
    with pytest.raises(ApiError, match=r"^no \(HTTP 500\)$"):
        ServerAgency(asked.service)(9.0)


def test_keys_that_want_a_token() -> None:
    """Keys that want a token, although there was none, are asked for with one."""
    missing = ApiError("no", status=404)
    asked = AskedService(missing, WANTS_A_TOKEN, Answer(200, {}, b"token"), made())
    ServerAgency(asked.service)(9.0)

    assert [dict(call.headers) for call in asked.calls[1::2]] == [{}, {"X-Metadata-Token": "token"}]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([Answer(200, {}, b"token"), WANTS_A_TOKEN], "HTTP 401"),
        ([ApiError("no", status=404), ForbiddenError("no", status=403)], "no"),
        (
            [
                ApiError("no", status=404),
                Answer(401, {}, b"Please configure Cloud Service Agency first"),
            ],
            "this server has no agency",
        ),
    ],
)
def test_keys_that_are_refused(answers: list[Any], told: str) -> None:
    """A refusal that a token does not mend is told, with its status and what to check."""
    asked = AskedService(*answers)
    with pytest.raises(ForbiddenError) as raised:
        ServerAgency(asked.service)(9.0)

    assert len(asked.calls) == 2
    assert raised.value.message.startswith(told)
    assert raised.value.message.endswith("(choose an agency for this server in the ECS console)")
    assert raised.value.status in (401, 403)


def test_what_a_pod_is_asked() -> None:
    """The pod's own token is sent in a header, to the URL of the environment."""
    asked = AskedService(made())
    environ = {
        "HC_CONTAINER_CREDENTIALS_FULL_URI": " https://here/v1 ",
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": " /a/b ",
    }
    fresh = PodIdentity(asked.service, environ, lambda path: f"of-{path.name}")(9.0)
    (call,) = asked.calls

    assert (call.url, call.method, call.body) == ("https://here/v1", "POST", b"{}")
    assert (call.operation, call.deadline) == ("pod_identity", 9.0)
    assert dict(call.headers) == {"Content-Type": "application/json", "Authorization": "of-b"}
    assert call.key == Carried(("of-b", "other"))
    assert "of-b" in fresh.credential.secrets
