"""The commands; returns exit statuses and never ends the process itself.

Exit status 0: done; 1: what was asked for failed; 2: the configuration or a flag is wrong; 130: it
was interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TextIO, TypeVar

from prometheus_client import generate_latest
from starlette.types import ASGIApp

from dcs_task_exporter import __version__
from dcs_task_exporter.cloud.credentials import ENVIRONMENT_NAMES, has_key
from dcs_task_exporter.commands.check import (
    check_online,
    key_problems,
    say_what_is_watched,
    state_problems,
)
from dcs_task_exporter.commands.process import tune_garbage_collection
from dcs_task_exporter.commands.report import tasks_json, tasks_table
from dcs_task_exporter.config.model import (
    ENVIRONMENT,
    REGION_NAMES,
    Config,
    config_of_environment,
    load_config,
)
from dcs_task_exporter.demo.run import run_demo
from dcs_task_exporter.errors import ConfigError, ExporterError, Problem
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.flags import DEFAULT_CONFIG, PROGRAM, UsageError, help_of, parse_flags
from dcs_task_exporter.logs.formats import set_up_logging
from dcs_task_exporter.refresh.sharding import choose_shard
from dcs_task_exporter.state.database import StateLockedError
from dcs_task_exporter.web.app import create_app
from dcs_task_exporter.web.guard import WebGuard
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.web_config import WebConfigFile

PATIENCE: Final = 60.0
"""Seconds that a command waits for the cloud, beside what the budget makes a pass take."""

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

Made = TypeVar("Made")

RELOAD_SIGNAL: Final = "SIGHUP"
"""The signal that other exporters read their configuration again at; Windows has none."""

logger = logging.getLogger(__name__)


class OutputError(ExporterError):
    """What a command prints cannot be written."""


class ReaderGoneError(OutputError):
    """Who read the output has closed it, as `head` does: there is nobody to tell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except ReaderGoneError:
        return FAILED
    except ConfigError as error:
        _write(f"{error}\n", sys.stderr)
        return MISUSED
    except (UsageError, StateLockedError) as error:
        _write(f"{PROGRAM}: {error}\n", sys.stderr)
        return MISUSED
    except ExporterError as error:
        _write(f"{PROGRAM}: {error}\n", sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        _write(f"{PROGRAM}: interrupted\n", sys.stderr)
        return INTERRUPTED


def _run(argv: Sequence[str]) -> int:
    arguments = parse_flags(argv)
    if arguments.help:
        _write(help_of(arguments.command, with_commands=arguments.is_default), sys.stdout)
        return OK
    if arguments.version:
        _say(f"{PROGRAM} {__version__}")
        return OK
    log = set_up_logging(arguments.log_level, arguments.log_format, sys.stderr)
    run = {"serve": _serve, "check": _check, "scrape": _scrape, "tasks": _tasks, "demo": _demo}
    try:
        return run[arguments.command](arguments)
    finally:
        log.close()


def _config(arguments: argparse.Namespace) -> Config:
    """Return the configuration of the file, or of the environment where there is no file."""
    path = _source(arguments)
    if path is not None:
        return load_config(path, os.environ)
    if has_key(os.environ):
        return config_of_environment(os.environ)
    raise ConfigError(str(DEFAULT_CONFIG), tuple(_of_no_configuration(os.environ)))


def _source(arguments: argparse.Namespace) -> Path | None:
    """Return the configuration file, None where there is none."""
    path: Path | None = arguments.config_file
    return path or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def _of_no_configuration(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Say that there is no file, which variables would do instead, and where one has no twin."""
    keys = ", or ".join(" and ".join(pair) for pair in ENVIRONMENT_NAMES)
    regions = ", ".join(REGION_NAMES)
    yield Problem("", "is not there")
    yield Problem(ENVIRONMENT, f"without a file, set {keys}, and one of {regions}")
    for pair in ENVIRONMENT_NAMES:
        for missing, given in (pair, pair[::-1]):
            if environ.get(given, "").strip():
                yield Problem(missing, f"is missing: {given} is set without it")


def _options(arguments: argparse.Namespace, *, serving: bool = False) -> Options:
    """Return what surrounds the exporter: one that does not serve leaves the counts alone."""
    shard = choose_shard(arguments.shard, arguments.total_shards, os.environ)
    return Options(os.environ, process_metrics=serving, keep_state=serving, shard=shard)


def _serve(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    exporter = Exporter(config, _options(arguments, serving=True))
    for project in config.projects:
        if project.region_doubt:
            fields = {"project": project.name, "problem": project.region_doubt}
            logger.warning("the region is probably misspelt", extra={"fields": fields})
    try:
        serve_until_told(exporter, arguments)
    finally:
        exporter.stop()
    return OK


def serve_until_told(
    exporter: Exporter,
    arguments: argparse.Namespace,
    sockets: Sequence[socket.socket] = (),
    *,
    outlives_terminal: bool = True,
) -> None:
    """Serve until SIGTERM or SIGINT; on `sockets`, where they listen already.

    Until SIGHUP too if it is not to outlive its terminal.
    """
    path: Path | None = vars(arguments).get("web_config_file")  # the demo has none
    web_config = WebConfigFile(path) if path else None
    # Not by what a handler does: one that runs just before the main thread waits does not wake it.
    told, teller = socket.socketpair()
    teller.setblocking(False)  # noqa: FBT003 - the library's own
    signal.set_wakeup_fd(teller.fileno())
    for name in ("SIGTERM", "SIGINT", RELOAD_SIGNAL):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)
    app: ASGIApp = create_app(exporter, exporter.web_settings(arguments.telemetry_path))
    tls = web_config.server_context() if web_config else None
    (host, port), *more = arguments.addresses or [arguments.default_address]
    guarded = WebGuard(app, web_config) if web_config else app
    server = WebServer(guarded, host, port, more=more, tls=tls, sockets=sockets)
    tune_garbage_collection()
    exporter.start()
    server.start()
    fields = {"url": server.url, "version": __version__, "instances": len(exporter.snapshots())}
    logger.info("listening", extra={"fields": fields})
    try:
        while signal.Signals(told.recv(1)[0]).name == RELOAD_SIGNAL and outlives_terminal:
            logger.warning("SIGHUP is ignored: reload is not supported yet, restart the exporter")
        logger.info("stopping")
    finally:
        server.stop()
        signal.set_wakeup_fd(-1)
        told.close()
        teller.close()


def _check(arguments: argparse.Namespace) -> int:
    """Check the configuration, the flags and the web configuration; say every mistake at once."""
    if arguments.verbose and not arguments.online:
        message = "--verbose needs --online: it says how many instances that one lists"
        raise UsageError(message)
    found: list[ConfigError] = []
    config = _attempt(partial(_config, arguments), found)
    web_config = arguments.web_config_file
    if web_config is not None:
        _attempt(partial(WebConfigFile, web_config), found)
    options = _attempt(partial(_options, arguments), found)
    source = str(_source(arguments) or ENVIRONMENT)
    if config is not None:
        problems = (*key_problems(config, os.environ), *state_problems(config.state.path))
        found += [ConfigError(source, problems)] if problems else []
    if found or config is None or options is None:
        _write("".join(f"{error}\n" for error in found), sys.stderr)
        return MISUSED
    for path in (source, web_config):
        if path is not None:
            _say(f"{path}: valid")
    for project in config.projects:
        if project.region_doubt:
            _write(f"warning: project {project.name}: {project.region_doubt}\n", sys.stderr)
    say_what_is_watched(config, options.shard, _say)
    if not arguments.online:
        return OK
    exporter = Exporter(config, options)
    try:
        verdict = check_online(config, exporter, PATIENCE, _say, verbose=arguments.verbose)
        _say_problems(exporter)
    finally:
        exporter.stop()
    _say(str(verdict))  # after the last line of the log
    return OK if verdict.ok else FAILED


def _attempt(make: Callable[[], Made], found: list[ConfigError]) -> Made | None:
    try:
        return make()
    except ConfigError as error:
        found.append(error)
        return None


def _say_problems(exporter: Exporter) -> None:
    """Say on stderr what is wrong with the clock, and which instances are not even known."""
    late = [
        f"The instances of project {discovery.project} were not listed in time."
        for discovery in exporter.discoveries
        if not discovery.status.up and not discovery.status.problem
    ]
    for sentence in (*exporter.problems(), *late):
        _write(f"{PROGRAM}: {sentence}\n", sys.stderr)


def _outcome(exporter: Exporter) -> int:
    """Return the exit status of one pass; say what is wrong beside the instances."""
    _say_problems(exporter)
    listed = all(discovery.status.up for discovery in exporter.discoveries)
    return OK if listed and all(snapshot.up for snapshot in exporter.snapshots()) else FAILED


def _scrape(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    exporter = Exporter(config, _options(arguments))
    try:
        exporter.read_everything(PATIENCE)
        _write(generate_latest(exporter.registry).decode(), sys.stdout)
        return _outcome(exporter)
    finally:
        exporter.stop()


def _tasks(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    exporter = Exporter(config, _options(arguments))
    try:
        exporter.read_everything(PATIENCE)
        snapshots, statuses = exporter.snapshots(), config.status_words.table()
        report = tasks_json if arguments.json else tasks_table
        _write(report(snapshots, statuses), sys.stdout)
        return _outcome(exporter)
    finally:
        exporter.stop()


def _demo(arguments: argparse.Namespace) -> int:
    run_demo(
        lambda exporter, sockets: serve_until_told(
            exporter, arguments, sockets, outlives_terminal=False
        ),
        _say,
        arguments,
    )
    return OK


def _say(text: str) -> None:
    _write(f"{text}\n", sys.stdout)


def _write(text: str, stream: TextIO | None) -> None:
    """Write a text; a stream that was closed before the start takes none."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # What is left in the buffer would fail once more when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from None
        message = f"cannot write the output: {error.strerror}"
        raise OutputError(message) from None
