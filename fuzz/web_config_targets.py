"""The web configuration file, and the passwords that clients send, as functions of bytes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final
from unittest import mock

import bcrypt
import trustme
import yaml
from starlette.responses import PlainTextResponse

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.errors import ConfigError
from dcs_task_exporter.refresh.workers import Job
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.rate_limit import TokenBucket
from dcs_task_exporter.web.web_config_file import WebConfigFile
from fuzz.checks import SECRET, Target, expect, expect_plain, folder
from fuzz.client_targets import Server, responses
from fuzz.file_targets import check_problems
from fuzz.words import HTTP_WORDS, WEB_CONFIG_WORDS

_TESTDATA: Final = Path(__file__).parent.parent / "tests" / "testdata" / "web-config"

USER, PASSWORD = "with", b"right: pass"
"""The one who is let in."""

MAX_FILES: Final = 40
"""Descriptors that this process may have: a server's side of TLS keeps none."""


@cache
def _place() -> Path:
    """Return a folder with a certificate, its key and its authority."""
    made = folder() / "web"
    made.mkdir()
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    server.private_key_pem.write_to_path(made / "key.pem")
    server.cert_chain_pems[0].write_to_path(made / "cert.pem")
    authority.cert_pem.write_to_path(made / "ca.pem")
    return made


def web_configuration(data: bytes) -> Sequence[bytes]:
    """Load a web configuration file, with TLS; ``{cert}`` in it stands for a certificate's text."""
    place = _place()
    for name in ("cert", "key", "ca"):
        pem = textwrap.indent((place / f"{name}.pem").read_text(), "    ")
        data = data.replace(f"    {{{name}}}\n".encode(), pem.encode())
    path = place / "web.yml"
    path.write_bytes(data)
    try:
        file = WebConfigFile(path)
    except ConfigError as error:
        check_problems(error)
        return ()
    finally:
        expect(len(os.listdir("/proc/self/fd")) < MAX_FILES, "files stay open")  # noqa: PTH208 - only counted
    config = file.current()
    expect(not file.problem(), f"a good file with a problem: {file.problem()}")
    expect_plain(repr(list(config.basic_auth_users.values())), repr(config.tls_server_config.key))
    for name, value in config.headers().items():
        expect(f"{name}: {value}".isprintable(), "a header that is not printable")
        f"{name}: {value}".encode("ascii")
    bucket = TokenBucket(config.rate_limit, 0.0)
    for now in (0.0, 0.0, 1.0, 1e9):
        bucket.admits(now)
    tls = file.tls()
    if tls is not None:
        tls()
    return ()


class _OnTheLoop:
    """Checks a password in the next turn of the event loop, in place of a thread."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, jobs: Sequence[Job]) -> None:
        """Do them, later."""
        for job in jobs:
            asyncio.get_running_loop().call_soon(job.do)


@cache
def _guarded() -> Server:
    path = _place() / "users.yml"
    known = bcrypt.hashpw(PASSWORD, bcrypt.gensalt(4)).decode()
    path.write_text(f"basic_auth_users: {{{USER}: '{known}'}}\n")
    time = Clock(monotonic=lambda: 1000.0)
    with mock.patch("dcs_task_exporter.web.basic_auth.WorkerPool", _OnTheLoop):
        return Server(AccessControl(path, time).app(PlainTextResponse("in")))


def authorization(data: bytes) -> Sequence[bytes]:
    """Ask with this as the value of the header ``Authorization``."""
    asked = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + data + b"\r\n\r\n"
    for status, _, body in responses(_guarded().answers(asked)):
        expect(status in (200, 400, 401, 503), f"an answer {status}")
        expect_plain(body.decode())
        if body == b"in":
            expect(_has_password(data), "let in without the password")
    return ()


def _has_password(data: bytes) -> bool:
    """Whether the right user and password are there, up to the part that bcrypt looks at."""
    wanted = USER.encode() + b":" + PASSWORD
    for word in re.findall(rb"[A-Za-z0-9+/]+=*", data):
        try:
            if base64.b64decode(word) == wanted:
                return True
        except binascii.Error:
            continue
    return False


def _basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


def _files() -> tuple[bytes, ...]:
    rows = yaml.safe_load((_TESTDATA / "verdicts.yaml").read_text())
    own = (
        f"basic_auth_users: {{{SECRET}: {SECRET}}}\n",
        (
            "tls_server_config:\n  cert: |\n    {cert}\n  key: |\n    {key}\n"
            "  client_ca: |\n    {ca}\n  client_auth_type: RequireAndVerifyClientCert\n"
        ),
    )
    return *(text.encode() for text in own), *(row["file"].encode() for row in rows)


WEB_CONFIG_TARGETS: Final = (
    Target("web_configuration", web_configuration, "text", WEB_CONFIG_WORDS, 1.0),
    Target("authorization", authorization, "text", HTTP_WORDS),
)
WEB_CONFIG_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "web_configuration": _files(),
    "authorization": (
        _basic(b"with:right: pass"),
        _basic(b"with:" + SECRET.encode()),
        _basic(b"other:" + b"x" * 100),
        _basic(b"nobody"),
        b"basic " + base64.b64encode(b"with:right: pass") + b" ",
        b"Bearer " + SECRET.encode(),
        b"Basic " + b"A" * 4000,
        _basic(b"with:right: pass") + b"\r\nAuthorization: " + _basic(b"a:b"),
        b"",
    ),
}
"""The first inputs by target."""
