"""Addresses to listen on: from the text of a flag to listening sockets, and to the URL to open."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack
from typing import Final

from dcs_task_exporter.errors import ExporterError

BACKLOG: Final = 128
"""Connections that the system accepts ahead of the server; they add to its own limit."""

MAX_PORT: Final = 65535

PASSED: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""The variables in which systemd says how many sockets it passed, to whom, and their names."""

FIRST_PASSED: Final = 3
"""The file descriptor of the first of them."""

Address = tuple[str, int]
"""A host and a port; the host "" stands for all addresses of this machine."""


class ListenError(ExporterError):
    """The server cannot listen on an address."""


def parse_listen_address(text: str) -> Address:
    """Return the host and port of ``:39327``, ``[::1]:9100`` or ``host:port``.

    Raises `ValueError` with the mistake.
    """
    if "://" in text:
        message = f"{text!r} is a URL: write host:port, without http:// and a path"
        raise ValueError(message)
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        message = f"{text!r} has no port: write host:port, or :port for all addresses"
        raise ValueError(message)
    if not (port.isascii() and port.isdigit() and int(port) <= MAX_PORT):
        message = f"{text!r}: the port must be a number from 0 to {MAX_PORT}, not {port!r}"
        raise ValueError(message)
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        message = f"{text!r}: put an IPv6 address in brackets, as in [::1]:9100"
        raise ValueError(message)
    host = host[1:-1] if bracketed else host
    if any(character in host for character in "[]/@ ") or (bracketed and ":" not in host):
        message = f"{text!r}: {host!r} is no host name or address"
        raise ValueError(message)
    return host, int(port)


def url_of(address: Address, scheme: str = "http") -> str:
    """Return the URL to open for an address that is listened on, without a slash at its end."""
    host, port = address
    named = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
    shown = named.get(host) or (f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{port}"


def address_of(listening: socket.socket) -> Address:
    """Return the address that a TCP socket listens on."""
    host, port = listening.getsockname()[:2]
    return host, port


def passed_sockets(environ: MutableMapping[str, str], process_id: int) -> list[socket.socket]:
    """Take the listening TCP sockets that systemd passed to this process, and no child of it.

    Raises `ListenError` if there is none, or one of another kind.
    """
    number, owner, _names = (environ.pop(name, "") for name in PASSED)
    if owner != str(process_id) or not (number.isascii() and number.isdecimal() and int(number)):
        message = "--web.systemd-socket: systemd passed no socket; start the .socket unit"
        raise ListenError(message)
    with ExitStack() as undo:
        descriptors = range(FIRST_PASSED, FIRST_PASSED + int(number))
        sockets = [undo.enter_context(_passed(descriptor)) for descriptor in descriptors]
        undo.pop_all()
    return sockets


def _passed(descriptor: int) -> socket.socket:
    try:
        made = socket.socket(fileno=descriptor)
        made.set_inheritable(False)
        listens = made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if made.family in (socket.AF_INET, socket.AF_INET6) and listens:
            return made
        made.close()
        reason = "no listening TCP socket: set ListenStream to a port, and not Accept=yes"
    except OSError as error:
        reason = str(error.strerror)
    message = f"--web.systemd-socket: file descriptor {descriptor} of systemd: {reason}"
    raise ListenError(message)


def listen_on(addresses: Sequence[Address]) -> list[socket.socket]:
    """Listen on all of the addresses, or on none; raise `ListenError` if one cannot be had."""
    with ExitStack() as undo:
        sockets = [undo.enter_context(_listen(host, port)) for host, port in addresses]
        undo.pop_all()
    return sockets


def _listen(host: str, port: int) -> socket.socket:
    try:
        return _bind(host, port) if host else _bind_everywhere(port)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        # The error's own text repeats the address.
        known = not isinstance(error, socket.gaierror)
        reason = os.strerror(error.errno or 0) if known else "no such host"
        message = f"cannot listen on {where}: {reason}; choose another with --web.listen-address"
        raise ListenError(message) from error


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def _bind_everywhere(port: int) -> socket.socket:
    """Listen on all addresses, of both families where the machine has both."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("", port), backlog=BACKLOG)
