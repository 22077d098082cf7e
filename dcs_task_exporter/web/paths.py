"""The paths that are served."""

from __future__ import annotations

import re
from typing import Final

STATUS_PATH: Final = "/"
HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"
RELOAD_PATH: Final = "/-/reload"
PROBE_PATH: Final = "/probe"
DISCOVERY_PATH: Final = "/sd"

_PLAIN_PATH: Final = re.compile(r"/[^?#{}% \t\r\n]*")


def parse_metrics_path(text: str) -> str:
    """Return `text`, the path of the metrics.

    Raises `ValueError` if it is no plain path, or if something else is served there.
    """
    others = (HEALTHY_PATH, READY_PATH, RELOAD_PATH, PROBE_PATH, DISCOVERY_PATH)
    if text in (STATUS_PATH, *others) or not _PLAIN_PATH.fullmatch(text):
        message = f"not a path for metrics: {text!r}; write it like /metrics"
        raise ValueError(message)
    return text
