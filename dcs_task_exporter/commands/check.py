"""The command `check`: report every mistake of the configuration, the flags and their files.

It asks the cloud nothing; with ``--online``, `check_online` does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from dcs_task_exporter.arguments import UsageError
from dcs_task_exporter.commands.check_online import check_online, counted, rule_keys
from dcs_task_exporter.commands.configuration import (
    configuration,
    configuration_file,
    exporter_options,
)
from dcs_task_exporter.commands.output import say, warn
from dcs_task_exporter.config.environment import ENVIRONMENT
from dcs_task_exporter.config.model import Config, ProjectConfig
from dcs_task_exporter.credentials.sources import check_this_machine
from dcs_task_exporter.errors import ConfigError, CredentialsError, MistakesError, Problem
from dcs_task_exporter.refresh.sharding import Shard
from dcs_task_exporter.state.permissions import exposures
from dcs_task_exporter.web.web_config_file import WebConfigFile

Made = TypeVar("Made")


def check(arguments: argparse.Namespace) -> bool:
    """Check everything that serving would use; raises `MistakesError`."""
    if arguments.verbose and not arguments.online:
        message = "--verbose needs --online: it lists the instances that --online reads"
        raise UsageError(message)
    errors: list[ConfigError] = []
    config = _attempt(partial(configuration, arguments), errors)
    web_config: Path | None = arguments.web_config_file
    if web_config is not None:
        _attempt(partial(WebConfigFile, web_config), errors)
    options = _attempt(partial(exporter_options, arguments), errors)
    source = str(configuration_file(arguments) or ENVIRONMENT)
    if config is not None:
        problems = tuple(_problems(config, os.environ))
        errors += [ConfigError(source, problems)] if problems else []
    if errors or config is None or options is None:
        raise MistakesError("\n".join(map(str, errors)))
    for path in filter(None, (source, web_config)):
        say(f"{path}: valid")
    _say_plan(config, options.shard)
    for problem in exposures(config.state.path) if config.state.path else ():
        warn(f"warning: state.path: {problem}")
    return not arguments.online or check_online(config, options, verbose=arguments.verbose)


def _attempt(make: Callable[[], Made], errors: list[ConfigError]) -> Made | None:
    try:
        return make()
    except ConfigError as error:
        errors.append(error)
        return None


def _problems(config: Config, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem for each project without a usable key, and for an unusable state file."""
    for at, project in enumerate(config.projects):
        try:
            check_this_machine(project.credentials, environ)
        except CredentialsError as error:
            yield Problem(f"projects[{at}].credentials", str(error))
    if config.state.path is not None and (reason := _state_problem(config.state.path)):
        yield Problem("state.path", f"cannot be used: {reason}")


def _state_problem(path: Path) -> str:
    """Return why no state file can be kept at `path`, or nothing; the file is left unchanged."""
    try:
        if path.exists():
            if not path.is_file():
                return f"{path} is no regular file"
            path.open("r+b").close()
    except OSError as error:
        return f"{path}: {error.strerror}"
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        return f"no file can be made in {path.parent}: {error.strerror}"
    return ""


def _say_plan(config: Config, shard: Shard) -> None:
    for project in config.projects:
        if project.region_doubt:
            warn(f"warning: project {project.name}: {project.region_doubt}")
        say(f"project {project.name}: watches {', and '.join(_watched(project))}")
    if shard.total > 1:
        say(f"shard {shard.index} of {shard.total}: reads its share of them")


def _watched(project: ProjectConfig) -> Iterator[str]:
    if project.instances:
        yield f"{counted(len(project.instances), 'instance')} of the configuration"
    if project.discovery.enabled:
        rules = ", ".join(rule_keys(project.discovery))
        yield f"all instances that discovery finds{rules and f' and its rules ({rules}) admit'}"
