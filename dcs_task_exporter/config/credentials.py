"""The section `credentials`: one type for each kind of key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dcs_task_exporter.config.types import (
    AgencyLife,
    LocalUrl,
    Moment,
    Password,
    PasswordFile,
    Secret,
    SecretFile,
    Section,
    Segment,
)


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


class PasswordCredentials(Section):
    """A user's name and password, for which the identity service gives tokens."""

    type: Literal["password"]
    user_name: str = Field(min_length=1)
    """The name of the user (IAM user), not that of the account."""
    domain_name: str = Field(min_length=1)
    """The name of the account that the user belongs to."""
    password: Password | None = None
    """The password of the user."""
    password_file: PasswordFile | None = None
    """A file that holds the password."""


class MetadataCredentials(Section):
    """The agency of the server (ECS) that the exporter runs on: the metadata service has keys."""

    type: Literal["metadata"]
    endpoint: LocalUrl = "http://169.254.169.254"
    """The URL of the metadata service; no proxy is used."""


class ProfileCredentials(Section):
    """A key of the official SDK's file of credentials."""

    type: Literal["profile"]
    path: Path | None = None
    """The file; HUAWEICLOUD_SDK_CREDENTIALS_FILE or `~/.huaweicloud/credentials` if not given."""
    profile: str = Field(default="basic", min_length=1)
    """The section of the file."""


class PodIdentityCredentials(Section):
    """The agency of the pod's service account (CCE); its environment says where to ask."""

    type: Literal["pod_identity"]


class AutoCredentials(Section):
    """The first that there is, as the official SDK searches: see below."""

    type: Literal["auto"]
    metadata_endpoint: LocalUrl = "http://169.254.169.254"
    """The URL of the metadata service, which is one of the places; no proxy is used."""


SourceCredentials = Annotated[
    AccessKeyCredentials
    | TokenCredentials
    | EnvironmentCredentials
    | PasswordCredentials
    | MetadataCredentials
    | ProfileCredentials
    | PodIdentityCredentials
    | AutoCredentials,
    Field(discriminator="type"),
]


class AssumeAgencyCredentials(Section):
    """An agency of another account: temporary keys for it are made with `source`."""

    type: Literal["assume_agency"]
    agency_name: str = Field(min_length=1)
    """The name of the agency in the other account."""
    domain_name: str = ""
    """The name of the other account; this or `domain_id`."""
    domain_id: Segment | None = None
    """The id of the other account."""
    duration: AgencyLife = 3_600.0
    """How long the temporary keys live, from `15m` to `24h`; they are renewed before."""
    source: SourceCredentials
    """The credentials of this account: a section of any other type."""


Credentials = Annotated[
    AccessKeyCredentials
    | TokenCredentials
    | EnvironmentCredentials
    | PasswordCredentials
    | MetadataCredentials
    | ProfileCredentials
    | PodIdentityCredentials
    | AssumeAgencyCredentials
    | AutoCredentials,
    Field(discriminator="type"),
]
