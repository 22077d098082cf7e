"""The configuration: its sections and keys as frozen values.

The docstring below a key is its description in the JSON Schema and in docs/configuration.md.

Unknown keys are errors; durations are written as Prometheus writes them; every string may hold
``${ENV_VAR}``, expanded after the YAML is parsed so that a value cannot inject structure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from dcs_task_exporter.config.checks import cross_check
from dcs_task_exporter.config.credentials import Credentials
from dcs_task_exporter.config.loader import parse, read_text
from dcs_task_exporter.config.regions import doubt_of_region
from dcs_task_exporter.config.types import (
    CaFile,
    Count,
    Domain,
    Duration,
    Label,
    LongDuration,
    ProjectId,
    ProxyUrl,
    Rate,
    RefreshInterval,
    Regex,
    Region,
    SearchInterval,
    Section,
    Segment,
    StatePath,
    Url,
)
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable


class TlsConfig(Section):
    """How to check the cloud's certificate."""

    ca_file: CaFile | None = None
    """Certificates to trust; those of the Python package `certifi` if not given."""
    insecure_skip_verify: bool = False
    """Trust any certificate; for tests only."""


class InstanceConfig(Section):
    """One DCS instance to watch."""

    id: Segment
    """The instance's id, as the console shows it."""
    name: str = ""
    """The label `dcs_instance_name`; the id if empty."""


class DiscoveryConfig(Section):
    """How to find the instances of the project automatically."""

    enabled: bool = False
    """Find the instances of the project automatically."""
    refresh_interval: SearchInterval = 300.0
    """How often to list the instances; at least `1s`."""
    include: Regex = ""
    """Watch only instances whose name matches this regular expression."""
    exclude: Regex = ""
    """Do not watch instances whose name matches this regular expression."""
    tags: Mapping[str, str] = Field(default_factory=dict)
    """Watch only instances with all these tags and values."""
    statuses: tuple[str, ...] = ()
    """Watch only instances with one of these statuses, such as `RUNNING`."""
    engines: tuple[str, ...] = ()
    """Watch only instances with one of these engines, such as `Redis`."""


class TaskCenterConfig(Section):
    """Whether the task center decides which instances of the project need to be read."""

    enabled: bool = False
    """Ask the task center; needs the permission `dcs:task:list`."""
    full_pass_interval: LongDuration = 600.0
    """Read each instance at least this often; less than `collector.max_staleness`."""


class ProjectConfig(Section):
    """One project of one region, with its own key and rate limit."""

    name: Label
    """The label `project`; unique."""
    region: Region = ""
    """Such as `cn-north-4`; optional if `endpoint` and `project_id` are given."""
    project_id: ProjectId = ""
    """The project's id; if empty, looked up through the identity service by region."""
    project_name: str = ""
    """The name for that look-up, for sub-projects; the region if empty."""
    endpoint: Url | None = None
    """The URL of the DCS API, for another cloud or a VPC endpoint; by region if not given."""
    iam_endpoint: Url | None = None
    """The URL of the identity service; by region if not given."""
    cloud: Domain = ""
    """The domain of the region's endpoints; by region if empty (`myhuaweicloud.com`)."""
    tls: TlsConfig = TlsConfig()
    proxy_url: ProxyUrl | None = None
    """An HTTP proxy for this project; the environment's if not given."""
    credentials: Credentials
    """Where the key or token is; one of the types below."""
    instances: tuple[InstanceConfig, ...] = ()
    """Instances to watch; at least one unless `discovery` is enabled."""
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
    def sts_url(self) -> str:
        """The URL of the service that makes temporary keys (STS), by region."""
        return f"https://sts.{self.region}.{self._domain}"

    @property
    def region_doubt(self) -> str:
        """Why the region is probably misspelt; empty if it is known or another cloud's."""
        return "" if self.endpoint or self.cloud else doubt_of_region(self.region)

    @property
    def _domain(self) -> str:
        # Europe's regions have their own domain (Terraform provider, getCloudDomain).
        european = self.region.startswith("eu-west-1")
        return self.cloud or ("myhuaweicloud.eu" if european else "myhuaweicloud.com")


class CollectorConfig(Section):
    """How often, how fast and how far back the API is read; durations in seconds."""

    lookback: LongDuration = 604_800.0
    """The look-back window: how far back tasks are listed."""
    max_staleness: LongDuration = 3_600.0
    """Data older than this is not shown."""
    min_refresh_interval: Duration = 15.0
    """An instance that was read more recently is not read again."""
    concurrency: Count = Field(default=8, ge=1, le=128)
    """Requests of a project that may be in flight at once."""
    requests_per_second: Rate = Field(default=10.0, gt=0, le=10_000)
    """The rate limit of each project."""
    timeout: LongDuration = 5.0
    """The time limit for one complete answer of the cloud."""
    retries: Count = Field(default=2, ge=0, le=10)
    """How often a failed request is sent again, if that can help."""
    page_size: Count = Field(default=100, ge=1, le=1000)
    """Tasks per page of a listing."""
    max_pages: Count = Field(default=50, ge=1, le=10_000)
    """Pages after which a listing is cut."""
    scrape_timeout_offset: Duration = 0.5
    """Answer a scrape this long before Prometheus' scrape timeout."""
    default_scrape_timeout: LongDuration = 10.0
    """The scrape timeout of scrapers that do not send one."""
    first_value_hold: Duration = 120.0
    """How long a counter shows its first value; at least the longest scrape interval."""
    max_task_names: Count = Field(default=50, ge=10, le=1000)
    """Task names of an instance; the rest is counted as `other`."""
    start_parameter: Literal["start_time", "begin_time", "both"] = "start_time"
    """The query parameter to try first for the start of the look-back window."""
    personal_labels: bool = False
    """Show users, accounts and addresses; otherwise they are not kept at all."""
    tag_labels: tuple[Label, ...] = ()
    """Tags of instances that become labels `tag_...` of `dcs_instance_info`."""
    task_progress: bool = False
    """Ask for the progress of active tasks: one more request for each at each refresh."""
    refresh_interval: RefreshInterval = 0.0
    """Refresh in the background this often, at least `1s`; `0s`: refresh on scrapes."""

    @property
    def threads(self) -> int:
        """The threads that read a project: no more than requests are sent within a `timeout`.

        More would only wait for the rate limit, and make the search for instances wait behind them.
        """
        return min(self.concurrency, math.ceil(self.requests_per_second * self.timeout))


class StateConfig(Section):
    """Where counts are kept between two starts; in memory only without a path."""

    path: StatePath | None = None
    """The file that keeps the counts; in memory only if not given."""


class StatusWordsConfig(Section):
    """More status words than the known ones, by their meaning."""

    success: tuple[str, ...] = ()
    """Statuses that mean success, besides SUCCESS."""
    failure: tuple[str, ...] = ()
    """Statuses that mean failure, besides FAILED, FAIL and ERROR."""
    ended: tuple[str, ...] = ()
    """Statuses of tasks that ended otherwise, besides CANCELLED, CANCELED and DELETED."""
    active: tuple[str, ...] = ()
    """Statuses of active tasks, besides CREATED, WAITING, EXECUTING, RUNNING and INIT."""

    def table(self) -> StatusTable:
        """Return the status table with these words added."""
        return StatusTable(
            {word.upper(): Outcome(meaning) for meaning, words in self for word in words}
        )


class Config(Section):
    """The whole configuration file."""

    projects: Annotated[tuple[ProjectConfig, ...], Field(min_length=1)]
    """The projects to watch; at least one."""
    collector: CollectorConfig = CollectorConfig()
    state: StateConfig = StateConfig()
    status_words: StatusWordsConfig = StatusWordsConfig()


_DEFAULTS: Final[Mapping[str, float]] = {
    **CollectorConfig().model_dump(),
    **TaskCenterConfig().model_dump(),
}
"""The defaults, by key, of the durations that `cross_check` compares."""


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration file.

    Raises `ConfigError` with every mistake in it.
    """
    return parse_config(read_text(path), str(path), environ)


def parse_config(text: str, source: str, environ: Mapping[str, str]) -> Config:
    """Check the text of a configuration file, and the files that it names.

    `source` names the text in errors. Raises `ConfigError` with every mistake in it.
    """
    return parse(Config, text, source, environ, lambda data: cross_check(data, _DEFAULTS))
