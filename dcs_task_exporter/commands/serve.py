"""The command `serve`: answer scrapes until a signal ends it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.commands.configuration import configuration, exporter_options
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection
from dcs_task_exporter.commands.systemd import ServiceManager
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.web.guard import Guard
from dcs_task_exporter.web.listen import address_of, passed_sockets
from dcs_task_exporter.web.server import WebServer

HANGUP: Final = "SIGHUP"
"""A closed terminal; other exporters reload their configuration at it. Windows has none."""

logger = logging.getLogger(__name__)


def serve(arguments: argparse.Namespace) -> bool:
    """Serve the metrics until SIGTERM or SIGINT."""
    is_passed: bool = arguments.web_systemd_socket
    passed = passed_sockets(os.environ, os.getpid()) if is_passed else ()
    config = configuration(arguments)
    web_config: Path | None = arguments.web_config_file
    guard = Guard(web_config, Clock()) if web_config else None
    options = replace(exporter_options(arguments, serving=True), guard=guard)
    exporter = Exporter(config, options)
    for project in config.projects:
        if project.region_doubt:
            fields = {"project": project.name, "problem": project.region_doubt}
            logger.warning("the region is probably misspelt", extra={"fields": fields})
    try:
        serve_until_signal(exporter, arguments, guard=guard, passed=passed)
    finally:
        exporter.stop()
    return True


def serve_until_signal(
    exporter: Exporter,
    arguments: argparse.Namespace,
    *,
    guard: Guard | None = None,
    sockets: Sequence[socket.socket] = (),
    passed: Sequence[socket.socket] = (),
    hangup_ends: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, and with `hangup_ends` until SIGHUP too.

    `sockets`, where given, already listen on the addresses; `passed` take the place of both.
    """
    manager = ServiceManager(os.environ, Clock().monotonic, os.getpid())
    with _signals() as arriving:
        server = _server(exporter, arguments, guard, sockets, passed, manager.beat)
        tune_garbage_collection()
        exporter.fleet.start()
        server.start()
        fields = {
            "url": server.url,
            "version": __version__,
            "instances": len(exporter.refresher.snapshots()),
        }
        logger.info("listening", extra={"fields": fields})
        manager.ready()
        try:
            while next(arriving) == HANGUP and not hangup_ends:
                logger.warning(
                    "SIGHUP is ignored: reload is not supported yet, restart the exporter"
                )
            logger.info("stopping")
        finally:
            manager.stopping()
            server.stop()


def _server(
    exporter: Exporter,
    arguments: argparse.Namespace,
    guard: Guard | None,
    sockets: Sequence[socket.socket],
    passed: Sequence[socket.socket],
    beat: Callable[[], object],
) -> WebServer:
    app, tls = exporter.app(arguments.web_telemetry_path), None
    if guard:
        app, tls = guard.app(app), guard.tls()
    addresses = [address_of(one) for one in passed] or arguments.web_listen_address
    return WebServer(app, addresses, tls=tls, sockets=passed or sockets, beat=beat)


@contextmanager
def _signals() -> Iterator[Iterator[str]]:
    """Yield the names of the signals that arrive, as an iterator that waits for each."""
    # By a socket: a handler that runs just before the main thread waits would not wake it.
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # noqa: FBT003 - the library's own
    with receiver, sender:
        signal.set_wakeup_fd(sender.fileno())
        for name in ("SIGTERM", "SIGINT", HANGUP):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: None)
        try:
            yield iter(lambda: signal.Signals(receiver.recv(1)[0]).name, "")
        finally:
            signal.set_wakeup_fd(-1)
