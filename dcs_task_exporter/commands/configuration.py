"""The configuration that a command works with: of a file, or of the environment without one."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dcs_task_exporter.config.environment import (
    ENVIRONMENT,
    REGION_NAMES,
    config_of_environment,
)
from dcs_task_exporter.config.model import Config, load_config
from dcs_task_exporter.credentials.fixed import ENVIRONMENT_NAMES, has_key
from dcs_task_exporter.errors import ConfigError, Problem
from dcs_task_exporter.exporter import Options
from dcs_task_exporter.flags import DEFAULT_CONFIG
from dcs_task_exporter.refresh.sharding import choose_shard

logger = logging.getLogger(__name__)


def configuration(arguments: argparse.Namespace) -> Config:
    """Return the configuration; raises `ConfigError` with every mistake."""
    path = configuration_file(arguments)
    if path is not None:
        return load_config(path, os.environ)
    if has_key(os.environ):
        return config_of_environment(os.environ)
    raise ConfigError(str(DEFAULT_CONFIG), tuple(_missing_configuration(os.environ)))


def configuration_file(arguments: argparse.Namespace) -> Path | None:
    """Return the configuration file; None where the environment is the configuration."""
    path: Path | None = arguments.config_file
    return path or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def exporter_options(arguments: argparse.Namespace, *, serving: bool = False) -> Options:
    """Return the options of an exporter; only one that serves keeps counts in the state file."""
    shard = choose_shard(arguments.shard, arguments.total_shards, os.environ)
    return Options(os.environ, process_metrics=serving, keep_state=serving, shard=shard)


def warn_of_regions(config: Config) -> None:
    """Log which regions are probably misspelt."""
    for project in config.projects:
        if project.region_doubt:
            fields = {"project": project.name, "problem": project.region_doubt}
            logger.warning("the region is probably misspelt", extra={"fields": fields})


def _missing_configuration(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Name the variables that replace a file, and the missing half of each key."""
    keys = ", or ".join(" and ".join(pair) for pair in ENVIRONMENT_NAMES)
    regions = ", ".join(REGION_NAMES)
    yield Problem("", "does not exist")
    yield Problem(ENVIRONMENT, f"without a file, set {keys}, and one of {regions}")
    for pair in ENVIRONMENT_NAMES:
        for missing, given in (pair, pair[::-1]):
            if environ.get(given, "").strip():
                yield Problem(missing, f"is missing: only {given} is set")
