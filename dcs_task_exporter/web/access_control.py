"""What stands before the web app where there is a web configuration file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp

from dcs_task_exporter.clock import Clock
from dcs_task_exporter.web.basic_auth import BasicAuth
from dcs_task_exporter.web.failed_logins import FailedLogins
from dcs_task_exporter.web.rate_limit import RateLimit
from dcs_task_exporter.web.tls_server import TlsServer
from dcs_task_exporter.web.web_config_file import WebConfigFile


class AccessControl:
    """Asks of clients what the web configuration file at `path` says: TLS, a rate, a user.

    Raises `ConfigError` for a file that cannot be used.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._file = WebConfigFile(path)
        self._failed = FailedLogins(clock.monotonic)

    def app(self, inner: ASGIApp) -> ASGIApp:
        """Return an application that lets requests through to the inner one."""
        users = BasicAuth(inner, self._file.current, self._failed)
        return RateLimit(users, self._file.current, self._clock.monotonic)

    def tls(self) -> Callable[[], TlsServer] | None:
        """Return what gets the newest server's side of TLS, or None where there is no TLS."""
        return self._file.tls()

    def failed_logins(self) -> int:
        """Return how many logins have failed."""
        return self._failed.total

    def problem(self) -> str:
        """Return why the file cannot be used as it is now, or nothing; what was good stays."""
        return self._file.problem()

    def reload(self) -> None:
        """Read the file now, whether it looks changed or not.

        Raises `ConfigError` if it cannot be used; the last good version stays then.
        """
        self._file.reload()
