"""The section `credentials`: one type for each kind of key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dcs_task_exporter.config.types import Moment, Secret, SecretFile, Section


class AccessKeyCredentials(Section):
    """An access key pair (AK/SK), temporary when it has a security token."""

    type: Literal["access_key"]
    access_key: Secret | None = None
    """The access key (AK)."""
    access_key_file: SecretFile | None = None
    """A file that holds the access key."""
    secret_key: Secret | None = None
    """The secret key (SK)."""
    secret_key_file: SecretFile | None = None
    """A file that holds the secret key."""
    security_token: Secret | None = None
    """The security token of a temporary key."""
    security_token_file: SecretFile | None = None
    """A file that holds the security token."""
    expires_at: Moment = ""
    """When the credentials expire, such as `2026-01-31T12:00:00Z`."""


class TokenCredentials(Section):
    """A fixed token of the identity service, sent as X-Auth-Token."""

    type: Literal["token"]
    token: Secret | None = None
    """A project-scoped token of the identity service."""
    token_file: SecretFile | None = None
    """A file that holds the token."""
    expires_at: Moment = ""
    """When the credentials expire, such as `2026-01-31T12:00:00Z`."""


class EnvironmentCredentials(Section):
    """HUAWEICLOUD_SDK_AK and _SK, CLOUD_SDK_AK and _SK, or HW_ACCESS_KEY and HW_SECRET_KEY."""

    type: Literal["environment"]


Credentials = Annotated[
    AccessKeyCredentials | TokenCredentials | EnvironmentCredentials,
    Field(discriminator="type"),
]
