"""The gate holds requests back after a refusal, until it is known whether the cloud refuses
the key or one instance.

`admission.py` decides; the gate waits, for the threads of one project.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from dcs_task_exporter.cloud.admission import (
    NO_VERDICT,
    Admission,
    Result,
    Ticket,
    Verdict,
    result_of,
)
from dcs_task_exporter.cloud.credential import Credential
from dcs_task_exporter.cloud.refusals import MOST_TRIES, RefusedTries
from dcs_task_exporter.errors import ApiError, ApiTimeoutError, StoppedError


@dataclass(frozen=True, slots=True)
class Passage:
    """One request on its way through the gate, and the key that it is sent with.

    `start` returns whether the request may be sent now; if not, it must pass the gate again.
    """

    credential: Credential
    start: Callable[[], bool]


class Gate:
    """Lets the requests of one project pass as the `Admission` of its key decides.

    `obey` is called with each verdict before another request may pass. A key that was refused a
    moment ago is remembered while others are used. Safe to use from threads.
    """

    def __init__(self, monotonic: Callable[[], float], obey: Callable[[Verdict], None]) -> None:
        self._monotonic = monotonic
        self._obey = obey
        self._changed = threading.Condition()
        self._admission = Admission()
        self._credential: Credential | None = None
        self._refused: Mapping[Credential, Admission] = {}
        self._is_closed = False

    def close(self) -> None:
        """Refuse every request, those that wait too: the exporter stops."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def try_again(self) -> None:
        """Let one request try a refused key at once; wake those that wait, to read their key."""
        with self._changed:
            for admission in (self._admission, *self._refused.values()):
                admission.try_again(self._monotonic())
            self._changed.notify_all()

    @contextmanager
    def passage(
        self,
        read: Callable[[], Credential],
        subject: str,
        deadline: float,
        latest: Callable[[], Credential] | None = None,
    ) -> Iterator[Passage]:
        """Hold a ticket for one request for `subject`, waiting until `deadline` at most.

        `read` returns the key to use now, and may wait for it; `latest` returns the latest key at
        once (if not given, `read` does). The block sends the request only if the passage's
        `start` returns True. From the error that the block raises, or from none, the gate learns
        whether the key was accepted. Raises `ApiError` without a request while a refusal stands.
        """
        credential, admission, ticket = self._enter(read, latest or read, subject, deadline)
        result: Result = "unknown"
        try:
            yield Passage(credential, partial(self._start, admission, ticket))
            result = "accepted"
        except ApiError as error:
            result = result_of(error)
            raise
        finally:
            self._leave(admission, ticket, result)

    def _enter(
        self,
        read: Callable[[], Credential],
        latest: Callable[[], Credential],
        subject: str,
        deadline: float,
    ) -> tuple[Credential, Admission, Ticket]:
        while True:
            credential = read()
            with self._changed:
                if credential != self._credential:
                    # Read again under the lock: of two that differ, this is the later one.
                    credential = latest()
                if credential != self._credential:
                    self._adopt(credential)
                    self._changed.notify_all()
                ticket = self._ticket(subject, deadline)
                if ticket is not None:
                    # The same object while the key is the same: it keeps its redactor.
                    return self._credential or credential, self._admission, ticket

    def _adopt(self, credential: Credential) -> None:
        """Use a key from now on; the refusals of a moment ago are not forgotten."""
        now = self._monotonic()
        known = dict(self._refused)
        if self._credential is not None:
            known[self._credential] = self._admission
        refused = {key: it for key, it in known.items() if it.tries.left(now) < MOST_TRIES}
        shared = (it.tries for key, it in refused.items() if key.locked_as == credential.locked_as)
        tries = next(shared, RefusedTries())
        self._admission = refused.get(credential) or Admission(tries)
        self._admission.try_again(now)
        self._credential, self._refused = credential, refused

    def _ticket(self, subject: str, deadline: float) -> Ticket | None:
        """Return a ticket, or None when it is time to enter again; called under the lock."""
        if self._is_closed:
            message = "the exporter is stopping"
            raise StoppedError(message)
        now = self._monotonic()
        ticket = self._admission.enter(subject, now)
        if ticket is None and not self._changed.wait(max(0.0, deadline - now)):
            message = "the key is not accepted yet: the requests that try it have no answer"
            raise ApiTimeoutError(message)
        return ticket

    def _start(self, admission: Admission, ticket: Ticket) -> bool:
        with self._changed:
            return admission is self._admission and admission.start(ticket)

    def _leave(self, admission: Admission, ticket: Ticket, result: Result) -> None:
        with self._changed:
            verdict = admission.leave(ticket, result, self._monotonic())
            try:
                if verdict is not NO_VERDICT and admission is self._admission:
                    self._obey(verdict)
            finally:
                self._changed.notify_all()
