"""The command `serve`: answer scrapes until a signal ends it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from starlette.types import ASGIApp

from dcs_task_exporter import __version__
from dcs_task_exporter.commands.configuration import (
    configuration,
    configuration_file,
    exporter_options,
    warn_of_regions,
)
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection
from dcs_task_exporter.commands.reloading import Reloader
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.web.basic_auth import BasicAuth
from dcs_task_exporter.web.server import WebServer
from dcs_task_exporter.web.web_config import WebConfigFile

HANGUP: Final = "SIGHUP"
"""A closed terminal, or the wish to reload the configuration. Windows has none."""

QUIET: Final = ""
"""In place of a signal: none has arrived for a while."""

logger = logging.getLogger(__name__)


def serve(arguments: argparse.Namespace) -> bool:
    """Serve the metrics until SIGTERM or SIGINT."""
    path, config = configuration_file(arguments), configuration(arguments)
    exporter = Exporter(config, exporter_options(arguments, serving=True))
    warn_of_regions(config)
    try:
        web_config = WebConfigFile(arguments.web_config_file) if arguments.web_config_file else None
        reloader = Reloader(exporter, path, os.environ, web_config)
        serve_until_signal(
            exporter,
            arguments,
            web_config=web_config,
            reloader=reloader,
            enable_lifecycle=arguments.web_enable_lifecycle,
            interval=arguments.config_auto_reload_interval,
        )
    finally:
        exporter.stop()
    return True


def serve_until_signal(
    exporter: Exporter,
    arguments: argparse.Namespace,
    *,
    web_config: WebConfigFile | None = None,
    sockets: Sequence[socket.socket] = (),
    reloader: Reloader | None = None,
    enable_lifecycle: bool = False,
    interval: float = 0.0,
) -> None:
    """Serve until SIGTERM or SIGINT; at SIGHUP reload by the `reloader`, or end without one.

    With `enable_lifecycle` web clients may ask for a reload; with an `interval`, in seconds, the
    configuration is reloaded when it has changed. `sockets`, where given, already listen.
    """
    with _signals(interval) as arriving:
        reload = reloader.reload if reloader and enable_lifecycle else None
        app = exporter.app(arguments.web_telemetry_path, reload)
        server = _server(app, arguments, web_config, sockets)
        tune_garbage_collection()
        exporter.fleet.start()
        server.start()
        fields = {
            "url": server.url,
            "version": __version__,
            "instances": len(exporter.refresher.snapshots()),
        }
        logger.info("listening", extra={"fields": fields})
        try:
            for name in arriving:
                if reloader is None or name not in (HANGUP, QUIET):
                    break
                if name == HANGUP:
                    reloader.try_reload()
                else:
                    reloader.reload_if_changed()
            logger.info("stopping")
        finally:
            server.stop()


def _server(
    app: ASGIApp,
    arguments: argparse.Namespace,
    web_config: WebConfigFile | None,
    sockets: Sequence[socket.socket],
) -> WebServer:
    tls = None
    if web_config is not None:
        app, tls = BasicAuth(app, web_config.current), web_config.server_context()
    return WebServer(app, arguments.web_listen_address, tls=tls, sockets=sockets)


@contextmanager
def _signals(interval: float) -> Iterator[Iterator[str]]:
    """Yield the names of the signals that arrive, as an endless iterator that waits for each.

    With an `interval`, in seconds, it waits no longer than that, and yields `QUIET` then.
    """
    # By a socket: a handler that runs just before the main thread waits would not wake it.
    receiver, sender = socket.socketpair()
    sender.setblocking(False)  # noqa: FBT003 - the library's own
    with receiver, sender:
        signal.set_wakeup_fd(sender.fileno())
        for name in ("SIGTERM", "SIGINT", HANGUP):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: None)
        try:
            receiver.settimeout(interval or None)
            yield iter(lambda: _next_signal(receiver), None)
        finally:
            signal.set_wakeup_fd(-1)


def _next_signal(receiver: socket.socket) -> str:
    try:
        return signal.Signals(receiver.recv(1)[0]).name
    except TimeoutError:
        return QUIET
