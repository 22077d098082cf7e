"""From the TLS settings of the web configuration file to the server's side of TLS."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NoReturn

from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.web.tls_names import CLIENT_CHECKS, CURVES, SUITES, VERSIONS
from dcs_task_exporter.web.web_config import TlsServerConfig

OLD_VERSIONS: Final = ("TLS10", "TLS11")
"""Versions that OpenSSL speaks only at its lowest level of security."""


@dataclass(frozen=True, slots=True)
class TlsServer:
    """The server's side of TLS.

    A client needs one of the `allowed_sans` as a name in its certificate; None allows any client
    that the context lets in.
    """

    context: ssl.SSLContext
    allowed_sans: frozenset[str] | None = None

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client may speak that showed this certificate, as `getpeercert` returns it."""
        return self.allowed_sans is None or not self.allowed_sans.isdisjoint(
            names_of(certificate or {})
        )


def names_of(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yield the subject's alternative names that can be allowed, as the exporter-toolkit writes."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            yield name
        elif kind == "IP Address":
            yield _canonical(name.strip())


def tls_server(config: TlsServerConfig, source: Path) -> TlsServer:
    """Return the server's side of TLS; `source` is the file that `config` is from.

    Raises `ConfigError` for a certificate, a key or a setting that OpenSSL cannot use.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    _set_limits(context, config, source)
    _load_certificate(context, config, source)
    _verify_clients(context, config, source)
    sans = config.client_allowed_sans
    return TlsServer(context, None if sans is None else frozenset(sans))


def _set_limits(context: ssl.SSLContext, config: TlsServerConfig, source: Path) -> None:
    """Set the versions, the suites and the curve."""
    suites = [SUITES[name] for name in config.cipher_suites if name in SUITES]
    only_13 = bool(config.cipher_suites) and not suites
    lowest = "TLS13" if only_13 else config.min_version
    try:
        context.minimum_version = VERSIONS[lowest]
        context.maximum_version = VERSIONS[config.max_version]
    except ValueError as error:
        _refuse(source, "min_version", f"OpenSSL does not speak it here: {error}")
    if lowest in OLD_VERSIONS:
        context.set_ciphers(":".join((*(suites or SUITES.values()), "@SECLEVEL=0")))
    elif suites:
        context.set_ciphers(":".join(suites))
    if not config.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if len(set(config.curve_preferences)) == 1:
        curve = config.curve_preferences[0]
        try:
            context.set_ecdh_curve(CURVES[curve])
        except (OSError, ValueError) as error:  # OpenSSL 1.1.1 and X25519
            _refuse(source, "curve_preferences", f"OpenSSL cannot use {curve}: {_reason(error)}")


def _load_certificate(context: ssl.SSLContext, config: TlsServerConfig, source: Path) -> None:
    key = config.key.get_secret_value()
    try:
        with ExitStack() as opened:
            certificate_path, key_path = (
                source.parent / file if file else opened.enter_context(_in_memory(text))
                for file, text in ((config.cert_file, config.cert), (config.key_file, key))
            )
            context.load_cert_chain(certificate_path, key_path, _no_password)
    except (OSError, ValueError) as error:
        one = "cert_file" if config.cert_file else "cert"
        other = "key_file" if config.key_file else "key"
        _refuse(source, one, f"it and {other} cannot be used: {_reason(error)}")


def _verify_clients(context: ssl.SSLContext, config: TlsServerConfig, source: Path) -> None:
    context.verify_mode = CLIENT_CHECKS[config.client_auth_type]
    # Trust what is in the file, also where an authority above it is not: as the toolkit does.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if config.client_ca_file:
            context.load_verify_locations(source.parent / config.client_ca_file)
        elif config.client_ca:
            # Comments may be of any language.
            pem = config.client_ca.encode("ascii", "ignore").decode()
            context.load_verify_locations(cadata=pem)
        elif context.verify_mode is not ssl.CERT_NONE:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    except (OSError, ValueError) as error:
        key = "client_ca_file" if config.client_ca_file else "client_ca"
        _refuse(source, key, f"cannot be used: {_reason(error)}")


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file that is in memory only: the ssl module takes nothing but paths."""
    if not hasattr(os, "memfd_create"):
        message = "only Linux has files in memory: give cert_file and key_file"
        raise ValueError(message)
    with os.fdopen(os.memfd_create("dcs-task-exporter-tls"), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _no_password() -> str:
    message = "the key is encrypted: give one without a passphrase"
    raise ValueError(message)


def _canonical(address: str) -> str:
    """Return an IP address in its shortest form; what is none stays as it is."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return re.sub(r" \(_ssl\.c:[0-9]+\)", "", text)


def _refuse(source: Path, key: str, message: str) -> NoReturn:
    raise ConfigError(str(source), (Problem(f"tls_server_config.{key}", message),)) from None
