"""A web configuration file that may change while the exporter runs; the last good version stays."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.web.tls_names import CLIENT_CHECKS
from dcs_task_exporter.web.tls_server import TlsServer, tls_server
from dcs_task_exporter.web.web_config import TlsServerConfig, WebConfig, load_web_config

RESTART: Final = "while the exporter runs: restart it"

logger = logging.getLogger(__name__)


class WebConfigFile:
    """A web configuration file that is read again when it, or a file that it names, changes.

    A change that cannot be used is logged once, and the last good version stays. So does one that
    takes TLS, users or the checks of client certificates away: half of a file that is being saved
    looks like that. Safe to use from threads.

    Raises `ConfigError` for a file that cannot be used from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._problem = ""
        self._watched: Sequence[Path] = ()
        self._seen: Sequence[object] = ()
        self._config = WebConfig()
        self._server: TlsServer | None = None
        self._config, self._server = self._read()

    def current(self) -> WebConfig:
        """Return what the file says now, or what it said when it was last good."""
        with self._lock:
            self._read_if_changed()
            return self._config

    def tls(self) -> Callable[[], TlsServer] | None:
        """Return what gets the newest server's side of TLS, or None where there is no TLS."""
        return self._newest_tls if self._server else None

    def problem(self) -> str:
        """Return why the file cannot be used as it is now, or nothing."""
        with self._lock:
            self._read_if_changed()
            return self._problem

    def reload(self) -> None:
        """Read the file now, whether it looks changed or not.

        Raises `ConfigError` if it cannot be used; the last good version stays then.
        """
        with self._lock:
            self._take()

    def _newest_tls(self) -> TlsServer:
        with self._lock:
            self._read_if_changed()
            assert self._server is not None  # noqa: S101 - for mypy: it is never taken away
            return self._server

    def _read_if_changed(self) -> None:
        if _looks(self._watched) == self._seen:
            return
        fields: dict[str, object] = {"file": self._path}
        try:
            self._take()
            logger.info("the web configuration file is read again", extra={"fields": fields})
        except ConfigError as error:
            fields["error"] = error
            message = "cannot use the changed web configuration file, the last good one stays"
            logger.error(message, extra={"fields": fields})  # noqa: TRY400 - the user's mistake

    def _take(self) -> None:
        try:
            config, server = self._read()
            self._refuse_less_than_now(config)
        except ConfigError as error:
            self._problem = "; ".join(map(str, error.problems))
            raise
        self._config, self._server, self._problem = config, server, ""

    def _refuse_less_than_now(self, config: WebConfig) -> None:
        if changes := tuple(_forbidden_changes(self._config, config)):
            raise ConfigError(str(self._path), changes)

    def _read(self) -> tuple[WebConfig, TlsServer | None]:
        """Read the file, and from now on watch it and the files that it names.

        Looks before it reads, so that what is written meanwhile is read again.
        """
        self._watched = [self._path]
        self._seen = _looks(self._watched)
        config = load_web_config(self._path)
        named = _named_files(config, self._path.parent)
        self._watched = [self._path, *named]
        self._seen = [*self._seen, *_looks(named)]
        return config, tls_server(config.tls, self._path) if config.tls else None


def _forbidden_changes(old: WebConfig, new: WebConfig) -> Iterator[Problem]:
    """Yield what may not change while clients rely on it."""
    away = f"cannot be taken away {RESTART}"
    if old.basic_auth_users and not new.basic_auth_users:
        yield Problem("basic_auth_users", away)
    if (old.tls is None) != (new.tls is None):
        yield Problem("tls_server_config", away if old.tls else f"cannot be added {RESTART}")
    elif old.tls and new.tls:
        for key, is_weaker in _weaker_checks(old.tls, new.tls).items():
            if is_weaker:
                yield Problem(f"tls_server_config.{key}", f"cannot be weakened {RESTART}")


def _weaker_checks(old: TlsServerConfig, new: TlsServerConfig) -> dict[str, bool]:
    checks = list(CLIENT_CHECKS)
    had, has = (checks.index(tls.client_auth_type) for tls in (old, new))
    return {
        "client_auth_type": has < had,
        "client_ca_file": old.has_client_ca and not new.has_client_ca,
        "client_allowed_sans": old.client_allowed_sans is not None
        and new.client_allowed_sans is None,
    }


def _named_files(config: WebConfig, folder: Path) -> Sequence[Path]:
    tls = config.tls
    names = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
    return [folder / name for name in names if name]


def _looks(paths: Sequence[Path]) -> Sequence[object]:
    """Return what changes when one of the files is written."""
    return [_look(path) for path in paths]


def _look(path: Path) -> object:
    try:
        found = path.stat()
    except (OSError, ValueError):  # the second for a name that no file can have
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
