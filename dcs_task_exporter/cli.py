"""The commands and their flags; returns exit statuses and never ends the process itself.

Exit status 0: done; 1: what was asked for failed; 2: the configuration or a flag is wrong.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from prometheus_client import generate_latest
from starlette.types import ASGIApp

from dcs_task_exporter import __version__
from dcs_task_exporter.config import (
    ENVIRONMENT,
    REGION_NAMES,
    Config,
    ProjectConfig,
    config_of_environment,
    load_config,
)
from dcs_task_exporter.credentials import ENVIRONMENT_NAMES, has_key
from dcs_task_exporter.demo import run_demo
from dcs_task_exporter.discovery import DiscoveryStatus
from dcs_task_exporter.errors import (
    ApiError,
    ConfigError,
    ExporterError,
    Problem,
)
from dcs_task_exporter.exporter import Exporter, Options
from dcs_task_exporter.logs import FORMATS, LEVELS, set_up_logging
from dcs_task_exporter.process import tune_garbage_collection
from dcs_task_exporter.report import tasks_json, tasks_table
from dcs_task_exporter.sharding import choose_shard
from dcs_task_exporter.state import StateLockedError
from dcs_task_exporter.web.app import WebSettings, create_app
from dcs_task_exporter.web.guard import WebGuard
from dcs_task_exporter.web.server import WebServer, parse_listen_address
from dcs_task_exporter.web.toolkit import WebConfigFile

DEFAULT_CONFIG: Final = Path("dcs-task-exporter.yml")
DEFAULT_ADDRESS: Final = ":39327"
PATIENCE: Final = 60.0
"""Seconds that a command waits for the cloud, beside what the budget makes a pass take."""

CENTER_WINDOW: Final = 3600.0
"""Seconds of the task centre's history that `check --online` asks for."""

RULES: Final = ("include", "exclude", "tags", "statuses", "engines")
"""The keys of discovery that say which instances are watched."""

OK, FAILED, MISUSED = 0, 1, 2

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = build_parser().parse_args(argv)
    log = set_up_logging(arguments.log_level, arguments.log_format, sys.stderr)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except ConfigError as error:
        problem, status = str(error), MISUSED
    except StateLockedError as error:
        problem, status = f"dcs-task-exporter: {error}", MISUSED
    except ExporterError as error:
        problem, status = f"dcs-task-exporter: {error}", FAILED
    finally:
        log.close()
    print(problem, file=sys.stderr)  # noqa: T201 - for the person who started it
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and flags."""
    common = argparse.ArgumentParser(add_help=False)
    _add_common_flags(common)
    parser = argparse.ArgumentParser(
        prog="dcs-task-exporter",
        description="Prometheus exporter for the background tasks of Huawei Cloud DCS.",
        epilog="Without a command, it serves. Every command has its own --help.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_web_flags(parser)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="")
    serve = commands.add_parser("serve", help="serve /metrics (the default)", parents=[common])
    _add_web_flags(serve)
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check", help="check the configuration", parents=[common])
    check.add_argument(
        "--online", action="store_true", help="also try the credentials and read each instance"
    )
    check.set_defaults(run=_check)
    scrape = commands.add_parser(
        "scrape", help="read all instances once and print the metrics", parents=[common]
    )
    scrape.set_defaults(run=_scrape)
    tasks = commands.add_parser(
        "tasks", help="read all instances once and list their latest tasks", parents=[common]
    )
    tasks.add_argument("--json", action="store_true", help="a JSON object for each instance")
    tasks.set_defaults(run=_tasks)
    demo = commands.add_parser(
        "demo", help="run against a simulated cloud, without an account", parents=[common]
    )
    _add_web_flags(demo, address="127.0.0.1:39327")
    demo.set_defaults(run=_demo)
    return parser


def _add_common_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        metavar="PATH",
        help=f"configuration file (default: {DEFAULT_CONFIG}, or the environment without one)",
    )
    parser.add_argument(
        "--total-shards",
        dest="total_shards",
        type=int,
        default=1,
        metavar="N",
        help="number of exporters that share the instances (default: %(default)s)",
    )
    parser.add_argument(
        "--shard",
        dest="shard",
        type=int,
        metavar="I",
        help="which of them this one is, from 0 (default: the number of the StatefulSet's pod)",
    )
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=LEVELS,
        default="info",
        help="lowest level that is logged (default: %(default)s)",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        choices=FORMATS,
        default="logfmt",
        help="form of a log line (default: %(default)s)",
    )


def _add_web_flags(parser: argparse.ArgumentParser, address: str = DEFAULT_ADDRESS) -> None:
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=_listen_address,
        metavar="HOST:PORT",
        help=f"address to listen on; may be repeated (default: {address})",
    )
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        type=_url_path,
        default="/metrics",
        metavar="PATH",
        help="path of the metrics (default: %(default)s)",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        metavar="PATH",
        help="TLS, basic auth and headers, in the exporter-toolkit's format (default: none)",
    )
    parser.set_defaults(default_address=parse_listen_address(address))


def _listen_address(text: str) -> tuple[str, int]:
    try:
        return parse_listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url_path(text: str) -> str:
    message = f"not a path for metrics: {text!r}; write it like /metrics"
    if text == "/":
        raise argparse.ArgumentTypeError(message)
    try:
        return WebSettings(telemetry_path=text).telemetry_path
    except ValueError:
        raise argparse.ArgumentTypeError(message) from None


def _config(arguments: argparse.Namespace) -> Config:
    """Return the configuration of the file, or of the environment where there is no file."""
    path = arguments.config_file
    if path is not None or DEFAULT_CONFIG.exists():
        return load_config(path or DEFAULT_CONFIG, os.environ)
    if has_key(os.environ):
        return config_of_environment(os.environ)
    raise ConfigError(str(DEFAULT_CONFIG), tuple(_of_no_configuration(os.environ)))


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
    exporter = Exporter(_config(arguments), _options(arguments, serving=True))
    try:
        serve_until_told(exporter, arguments)
    finally:
        exporter.stop()
    return OK


def serve_until_told(exporter: Exporter, arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    web_config = WebConfigFile(arguments.web_config_file) if arguments.web_config_file else None
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    app: ASGIApp = create_app(exporter, exporter.web_settings(arguments.telemetry_path))
    tls = web_config.server_context() if web_config else None
    (host, port), *more = arguments.addresses or [arguments.default_address]
    server = WebServer(
        WebGuard(app, web_config) if web_config else app, host, port, more=more, tls=tls
    )
    tune_garbage_collection()
    exporter.start()
    server.start()
    fields = {"url": server.url, "version": __version__, "instances": len(exporter.snapshots())}
    logger.info("listening", extra={"fields": fields})
    try:
        told.wait()
        logger.info("stopping")
    finally:
        server.stop()


def _check(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    options = _options(arguments)
    count = sum(len(project.instances) for project in config.projects)
    source = arguments.config_file or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else "environment")
    _say(f"{source}: {len(config.projects)} project(s), {count} instance(s), valid")
    if not arguments.online:
        return OK
    exporter = Exporter(config, options)
    try:
        return _check_online(config, exporter)
    finally:
        exporter.stop()


def _check_online(config: Config, exporter: Exporter) -> int:
    """Try each project's credentials and each instance; say what was found."""
    there = {project.name: _try_listing(project, exporter) for project in config.projects}
    centers = [
        _try_task_center(project, exporter)
        for project in config.projects
        if project.task_center.enabled
    ]
    exporter.read_everything(PATIENCE)
    statuses = {discovery.project: discovery.status for discovery in exporter.discoveries}
    for project in config.projects:
        if project.name in statuses:
            _say_what_is_watched(project, statuses[project.name], there[project.name])
    for snapshot in exporter.snapshots():
        failure, figures = snapshot.failure, snapshot.figures
        told = f"{len(figures.tasks)} recent task(s)" if figures else "not read in time"
        if failure is not None:
            told = f"{failure.reason}: {failure.message} {failure.error_code}".rstrip()
        _say(f"instance {snapshot.instance.name} ({snapshot.instance.id}): {told}")
    for name, seconds in exporter.pass_times().items():
        _say(
            f"project {name}: a full pass takes {max(0.1, seconds):.1f} s at "
            f"{config.collector.requests_per_second:g} requests per second, more where listings "
            "have several pages"
        )
    return max(_outcome(exporter), OK if all(centers) else FAILED)


def _try_listing(project: ProjectConfig, exporter: Exporter) -> int | None:
    """List the instances of a project; return how many there are, None if nobody knows."""
    deadline = Options().clocks.monotonic() + PATIENCE
    try:
        found = exporter.clients[project.name].list_instances(deadline)
    except ApiError as error:
        # Listing instances is a permission of its own; reading tasks may work without it.
        _say(f"project {project.name}: instances cannot be listed: {error}")
        return None
    _say(f"project {project.name}: the credentials work; {len(found)} instance(s) there")
    for item in found:
        engine = f"{item.engine} {item.engine_version}"
        _say(f"  {item.id}  {item.name}  {engine}  {item.status}".rstrip())
    return len(found)


def _try_task_center(project: ProjectConfig, exporter: Exporter) -> bool:
    """Ask the task centre once; return whether it answers."""
    clocks = Options().clocks
    start, deadline = clocks.now() - CENTER_WINDOW, clocks.monotonic() + PATIENCE
    try:
        tasks, _ = exporter.clients[project.name].list_center_tasks(start, deadline)
    except ApiError as error:
        _say(f"project {project.name}: the task centre does not work: {error}")
        return False
    _say(f"project {project.name}: the task centre works; {len(tasks)} task(s) of the last hour")
    return True


def _say_what_is_watched(
    project: ProjectConfig, status: DiscoveryStatus, there: int | None
) -> None:
    """Say how many of a project's instances discovery watches."""
    if not status.up and there != 0:
        return  # the end of the check says why
    rules = [key for key in RULES if getattr(project.discovery, key)]
    told = str(status.instances or "NONE") + ("" if there is None else f" of {there} instance(s)")
    if there and not status.instances:
        told += f": the rules of discovery ({', '.join(rules)}) admit none"
    _say(f"project {project.name}: discovery watches {told}")


def _outcome(exporter: Exporter) -> int:
    """Return the exit status of one pass; say on stderr which instances are not even known."""
    statuses = [discovery.status for discovery in exporter.discoveries]
    late = [
        f"The instances of project {status.project} were not listed in time."
        for status in statuses
        if not status.up and not status.problem
    ]
    for sentence in (*exporter.problems(), *late):
        _write(f"dcs-task-exporter: {sentence}\n", sys.stderr)
    listed = all(status.up for status in statuses)
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
    run_demo(lambda exporter: serve_until_told(exporter, arguments), _say, arguments)
    return OK


def _say(text: str) -> None:
    _write(f"{text}\n", sys.stdout)


def _write(text: str, stream: TextIO) -> None:
    stream.write(text)
    stream.flush()
