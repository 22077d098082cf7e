"""The key of each call of one project, and what the cloud thinks of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from dcs_task_exporter.cloud.calls import Call
from dcs_task_exporter.cloud.credential import Credential, CredentialSource
from dcs_task_exporter.cloud.observer import ApiObserver
from dcs_task_exporter.cloud.responses import internal_error
from dcs_task_exporter.errors import (
    ApiError,
    AuthError,
    CredentialsError,
    OutdatedKeyError,
    StoppedError,
)

REFUSED: Final = (
    "the cloud refuses the credentials of this project, for all instances or for one: check them, "
    "and the clock; the next try is in five minutes, when they change, or at a reload"
)

Told = TypeVar("Told")

logger = logging.getLogger(__name__)


class Keys:
    """Asks the source for the key of each call; counts and logs why there is none.

    Each of its errors is an `ApiError`. Safe to use from threads.
    """

    def __init__(self, project: str, source: CredentialSource, observer: ApiObserver) -> None:
        self._project = project
        self._source = source
        self._observer = observer
        self._stopped_by = ""
        self._log_lock = threading.Lock()
        self._logged_refusal: tuple[int | None, str, str] | None = None

    def stop(self, reason: str) -> None:
        """Let no call have a key any more, or wait for one, because of `reason`."""
        self._stopped_by = reason
        self._source.close()

    def key_of(self, call: Call[Any]) -> Credential:
        """Return the key for a call, a new one if that is due; wait for it if there is none."""
        self._check()
        if call.key is not None:
            return call.key
        credential = self._ask(call, lambda source: source.renewed(call.deadline))
        self._observer.credentials_expiry(self._project, credential.expires_at)
        return credential

    def latest(self, call: Call[Any]) -> Credential:
        """Return the latest key for a call, at once."""
        self._check()
        return call.key or self._ask(call, lambda source: source.current())

    def judged(
        self, call: Call[Any], key: Credential, error: AuthError, *, may_be_outdated: bool
    ) -> AuthError:
        """Return a refusal, as that of an old key if there is another one; log it otherwise."""
        if may_be_outdated and self._ask(call, lambda source: source.refuse(key, error)):
            return error.told_as(OutdatedKeyError, error.message)
        self._log(error)
        return error

    def accepted(self) -> None:
        """Log the next refusal, even if it is the same as the latest one."""
        self._logged_refusal = None

    def _check(self) -> None:
        if self._stopped_by:
            raise StoppedError(self._stopped_by)

    def _ask(self, call: Call[Any], ask: Callable[[CredentialSource], Told]) -> Told:
        try:
            return ask(self._source)
        except ApiError:
            raise  # of a renewal, which was counted and logged
        except CredentialsError as error:
            refusal = AuthError(str(error))
            self._observer.error(self._project, call.operation, refusal.reason)
            self._log(refusal, "there is no usable key or token for this project")
            raise refusal from error
        except Exception as error:  # noqa: BLE001 - any error must leave as an ApiError
            # No secret is known yet that could be taken out of its text.
            message = "reading the key of a project broke"
            fields = {"project": self._project, "operation": call.operation}
            failure = internal_error(logger, message, error, fields, lambda _: "[withheld]")
            self._observer.error(self._project, call.operation, failure.reason)
            raise failure from None

    def _log(self, error: AuthError, message: str = REFUSED) -> None:
        """Log a refused key once for the whole project, not once for each instance."""
        refusal = (error.status, error.error_code, error.message)
        with self._log_lock:
            if refusal == self._logged_refusal:
                return
            self._logged_refusal = refusal
        logger.error(message, extra={"fields": {"project": self._project, **error.fields}})
