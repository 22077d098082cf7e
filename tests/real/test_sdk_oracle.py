"""The official SDK works against the simulated cloud unchanged: that proves it faithful."""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dcs_task_exporter.credentials.profile import ProfileKey
from dcs_task_exporter.errors import AuthError, CredentialsError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own, at import
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.auth.internal import MetadataAccessor
    from huaweicloudsdkcore.auth.provider import (
        CredentialProviderChain,
        MetadataCredentialProvider,
        OidcStsCredentialProvider,
        PodIdentityCredentialProvider,
        ProfileCredentialProvider,
    )
    from huaweicloudsdkcore.exceptions.exceptions import (
        ApiValueError,
        ClientRequestException,
        SdkException,
    )
    from huaweicloudsdkdcs.v2 import (
        DcsClient,
        ListBackgroundTaskRequest,
        ListCenterTaskRequest,
        ListInstancesRequest,
    )

from dcs_task_exporter.simulator.quirks import Quirks
from tests.support.clouds import (
    ACCESS_KEY,
    PROJECT,
    SECRET_KEY,
    SettableClock,
    World,
    world,
    world_of_today,
)
from tests.support.credentials import SOURCES, Made, ask, exporter_with, pod_identity

pytestmark = pytest.mark.real


@pytest.fixture
def here() -> Iterator[World]:
    with world_of_today(2) as made:
        yield made


def sdk(here: World, secret_key: str = SECRET_KEY, security_token: str = "") -> Any:
    credentials = BasicCredentials(ACCESS_KEY, secret_key, PROJECT)
    if security_token:
        credentials.with_security_token(security_token)
    return (
        DcsClient.new_builder().with_credentials(credentials).with_endpoint(here.server.url).build()
    )


def test_list_background_task(here: World) -> None:
    """`list_background_task` returns the tasks of an instance."""
    here.cloud.start_task("i0", "EXTEND", details={"old_capacity": "0.125"})

    response = sdk(here).list_background_task(ListBackgroundTaskRequest(instance_id="i0"))

    assert str(response.task_count) == "1"
    assert [(task.name, task.status, task.details.old_capacity) for task in response.tasks] == [
        ("EXTEND", "EXECUTING", "0.125")
    ]


def test_pages(here: World) -> None:
    """`offset` and `limit` cut the list where the SDK asks."""
    for number in range(5):
        here.cloud.start_task("i0", f"name{number}", created_at=here.clock.wall - number)

    response = sdk(here).list_background_task(
        ListBackgroundTaskRequest(instance_id="i0", offset=3, limit=1)
    )

    assert [task.name for task in response.tasks] == ["name3"]


def test_list_instances(here: World) -> None:
    """`list_instances` returns the instances of the project."""
    response = sdk(here).list_instances(ListInstancesRequest())

    assert [instance.instance_id for instance in response.instances] == ["i0", "i1"]


def test_list_center_task(here: World) -> None:
    """`list_center_task` returns the tasks of all instances."""
    here.cloud.start_task("i0", "EXTEND")
    here.cloud.start_task("i1", "modify")

    response = sdk(here).list_center_task(ListCenterTaskRequest())

    assert {"EXTEND", "modify"} == {task.name for task in response.tasks}


def test_security_token(here: World) -> None:
    """A temporary key with its security token is accepted."""
    here.cloud.access.add_key(ACCESS_KEY, SECRET_KEY, "a-security-token")

    response = sdk(here, security_token="a-security-token").list_instances(ListInstancesRequest())

    assert response.instance_num == 2


def test_wrong_key(here: World) -> None:
    """A wrong secret key is refused in the gateway's words."""
    with pytest.raises(ClientRequestException) as caught:
        sdk(here, "wrong").list_instances(ListInstancesRequest())

    assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")


def works(here: World, credentials: Any) -> bool:
    """Whether the SDK lists the instances with its own credentials, however it got them."""
    credentials.with_project_id(PROJECT)
    client = (
        DcsClient.new_builder().with_credentials(credentials).with_endpoint(here.server.url).build()
    )
    return bool(client.list_instances(ListInstancesRequest()).instance_num == 2)


@pytest.fixture
def _environment(here: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Send the SDK's own credentials to the simulated services: their addresses, nothing else."""
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", here.server.url)
    monkeypatch.setenv("HUAWEICLOUD_SDK_IAM_ENDPOINT", here.server.url)
    monkeypatch.setenv("HUAWEICLOUD_SDK_STS_ENDPOINT", here.server.url)
    monkeypatch.setenv("HOME", str(tmp_path))


redirected = pytest.mark.usefixtures("_environment")


def set_all(monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@redirected
@pytest.mark.parametrize("version", ["1", "2", "both"])
def test_metadata(version: Any, monkeypatch: pytest.MonkeyPatch, here: World) -> None:
    """The SDK gets the keys of a server's agency by each version of the metadata service."""
    with world(2, Quirks(metadata=version), SettableClock(wall=here.clock.wall)) as other:
        monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", other.server.url)
        other.cloud.identity.give_server_agency()

        assert works(other, MetadataCredentialProvider.get_basic().get_credentials())
        used = [request.operation for request in other.cloud.requests]
    assert used == ["metadata_token", "metadata_key", "list_instances"]


@redirected
def test_metadata_without_an_agency() -> None:
    """On a server without an agency, the SDK gets the error that it knows."""
    with pytest.raises(ClientRequestException, match="configure Cloud Service Agency"):
        MetadataCredentialProvider.get_basic().get_credentials()


@redirected
def test_pod_identity(here: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK gets the keys of a pod's service account."""
    set_all(monkeypatch, pod_identity(here, tmp_path).environ)

    assert works(here, PodIdentityCredentialProvider.get_basic().get_credentials())


@redirected
def test_wrong_pod(here: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pod with a wrong token gets none."""
    set_all(monkeypatch, pod_identity(here, tmp_path).environ)
    (tmp_path / "pod").write_text("wrong")

    with pytest.raises(SdkException, match="401"):
        PodIdentityCredentialProvider.get_basic().get_credentials()


@redirected
def test_oidc(here: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The SDK gets the keys of an agency for the token of another identity provider."""
    set_all(monkeypatch, SOURCES["auto by OIDC"](here, tmp_path).environ)

    assert works(here, OidcStsCredentialProvider.get_basic().get_credentials())
    assert here.cloud.identity.made["assume_agency_with_oidc"] == 1


@redirected
def test_federation(here: World, tmp_path: Path) -> None:
    """The SDK exchanges an id token for a token, and this for temporary keys."""
    here.cloud.identity.add_id_token("idp", "a-token")
    (tmp_path / "id").write_text("a-token")
    credentials = BasicCredentials().with_idp_id("idp").with_id_token_file(str(tmp_path / "id"))

    assert works(here, credentials)
    assert here.cloud.identity.made["assume_agency"] == 1


PROFILES = [
    "[basic]\nak = AK\nsk = SK\n",
    "[basic]\nak=AK\nsk=SK\nsecurity_token=ST\nproject_id=p\n",
    "[DEFAULT]\nsk = common\n[basic]\nak: AK\n",
    "# a comment\n[global]\nak = G\nsk = G\n[basic]\nAK = upper\nSK = upper\n",
    "[basic]\nak = AK\nsk = a%%b\n",
    "[basic]\nak = AK\nsk = a%b\n",
    "[basic]\nak = AK\n",
    "[global]\nak = AK\nsk = SK\n",
    "ak = AK\nsk = SK\n",
    "[basic]\nak = AK\nak = AK\nsk = SK\n",
    "",
]


@redirected
@pytest.mark.parametrize("text", PROFILES)
def test_profile(text: str, tmp_path: Path) -> None:
    """Our reading of a file of credentials is the SDK's: the same key, or none for both."""
    (tmp_path / ".huaweicloud").mkdir()
    (tmp_path / ".huaweicloud" / "credentials").write_text(text)
    try:
        theirs = ProfileCredentialProvider.get_basic().get_credentials()
    except Exception as error:  # noqa: BLE001 - the SDK raises its parser's errors too
        theirs = error
    try:
        ours = ProfileKey(None, "basic", {"HOME": str(tmp_path)})()
    except CredentialsError:
        assert isinstance(theirs, Exception)
    else:
        assert (ours.access_key, ours.secret_key) == (theirs.ak, theirs.sk)
        assert ours.security_token == (theirs.security_token or "")


PLACES = ("oidc", "environment", "profile", "metadata", "pod_identity")
PRESENT = [set(some) for n in range(6) for some in itertools.combinations(PLACES, n)]


def chain_environment(here: World, folder: Path, present: set[str]) -> dict[str, str]:
    """Let credentials be in these places, and return the environment that names them."""
    environ = {"HOME": str(folder)}
    for name in ("ENVIRONMENT", "PROFILE"):
        here.cloud.access.add_key(name, "SK")
    if "oidc" in present:
        environ |= SOURCES["auto by OIDC"](here, folder).environ
    if "environment" in present:
        environ |= {"HUAWEICLOUD_SDK_AK": "ENVIRONMENT", "HUAWEICLOUD_SDK_SK": "SK"}
    if "profile" in present:
        (folder / ".huaweicloud").mkdir()
        file = folder / ".huaweicloud" / "credentials"
        file.write_text("[basic]\nak = PROFILE\nsk = SK\n")
    if "metadata" in present:
        here.cloud.identity.give_server_agency()
    if "pod_identity" in present:
        environ |= pod_identity(here, folder).environ
    return environ


def place_of(credentials: Any) -> str:
    """Return where the SDK found its credentials."""
    accessors = {
        "OidcStsAccessor": "oidc",
        "MetadataAccessor": "metadata",
        "PodIdentityAccessor": "pod_identity",
    }
    accessor = type(credentials.sts_accessor).__name__
    return accessors.get(accessor) or str(credentials.ak).lower()


@redirected
@pytest.mark.parametrize("present", PRESENT, ids=lambda present: " ".join(sorted(present)))
def test_the_order_of_the_chain(
    here: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    present: set[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of credentials in any of the five places, `auto` takes those that the SDK takes."""
    environ = chain_environment(here, tmp_path, present)
    set_all(monkeypatch, environ)
    try:
        theirs = place_of(CredentialProviderChain.get_basic().get_credentials())
    except ApiValueError:
        theirs = "none"
    section = {"type": "auto", "metadata_endpoint": here.server.url}
    ours = "none"
    with caplog.at_level(logging.INFO), exporter_with(here, Made(section, "", 0, environ)) as made:
        with contextlib.suppress(AuthError):
            ask(made, here)
        for record in caplog.records:
            ours = getattr(record, "fields", {}).get("source", ours)

    assert ours == theirs
