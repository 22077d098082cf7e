"""The command `ready`: ask a running exporter whether it answers scrapes.

It is for the health checks of containers. It needs no password and no certificate: where the web
configuration asks for one, the refusal itself shows that the exporter answers.
"""

from __future__ import annotations

import argparse
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dcs_task_exporter.commands.output import say, warn
from dcs_task_exporter.flags import PROGRAM
from dcs_task_exporter.text.display import shown
from dcs_task_exporter.web.listen import url_of
from dcs_task_exporter.web.paths import READY_PATH
from dcs_task_exporter.web.web_config import load_web_config

PATIENCE: Final = 4.0
"""Seconds that each step of an answer may take: less than a health check waits."""

MAX_ANSWER: Final = 200
"""Bytes of an answer that are read."""

CUT_OFF: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
"""How a server ends a connection whose client has no certificate, beside an alert of TLS."""

READY: Final = {
    200: "ready",
    401: "ready, and asks for a password",
    429: "ready, and limits its requests",
}
"""What each answer means that only an exporter gives which works."""


def ready(arguments: argparse.Namespace) -> bool:
    """Ask at each address; return whether all answer. Raises `ConfigError`."""
    path: Path | None = arguments.web_config_file
    tls = load_web_config(path).tls if path is not None else None
    scheme = "https" if tls else "http"
    asks_client = tls is not None and tls.client_auth_type != "NoClientCert"
    urls = [url_of(address, scheme) for address in arguments.web_listen_address]
    # A list, because each is asked.
    return all([_is_ready(url, asks_client=asks_client) for url in urls])  # noqa: C419 - see above


def _is_ready(url: str, *, asks_client: bool) -> bool:
    """Ask an exporter and print what it answers; `asks_client`: it lets in certificates only."""
    try:
        status, text = _ask(url)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        if asks_client and (isinstance(error, CUT_OFF) or "_ALERT_" in reason):
            say(f"{url}: ready, and asks for a certificate")
            return True
        warn(f"{PROGRAM}: {url} does not answer: {shown(reason) or type(error).__name__}")
        return False
    if status in READY:
        say(f"{url}: {READY[status]}")
        return True
    warn(f"{PROGRAM}: {url} answers {status}: {shown(text)}")
    return False


def _ask(url: str) -> tuple[int, str]:
    """Return the status and the start of the answer to the question for readiness."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        # Nothing secret is sent, and the certificate is for the name that Prometheus uses.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection(
            host, parts.port, timeout=PATIENCE, context=context
        )
    else:
        connection = HTTPConnection(host, parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", READY_PATH, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER).decode("ascii", "replace").strip()
    finally:
        connection.close()
