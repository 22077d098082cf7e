"""What one scrape asks for, and the body that answers it.

Pure but for the registry that is rendered: no clock, no network, no framework.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dcs_task_exporter.tasks.snapshots import Snapshot

MAX_SCRAPE_TIMEOUT: Final = 300.0
"""Longest time that a scrape may ask for, in seconds."""

MIN_SHARE: Final = 0.5
"""The offset never takes more than this share of the time that a scrape has."""

GZIP_MINIMUM: Final = 1024
"""Bodies of fewer bytes are sent as they are."""

GZIP_BATCH: Final = 1_000_000
"""Bytes that are compressed at once.

Each call gives up the interpreter's lock, and the threads that refresh hold it for 5 ms each.
"""

GZIP_LEVEL: Final = 1
"""Higher levels take three times as long and save few bytes: lines are much alike."""

VERSIONS: Final = {
    "application/openmetrics-text": ("", "1.0.0"),
    "text/plain": ("", "0.0.4", "1.0.0"),
    "text/*": ("",),
    "*/*": ("",),
}
"""The media types that can be answered, with their versions; "" is no version."""

INSTANCES: Final = "instances"
EXPORTER: Final = "exporter"
PARTS: Final = (INSTANCES, EXPORTER)
"""What a scrape can ask for by ``collect[]``."""

COUNTER_NAME: Final = "dcs_tasks_finished_total"
"""The metric whose values a scraper must have seen before they may grow."""

Encoder = Callable[[Collector], bytes]


@dataclass(frozen=True, slots=True)
class Exposition:
    """The body of one answer, and the headers that describe it.

    `size` is that of the body before compression, in bytes. `counted` are the snapshots whose
    counters it shows; a later answer has a higher `number`.
    """

    body: bytes
    headers: dict[str, str]
    size: int
    counted: Sequence[Snapshot] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class ScrapeRequest:
    """What a scrape wants: formats, encodings, and the metric names to keep (all, if empty).

    `parts` says whether the instances are shown, or the exporter itself, or both; with a `target`
    only the instance of that id is.
    """

    accept: str = ""
    accept_encoding: str = ""
    names: Sequence[str] = ()
    parts: Sequence[str] = PARTS
    target: str | None = None

    @property
    def counts(self) -> bool:
        """Whether the counters of the instances are wanted."""
        return INSTANCES in self.parts and (not self.names or COUNTER_NAME in self.names)


def scrape_budget(header: str | None, default: float, offset: float) -> float:
    """Return the seconds that a scrape may take.

    That is the scraper's own timeout less an offset for the way back, and never less than half of
    the timeout; a header that is no positive number counts as absent.
    """
    timeout = _positive(header)
    granted = min(default if timeout is None else timeout, MAX_SCRAPE_TIMEOUT)
    return max(granted - offset, granted * MIN_SHARE)


def render(registry: CollectorRegistry, request: ScrapeRequest) -> Exposition:
    """Render a registry as a scrape asks for it."""
    encoder, content_type = choose_format(request.accept)
    chosen = registry.restricted_registry(request.names) if request.names else registry
    body = encoder(chosen)
    compress = len(body) > GZIP_MINIMUM and takes_gzip(request)
    return answer([body], content_type, compress=compress)


def answer(
    pieces: Iterable[bytes], content_type: str, *, compress: bool, size: int = 0
) -> Exposition:
    """Return the answer with these pieces as its body, of about `size` bytes of text."""
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    body, written = io.BytesIO(), 0
    if compress:
        headers["Content-Encoding"] = "gzip"
        deflate = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)  # 16: gzip's head and end
        for batch in _batches(pieces):
            written += len(batch)
            body.write(deflate.compress(batch))
        body.write(deflate.flush())
    else:
        # Make room at once: a body of 59 MB that grew left 45 MB of holes behind.
        body.seek(size)
        body.write(b"\0")
        body.seek(0)
        body.writelines(pieces)
        written = body.tell()
        body.truncate()
    return Exposition(body.getvalue(), headers, written)


def _batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces joined to `GZIP_BATCH` bytes or a little more."""
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= GZIP_BATCH:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def choose_format(accept: str) -> tuple[Encoder, str]:
    """Return the encoder and the content type that the client prefers.

    The library's own choice ignores weights, answers in versions that it does not have
    (``version=2.0.0-rc0``), and fails at a version that is no number.
    """
    offers = [
        (_quality(part), part)
        for part in accept.split(",")
        if _parameter(part, "version") in VERSIONS.get(part.partition(";")[0].strip().lower(), ())
    ]
    best = max(offers, key=lambda offer: offer[0], default=(0.0, ""))
    return choose_encoder(best[1] if best[0] > 0 else "")


def takes_gzip(request: ScrapeRequest) -> bool:
    """Return whether the client takes gzip; for the library, ``gzip;q=0`` would say so too."""
    codings = request.accept_encoding.split(",")
    parts = [part for part in codings if part.split(";")[0].strip() == "gzip"]
    return any(_quality(part) > 0 for part in parts)


def _quality(part: str) -> float:
    """Return the weight of one element of an Accept header; 0 for one that cannot be read."""
    text = _parameter(part, "q")
    return 1.0 if not text else _positive(text) or 0.0


def _parameter(part: str, name: str) -> str:
    for parameter in part.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == name:
            return value.strip()
    return ""
