"""What every test gets: a clean environment, and no way out of this machine."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import certifi
import pytest
from hypothesis import settings

from tests.support import secret_watch
from tests.support.certificates import Certificates, certificates_in
from tests.support.fault_rows import FaultRow, row_of
from tests.support.real_parts import ROOT, missing, real_part

TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")
"""Where Debian's Alertmanager looks for them, and nowhere else."""

MAJORS = ("2", "3")
"""Of Prometheus, and of the Debian release that its Alertmanager comes from."""

CLOUD_PREFIXES = ("HUAWEICLOUD_", "CLOUD_SDK_", "HW_", "OS_")

# How long an example takes is the machine's business. `make thorough` draws more of them.
settings.register_profile("quick", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    """Watch for secrets, and give the tests an empty home folder.

    The official SDK writes to the home folder when it is imported.
    """
    config.pluginmanager.register(secret_watch)
    home = TemporaryDirectory()
    config.add_cleanup(home.cleanup)
    os.environ["HOME"] = home.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the long tests first where several processes share them, so that none ends alone.

    Each process begins with a slice of the list. Half of the slices begin with the long tests,
    which wait more than they work, the longest first; the others keep the processor busy meanwhile.
    One process runs them last: it finds most failures sooner. On a busy machine they may take ten
    minutes, not the two of the others.
    """
    seconds = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("long"))}
    long = sorted(seconds, key=lambda item: -seconds[item])
    others = [item for item in items if item not in seconds]
    for item in long:
        item.add_marker(pytest.mark.timeout(600))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    half = (count + 1) // 2
    total, rest, slices = len(items), iter(others), list[list[pytest.Item]]()
    for at in range(count):
        size = total * (at + 1) // count - total * at // count
        first = long[at::half] if at < half else []
        slices.append([*first, *itertools.islice(rest, size - len(first))])
    items[:] = itertools.chain.from_iterable(slices or [[*others, *long]])


def pytest_collection(session: pytest.Session) -> None:
    """Collect no garbage while the tests are collected: all of that stays."""
    del session
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for garbage among what the tests make only, not among the tests: a tenth of the CPU."""
    del session
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep one of the 140 authorities that are trusted without `ca_file`.

    Reading all of them takes 18 ms in each of the tests' thousand exporters.
    """
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text().partition(end)[0] + end
    bundle = tmp_path_factory.mktemp("authority") / "bundle.pem"
    bundle.write_text(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(bundle))
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what this machine's environment says of proxies, certificates and keys."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith(CLOUD_PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command that ran in this process has set for all of it."""
    changed = [logging.getLogger(name) for name in ("", "dcs_task_exporter", "urllib3")]
    levels, handlers = [logger.level for logger in changed], list(changed[0].handlers)
    yield
    changed[0].handlers[:] = handlers
    logging.captureWarnings(capture=False)
    for logger, level in zip(changed, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            message = f"a test tried to reach {address}"
            raise AssertionError(message)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> FaultRow:
    """The row in docs/faults.md of a test that is marked with `@fault(...)`."""
    return row_of(request.node)


@pytest.fixture(params=MAJORS)
def prometheus_major(request: pytest.FixtureRequest) -> str:
    """Each major version of Prometheus in turn."""
    return str(request.param)


@pytest.fixture
def prometheus(prometheus_major: str) -> Path:
    """The real Prometheus."""
    folder = ROOT / ".tools" / f"prometheus-{prometheus_major}"
    return real_part(folder / "prometheus", f"Prometheus {prometheus_major}")


@pytest.fixture
def alertmanager(prometheus_major: str) -> Path:
    """The real Alertmanager of the same Debian release."""
    folder = ROOT / ".tools" / f"alertmanager-{prometheus_major}"
    name = "prometheus-alertmanager"
    if not TEMPLATES.exists():
        missing(f"{TEMPLATES} is not here: run scripts/install-test-tools as root")
    return real_part(folder / name, f"Alertmanager of release {prometheus_major}")


@pytest.fixture
def promtool(prometheus_major: str) -> Path:
    """The real promtool."""
    return promtool_of(prometheus_major)


@pytest.fixture
def promtools() -> Sequence[Path]:
    """The real promtool of each major version, for what takes long to set up."""
    return [promtool_of(major) for major in MAJORS]


def promtool_of(major: str) -> Path:
    folder = ROOT / ".tools" / f"prometheus-{major}"
    return real_part(folder / "promtool", f"promtool {major}")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for both ends of TLS."""
    return certificates_in(tmp_path_factory.mktemp("tls"))
