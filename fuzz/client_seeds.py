"""What the targets of the web server begin with: what scrapers and browsers send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_PROMETHEUS: Final = (
    "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n"
    "Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n"
)


def _request(target: str, headers: str = "", method: str = "GET", body: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}".encode()


_CHUNKS: Final = "Transfer-Encoding: chunked\r\n"
CLIENT_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "requests": (
        _request("/metrics", _PROMETHEUS),
        _request("/metrics?collect[]=exporter&collect[]=instances"),
        _request("/metrics?name[]=dcs_tasks_finished_total&name[]=up", "Accept: text/plain\r\n"),
        _request("/metrics", "Accept: text/*;q=0.5, */*;q=0\r\nAccept-Encoding: gzip;q=0, br\r\n"),
        _request("/probe?target=i0", _PROMETHEUS),
        _request("/probe?target=cache-1%22%3C%C3%A9%3E"),
        _request("/probe"),
        _request("/sd?project=prod"),
        _request("/sd?project=none"),
        _request("/"),
        _request("/-/healthy", method="HEAD"),
        _request("/-/ready") + _request("/-/healthy"),
        _request("/-/reload", "Content-Length: 5\r\n", "POST", "hello"),
        _request("/metrics", _CHUNKS, "POST", "5\r\nhello\r\n0\r\n\r\n"),
        _request("/metrics", "Expect: 100-continue\r\nContent-Length: 1\r\n", "PUT", "x"),
        _request("*", method="OPTIONS"),
        b"GET /metrics HTTP/1.0\r\n\r\n",
        b"GET http://x/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ),
    "timeouts": (b"10", b"0.5", b"1e3", b"", b"300\nxxxx"),
}
"""The first inputs by target."""
