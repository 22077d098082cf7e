"""TLS as the web configuration file describes it: real handshakes with real clients."""

from __future__ import annotations

import os
import socket
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.tls_names import CURVES, SUITES, VERSIONS
from dcs_task_exporter.web.tls_server import names_of
from dcs_task_exporter.web.web_config_file import WebConfigFile
from tests.support.web_config_files import TLS, Start, certificate_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1"),  # old versions are on purpose here
]

REQUIRED = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n"
IF_GIVEN = f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n"
OLD = "ALL:@SECLEVEL=0"
"""All that a client's OpenSSL can still do."""


def client(folder: Path, version: str = "", certificate: str = "") -> ssl.SSLContext:
    """Return a client that speaks one version of TLS, or any, and shows a certificate, or none."""
    made = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if version:
        made.minimum_version = made.maximum_version = VERSIONS[version]
    if version in ("TLS10", "TLS11"):
        made.set_ciphers(OLD)
    if certificate:
        made.load_cert_chain(folder / certificate)
    return made


class Answer(NamedTuple):
    """What a client got, and how: the suite, the protocol that both agreed on, the session."""

    text: str
    suite: str
    protocol: str | None
    session: ssl.SSLSession | None
    is_resumed: bool | None


def answer(
    server: WebServer, speaker: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Answer:
    """Return what a client gets that may resume a session."""
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as plain,
        speaker.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as wrapped,
    ):
        wrapped.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: wrapped.recv(4096), b"")).decode()
        return Answer(
            text.rpartition("\r\n")[2],
            (wrapped.cipher() or ("",))[0],
            wrapped.selected_alpn_protocol(),
            wrapped.session,
            wrapped.session_reused,
        )


def is_let_in(server: WebServer, speaker: ssl.SSLContext) -> bool:
    """Whether a client gets the text; it is cut off in the handshake, or after it, if not."""
    try:
        return answer(server, speaker).text == "up 1\n"
    except OSError:
        return False


def test_tls(start: Start, folder: Path) -> None:
    """With a certificate, the exporter is reached by https."""
    assert is_let_in(start(TLS), client(folder))


@pytest.mark.parametrize(
    "text",
    [
        "tls_server_config:\n  cert: |\n    {cert}\n  key: |\n    {key}\n",
        "tls_server_config:\n  cert: |\n    {cert}\n  key_file: key.pem\n",
        "tls_server_config:\n  cert_file: cert.pem\n  key: |\n    {key}\n",
    ],
)
def test_a_certificate_inside_the_file(start: Start, folder: Path, text: str) -> None:
    """A certificate and a key may stand in the file itself, either or both."""
    assert is_let_in(start(text), client(folder))


def test_a_certificate_inside_leaves_no_file_open(start: Start, folder: Path) -> None:
    """The files in memory, through which OpenSSL reads them, are gone at once."""
    start("tls_server_config:\n  cert: |\n    {cert}\n  key: |\n    {key}\n")

    opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    assert not [path for path in opened if "memfd" in str(path)]
    assert {path.name for path in folder.iterdir()} == {"web.yml", "cert.pem", "key.pem", "ca.pem"}


def test_a_certificate_inside_needs_linux(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no files in memory, a certificate inside the file is refused."""
    monkeypatch.delattr(os, "memfd_create")

    with pytest.raises(ConfigError, match="only Linux has files in memory"):
        start("tls_server_config:\n  cert: |\n    {cert}\n  key: |\n    {key}\n")


def test_plain_text_on_a_tls_port(start: Start) -> None:
    """A plain request to a TLS port gets no metrics."""
    url = start(TLS).url.replace("https", "http")

    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


def test_silence_on_a_tls_port(start: Start) -> None:
    """A client that never begins to speak TLS is cut off."""
    server = start(TLS, patience=0.2)

    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
        assert silent.recv(1) == b""


def put_clients(folder: Path, authority: trustme.CA) -> None:
    """Put the certificates and keys of a client and of a stranger into a folder."""
    for name, signer in (("ours", authority), ("foreign", trustme.CA())):
        issued = signer.issue_cert("client@example.com")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
@pytest.mark.parametrize(
    ("checks", "shown", "let_in"),
    [
        ("NoClientCert", "", True),
        ("NoClientCert", "ours.pem", True),
        ("NoClientCert", "foreign.pem", True),
        ("VerifyClientCertIfGiven", "", True),
        ("VerifyClientCertIfGiven", "ours.pem", True),
        ("VerifyClientCertIfGiven", "foreign.pem", False),
        ("RequireAndVerifyClientCert", "", False),
        ("RequireAndVerifyClientCert", "ours.pem", True),
        ("RequireAndVerifyClientCert", "foreign.pem", False),
    ],
)
def test_client_certificates(
    start: Start,
    folder: Path,
    authority: trustme.CA,
    version: str,
    checks: str,
    shown: str,
    *,
    let_in: bool,
) -> None:
    """A client needs a certificate of the file's authorities as `client_auth_type` says."""
    put_clients(folder, authority)
    ca = "" if checks == "NoClientCert" else "  client_ca_file: ca.pem\n"
    server = start(f"{TLS}  client_auth_type: {checks}\n{ca}")

    assert is_let_in(server, client(folder, version, shown)) is let_in


@pytest.mark.parametrize("shown", ["", "ours.pem", "foreign.pem"])
@pytest.mark.parametrize("ca", ["  client_ca: |\n    {ca}\n", ""], ids=["inside", "the system's"])
def test_where_the_authorities_are(
    start: Start,
    folder: Path,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    ca: str,
    shown: str,
) -> None:
    """The authorities stand in the file itself, or are those that the system trusts."""
    put_clients(folder, authority)
    if not ca:
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))

    assert is_let_in(start(REQUIRED + ca), client(folder, "", shown)) is (shown == "ours.pem")


def test_comments_beside_an_authority(start: Start, folder: Path, authority: trustme.CA) -> None:
    """What stands around an authority inside the file may be of any language."""
    put_clients(folder, authority)
    comment = "    # Zertifizierungsstelle für Prometheus\n"
    server = start(f"{REQUIRED}  client_ca: |\n{comment}    {{ca}}\n")

    assert is_let_in(server, client(folder, "", "ours.pem"))


def test_an_authority_below_another(start: Start, folder: Path, authority: trustme.CA) -> None:
    """An authority is trusted where the one above it is not in the file: as in the toolkit."""
    below = authority.create_child_ca()
    below.cert_pem.write_to_path(folder / "below.pem")
    issued = below.issue_cert("client@example.com")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "ours.pem")
    server = start(f"{REQUIRED}  client_ca_file: below.pem\n")

    assert is_let_in(server, client(folder, "", "ours.pem"))


NAMES: dict[str, x509.GeneralName] = {
    "prometheus.example": x509.DNSName("prometheus.example"),
    "10.0.0.1": x509.IPAddress(ip_address("10.0.0.1")),
    "'2001:db8::1'": x509.IPAddress(ip_address("2001:db8::1")),
    "ops@example.com": x509.RFC822Name("ops@example.com"),
    "spiffe://example/prometheus": x509.UniformResourceIdentifier("spiffe://example/prometheus"),
}
"""A name of each kind, by how the file writes it."""


def put_named_client(folder: Path, *names: x509.GeneralName) -> None:
    """Put a client's certificate with these names, and its key, into a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certificate_of(key, names).public_bytes(serialization.Encoding.PEM)
    (folder / "named-ca.pem").write_bytes(certificate)
    written = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "named.pem").write_bytes(written + certificate)


def with_names(base: str, *allowed: str) -> str:
    return f"{base}  client_ca_file: named-ca.pem\n  client_allowed_sans: [{', '.join(allowed)}]\n"


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
@pytest.mark.parametrize("name", NAMES)
def test_a_client_with_an_allowed_name(start: Start, folder: Path, name: str, version: str) -> None:
    """A client is let in if one name of its certificate, of any kind, is allowed."""
    put_named_client(folder, x509.DNSName("other.example"), NAMES[name])
    server = start(with_names(REQUIRED, "another.example", name))

    assert is_let_in(server, client(folder, version, "named.pem"))


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName("evil.example")],
        [x509.DNSName("PROMETHEUS.example")],
        [x509.DNSName("a.prometheus.example")],
        [x509.DNSName("*.example")],
        [x509.DNSName("10.0.0.2")],
        [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))],
    ],
)
def test_a_client_without_an_allowed_name(
    start: Start, folder: Path, names: list[x509.GeneralName], version: str
) -> None:
    """A client without any of the allowed names, to the letter, is cut off."""
    put_named_client(folder, *names)
    server = start(with_names(REQUIRED, "prometheus.example", "10.0.0.1"))

    assert not is_let_in(server, client(folder, version, "named.pem"))


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_names_of_a_resumed_session(start: Start, folder: Path, version: str) -> None:
    """A client that resumes its session has the names of the certificate that it showed before."""
    put_named_client(folder, x509.DNSName("prometheus.example"))
    server = start(with_names(REQUIRED, "prometheus.example"))
    speaker = client(folder, version, "named.pem")

    got = answer(server, speaker, answer(server, speaker).session)

    assert (got.text, got.is_resumed) == ("up 1\n", True)


def test_a_refused_name_is_logged(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says which address showed a certificate with no allowed name."""
    put_named_client(folder, x509.DNSName("evil.example"))
    server = start(with_names(REQUIRED, "prometheus.example"))

    is_let_in(server, client(folder, "", "named.pem"))
    server.stop()

    [record] = [record for record in caplog.records if "allowed names" in record.message]
    assert record.fields == {"address": "127.0.0.1"}  # type: ignore[attr-defined]


def test_no_allowed_name_at_all(start: Start, folder: Path) -> None:
    """An empty list of allowed names lets no client in, as in the toolkit."""
    put_named_client(folder, x509.DNSName("prometheus.example"))

    assert not is_let_in(start(with_names(REQUIRED)), client(folder, "", "named.pem"))


def test_allowed_names_and_no_certificate(start: Start, folder: Path) -> None:
    """With allowed names, a client needs a certificate, also where it is verified if given."""
    put_named_client(folder, x509.DNSName("prometheus.example"))

    assert not is_let_in(start(with_names(IF_GIVEN, "prometheus.example")), client(folder))


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({}, []),
        ({"subjectAltName": (("IP Address", "2001:DB8:0:0:0:0:0:1\n"),)}, ["2001:db8::1"]),
        ({"subjectAltName": (("IP Address", "<invalid>"),)}, ["<invalid>"]),
        ({"subjectAltName": (("DirName", "x"), ("Registered ID", "1.2"))}, []),
    ],
)
def test_names_of(certificate: dict[str, object], names: list[str]) -> None:
    """Addresses are written in their shortest form; names of other kinds are none."""
    assert list(names_of(certificate)) == names


@pytest.mark.parametrize("spoken", VERSIONS)
@pytest.mark.parametrize(
    "limits",
    [
        ("TLS10", "TLS13"),
        ("TLS11", "TLS12"),
        ("TLS12", "TLS13"),
        ("TLS13", "TLS13"),
        ("TLS10",) * 2,
    ],
    ids=" to ".join,
)
def test_versions(start: Start, folder: Path, limits: tuple[str, str], spoken: str) -> None:
    """Clients may speak each version from `min_version` to `max_version`, and no other."""
    order = list(VERSIONS)
    lowest, highest = map(order.index, limits)
    server = start(f"{TLS}  min_version: {limits[0]}\n  max_version: {limits[1]}\n")

    assert is_let_in(server, client(folder, spoken)) is (lowest <= order.index(spoken) <= highest)


def test_a_version_that_openssl_lacks(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that OpenSSL was built without is refused with its name."""
    monkeypatch.setitem(VERSIONS, "TLS11", 99)

    with pytest.raises(ConfigError, match="min_version: OpenSSL does not speak it here"):
        start(f"{TLS}  min_version: TLS11\n")


def test_a_curve_that_openssl_lacks(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A curve that OpenSSL does not know is refused with its name."""
    monkeypatch.setitem(CURVES, "X25519", "none")

    with pytest.raises(ConfigError, match="curve_preferences: OpenSSL cannot use X25519"):
        start(f"{TLS}  curve_preferences: [X25519]\n")


def test_suites_exist() -> None:
    """OpenSSL knows every cipher suite that the file may name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    context.set_ciphers(":".join(SUITES.values()))

    assert {entry["name"] for entry in context.get_ciphers()} >= set(SUITES.values())


@pytest.mark.parametrize("suite", [name for name in SUITES if "_ECDSA_" in name])
def test_one_suite(start: Start, folder: Path, suite: str) -> None:
    """A named suite is used up to TLS 1.2, that of CBC too."""
    server = start(f"{TLS}  cipher_suites: [{suite}]\n")
    speaker = client(folder, "TLS12")
    speaker.set_ciphers(SUITES[suite])

    assert answer(server, speaker).suite == SUITES[suite]


def test_a_suite_that_is_not_named(start: Start, folder: Path) -> None:
    """A client that has no named suite is not let in, but with TLS 1.3."""
    server = start(f"{TLS}  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n")
    other = client(folder, "TLS12")
    other.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")

    assert not is_let_in(server, other)
    assert is_let_in(server, client(folder, "TLS13"))


def test_suites_of_tls_13_alone(start: Start, folder: Path) -> None:
    """Where only suites of TLS 1.3 are named, no lower version is spoken."""
    server = start(f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n")

    assert is_let_in(server, client(folder, "TLS13"))
    assert not is_let_in(server, client(folder, "TLS12"))


@pytest.mark.parametrize(("prefer", "used"), [("true", "128"), ("false", "256")])
def test_whose_order_counts(start: Start, folder: Path, prefer: str, used: str) -> None:
    """`prefer_server_cipher_suites` decides between the order of the file and the client's."""
    names = [
        f"TLS_ECDHE_ECDSA_WITH_AES_{bits}_GCM_SHA{sha}" for bits, sha in ((128, 256), (256, 384))
    ]
    text = f"  cipher_suites: [{', '.join(names)}]\n  prefer_server_cipher_suites: {prefer}\n"
    other = client(folder, "TLS12")
    other.set_ciphers(":".join(SUITES[name] for name in reversed(names)))

    assert f"AES{used}" in answer(start(TLS + text), other).suite


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
@pytest.mark.parametrize("curve", CURVES)
def test_one_curve(start: Start, folder: Path, curve: str, version: str) -> None:
    """The only named curve is the only one that is spoken."""
    server = start(f"{TLS}  curve_preferences: [{curve}]\n")
    speakers = {}
    for name, of_openssl in CURVES.items():
        speakers[name] = client(folder, version)
        speakers[name].set_ecdh_curve(of_openssl)

    let_in = {name for name, speaker in speakers.items() if is_let_in(server, speaker)}
    # With TLS 1.2 OpenSSL's client also needs the curve of the server's certificate.
    assert let_in == {curve} & ({"CurveP256"} if version == "TLS12" else CURVES.keys())


def test_all_curves(start: Start, folder: Path) -> None:
    """Where all curves are named, each is spoken."""
    server = start(f"{TLS}  curve_preferences: [{', '.join(CURVES)}]\n")

    for of_openssl in CURVES.values():
        speaker = client(folder, "TLS13")
        speaker.set_ecdh_curve(of_openssl)
        assert is_let_in(server, speaker)


@pytest.mark.parametrize("http2", ["true", "false"])
@pytest.mark.parametrize(("offered", "agreed"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None)])
def test_http2(
    start: Start, folder: Path, http2: str, offered: list[str], agreed: str | None
) -> None:
    """A client that offers HTTP/2 learns from TLS that answers are HTTP/1.1."""
    server = start(f"{TLS}http_server_config: {{http2: {http2}}}\n")
    speaker = client(folder)
    speaker.set_alpn_protocols(offered)

    got = answer(server, speaker)

    assert (got.text, got.protocol) == ("up 1\n", agreed)


def test_http2_without_tls(start: Start) -> None:
    """A client that begins with HTTP/2 gets an answer of HTTP/1.1, and no connection of HTTP/2."""
    with socket.create_connection(("127.0.0.1", start("").port), 10) as speaker:
        speaker.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert speaker.recv(4096).startswith(b"HTTP/1.1 ")


def test_every_file_of_one_certificate_is_watched(folder: Path) -> None:
    """The file says where TLS comes from: a new server's side for a new certificate."""
    (folder / "web.yml").write_text(TLS)
    file = WebConfigFile(folder / "web.yml")
    newest = file.tls()
    assert newest is not None
    before = newest()

    (folder / "key.pem").write_text((folder / "key.pem").read_text() + "\n")

    assert newest() is not before
    assert newest() is newest()
