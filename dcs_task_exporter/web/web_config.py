"""The web configuration file, in the exporter-toolkit's format: its keys, and what they may be.

Facts: Prometheus' exporter-toolkit, docs/web-configuration.md. Every value is the text that stands
in the file, quoted or not, as there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from dcs_task_exporter.config.loader import parse, read_text
from dcs_task_exporter.config.yaml_text import read_texts
from dcs_task_exporter.errors import Problem
from dcs_task_exporter.web.tls_names import CLIENT_CHECKS, CURVES, SUITES, SUITES_13, VERSIONS

_ON: Final = ("true", "yes", "on", "y")
_OFF: Final = ("false", "no", "off", "n")
_SWITCHES: Final = {
    form: word in _ON for word in (*_ON, *_OFF) for form in (word, word.capitalize(), word.upper())
}
"""The words of YAML 1.1 for true and false."""

_HASH: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
"""The units of Go's durations; there are two characters for micro."""

_PART: Final = re.compile(rf"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)({'|'.join(_SECONDS)})")
_INTERVAL: Final = re.compile(rf"([+-]?)((?:{_PART.pattern})+)")

_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
"""Values of `client_auth_type` that ask for a certificate, and accept any."""


def _switch(value: object) -> object:
    return _SWITCHES.get(value, value) if isinstance(value, str) else value


def _whole_number(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,15}", value):
        return int(value)
    return value


def _interval(value: object) -> object:
    """Return a duration as Go writes it, in seconds."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[+-]?0+", value):
        return 0.0
    found = _INTERVAL.fullmatch(value)
    if found is None:
        message = "must be a duration with its unit, as in 100ms, 1s or 1m30s"
        raise ValueError(message)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(found[2]))
    return -seconds if found[1] == "-" else seconds


def _bcrypt_hash(value: SecretStr) -> SecretStr:
    if not _HASH.fullmatch(value.get_secret_value()):
        message = "is no bcrypt hash: make one with `htpasswd -nBC 10 name`"
        raise ValueError(message)
    return value


def _header_value(value: str) -> str:
    line = re.sub(r"[\r\n]", " ", value).strip(" \t")
    if not line.isprintable() or not line.isascii():
        message = "must be printable ASCII"
        raise ValueError(message)
    return line


def _client_auth_type(value: str) -> str:
    if value in _UNVERIFIED:
        message = (
            "Python's ssl module cannot ask for a certificate without verifying it: write "
            "RequireAndVerifyClientCert, or NoClientCert"
        )
        raise ValueError(message)
    if value and value not in CLIENT_CHECKS:
        message = f"must be one of {', '.join(CLIENT_CHECKS)}"
        raise ValueError(message)
    return value or "NoClientCert"


def _known_suite(value: str) -> str:
    if value not in SUITES and value not in SUITES_13:
        message = f"must be one of {', '.join((*SUITES_13, *SUITES))}"
        raise ValueError(message)
    return value


def _known_curve(value: str) -> str:
    if value not in CURVES:
        message = f"must be one of {', '.join(CURVES)}"
        raise ValueError(message)
    return value


def _one_curve_or_all(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) not in (0, 1, len(CURVES)):
        message = "Python's ssl module takes one curve: name one, or all, or remove the key"
        raise ValueError(message)
    return value


Switch = Annotated[bool, BeforeValidator(_switch), Field(strict=True)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_keys(cls, data: Any) -> Any:  # noqa: ANN401 - any YAML
        """Take a key without a value as a key that is not there, as the exporter-toolkit does."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


class TlsServerConfig(_Section):
    """The certificate of the server, and the clients that it accepts.

    Of a file and a text the file is used. `client_allowed_sans` is None where any name will do.
    """

    cert: str = ""
    key: SecretStr = SecretStr("")
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: Annotated[str, AfterValidator(_client_auth_type)] = "NoClientCert"
    client_ca_file: str = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_known_suite)], ...] = ()
    prefer_server_cipher_suites: Switch = True
    curve_preferences: Annotated[
        tuple[Annotated[str, AfterValidator(_known_curve)], ...], AfterValidator(_one_curve_or_all)
    ] = ()

    @property
    def has_client_ca(self) -> bool:
        """Whether it names the authorities that verify clients; else they are the system's."""
        return bool(self.client_ca_file or self.client_ca)


class HeadersConfig(_Section):
    """The headers that can be set: those of the exporter-toolkit."""

    csp: HeaderValue = Field(default="", alias="Content-Security-Policy")
    frame_options: Literal["", "deny", "sameorigin"] = Field(default="", alias="X-Frame-Options")
    content_type_options: Literal["", "nosniff"] = Field(default="", alias="X-Content-Type-Options")
    xss_protection: HeaderValue = Field(default="", alias="X-XSS-Protection")
    transport_security: HeaderValue = Field(default="", alias="Strict-Transport-Security")


class HttpServerConfig(_Section):
    """Settings of HTTP; `http2` is accepted for shared files, but answers are always HTTP/1.1."""

    http2: Switch = True
    headers: HeadersConfig = HeadersConfig()


class RateLimitConfig(_Section):
    """How often requests are answered: `burst` at once, and one more each `interval` seconds.

    An interval of 0 or less sets no limit.
    """

    interval: Annotated[float, BeforeValidator(_interval)] = 0.0
    burst: Annotated[int, BeforeValidator(_whole_number), Field(strict=True)] = 0


class WebConfig(_Section):
    """The whole file."""

    tls_server_config: TlsServerConfig = TlsServerConfig()
    http_server_config: HttpServerConfig = HttpServerConfig()
    rate_limit: RateLimitConfig = RateLimitConfig()
    basic_auth_users: Mapping[str, Annotated[SecretStr, AfterValidator(_bcrypt_hash)]] = Field(
        default_factory=dict
    )

    @property
    def tls(self) -> TlsServerConfig | None:
        """The settings of TLS; None where the server speaks none."""
        config = self.tls_server_config
        return config if config.cert_file or config.cert else None

    def headers(self) -> dict[str, str]:
        """Return the headers to set, by name."""
        given = self.http_server_config.headers.model_dump(by_alias=True)
        return {name: value for name, value in given.items() if value}


def load_web_config(path: Path) -> WebConfig:
    """Read and check a web configuration file.

    Raises `ConfigError` with every mistake in it.
    """
    return parse(WebConfig, read_text(path), str(path), None, _cross_check, read=read_texts)


def _cross_check(data: object) -> list[Problem]:
    tls = data.get("tls_server_config") if isinstance(data, Mapping) else None
    if not isinstance(tls, Mapping):
        return []
    given = {key: value for key, value in tls.items() if value not in (None, "")}
    found = [(f"{key}_file", _missing(key, given)) for key in ("cert", "key")] if given else []
    if given.get("client_auth_type", "NoClientCert") == "NoClientCert":
        unused = "checks no client: set client_auth_type, or remove it"
        keys = ("client_ca", "client_ca_file", "client_allowed_sans")
        found += [(key, unused) for key in keys if key in given]
    found += [("max_version", _no_version(given))]
    return [Problem(f"tls_server_config.{key}", message) for key, message in found if message]


def _missing(key: str, given: Mapping[str, object]) -> str:
    return "" if key in given or f"{key}_file" in given else f"is missing: give it, or {key}"


def _no_version(given: Mapping[str, object]) -> str:
    """Return why no version of TLS could be spoken, or nothing."""
    lowest, highest = given.get("min_version", "TLS12"), given.get("max_version", "TLS13")
    order = list(VERSIONS)
    if lowest not in order or highest not in order:
        return ""
    if order.index(str(highest)) < order.index(str(lowest)):
        return f"no client could connect: it is below min_version, {lowest}"
    suites = given.get("cipher_suites", ())
    if isinstance(suites, list) and suites and highest != "TLS13":
        only_13 = all(suite in SUITES_13 for suite in suites)
        return "no client could connect: cipher_suites are of TLS 1.3" if only_13 else ""
    return ""
