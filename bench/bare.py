"""A bare client, as the floor: sockets, without signing or parsing."""

from __future__ import annotations

import itertools
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from bench.cloud import BenchCloud
from bench.load import PROJECT

PAGE: Final = "limit=100&offset=0"


class BareClient:
    """Threads with a connection each."""

    def __init__(self, cloud: BenchCloud, threads: int) -> None:
        self._address = urlsplit(cloud.url)
        self._context = ssl.create_default_context(cafile=str(cloud.ca_file))
        self._sockets: list[ssl.SSLSocket | None] = [None] * threads

    def close(self) -> None:
        """Close the connections."""
        for one in self._sockets:
            if one is not None:
                one.close()
        self._sockets = [None] * len(self._sockets)

    def sweep(self, instances: int) -> None:
        """Read each instance once."""
        numbers = itertools.count()

        def work(at: int) -> None:
            while (number := next(numbers)) < instances:
                self._ask(at, number)

        threads = len(self._sockets)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))

    def _ask(self, at: int, number: int) -> None:
        connection = self._sockets[at]
        if connection is None:
            connection = self._sockets[at] = self._connected()
        path = f"/v2/{PROJECT}/instances/i{number}/tasks?{PAGE}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        data = _received(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        left = int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]) - len(body)
        while left > 0:
            left -= len(_received(connection))

    def _connected(self) -> ssl.SSLSocket:
        host, port = str(self._address.hostname), int(self._address.port or 443)
        made = socket.create_connection((host, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(made, server_hostname=host)


def _received(connection: ssl.SSLSocket) -> bytes:
    data = connection.recv(1 << 16)
    if not data:
        message = "the server hung up"
        raise ConnectionError(message)
    return data
