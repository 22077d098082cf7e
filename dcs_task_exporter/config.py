"""The configuration: frozen values, and a loader that reports every mistake at once.

Unknown keys are errors; durations are written as Prometheus writes them; every string may hold
``${ENV_VAR}``, expanded after the YAML is parsed so that a value cannot inject structure. No
message ever shows a value: it could be a secret that slipped into the wrong key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.models import MAX_LABEL_LENGTH, Outcome, StatusTable

_DURATION: Final = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?"
)
_UNITS: Final = (31_536_000.0, 604_800.0, 86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


Item = TypeVar("Item")


def parse_duration(value: object) -> float:
    """Return the seconds of a duration as Prometheus writes it: ``30s``, ``1h30m``, ``500ms``.

    Raises `ValueError` with what to write instead.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return 0.0
        message = f"a duration needs a unit: write {value:g}s for seconds, or 5m, 7d"
        raise ValueError(message)
    text = value.strip() if isinstance(value, str) else ""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        message = "not a duration: write it like 500ms, 30s, 5m, 1h30m or 7d"
        raise ValueError(message)
    return sum(int(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = "not a URL: write it like https://dcs.cn-north-4.myhuaweicloud.com"
        raise ValueError(message)
    if parts.username or parts.password or parts.query or parts.fragment:
        message = "a URL of scheme, host, port and path only: no user, password, ? or #"
        raise ValueError(message)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        message = "http would send what is signed in the clear: use https (http: loopback only)"
        raise ValueError(message)
    return value.rstrip("/")


def _label(value: str) -> str:
    if not value.strip() or len(value) > MAX_LABEL_LENGTH:
        message = "1 to 128 characters, not only blanks"
        raise ValueError(message)
    return value


def _segment(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", value) or value in (".", ".."):
        message = "letters, digits, '-', '_' and '.' only, as the console shows the id"
        raise ValueError(message)
    return value


def _not_empty(value: tuple[Item, ...]) -> tuple[Item, ...]:
    if not value:
        message = "is empty: it needs at least one"
        raise ValueError(message)
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Url = Annotated[str, AfterValidator(_url)]
Label = Annotated[str, AfterValidator(_label)]
Segment = Annotated[str, AfterValidator(_segment)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=False)


def _require_one(section: _Section, *names: str) -> None:
    """Demand each secret either in the file or in a file of its own."""
    for name in names:
        given = [key for key in (name, f"{name}_file") if getattr(section, key) is not None]
        if len(given) != 1:
            message = f"needs exactly one of {name} and {name}_file"
            raise ValueError(message)


class AccessKeyCredentials(_Section):
    """An access key pair (AK/SK), temporary when it has a security token."""

    type: Literal["access_key"]
    access_key: SecretStr | None = Field(default=None, min_length=1)
    access_key_file: Path | None = None
    secret_key: SecretStr | None = Field(default=None, min_length=1)
    secret_key_file: Path | None = None
    security_token: SecretStr | None = None
    security_token_file: Path | None = None
    expires_at: str = ""

    @model_validator(mode="after")
    def _complete(self) -> AccessKeyCredentials:
        _require_one(self, "access_key", "secret_key")
        if self.security_token is not None and self.security_token_file is not None:
            message = "needs at most one of security_token and security_token_file"
            raise ValueError(message)
        return self


class TokenCredentials(_Section):
    """A fixed token of the identity service, sent as X-Auth-Token."""

    type: Literal["token"]
    token: SecretStr | None = Field(default=None, min_length=1)
    token_file: Path | None = None
    expires_at: str = ""

    @model_validator(mode="after")
    def _complete(self) -> TokenCredentials:
        _require_one(self, "token")
        return self


class EnvironmentCredentials(_Section):
    """HUAWEICLOUD_SDK_AK and _SK, or CLOUD_SDK_AK and _SK, of the environment."""

    type: Literal["environment"]


Credentials = Annotated[
    AccessKeyCredentials | TokenCredentials | EnvironmentCredentials, Field(discriminator="type")
]


class TlsConfig(_Section):
    """How the cloud's certificate is checked."""

    ca_file: Path | None = None
    insecure_skip_verify: bool = False


class InstanceConfig(_Section):
    """One DCS instance to watch; `name` is a label value, the id when not given."""

    id: Segment
    name: str = ""


class ProjectConfig(_Section):
    """One project of one region, with its own key and request budget."""

    name: Label
    region: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    project_id: str = Field(default="", pattern=r"^[A-Za-z0-9_-]*$")
    project_name: str = ""
    endpoint: Url | None = None
    iam_endpoint: Url | None = None
    cloud: str = Field(default="", pattern=r"^[A-Za-z0-9.-]*$")
    tls: TlsConfig = TlsConfig()
    proxy_url: SecretStr | None = None
    credentials: Credentials
    instances: Annotated[tuple[InstanceConfig, ...], AfterValidator(_not_empty)]

    @model_validator(mode="after")
    def _cross_check(self) -> ProjectConfig:
        if not self.region and self.endpoint is None:
            message = "needs a region, or an endpoint"
            raise ValueError(message)
        if not (self.project_id or self.region or self.project_name):
            message = "needs a project_id, or a region or project_name to look it up by"
            raise ValueError(message)
        repeated = _first_repeated(instance.id for instance in self.instances)
        if repeated:
            message = f"the instance {repeated} is listed twice"
            raise ValueError(message)
        return self

    @property
    def dcs_endpoint(self) -> str:
        """The URL of the DCS API, by region unless given."""
        return self.endpoint or f"https://dcs.{self.region}.{self._domain}"

    @property
    def iam_url(self) -> str:
        """The URL of the identity service, by region unless given."""
        return self.iam_endpoint or f"https://iam.{self.region}.{self._domain}"

    @property
    def _domain(self) -> str:
        # Europe's regions have their own domain (Terraform provider, getCloudDomain).
        european = self.region.startswith("eu-west-1")
        return self.cloud or ("myhuaweicloud.eu" if european else "myhuaweicloud.com")


class CollectorConfig(_Section):
    """How often, how fast and how far back the API is read; durations in seconds."""

    lookback: Duration = 604_800.0
    max_staleness: Duration = 3_600.0
    min_refresh_interval: Duration = 15.0
    concurrency: int = Field(default=8, ge=1, le=128)
    requests_per_second: float = Field(default=10.0, gt=0, le=10_000)
    timeout: Duration = 5.0
    retries: int = Field(default=2, ge=0, le=10)
    page_size: int = Field(default=100, ge=1, le=1000)
    max_pages: int = Field(default=50, ge=1, le=10_000)
    scrape_timeout_offset: Duration = 0.5
    default_scrape_timeout: Duration = 10.0
    max_task_names: int = Field(default=50, ge=10, le=1000)
    start_parameter: Literal["start_time", "begin_time", "both"] = "start_time"
    personal_labels: bool = False

    @model_validator(mode="after")
    def _positive(self) -> CollectorConfig:
        for name in ("lookback", "max_staleness", "timeout", "default_scrape_timeout"):
            if getattr(self, name) <= 0:
                message = f"{name} must be longer than 0s"
                raise ValueError(message)
        if self.max_staleness < self.min_refresh_interval:
            message = "max_staleness must be at least min_refresh_interval"
            raise ValueError(message)
        return self


class StatusWordsConfig(_Section):
    """More status words than those that are known, by what they mean."""

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

    projects: Annotated[tuple[ProjectConfig, ...], AfterValidator(_not_empty)]
    collector: CollectorConfig = CollectorConfig()
    status_words: StatusWordsConfig = StatusWordsConfig()

    @model_validator(mode="after")
    def _unique(self) -> Config:
        for what, values in (
            ("project name", [project.name for project in self.projects]),
            ("instance", [item.id for project in self.projects for item in project.instances]),
        ):
            repeated = _first_repeated(values)
            if repeated:
                message = f"the {what} {repeated} is there twice"
                raise ValueError(message)
        return self

    def secret_files(self) -> Iterator[tuple[str, Path]]:
        """Yield each file that a secret is read from, with the path of its key."""
        for index, project in enumerate(self.projects):
            for name, value in project.credentials:
                if name.endswith("_file") and value is not None:
                    yield f"projects[{index}].credentials.{name}", value


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration file.

    Raises `ConfigError` with every mistake in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problem = Problem("", f"cannot be read: {error.strerror}")
        raise ConfigError(str(path), (problem,)) from error
    except UnicodeDecodeError:
        raise ConfigError(str(path), (Problem("", "is not UTF-8 text"),)) from None
    return parse_config(text, str(path), environ)


def parse_config(text: str, source: str, environ: Mapping[str, str]) -> Config:
    """Check the text of a configuration file; `source` names it in errors.

    Raises `ConfigError` with every mistake in it.
    """
    data = _parse_yaml(text, source)
    problems: list[Problem] = []
    expanded = _expand(data, "", environ, problems)
    unset = {problem.path for problem in problems}
    try:
        config = Config.model_validate(expanded)
    except ValidationError as error:
        found = _problems_of(error)
        problems += [problem for problem in found if problem.path not in unset]
        raise ConfigError(source, tuple(problems)) from None
    if problems:
        raise ConfigError(source, tuple(problems))
    return config


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file, for editors."""
    return Config.model_json_schema()


class _Loader(yaml.SafeLoader):
    """YAML whose mappings do not repeat a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the base's signature
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                message = f"the key {key.value} is there twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> object:
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = Problem(where, f"not YAML: {error.problem}")
        raise ConfigError(source, (problem,)) from None
    except yaml.YAMLError:
        raise ConfigError(source, (Problem("", "not YAML: a character is not allowed"),)) from None
    if not isinstance(data, dict):
        problem = Problem("", "is empty, or no mapping: it needs the key projects")
        raise ConfigError(source, (problem,))
    return data


def _expand(value: object, path: str, environ: Mapping[str, str], found: list[Problem]) -> object:
    """Return `value` with its variables replaced; note those that are not set."""
    if isinstance(value, dict):
        return {
            key: _expand(item, f"{path}.{key}".lstrip("."), environ, found)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_expand(item, f"{path}[{at}]", environ, found) for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return "$"
        if name in environ:
            return environ[name]
        if default is None:
            found.append(Problem(path, f"the environment variable {name} is not set"))
        return default or ""

    return _VARIABLE.sub(replacement, value)


_MODELS: Final[Mapping[str, type[_Section]]] = {
    "": Config,
    "projects": ProjectConfig,
    "projects.instances": InstanceConfig,
    "projects.tls": TlsConfig,
    "projects.credentials.access_key": AccessKeyCredentials,
    "projects.credentials.token": TokenCredentials,
    "projects.credentials.environment": EnvironmentCredentials,
    "collector": CollectorConfig,
    "status_words": StatusWordsConfig,
}
_LATER: Final = ("password", "metadata", "profile")


def _problems_of(error: ValidationError) -> list[Problem]:
    return [
        Problem(_path(item["loc"]), _message(item))
        for item in error.errors(include_url=False, include_input=False)
    ]


def _path(loc: tuple[int | str, ...]) -> str:
    """Write a location as the user would: without the names of the union's members."""
    text = ""
    for at, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (at and loc[at - 1] == "credentials" and part in _MEMBERS):
            text += f".{part}"
    return text.lstrip(".")


_MEMBERS: Final = ("access_key", "token", "environment")


def _message(item: ErrorDetails) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(item["loc"])
    if kind == "missing":
        return "is missing"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = context.get("tag", "")
        later = f"{tag} is not supported yet; " if tag in _LATER else ""
        return f"{later}type must be one of {', '.join(_MEMBERS)}"
    text = str(item["msg"])
    return text.removeprefix("Value error, ")


def _unknown_key(loc: tuple[int | str, ...]) -> str:
    where = ".".join(str(part) for part in loc[:-1] if isinstance(part, str))
    known = list(_MODELS[where].model_fields) if where in _MODELS else []
    near = difflib.get_close_matches(str(loc[-1]), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _first_repeated(values: Iterable[str]) -> str:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return str(value)
        seen.add(value)
    return ""
