"""The command `serve`: answer scrapes until a signal ends it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.commands.configuration import configuration, exporter_options
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection
from dcs_task_exporter.commands.systemd import ServiceManager
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.web.basic_auth import BasicAuth
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.web_config import WebConfigFile

HANGUP: Final = "SIGHUP"
"""A closed terminal; other exporters reload their configuration at it. Windows has none."""

logger = logging.getLogger(__name__)


def serve(arguments: argparse.Namespace) -> bool:
    """Serve the metrics until SIGTERM or SIGINT."""
    config = configuration(arguments)
    exporter = Exporter(config, exporter_options(arguments, serving=True))
    for project in config.projects:
        if project.region_doubt:
            fields = {"project": project.name, "problem": project.region_doubt}
            logger.warning("the region is probably misspelt", extra={"fields": fields})
    try:
        serve_until_signal(exporter, arguments, web_config=arguments.web_config_file)
    finally:
        exporter.stop()
    return True


def serve_until_signal(
    exporter: Exporter,
    arguments: argparse.Namespace,
    *,
    web_config: Path | None = None,
    sockets: Sequence[socket.socket] = (),
    hangup_ends: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, and with `hangup_ends` until SIGHUP too.

    `sockets`, where given, already listen on the addresses.
    """
    manager = ServiceManager(os.environ, Clock().monotonic, os.getpid())
    with _signals() as arriving:
        server = _server(exporter, arguments, web_config, sockets, manager.beat)
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
    web_config: Path | None,
    sockets: Sequence[socket.socket],
    beat: Callable[[], object],
) -> WebServer:
    app, tls = exporter.app(arguments.web_telemetry_path), None
    if web_config:
        config_file = WebConfigFile(web_config)
        app, tls = BasicAuth(app, config_file.current), config_file.server_context()
    return WebServer(app, arguments.web_listen_address, tls=tls, sockets=sockets, beat=beat)


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
