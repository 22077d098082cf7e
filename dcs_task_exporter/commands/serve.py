"""The command `serve`: answer scrapes until a signal ends it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp

from dcs_task_exporter import __version__
from dcs_task_exporter.clock import Clock
from dcs_task_exporter.commands.configuration import (
    configuration,
    configuration_file,
    exporter_options,
    warn_of_regions,
)
from dcs_task_exporter.commands.garbage_collection import tune_garbage_collection
from dcs_task_exporter.commands.reloading import Reloader
from dcs_task_exporter.commands.systemd import ServiceManager
from dcs_task_exporter.exporter import Exporter
from dcs_task_exporter.web.access_control import AccessControl
from dcs_task_exporter.web.listen import address_of, passed_sockets
from dcs_task_exporter.web.server import WebServer

HANGUP: Final = "SIGHUP"
"""A closed terminal, or the wish to reload the configuration. Windows has none."""

QUIET: Final = ""
"""In place of a signal: none has arrived for a while."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reloading:
    """How the configuration is reloaded, beside by SIGHUP.

    With `by_web` web clients may ask for it; with an `interval`, in seconds, the files are looked
    at that often.
    """

    reloader: Reloader
    by_web: bool = False
    interval: float = 0.0


def serve(arguments: argparse.Namespace) -> bool:
    """Serve the metrics until SIGTERM or SIGINT."""
    is_passed: bool = arguments.web_systemd_socket
    passed = passed_sockets(os.environ, os.getpid()) if is_passed else ()
    path, config = configuration_file(arguments), configuration(arguments)
    web_config: Path | None = arguments.web_config_file
    access_control = AccessControl(web_config, Clock()) if web_config else None
    options = replace(exporter_options(arguments, serving=True), access_control=access_control)
    exporter = Exporter(config, options)
    warn_of_regions(config)
    manager = service_manager()
    reloading = Reloading(
        Reloader(exporter, path, os.environ, access_control, manager.reloading),
        arguments.web_enable_lifecycle,
        arguments.config_auto_reload_interval,
    )
    try:
        serve_until_signal(
            exporter,
            arguments,
            manager,
            access_control=access_control,
            passed=passed,
            reloading=reloading,
        )
    finally:
        exporter.stop()
    return True


def service_manager() -> ServiceManager:
    """Return the service manager that started this process, if any did."""
    return ServiceManager(os.environ, Clock().monotonic, os.getpid())


def serve_until_signal(
    exporter: Exporter,
    arguments: argparse.Namespace,
    manager: ServiceManager,
    *,
    access_control: AccessControl | None = None,
    sockets: Sequence[socket.socket] = (),
    passed: Sequence[socket.socket] = (),
    reloading: Reloading | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; at SIGHUP reload the configuration, or end without that.

    `sockets`, where given, already listen on the addresses; `passed` take the place of both.
    """
    with _signals(reloading.interval if reloading else 0.0) as arriving:
        reload = reloading.reloader.reload if reloading and reloading.by_web else None
        app = exporter.app(arguments.web_telemetry_path, reload)
        server = _server(app, arguments, access_control, sockets, passed, manager.beat)
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
            for name in arriving:
                if reloading is None or name not in (HANGUP, QUIET):
                    break
                if name == HANGUP:
                    reloading.reloader.try_reload()
                else:
                    reloading.reloader.reload_if_changed()
            logger.info("stopping")
        finally:
            manager.stopping()
            server.stop()


def _server(
    app: ASGIApp,
    arguments: argparse.Namespace,
    access_control: AccessControl | None,
    sockets: Sequence[socket.socket],
    passed: Sequence[socket.socket],
    beat: Callable[[], object],
) -> WebServer:
    tls = None
    if access_control:
        app, tls = access_control.app(app), access_control.tls()
    addresses = [address_of(one) for one in passed] or arguments.web_listen_address
    return WebServer(app, addresses, tls=tls, sockets=passed or sockets, beat=beat)


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
