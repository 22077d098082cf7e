"""The web configuration file, in the exporter-toolkit's format: TLS, basic auth, headers.

Facts: Prometheus' exporter-toolkit, docs/web-configuration.md. Paths in the file are relative to
its folder. The file, its certificate and its key are read again when they change. A change that
cannot be used is logged, and the last good version stays.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from dcs_task_exporter.config.loader import parse, read_text
from dcs_task_exporter.errors import ConfigError, Problem

VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}

CLIENT_CHECKS: Final[Mapping[str, ssl.VerifyMode]] = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}

CIPHERS: Final[Mapping[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""OpenSSL's names of the TLS 1.2 cipher suites, by the IANA names that the file uses."""

logger = logging.getLogger(__name__)

Version = Literal["TLS12", "TLS13"]


def _bcrypt_hash(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not (text.startswith(("$2a$", "$2b$", "$2y$")) and len(text) == 60):  # noqa: PLR2004 - bcrypt's
        message = "is no bcrypt hash: make one with `htpasswd -nBC 10 name`"
        raise ValueError(message)
    return value


def _header_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        message = "must be one line of printable ASCII"
        raise ValueError(message)
    return value


def _known_cipher(value: str) -> str:
    if value not in CIPHERS:
        message = f"must be one of {', '.join(CIPHERS)}"
        raise ValueError(message)
    return value


HeaderValue = Annotated[str, AfterValidator(_header_value)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsServerConfig(_Section):
    """The certificate of the server, and the clients that it accepts."""

    cert_file: Path
    key_file: Path
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    client_ca_file: Path | None = None
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_known_cipher)], ...] = ()
    prefer_server_cipher_suites: bool = True


class HeadersConfig(_Section):
    """The headers that can be set: those of the exporter-toolkit."""

    csp: HeaderValue = Field(default="", alias="Content-Security-Policy")
    frame_options: Literal["", "deny", "sameorigin"] = Field(default="", alias="X-Frame-Options")
    content_type_options: Literal["", "nosniff"] = Field(default="", alias="X-Content-Type-Options")
    xss_protection: HeaderValue = Field(default="", alias="X-XSS-Protection")
    transport_security: HeaderValue = Field(default="", alias="Strict-Transport-Security")


class HttpServerConfig(_Section):
    """Settings of HTTP; `http2` is accepted for shared files, but answers are always HTTP/1.1."""

    http2: bool = True
    headers: HeadersConfig = HeadersConfig()


class WebConfig(_Section):
    """The whole file."""

    tls_server_config: TlsServerConfig | None = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: Mapping[str, Annotated[SecretStr, AfterValidator(_bcrypt_hash)]] = Field(
        default_factory=dict
    )

    def headers(self) -> dict[str, str]:
        """Return the headers to set, by name."""
        given = self.http_server_config.headers.model_dump(by_alias=True)
        return {name: value for name, value in given.items() if value}


def load_web_config(path: Path) -> WebConfig:
    """Read and check a web configuration file.

    Raises `ConfigError` with every mistake in it.
    """
    return parse(WebConfig, read_text(path), str(path), {}, _cross_check)


def tls_context(config: TlsServerConfig, source: Path) -> ssl.SSLContext:
    """Return the context of a TLS server; `source` is the file that `config` is from.

    Raises `ConfigError` for a certificate or key that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = source.parent
    try:
        context.load_cert_chain(folder / config.cert_file, folder / config.key_file, _no_password)
    except (OSError, ValueError) as error:
        raise _unusable(source, "cert_file", error) from None
    context.minimum_version = VERSIONS[config.min_version]
    context.maximum_version = VERSIONS[config.max_version]
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if config.cipher_suites:
        context.set_ciphers(":".join(CIPHERS[name] for name in config.cipher_suites))
    if config.client_ca_file is not None:
        try:
            context.load_verify_locations(folder / config.client_ca_file)
        except (OSError, ValueError) as error:
            raise _unusable(source, "client_ca_file", error) from None
    context.verify_mode = CLIENT_CHECKS[config.client_auth_type]
    return context


class WebConfigFile:
    """A web configuration file that is read again when it, or a file it names, changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._config = load_web_config(path)
        self._context = self._load_context(self._config)
        self._seen = self._signature(self._config)

    def current(self) -> WebConfig:
        """Return the configuration in the file now, or the last good one."""
        with self._lock:
            self._reload_if_changed()
            return self._config

    def reload(self) -> None:
        """Read the file again now; raises `ConfigError`, and the last good version stays."""
        with self._lock:
            self._config, self._context = self._reloaded()
            self._seen = self._signature(self._config)

    def server_context(self) -> ssl.SSLContext | None:
        """Return the TLS context of the server, whose handshakes use the newest certificate."""
        context = self._load_context(self._config)
        if context is not None:
            context.sni_callback = self._use_newest
        return context

    def _use_newest(
        self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        with self._lock:
            self._reload_if_changed()
            if self._context is not None:
                handshake.context = self._context

    def _reload_if_changed(self) -> None:
        signature = self._signature(self._config)
        if signature == self._seen:
            return
        self._seen = signature
        fields: dict[str, object] = {"file": self._path}
        try:
            self._config, self._context = self._reloaded()
            self._seen = self._signature(self._config)
            logger.info("the web configuration file is read again", extra={"fields": fields})
        except ConfigError as error:
            fields["error"] = error
            message = "cannot use the changed web configuration file, the last good one stays"
            logger.error(message, extra={"fields": fields})  # noqa: TRY400 - the user's mistake

    def _reloaded(self) -> tuple[WebConfig, ssl.SSLContext | None]:
        config = load_web_config(self._path)
        context = self._load_context(config)
        if (context is None) != (self._context is None):
            message = "cannot be added or removed while running: restart the exporter"
            raise ConfigError(str(self._path), (Problem("tls_server_config", message),))
        return config, context

    def _load_context(self, config: WebConfig) -> ssl.SSLContext | None:
        tls = config.tls_server_config
        return tls_context(tls, self._path) if tls else None

    def _signature(self, config: WebConfig) -> tuple[object, ...]:
        tls = config.tls_server_config
        named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        paths = [self._path, *(self._path.parent / path for path in named if path)]
        return tuple(map(_stat, paths))


def _cross_check(data: object) -> list[Problem]:
    tls = data.get("tls_server_config") if isinstance(data, Mapping) else None
    if not isinstance(tls, Mapping):
        return []
    asked = tls.get("client_auth_type", "NoClientCert") != "NoClientCert"
    has_ca = tls.get("client_ca_file") is not None
    if asked == has_ca:
        return []
    unused = "checks no client: set client_auth_type, or remove it"
    message = "is missing: client_auth_type needs it" if asked else unused
    return [Problem("tls_server_config.client_ca_file", message)]


def _stat(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _no_password() -> str:
    message = "the key is encrypted: give one without a passphrase"
    raise ValueError(message)


def _unusable(source: Path, key: str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    files = "it and key_file " if key == "cert_file" else ""
    message = f"{files}cannot be used: {reason}"
    return ConfigError(str(source), (Problem(f"tls_server_config.{key}", message),))
