"""Temporary keys of an agency for the token of another identity provider (OpenID Connect).

The environment names everything, as for the official SDK, whose chain begins with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from dcs_task_exporter.cloud.credential import Carried
from dcs_task_exporter.config.model import ProjectConfig
from dcs_task_exporter.config.secrets import sendable
from dcs_task_exporter.config.types import LONGEST_LIFE, SHORTEST_LIFE
from dcs_task_exporter.credentials.identity import ASSUME_WITH_OIDC, Service, is_safe
from dcs_task_exporter.credentials.renewal import Fresh
from dcs_task_exporter.credentials.temporary_keys import parse_temporary_key
from dcs_task_exporter.errors import CredentialsError

PREFIX: Final = "HUAWEICLOUD_OIDC_"
STS_ENDPOINT: Final = "HUAWEICLOUD_SDK_STS_ENDPOINT"

USUAL_LIFE: Final = 3_600
"""Seconds for which keys are asked for unless a variable says otherwise, as by the SDK."""


def sts_url(project: ProjectConfig, environ: Mapping[str, str]) -> str:
    """Return the URL of the service that makes the keys: the environment's, or by region."""
    return environ.get(STS_ENDPOINT, "").strip().rstrip("/") or project.sts_url


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """Gets temporary keys as the variables `HUAWEICLOUD_OIDC_...` of `environ` say.

    `read` reads the file with the token, which is renewed from outside.
    """

    service: Service
    environ: Mapping[str, str] = field(repr=False)
    read: Callable[[Path], str]

    def __call__(self, deadline: float) -> Fresh:
        """Return new temporary keys. Raises `ApiError` and `CredentialsError`."""
        token = self._token()
        if not is_safe(self.service.url):
            message = f"{STS_ENDPOINT} must be https, or http to an address of this network"
            raise CredentialsError(message)
        body: dict[str, object] = {
            "provider_urn": self._required("PROVIDER_URN"),
            "agency_urn": self._required("AGENCY_URN"),
            "agency_session_name": self._value("SESSION_NAME") or "oidc-sts-session",
            "id_token": token,
            "duration_seconds": self._life(),
        }
        policy_ids = [item.strip() for item in self._value("POLICY_IDS").split(",")]
        more = {"policy": self._value("POLICY"), "policy_ids": [*filter(None, policy_ids)]}
        secrets = (token, *self.service.others)
        call = self.service.post(
            ASSUME_WITH_OIDC,
            "/v5/agencies/assume-with-oidc",
            {**body, **{key: value for key, value in more.items() if value}},
            deadline,
            parse=partial(parse_temporary_key, others=secrets),
            key=Carried(secrets),
        )
        return self.service.ask(call, f"check the variables {PREFIX}... and the token")

    def _token(self) -> str:
        value, file = self._value("ID_TOKEN"), self._value("TOKEN_FILE")
        if value:
            return sendable(value, f"{PREFIX}ID_TOKEN")
        if file:
            return self.read(Path(file))
        message = f"{PREFIX}TOKEN_FILE is not set, and no {PREFIX}ID_TOKEN"
        raise CredentialsError(message)

    def _life(self) -> int:
        text = self._value("DURATION_SECONDS")
        if not text:
            return USUAL_LIFE
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(LONGEST_LIFE))):
            message = f"{PREFIX}DURATION_SECONDS is no number of seconds"
            raise CredentialsError(message)
        return min(LONGEST_LIFE, max(SHORTEST_LIFE, int(text)))

    def _value(self, name: str) -> str:
        return self.environ.get(PREFIX + name, "").strip()

    def _required(self, name: str) -> str:
        value = self._value(name)
        if not value:
            message = f"{PREFIX}{name} is not set"
            raise CredentialsError(message)
        return value
