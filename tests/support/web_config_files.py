"""Web configuration files, with the certificates that they name, and servers that use them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import bcrypt
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from starlette.responses import PlainTextResponse

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.connection_limits import ConnectionLimits
from dcs_task_exporter.web.server import WebServer
from tests.support.secrets import secret

PASSWORD = secret("correct horse")
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
USERS = f"basic_auth_users:\n  grafana: {HASH}\n"

Start = Callable[..., WebServer]


def put_certificates(folder: Path, authority: trustme.CA, name: str = "127.0.0.1") -> None:
    """Put a new certificate, its key, and the certificate of the authority into a folder."""
    issued = authority.issue_cert(name, "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")


def put_odd_certificates(folder: Path, authority: trustme.CA) -> None:
    """Put what cannot be used beside it: rubbish, a stranger's key, one with a passphrase."""
    (folder / "rubbish.pem").write_text("-----BEGIN CERTIFICATE-----\nrubbish\n")
    (folder / "empty.pem").write_text("")
    authority.issue_cert("x").private_key_pem.write_to_path(folder / "other-key.pem")
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short on purpose
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    locked = short.private_bytes(pem, form, serialization.BestAvailableEncryption(b"secret"))
    (folder / "locked-key.pem").write_bytes(locked)
    unlocked = short.private_bytes(pem, form, serialization.NoEncryption())
    (folder / "short-key.pem").write_bytes(unlocked)
    (folder / "short.pem").write_bytes(certificate_of(short, []).public_bytes(pem))


def certificate_of(
    key: CertificateIssuerPrivateKeyTypes, names: Sequence[x509.GeneralName]
) -> x509.Certificate:
    """Return a certificate that a key signed for itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime(2020, 1, 1, tzinfo=timezone.utc),
        not_valid_after=datetime(2100, 1, 1, tzinfo=timezone.utc),
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(key, hashes.SHA256())


def filled(text: str, folder: Path) -> str:
    """Return a file in which {cert}, {key} and {ca} are the texts of those in the folder."""
    for name in ("cert", "key", "ca"):
        pem = textwrap.indent((folder / f"{name}.pem").read_text(), "    ")
        text = text.replace(f"    {{{name}}}\n", pem)
    return text


def start_server(folder: Path, text: str, *, patience: float = 30) -> WebServer:
    """Serve a text behind the web configuration file that `text` describes."""
    (folder / "web.yml").write_text(filled(text, folder))
    access_control = AccessControl(folder / "web.yml", Clock())
    server = WebServer(
        access_control.app(PlainTextResponse("up 1\n")),
        [("127.0.0.1", 0)],
        limits=ConnectionLimits(request=patience),
        tls=access_control.tls(),
    )
    server.start()
    return server
