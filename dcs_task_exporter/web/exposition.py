"""What one scrape asks for, and the body that answers it.

Pure but for the registry that is rendered: no clock, no network, no framework.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

MAX_SCRAPE_TIMEOUT: Final = 300.0
"""Longest time that a scrape may ask for, in seconds."""

MIN_SHARE: Final = 0.5
"""The offset never takes more than this share of the time that a scrape has."""

GZIP_LEVEL: Final = 4
"""Level 9, the default, takes three times as long and saves a few bytes."""

GZIP_MINIMUM: Final = 1024
"""Bodies of fewer bytes are sent as they are."""

OPENMETRICS: Final = "application/openmetrics-text"
VERSIONS: Final = {
    OPENMETRICS: ("", "1.0.0"),
    "text/plain": ("", "0.0.4", "1.0.0"),
    "text/*": ("",),
    "*/*": ("",),
}
"""The media types that can be answered, with their versions; "" is no version."""

Encoder = Callable[[CollectorRegistry], bytes]


@dataclass(frozen=True, slots=True)
class Exposition:
    """The body of one answer, and the headers that describe it."""

    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class ScrapeRequest:
    """What a scrape wants: formats, encodings, and the metric names to keep (all, if empty)."""

    accept: str = ""
    accept_encoding: str = ""
    names: Sequence[str] = ()


def scrape_budget(header: str | None, default: float, offset: float) -> float:
    """Return the seconds that a scrape may take.

    That is the scraper's own timeout less an offset for the way back, and never less than half of
    the timeout; a header that is no positive number counts as absent.
    """
    timeout = _positive(header)
    granted = min(default if timeout is None else timeout, MAX_SCRAPE_TIMEOUT)
    return max(granted - offset, granted * MIN_SHARE)


def render(registry: CollectorRegistry, request: ScrapeRequest) -> Exposition:
    """Render a registry the way that a scrape asks for it."""
    encoder, content_type = _encoder(request.accept)
    names = [name for name in request.names if name]
    # A restricted registry has all that an encoder uses, though it is no CollectorRegistry.
    chosen = cast("CollectorRegistry", registry.restricted_registry(names)) if names else registry
    body = encoder(chosen)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if len(body) > GZIP_MINIMUM and _takes_gzip(request.accept_encoding):
        body = gzip.compress(body, compresslevel=GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Exposition(body, headers)


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _encoder(accept: str) -> tuple[Encoder, str]:
    """Choose the format that the client likes best of those that can be answered."""
    offers = [(_quality(part), part) for part in accept.split(",") if _is_known(part)]
    best = max(offers, key=lambda offer: offer[0], default=(0.0, ""))
    return cast("tuple[Encoder, str]", choose_encoder(best[1] if best[0] > 0 else ""))


def _is_known(part: str) -> bool:
    kind = part.split(";", maxsplit=1)[0].strip().lower()
    return _parameter(part, "version") in VERSIONS.get(kind, ())


def _takes_gzip(accept_encoding: str) -> bool:
    parts = [part for part in accept_encoding.split(",") if part.split(";")[0].strip() == "gzip"]
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
