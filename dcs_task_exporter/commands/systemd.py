"""What the exporter tells the service manager that started it: systemd's `sd_notify`.

Nothing is sent unless the service manager asks for it with ``NOTIFY_SOCKET``.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
"""The variable with the path of the service manager's socket; ``@`` begins an abstract one."""

WATCHDOG_USEC: Final = "WATCHDOG_USEC"
"""The variable with the microseconds of silence after which the process is killed."""

WATCHDOG_PID: Final = "WATCHDOG_PID"
"""The variable with the id of the process that must not be silent."""

BEATS: Final = 4
"""Beats in the time of the watchdog: some may be late."""

SEND_PATIENCE: Final = 5.0
"""Seconds that a message may take, if the service manager does not read; a beat may take none."""

logger = logging.getLogger(__name__)


class ServiceManager:
    """Tells the service manager when the exporter is ready, reloads, stops, and is alive.

    `environ` says where it listens, and `monotonic` returns seconds of the system's monotonic
    clock. A message that cannot be sent costs nothing but a line in the log.
    """

    def __init__(
        self, environ: Mapping[str, str], monotonic: Callable[[], float], process_id: int
    ) -> None:
        self._socket = environ.get(NOTIFY_SOCKET, "")
        self._monotonic = monotonic
        self._interval = _watchdog_interval(environ, process_id) if self._socket else None
        self._next_beat = monotonic()

    def ready(self) -> None:
        """Say that scrapes are answered."""
        self._send("READY=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that a reload begins, and at the end of the block that it has ended, also badly."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic() * 1e6:.0f}")
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """Say that the end begins."""
        self._send("STOPPING=1")

    def beat(self) -> None:
        """Say that the caller is alive, if it is time to; call it as often as you like."""
        if self._interval is not None and self._monotonic() >= self._next_beat:
            self._next_beat = self._monotonic() + self._interval
            self._send("WATCHDOG=1", patience=0)

    def _send(self, *lines: str, patience: float = SEND_PATIENCE) -> None:
        if not self._socket:
            return
        abstract = self._socket.startswith("@")
        address = f"\0{self._socket[1:]}" if abstract else self._socket
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(patience)
                sender.sendto("\n".join(lines).encode(), address)
        except (OSError, ValueError) as error:
            fields = {"socket": self._socket, "notification": lines[0], "error": error}
            logger.warning("cannot notify the service manager", extra={"fields": fields})


def _watchdog_interval(environ: Mapping[str, str], process_id: int) -> float | None:
    """Return the seconds between two beats, or None where no watchdog waits for this process."""
    if environ.get(WATCHDOG_PID, str(process_id)) != str(process_id):
        return None
    text = environ.get(WATCHDOG_USEC, "")
    is_number = text.isascii() and text.isdigit()
    return int(text) / 1e6 / BEATS if is_number and int(text) else None
