"""The simulated cloud on a real port."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from typing_extensions import Self

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import Reply
from dcs_task_exporter.simulator.request import received

DRIP_INTERVAL: Final = 0.2
"""Seconds between two bytes of a slow drip: shorter than any read timeout."""


class CloudServer(socketserver.ThreadingTCPServer):
    """Serves a `SimulatedCloud` on loopback while its ``with`` block lasts."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, cloud: SimulatedCloud) -> None:
        self.cloud = cloud
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _CloudHandler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """The cloud's endpoint, for DCS and for the identity service."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        """Start serving."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all requests, and stop."""
        self.cloud.faults.clear()
        self.shutdown()
        self.server_close()
        for connection in list(self._open):  # keep-alive holds them open
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection while it is open."""
        self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._open.discard(request)

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that go away, as they do in tests."""


class _CloudHandler(BaseHTTPRequestHandler):
    server: CloudServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer any request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = received(self.command, self.path, dict(self.headers.items()), body)
        self._send(self.server.cloud.answer(request))

    do_POST = do_PUT = do_GET  # noqa: N815 - the names of its base

    def log_message(self, *_: Any) -> None:
        """Keep quiet: the requests are recorded."""

    def _send(self, reply: Reply) -> None:
        released = self.server.cloud.faults.released
        if reply.manner == "silence":
            released.wait()
        if reply.manner == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if reply.manner in ("silence", "reset", "close"):
            self.close_connection = True
            return
        head, body = self._head(reply), reply.body
        if reply.manner == "drip_head":
            self._drip(head + body, released)
        elif reply.manner == "drip_body":
            self.wfile.write(head)
            self._drip(body, released)
        else:
            self.wfile.write(head + body)
            self.close_connection = self.close_connection or reply.manner == "cut"

    def _head(self, reply: Reply) -> bytes:
        length = len(reply.body) + (100 if reply.manner == "cut" else 0)
        headers = {"Content-Length": str(length), "Server": "api-gateway", **reply.headers}
        if self.server.cloud.quirks.date:
            headers.setdefault("Date", formatdate(self.server.cloud.clock(), usegmt=True))
        reason = http.client.responses.get(reply.status, "")
        lines = [f"HTTP/1.1 {reply.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _drip(self, data: bytes, released: threading.Event) -> None:
        """Send a byte at a time until the client or the cloud gives up."""
        self.close_connection = True
        for at in range(len(data)):
            self.wfile.write(data[at : at + 1])
            self.wfile.flush()
            if released.wait(DRIP_INTERVAL):
                return
