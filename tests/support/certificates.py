"""Certificates for both ends of TLS, by an authority of the tests' own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from dcs_task_exporter.web.tls_server import TlsServer


@dataclass(frozen=True)
class Certificates:
    """What both ends of TLS need, and the file of what to trust."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    file: str

    def tls(self) -> TlsServer:
        """Return the server's side of TLS."""
        return TlsServer(self.server)


def certificates_in(folder: Path) -> Certificates:
    """Return new ones."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return Certificates(server, client, str(path))
