"""The sections and values of a configuration file: each type has the message for a wrong value."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    WithJsonSchema,
)

from dcs_task_exporter.config.durations import DURATION_PATTERN, parse_duration
from dcs_task_exporter.config.secrets import read_password, read_secret
from dcs_task_exporter.errors import CredentialsError
from dcs_task_exporter.tasks.models import MAX_LABEL_LENGTH
from dcs_task_exporter.text.times import parse_time

SHORTEST_LIFE: Final = 900
LONGEST_LIFE: Final = 86_400
"""Seconds that temporary keys can live, as the identity service allows."""

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Section(BaseModel):
    """A section: immutable, and without unknown keys. A key's docstring is its description."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def _needs(is_right: Callable[[Any], object], message: str) -> AfterValidator:
    """Return a validator that refuses a value with a message; no message shows the value."""

    def check(value: object) -> object:
        if not is_right(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _matches(pattern: str, message: str) -> AfterValidator:
    return _needs(re.compile(pattern).fullmatch, message)


def _is_http_url(value: str) -> bool:
    """Whether a text is a URL with a host and, if it has a port, one that is a number."""
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and parts.scheme in ("http", "https") and not re.search(r"\s", value)


def _has_only_a_path(value: str) -> bool:
    parts = urlsplit(value)
    return not (parts.username or parts.password or parts.query or parts.fragment)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        message = "a number is expected"
        raise ValueError(message)  # noqa: TRY004 - pydantic collects it
    return value


def _regex(value: str) -> str:
    message = "is no regular expression"
    try:
        re.compile(value)
    except re.error as error:
        # The library's own words quote parts of the value.
        if error.pos is not None:
            message += f": see character {error.pos + 1} of it"
    except (OverflowError, RecursionError):
        message += " that can be used: it repeats too often, or is nested too deeply"
    else:
        return value
    raise ValueError(message)


def _readable(read: Callable[[Path], str]) -> AfterValidator:
    """Return a validator that refuses a file from which no secret can be read."""

    def check(path: Path) -> Path:
        try:
            read(path)
        except CredentialsError as error:
            raise ValueError(str(error)) from None
        return path

    return AfterValidator(check)


def _is_local(host: str | None) -> bool:
    """Whether a host is this machine, or a service that only this machine reaches."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return host in _LOOPBACK
    return address.is_link_local or address.is_loopback


def _ca_file(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        message = "holds no certificate in the PEM format"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except ValueError:
        message = "has a name that no file can have"
    else:
        return path
    raise ValueError(message)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "integer"], "pattern": f"^(0|{DURATION_PATTERN})$"}),
]
LongDuration = Annotated[Duration, _needs(lambda seconds: seconds > 0, "must be longer than 0s")]
SearchInterval = Annotated[Duration, _needs(lambda seconds: seconds >= 1, "must be at least 1s")]
RefreshInterval = Annotated[
    Duration, _needs(lambda seconds: not 0 < seconds < 1, "must be 0s, or at least 1s")
]
Count = Annotated[int, BeforeValidator(_no_boolean)]
Rate = Annotated[float, BeforeValidator(_no_boolean)]
Label = Annotated[
    str,
    _needs(
        lambda text: 0 < len(text) <= MAX_LABEL_LENGTH and text == text.strip(),
        "must have 1 to 128 characters, and no blanks around them",
    ),
]
Segment = Annotated[
    str,
    _matches(
        r"(?!\.\.?$)[A-Za-z0-9._~-]{1,128}",
        "letters, digits, '-', '_' and '.' only, as the console shows the id",
    ),
]
Region = Annotated[
    str, _matches(r"[A-Za-z0-9_-]*", "letters, digits, '-' and '_' only, such as cn-north-4")
]
ProjectId = Annotated[
    str, _matches(r"[A-Za-z0-9_-]*", "letters, digits, '-' and '_' only, as the console shows it")
]
Domain = Annotated[
    str, _matches(r"[A-Za-z0-9.-]*", "a domain only, such as myhuaweicloud.eu, without https://")
]
_PlainUrl = Annotated[
    str,
    _needs(_is_http_url, "is no URL: write it like https://dcs.cn-north-4.myhuaweicloud.com"),
    _needs(
        _has_only_a_path, "a URL of scheme, host, port and path only: no user, password, ? or #"
    ),
    AfterValidator(lambda url: url.rstrip("/")),
]
LocalUrl = Annotated[
    _PlainUrl,
    _needs(
        lambda url: urlsplit(url).scheme == "https" or _is_local(urlsplit(url).hostname),
        "http would carry keys in the clear: use https (http: loopback and link-local only)",
    ),
]
Url = Annotated[
    _PlainUrl,
    _needs(
        lambda url: urlsplit(url).scheme == "https" or urlsplit(url).hostname in _LOOPBACK,
        "http would send signed requests in the clear: use https (http: loopback only)",
    ),
]
ProxyUrl = Annotated[
    SecretStr,
    _needs(
        lambda secret: _is_http_url(secret.get_secret_value()),
        "is no HTTP proxy: write it like http://proxy.example.com:3128",
    ),
]
Secret = Annotated[
    SecretStr,
    _needs(SecretStr.get_secret_value, "must not be empty"),
    _needs(
        lambda secret: re.fullmatch(r"[!-~]+", secret.get_secret_value()),
        "must be printable ASCII without blanks: was it cut or wrapped?",
    ),
]
SecretFile = Annotated[Path, _readable(read_secret)]
Password = Annotated[SecretStr, _needs(SecretStr.get_secret_value, "must not be empty")]
PasswordFile = Annotated[Path, _readable(read_password)]
CaFile = Annotated[Path, AfterValidator(_ca_file)]
Moment = Annotated[
    str,
    _needs(
        lambda text: not text or parse_time(text) is not None,
        "is no time: write it like 2026-01-31T12:00:00Z",
    ),
]
AgencyLife = Annotated[
    Duration,
    _needs(lambda seconds: SHORTEST_LIFE <= seconds <= LONGEST_LIFE, "must be from 15m to 24h"),
]
StatePath = Annotated[
    Path,
    _needs(
        lambda path: path.name and not path.is_dir(),
        "is a folder: name a file in it, such as state.db",
    ),
]
Regex = Annotated[str, AfterValidator(_regex)]
