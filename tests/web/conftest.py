"""What the tests of the web configuration file share: certificates, and servers that use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from dcs_task_exporter.web.server import WebServer
from tests.support.web_config_files import Start, put_certificates, start_server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return an authority that signs certificates."""
    return trustme.CA()


@pytest.fixture
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """Return a folder with a certificate, its key, and that of the authority."""
    put_certificates(tmp_path, authority)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Return a function that serves behind a web configuration file."""
    with ExitStack() as stack:

        def started(text: str, **more: float) -> WebServer:
            server = start_server(folder, text, **more)
            stack.callback(server.stop)
            return server

        yield started
