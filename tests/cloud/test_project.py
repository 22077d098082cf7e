"""The id of a project: configured, or looked up by its name, once."""

from __future__ import annotations

from typing import cast

import pytest

from dcs_task_exporter.cloud.calls import Call, Reply
from dcs_task_exporter.cloud.parsing import parse_project_ids
from dcs_task_exporter.cloud.project import LOOK_UP_PAUSE, ProjectId
from dcs_task_exporter.cloud.request import ApiCaller
from dcs_task_exporter.errors import ApiError, NotFoundError, ServerError


class Identity:
    """A caller that answers with ids, or with an error."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids
        self.error: ApiError | None = None
        self.asked: list[Call[tuple[str, ...]]] = []
        self.now = 100.0

    def get(self, call: Call[tuple[str, ...]]) -> Reply[tuple[str, ...]]:
        self.asked.append(call)
        if self.error is not None:
            raise self.error
        return Reply(self.ids, None)

    def project(self, configured: str = "") -> ProjectId:
        """Return the id of the project `cn-north-4`."""
        caller = cast("ApiCaller", self)
        return ProjectId(caller, "https://iam", "cn-north-4", configured, lambda: self.now)


def test_a_configured_id() -> None:
    """A configured id is not looked up."""
    identity = Identity()

    assert identity.project("p1").get(5.0) == "p1"
    assert identity.asked == []


def test_a_look_up() -> None:
    """The id is looked up by the project's name, once."""
    identity = Identity("p1")
    project = identity.project()

    assert (project.get(5.0), project.get(6.0)) == ("p1", "p1")
    assert identity.asked == [
        Call(
            "list_projects",
            "https://iam/v3/projects",
            5.0,
            parse_project_ids,
            {"name": "cn-north-4"},
        )
    ]


@pytest.mark.parametrize(
    ("ids", "told"), [((), "no project is named"), (("p1", "p2"), "2 projects are named")]
)
def test_no_single_project(ids: tuple[str, ...], told: str) -> None:
    """A name that no project has, or several have, is an error that says what to set."""
    with pytest.raises(NotFoundError) as raised:
        Identity(*ids).project().get(5.0)

    assert raised.value.message == f"{told} cn-north-4: set project_id in the configuration"


def test_a_failure_stands_for_ten_seconds() -> None:
    """A failed look-up stands for all that ask within 10 seconds; then it is tried again."""
    identity = Identity("p1")
    project, identity.error = identity.project(), ServerError("no", status=500)
    for now in (100.0, 109.9):
        identity.now = now
        with pytest.raises(ServerError) as raised:
            project.get(5.0)
        assert raised.value is identity.error
    assert len(identity.asked) == 1
    identity.error, identity.now = None, 110.0

    assert LOOK_UP_PAUSE == 10
    assert project.get(200.0) == "p1"
