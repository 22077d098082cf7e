"""The first of several sources that has credentials."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from dcs_task_exporter.cloud.credential import Credential, CredentialSource
from dcs_task_exporter.errors import ApiError, AuthError, CredentialsError, StoppedError

logger = logging.getLogger(__name__)


class Chain:
    """Tries sources in their order, and stays with the first that has credentials.

    `sources` has them by the names that people know them by.
    """

    def __init__(self, project: str, sources: Mapping[str, CredentialSource]) -> None:
        self._project = project
        self._sources = sources
        self._chosen: CredentialSource | None = None

    def current(self) -> Credential:
        """Return the credentials of the chosen source. Raises `CredentialsError`."""
        if self._chosen is None:
            message = "no source of credentials was found yet"
            raise CredentialsError(message)
        return self._chosen.current()

    def renewed(self, deadline: float) -> Credential:
        """Return the credentials of the chosen source, or of the first that has some.

        Raises `CredentialsError` when none has, with the reason of each.
        """
        chosen = self._chosen
        if chosen is not None:
            return chosen.renewed(deadline)
        reasons = []
        for name, source in self._sources.items():
            try:
                found = source.renewed(deadline)
            except StoppedError:
                raise
            except (ApiError, CredentialsError) as error:
                reasons.append(f"{name}: {error}")
                continue
            self._choose(name, source)
            return found
        message = f"no credentials were found. {'. '.join(reasons)}"
        raise CredentialsError(message)

    def refuse(self, credential: Credential, error: AuthError) -> bool:
        """Learn that the cloud refuses credentials; return whether others can be had for them."""
        return self._chosen is not None and self._chosen.refuse(credential, error)

    def close(self) -> None:
        """Close all sources."""
        for source in self._sources.values():
            source.close()

    def _choose(self, name: str, source: CredentialSource) -> None:
        if self._chosen is not source:
            self._chosen = source
            fields = {"project": self._project, "source": name}
            logger.info("the credentials of a project are found", extra={"fields": fields})
