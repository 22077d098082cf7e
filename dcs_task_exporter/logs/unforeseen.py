"""Errors that nobody foresaw: each kind is logged once, with its traceback and without secrets."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from dcs_task_exporter.logs.formats import TRACEBACK, traceback_of

MAX_KINDS: Final = 100
"""Most kinds of errors that are logged, once each."""

logger = logging.getLogger(__name__)


class UnforeseenErrors:
    """Logs errors, once for each type and place where it was raised; safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: frozenset[tuple[str, str, int | None]] = frozenset()

    def tell(
        self,
        message: str,
        error: BaseException,
        fields: Mapping[str, object],
        redact: Callable[[str], str] = str,
    ) -> None:
        """Log an error under `message`, unless one of its kind was; `redact` takes secrets out."""
        kind = _kind(error)
        with self._lock:
            if kind in self._told or len(self._told) >= MAX_KINDS:
                return
            self._told |= {kind}
        # As text: a log handler of somebody else's would format the error itself, with secrets.
        told = {**fields, TRACEBACK: traceback_of(error, redact)}
        logger.error("%s; the next of this kind are not logged", message, extra={"fields": told})


def _kind(error: BaseException) -> tuple[str, str, int | None]:
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
    return (type(error).__name__, *place)
