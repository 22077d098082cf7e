"""A project whose credentials end, for each source of them, against the simulated cloud."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcs_task_exporter.exporter import Exporter
from tests.support.clouds import ACCESS_KEY, PROJECT, SECRET_KEY, World, exporter_of
from tests.support.secrets import secret

USER, ACCOUNT, PASSWORD = "exporter", "my-account", secret('pass "word" of \u00e4 user')
POD_TOKEN = secret("pod-token-")
ID_TOKEN = secret("id-token-")
KEY: Mapping[str, Any] = {
    "type": "access_key",
    "access_key": ACCESS_KEY,
    "secret_key": SECRET_KEY,
}


@dataclass(frozen=True)
class Made:
    """A section `credentials` with its environment, and the operation that makes its keys."""

    section: Mapping[str, Any]
    operation: str
    life: float
    environ: Mapping[str, str]


def password(here: World, _: Path) -> Made:
    here.cloud.identity.add_user(ACCOUNT, USER, PASSWORD)
    names = {"user_name": USER, "domain_name": ACCOUNT, "password": PASSWORD}
    return Made({"type": "password", **names}, "create_token", 86_400, {})


def metadata(here: World, _: Path) -> Made:
    here.cloud.identity.give_server_agency()
    section = {"type": "metadata", "endpoint": here.server.url}
    return Made(section, "metadata_key", 86_400, {})


def pod_identity(here: World, folder: Path) -> Made:
    here.cloud.identity.add_pod(POD_TOKEN)
    (folder / "pod").write_text(f"{POD_TOKEN}\n")
    environ = {
        "HC_CONTAINER_CREDENTIALS_FULL_URI": f"{here.server.url}/v1/credentials",
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(folder / "pod"),
    }
    return Made({"type": "pod_identity"}, "pod_identity", 86_400, environ)


def agency(here: World, _: Path) -> Made:
    here.cloud.identity.add_agency("other-account", "dcs-reader")
    section = {
        "type": "assume_agency",
        "agency_name": "dcs-reader",
        "domain_name": "other-account",
        "duration": "6h",
        "source": KEY,
    }
    return Made(section, "assume_agency", 21_600, {})


def agency_of_user(here: World, folder: Path) -> Made:
    section = {**agency(here, folder).section, "source": password(here, folder).section}
    return Made(section, "assume_agency", 21_600, {})


def oidc(here: World, folder: Path) -> Made:
    here.cloud.identity.add_id_token("urn:provider", ID_TOKEN)
    (folder / "id").write_text(f"{ID_TOKEN}\n")
    environ = {
        "HUAWEICLOUD_SDK_STS_ENDPOINT": here.server.url,
        "HUAWEICLOUD_OIDC_PROVIDER_URN": "urn:provider",
        "HUAWEICLOUD_OIDC_AGENCY_URN": "urn:agency",
        "HUAWEICLOUD_OIDC_TOKEN_FILE": str(folder / "id"),
        "HUAWEICLOUD_OIDC_DURATION_SECONDS": "21600",
    }
    section = {"type": "auto", "metadata_endpoint": here.server.url}
    return Made(section, "assume_agency_with_oidc", 21_600, environ)


SOURCES: Mapping[str, Callable[[World, Path], Made]] = {
    "password": password,
    "metadata": metadata,
    "pod_identity": pod_identity,
    "assume_agency": agency,
    "assume_agency by password": agency_of_user,
    "auto by OIDC": oidc,
}
"""The sources of credentials that end."""


def text_with(here: World, section: Mapping[str, Any], **collector: Any) -> str:
    """Return the configuration of all instances of the world with these credentials."""
    return with_section(here.config_text(collector=collector), section)


def with_section(text: str, section: Mapping[str, Any]) -> str:
    """Return a configuration of `World.config_text` with these credentials."""
    head, tail = text.split("    credentials:\n")
    rest = tail[tail.index("    instances:") :]
    return f"{head}    credentials: {json.dumps(dict(section))}\n{rest}"


@contextmanager
def exporter_with(here: World, made: Made, **collector: Any) -> Iterator[Exporter]:
    """Run an exporter with these credentials."""
    with exporter_of(here, text_with(here, made.section, **collector), made.environ) as exporter:
        yield exporter


def ask(exporter: Exporter, here: World, instance: str = "i0") -> None:
    """List the tasks of an instance; raises what the client raises."""
    exporter.clients["prod"].list_tasks(instance, 0, here.clock.steady + 60)


__all__ = ["PROJECT", "SOURCES", "Made", "ask", "exporter_with", "text_with", "with_section"]
