"""The command `ready`: ask a running exporter whether it answers scrapes, or only whether it lives.

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
from dcs_task_exporter.web.paths import HEALTHY_PATH, READY_PATH

PATIENCE: Final = 4.0
"""Seconds that each step of an answer may take: less than a health check waits."""

MAX_ANSWER: Final = 200
"""Bytes of an answer that are read."""

CUT_OFF: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
"""How a server ends a connection whose client has no certificate, beside an alert of TLS."""

GOOD: Final = {
    200: "",
    401: ", and asks for a password",
    429: ", and limits its requests",
}
"""What each answer means that only an exporter gives which works."""


def ready(arguments: argparse.Namespace) -> bool:
    """Ask at each address; return whether all answer. Raises `ConfigError`."""
    web_config: Path | None = arguments.web_config_file
    client_check = _client_check(web_config) if web_config is not None else None
    scheme = "https" if client_check else "http"
    asks_client = client_check not in (None, "NoClientCert")
    urls = [url_of(address, scheme) for address in arguments.web_listen_address]
    path = HEALTHY_PATH if arguments.healthy else READY_PATH
    # A list, because each is asked.
    return all([_is_good(url, path, asks_client=asks_client) for url in urls])  # noqa: C419 - see above


def _client_check(path: Path) -> str | None:
    """Return how a web configuration asks clients for certificates; None without TLS."""
    from dcs_task_exporter.web.web_config import load_web_config  # noqa: PLC0415 - large

    tls = load_web_config(path).tls
    return None if tls is None else tls.client_auth_type


def _is_good(url: str, path: str, *, asks_client: bool) -> bool:
    """Ask an exporter and print what it answers; `asks_client`: it lets in certificates only."""
    word = path.rpartition("/")[2]
    try:
        status, text = _ask(url, path)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        if asks_client and (isinstance(error, CUT_OFF) or "_ALERT_" in reason):
            say(f"{url}: {word}, and asks for a certificate")
            return True
        warn(f"{PROGRAM}: {url} does not answer: {shown(reason) or type(error).__name__}")
        return False
    if status in GOOD:
        say(f"{url}: {word}{GOOD[status]}")
        return True
    warn(f"{PROGRAM}: {url} answers {status}: {shown(text)}")
    return False


def _ask(url: str, path: str) -> tuple[int, str]:
    """Return the status and the start of the answer at this path."""
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
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER).decode("ascii", "replace").strip()
    finally:
        connection.close()
