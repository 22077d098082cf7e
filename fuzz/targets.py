"""Every target by name, and what each begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fuzz.client_seeds import CLIENT_SEEDS
from fuzz.client_targets import CLIENT_TARGETS
from fuzz.cloud_seeds import CLOUD_SEEDS
from fuzz.cloud_targets import CLOUD_TARGETS
from fuzz.credential_targets import CREDENTIAL_SEEDS, CREDENTIAL_TARGETS
from fuzz.file_seeds import FILE_SEEDS
from fuzz.file_targets import FILE_TARGETS
from fuzz.web_config_targets import WEB_CONFIG_SEEDS, WEB_CONFIG_TARGETS

TARGETS: Final = {
    target.name: target
    for target in (
        *CLOUD_TARGETS,
        *CREDENTIAL_TARGETS,
        *FILE_TARGETS,
        *CLIENT_TARGETS,
        *WEB_CONFIG_TARGETS,
    )
}

_SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    **CLOUD_SEEDS,
    **CREDENTIAL_SEEDS,
    **FILE_SEEDS,
    **CLIENT_SEEDS,
    **WEB_CONFIG_SEEDS,
}


def seeds_of(target: str) -> Sequence[bytes]:
    """Return the inputs that a target begins with."""
    return _SEEDS[target]
