"""Which instances belong to this exporter, when several share them.

Each shard draws a number for each instance, and the highest number wins (rendezvous hashing): no
exporter has to ask another, the split is even, and an added shard takes only its own share.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dcs_task_exporter.errors import ConfigError, Problem

SHARD_FLAG: Final = "--shard"
TOTAL_FLAG: Final = "--total-shards"

POD_NAMES: Final = ("POD_NAME", "HOSTNAME")
"""Environment variables with the pod's name: from the downward API, or from Kubernetes."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `total` exporters that share the instances; `index` counts from 0."""

    index: int = 0
    total: int = 1

    def has(self, instance_id: str) -> bool:
        """Whether an instance belongs to this shard."""
        keys = (f"{shard}/{instance_id}".encode() for shard in range(self.total))
        draws = [hashlib.sha256(key).digest() for key in keys]
        return draws[self.index] == max(draws)


def choose_shard(index: int | None, total: int, environ: Mapping[str, str]) -> Shard:
    """Return the shard from the flags, or else from the pod's name in a StatefulSet.

    Raises `ConfigError` where neither names a shard, or where it does not exist.
    """
    if total < 1:
        raise _wrong(TOTAL_FLAG, f"must be at least 1, is {total}")
    if index is None:
        index = 0 if total == 1 else _ordinal(environ)
    if not 0 <= index < total:
        message = f"is {index}, but with --total-shards={total} shards are 0 to {total - 1}"
        raise _wrong(SHARD_FLAG, message)
    return Shard(index, total)


def _ordinal(environ: Mapping[str, str]) -> int:
    """Return the number at the end of a StatefulSet's pod name, such as 2 of exporter-2."""
    for name in POD_NAMES:
        match = re.fullmatch(r".*-(\d{1,9})", environ.get(name, ""))
        if match:
            return int(match[1])
    names = " or ".join(POD_NAMES)
    message = f"is missing, and {names} is no pod name of a StatefulSet, such as exporter-2"
    raise _wrong(SHARD_FLAG, message)


def _wrong(flag: str, message: str) -> ConfigError:
    return ConfigError("command line", (Problem(flag, message),))
