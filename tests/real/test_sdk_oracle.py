"""The official SDK works against the simulated cloud unchanged: that proves it faithful."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own, at import
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkdcs.v2 import (
        DcsClient,
        ListBackgroundTaskRequest,
        ListCenterTaskRequest,
        ListInstancesRequest,
    )

from tests.support.clouds import ACCESS_KEY, PROJECT, SECRET_KEY, World, world_of_today

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
