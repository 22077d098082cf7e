"""The policies of docs/permissions.md allow what the exporter asks for, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from dcs_task_exporter.config.model import parse_config
from dcs_task_exporter.wiring import operations_of
from tests.support.real_parts import ROOT

PAGE = (ROOT / "docs" / "permissions.md").read_text()
PATHS = {
    "list_tasks": "/instances/{instance_id}/tasks",
    "list_instances": "/instances",
    "task_progress": "/instances/{instance_id}/tasks/{task_id}/progress",
    "list_center_tasks": "/tasks",
}
CREDENTIALS = (
    "{type: password, user_name: u, domain_name: d, password: p}",
    "{type: metadata}",
    "{type: pod_identity}",
    "{type: assume_agency, agency_name: a, domain_name: d, source: {type: environment}}",
    "{type: auto}",
)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the operation, the request and the permission of each row of the table."""
    table = PAGE.partition("| operation |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        operations, request, permission, _ = line.strip("| ").split(" | ")
        for operation in re.findall(r"`(\w+)`", operations):
            yield operation, request, permission


ROWS = {operation: (request, permission) for operation, request, permission in rows()}
ACTIONS = {name: re.findall(r"`((?:dcs|iam):[\w:]+)`", row[1]) for name, row in ROWS.items()}


def policies(heading: str) -> list[Any]:
    """Return the policies of a section of the page, without those of its subsections."""
    section = PAGE.partition(f"\n{heading}\n")[2]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]


def actions(policy: Any) -> set[str]:
    """Return the actions that a policy allows."""
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_every_operation_has_its_permission() -> None:
    """The table has each operation that some configuration uses, and no other."""
    used = set()
    for credentials in CREDENTIALS:
        text = (
            f"projects: [{{name: p, region: cn-north-4, credentials: {credentials},"
            " discovery: {enabled: true}, task_center: {enabled: true}}]\n"
            "collector: {task_progress: true}"
        )
        used |= set(operations_of(parse_config(text, "test", {}))["p"])

    assert set(ROWS) == used


@pytest.mark.parametrize("operation", PATHS)
def test_every_request_to_dcs_reads(operation: str) -> None:
    """Each request to DCS is a GET of one project, with the path that the table has."""
    assert ROWS[operation][0] == f"`GET /v2/{{project_id}}{PATHS[operation]}`"


@pytest.mark.parametrize(
    ("heading", "version"), [("## Identity policy", "5.0"), ("## Custom policy", "1.1")]
)
def test_the_first_policy_reads_and_finds_instances(heading: str, version: str) -> None:
    """The first policy of each form allows reading tasks and listing instances, and no more."""
    first = policies(heading)[0]

    needed = {*ACTIONS["list_tasks"], *ACTIONS["list_instances"], *ACTIONS["task_progress"]}
    assert actions(first) == needed
    assert first["Version"] == version


def test_the_policy_of_the_task_center_is_apart() -> None:
    """The second identity policy allows the task center, and no more."""
    _, second = policies("## Identity policy")

    assert actions(second) == set(ACTIONS["list_center_tasks"])


def test_the_policy_of_the_identity_service_is_apart() -> None:
    """The second custom policy allows the look-up of the project, and no more."""
    _, second = policies("## Custom policy")

    assert actions(second) == set(ACTIONS["list_projects"])


def test_the_policy_of_an_enterprise_project() -> None:
    """The policy of one enterprise project is the first one, with a condition."""
    (policy,) = policies("### One enterprise project")
    (statement,) = policy["Statement"]

    assert list(statement.pop("Condition")["StringEquals"]) == ["g:EnterpriseProjectId"]
    assert policy == policies("## Identity policy")[0]


def test_policies_only_allow() -> None:
    """Every policy of the page allows, and none has a wildcard."""
    found = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    statements = [statement for policy in found for statement in policy["Statement"]]

    assert {statement["Effect"] for statement in statements} == {"Allow"}
    assert not [action for policy in found for action in actions(policy) if "*" in action]


def test_every_permission_of_the_code_is_on_the_page() -> None:
    """Each permission that a message or a document names is one that the page explains."""
    sources = [*(ROOT / "dcs_task_exporter").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    named = {
        action
        for path in sources
        for action in re.findall(r"\b(?:dcs|iam):\w+:\w+", path.read_text())
    }

    assert named <= set(re.findall(r"\b(?:dcs|iam):\w+:\w+", PAGE))


def test_sources_are_listed() -> None:
    """Each number in brackets has its source, and each source its number."""
    body, _, sources = PAGE.partition("\n## Sources\n")

    assert set(re.findall(r"\[(\d+)\](?!\()", body)) == set(
        re.findall(r"^(\d+)\. ", sources, re.MULTILINE)
    )
