"""How the cloud's certificate is checked: one TLS context that all connections share."""

from __future__ import annotations

import logging
import math
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Final

import certifi

from dcs_task_exporter.config.model import TlsConfig

WARNING_INTERVAL: Final = 86_400.0
"""Seconds between two warnings that the certificate is not checked."""

logger = logging.getLogger(__name__)


class UncheckedWarning:
    """Warns each day that requests are sent without a check of the cloud's certificate.

    A switch that was set for an afternoon must not be forgotten for years. Where `tls` has the
    certificate checked, it says nothing. `monotonic` returns seconds.
    """

    def __init__(self, project: str, tls: TlsConfig, monotonic: Callable[[], float]) -> None:
        self._project = project
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._next = monotonic() if tls.insecure_skip_verify else math.inf

    def warn_if_due(self) -> None:
        """Warn, unless that was done less than a day ago; call it for each request."""
        with self._lock:
            now = self._monotonic()
            is_due = now >= self._next
            if is_due:
                self._next = now + WARNING_INTERVAL
        if is_due:
            logger.warning(
                "the cloud's certificate is not checked, because tls.insecure_skip_verify is set",
                extra={"fields": {"project": self._project}},
            )


class _SharedContext(ssl.SSLContext):
    """A context that many connections share, and that none of them changes.

    urllib3 sets the protocols anew for each connection; doing so while another thread is in its
    handshake is a use after free in OpenSSL (cpython#141012).
    """

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Leave the protocols as `tls_context` set them."""


def tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Return a context for HTTP/1.1 that checks certificates as `tls` says."""
    context = _SharedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(tls.ca_file) if tls.ca_file else certifi.where())
    ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python does so from 3.13 on. It is stricter then in other ways too, which the certificates of
    # private clouds often do not stand.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
