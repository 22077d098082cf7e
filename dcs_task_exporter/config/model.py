"""The configuration: its sections and keys as frozen values.

Unknown keys are errors; durations are written as Prometheus writes them; every string may hold
``${ENV_VAR}``, expanded after the YAML is parsed so that a value cannot inject structure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from dcs_task_exporter.config.checks import cross_check, unusable_files
from dcs_task_exporter.config.loader import TAG_OF_LATER, parse, read_text
from dcs_task_exporter.config.regions import doubt_of_region
from dcs_task_exporter.config.types import (
    Count,
    Domain,
    Duration,
    Label,
    LongDuration,
    Moment,
    ProjectId,
    ProxyUrl,
    Rate,
    RefreshInterval,
    Regex,
    Region,
    SearchInterval,
    Secret,
    Segment,
    StatePath,
    Url,
)
from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable

ENVIRONMENT: Final = "environment"
"""The name of the environment as the source of a configuration."""

REGION_NAMES: Final = ("HUAWEICLOUD_SDK_REGION", "HW_REGION_NAME", "OS_REGION_NAME")
"""The variables that name the region where there is no file."""

_ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "region": REGION_NAMES,
    "project_id": ("HUAWEICLOUD_SDK_PROJECT_ID", "HW_PROJECT_ID"),
    "iam_endpoint": ("HUAWEICLOUD_SDK_IAM_ENDPOINT",),
}
"""Names in the environment, of the SDK and of the Terraform provider (dcs-api.md 4.4)."""
_LATER: Final = ("password", "metadata", "profile")


def _not_later(value: object) -> object:
    """Refuse a type of a later version with a message of its own."""
    tag = value.get("type") if isinstance(value, Mapping) else None
    if tag in _LATER:
        raise PydanticCustomError(TAG_OF_LATER, "not yet", {"tag": tag})
    return value


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class AccessKeyCredentials(_Section):
    """An access key pair (AK/SK), temporary when it has a security token."""

    type: Literal["access_key"]
    access_key: Secret | None = None
    access_key_file: Path | None = None
    secret_key: Secret | None = None
    secret_key_file: Path | None = None
    security_token: Secret | None = None
    security_token_file: Path | None = None
    expires_at: Moment = ""


class TokenCredentials(_Section):
    """A fixed token of the identity service, sent as X-Auth-Token."""

    type: Literal["token"]
    token: Secret | None = None
    token_file: Path | None = None
    expires_at: Moment = ""


class EnvironmentCredentials(_Section):
    """HUAWEICLOUD_SDK_AK and _SK, CLOUD_SDK_AK and _SK, or HW_ACCESS_KEY and HW_SECRET_KEY."""

    type: Literal["environment"]


Credentials = Annotated[
    AccessKeyCredentials | TokenCredentials | EnvironmentCredentials,
    Field(discriminator="type"),
    BeforeValidator(_not_later),
]


class TlsConfig(_Section):
    """How the cloud's certificate is checked."""

    ca_file: Path | None = None
    insecure_skip_verify: bool = False


class InstanceConfig(_Section):
    """One DCS instance to watch; `name` is a label value, the id when not given."""

    id: Segment
    name: str = ""


class DiscoveryConfig(_Section):
    """Which instances of the project are found by themselves."""

    enabled: bool = False
    refresh_interval: SearchInterval = 300.0
    include: Regex = ""
    exclude: Regex = ""
    tags: Mapping[str, str] = Field(default_factory=dict)
    statuses: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()


class TaskCenterConfig(_Section):
    """Whether the task center of the project decides which instances need to be read."""

    enabled: bool = False
    full_pass_interval: LongDuration = 600.0


class ProjectConfig(_Section):
    """One project of one region, with its own key and request budget."""

    name: Label
    region: Region = ""
    project_id: ProjectId = ""
    project_name: str = ""
    endpoint: Url | None = None
    iam_endpoint: Url | None = None
    cloud: Domain = ""
    tls: TlsConfig = TlsConfig()
    proxy_url: ProxyUrl | None = None
    credentials: Credentials
    instances: tuple[InstanceConfig, ...] = ()
    discovery: DiscoveryConfig = DiscoveryConfig()
    task_center: TaskCenterConfig = TaskCenterConfig()

    @property
    def dcs_endpoint(self) -> str:
        """The URL of the DCS API, by region unless given."""
        return self.endpoint or f"https://dcs.{self.region}.{self._domain}"

    @property
    def iam_url(self) -> str:
        """The URL of the identity service, by region unless given."""
        return self.iam_endpoint or f"https://iam.{self.region}.{self._domain}"

    @property
    def region_doubt(self) -> str:
        """Why the region is probably misspelt; empty if it is known or another cloud's."""
        if self.endpoint or self.cloud:
            return ""
        doubt = doubt_of_region(self.region)
        return f"{self.region} {doubt}" if doubt else ""

    @property
    def _domain(self) -> str:
        # Europe's regions have their own domain (Terraform provider, getCloudDomain).
        european = self.region.startswith("eu-west-1")
        return self.cloud or ("myhuaweicloud.eu" if european else "myhuaweicloud.com")


class CollectorConfig(_Section):
    """How often, how fast and how far back the API is read; durations in seconds."""

    lookback: LongDuration = 604_800.0
    max_staleness: LongDuration = 3_600.0
    min_refresh_interval: Duration = 15.0
    concurrency: Count = Field(default=8, ge=1, le=128)
    requests_per_second: Rate = Field(default=10.0, gt=0, le=10_000)
    timeout: LongDuration = 5.0
    retries: Count = Field(default=2, ge=0, le=10)
    page_size: Count = Field(default=100, ge=1, le=1000)
    max_pages: Count = Field(default=50, ge=1, le=10_000)
    scrape_timeout_offset: Duration = 0.5
    default_scrape_timeout: LongDuration = 10.0
    first_value_hold: Duration = 120.0
    max_task_names: Count = Field(default=50, ge=10, le=1000)
    start_parameter: Literal["start_time", "begin_time", "both"] = "start_time"
    personal_labels: bool = False
    tag_labels: tuple[Label, ...] = ()
    task_progress: bool = False
    refresh_interval: RefreshInterval = 0.0


class StateConfig(_Section):
    """Where counts are kept between two starts; in memory only without a path."""

    path: StatePath | None = None


class StatusWordsConfig(_Section):
    """More status words than the known ones, by their meaning."""

    success: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    active: tuple[str, ...] = ()

    def table(self) -> StatusTable:
        """Return the status table with these words added."""
        return StatusTable(
            {
                word.upper(): outcome
                for outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ENDED, Outcome.ACTIVE)
                for word in getattr(self, outcome.value)
            }
        )


class Config(_Section):
    """The whole configuration file."""

    projects: Annotated[tuple[ProjectConfig, ...], Field(min_length=1)]
    collector: CollectorConfig = CollectorConfig()
    state: StateConfig = StateConfig()
    status_words: StatusWordsConfig = StatusWordsConfig()


_DEFAULTS: Final[Mapping[str, float]] = {
    **CollectorConfig().model_dump(),
    **TaskCenterConfig().model_dump(),
}
"""The defaults, by key, of the durations that `cross_check` compares."""


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration file, and the files that it names.

    Raises `ConfigError` with every mistake in it.
    """

    def check(data: object) -> list[Problem]:
        return cross_check(data, _DEFAULTS) + unusable_files(data)

    return parse(Config, read_text(path), str(path), environ, check)


def parse_config(text: str, source: str, environ: Mapping[str, str]) -> Config:
    """Check the text of a configuration file; `source` names it in errors.

    Raises `ConfigError` with every mistake in it.
    """
    return parse(Config, text, source, environ, lambda data: cross_check(data, _DEFAULTS))


def config_of_environment(environ: Mapping[str, str]) -> Config:
    """Return the configuration of an exporter without a file: all instances of one project.

    Raises `ConfigError` when the environment names no region, or an impossible one.
    """
    found = {
        key: next((environ[name].strip() for name in names if environ.get(name, "").strip()), "")
        for key, names in _ENVIRONMENT.items()
    }
    region = found["region"]
    endpoint = environ.get(f"HUAWEICLOUD_SDK_REGION_DCS_{region.upper().replace('-', '_')}", "")
    project = {
        "name": region or "default",
        **{key: value for key, value in found.items() if value},
        **({"endpoint": endpoint.split(",")[0].strip()} if endpoint.strip() else {}),
        "credentials": {"type": "environment"},
        "discovery": {"enabled": True},
    }
    if not region:
        names = " or ".join(REGION_NAMES)
        problem = Problem("region", f"is missing: set {names}, or write a configuration file")
        raise ConfigError(ENVIRONMENT, (problem,))
    # JSON is YAML; a ${...} in a value of the environment is plain text.
    text = json.dumps({"projects": [project]}).replace("${", "$${")
    return parse_config(text, ENVIRONMENT, environ)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file, for editors."""
    return Config.model_json_schema()
