"""Reloads the configuration of a running exporter, from where it was loaded at the start.

A configuration file stays the source, and where there was none the environment does: a file that
appears, or goes, never changes which of them counts.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from dcs_task_exporter.commands.configuration import warn_of_regions
from dcs_task_exporter.config.environment import ENVIRONMENT, config_of_environment
from dcs_task_exporter.config.model import Config, load_config
from dcs_task_exporter.errors import ConfigError, ExporterError, Problem
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.web.access_control import AccessControl

NOT_RELOADED: Final = "the configuration was not reloaded, the one before stays"

logger = logging.getLogger(__name__)


class ReloadError(ExporterError):
    """A reload failed by a mistake of the exporter, not of the configuration."""


class Reloader:
    """Reloads the configuration of one exporter; safe to use from threads.

    `path` is its file, or None where the environment is the configuration. The web configuration
    file, if `access_control` has one, is read again with it. Each reload is done within a
    context of `announced`.
    """

    def __init__(
        self,
        exporter: Exporter,
        path: Path | None,
        environ: Mapping[str, str],
        access_control: AccessControl | None = None,
        announced: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._exporter = exporter
        self._path = path
        self._environ = environ
        self._access_control = access_control
        self._announced = announced
        self._lock = threading.Lock()
        self._number = 0
        self._has_failed = False
        self._tried = self._content()

    def reload(self) -> None:
        """Use the configuration as it is now, and log that, or why not.

        Raises `ConfigError` with all mistakes; then the configuration before stays.
        """
        with self._lock:
            self._number += 1
            self._reload()

    def try_reload(self) -> None:
        """Reload, and log every failure."""
        with contextlib.suppress(ExporterError):  # logged, problem by problem
            self.reload()

    def reload_if_changed(self) -> None:
        """Reload if the content of a file has changed; try again what failed before."""
        with self._lock, contextlib.suppress(ExporterError):
            has_changed = self._content() != self._tried
            self._number += has_changed
            if has_changed or self._has_failed:
                self._reload()

    def _reload(self) -> None:
        # With its number, or the log would take the lines of two reloads for one that repeats.
        fields = {"file": self._path or ENVIRONMENT, "reload": self._number}
        self._tried, self._has_failed = self._content(), True
        try:
            with self._announced():
                self._exporter.reload(self._load)
        except ConfigError as error:
            for problem in error.problems:
                logger.error(NOT_RELOADED, extra={"fields": {**fields, "problem": problem}})  # noqa: TRY400 - the user's mistake
            raise
        except Exception as error:
            logger.exception(NOT_RELOADED, extra={"fields": fields})
            message = f"the reload broke ({type(error).__name__}): see the log"
            raise ReloadError(message) from error
        self._has_failed = False
        fields["instances"] = len(self._exporter.refresher.snapshots())
        logger.info("the configuration was reloaded", extra={"fields": fields})
        warn_of_regions(self._exporter.config)
        # What was replaced has cycles, which the tuned collector would find late.
        gc.collect()

    def _load(self) -> Config:
        """Return the configuration; raises `ConfigError` with the mistakes of both files."""
        config, problems = None, list[Problem]()
        try:
            config = self._load_config()
        except ConfigError as error:
            problems += error.problems
        try:
            if self._access_control is not None:
                self._access_control.reload()
        except ConfigError as error:
            problems += [
                Problem(f"web.config.file: {it.path}", it.message) for it in error.problems
            ]
        if config is None or problems:
            raise ConfigError(str(self._path or ENVIRONMENT), tuple(problems))
        return config

    def _load_config(self) -> Config:
        if self._path is None:
            return config_of_environment(self._environ)
        return load_config(self._path, self._environ)

    def _content(self) -> Mapping[Path, bytes | None]:
        """Return a digest of each file: a mounted one may change while its times stay."""
        projects = self._exporter.config.projects
        certificates = [project.tls.ca_file for project in projects if project.tls.ca_file]
        return {path: _digest(path) for path in (self._path, *certificates) if path}


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
