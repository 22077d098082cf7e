"""Log unforeseen errors: each kind once, with its traceback and without secrets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from dcs_task_exporter.logs.formats import TRACEBACK, traceback_of
from dcs_task_exporter.logs.repeats import place_of

MAX_KINDS: Final = 100
"""Most kinds of errors that are logged."""

logger = logging.getLogger(__name__)


class UnforeseenErrors:
    """Logs errors, once for each type and place where it was raised; safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: set[tuple[type, tuple[str, int] | None]] = set()

    def log(
        self,
        message: str,
        error: BaseException,
        fields: Mapping[str, object],
        redact: Callable[[str], str] = str,
    ) -> None:
        """Log the first error of a kind under `message`; `redact` removes secrets from its text."""
        kind = (type(error), place_of(error.__traceback__))
        with self._lock:
            if kind in self._logged or len(self._logged) >= MAX_KINDS:
                return
            self._logged.add(kind)
        # As text: the log handler of another program would format the error itself, with secrets.
        fields = {**fields, TRACEBACK: traceback_of(error, redact)}
        logger.error("%s; the next of this kind are not logged", message, extra={"fields": fields})
