"""The details of a background task, and the few words in which they are shown.

Source: the API page *Querying Background Tasks*, table 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

GIBIBYTE: Final = 2**30
"""The API's GB are binary: its specification codes call 0.25 GB 256 MB."""

PERSONAL_DETAILS: Final = frozenset(
    {
        "account_name",
        "node_name",
        "public_ip_address",
        "public_ip_id",
        "replica_ip",
        "source_ip",
        "target_ip",
    }
)
"""The details that name a person or an address; they are kept only where they are wanted."""

MAX_SUMMARY_LENGTH: Final = 256
"""Longest summary in characters; longer ones are cut."""


@dataclass(frozen=True, slots=True)
class TaskDetails:
    """The `details` of a task: all 26 documented fields, none of them guaranteed."""

    old_capacity: float | None = None
    new_capacity: float | None = None
    enable_public_ip: bool | None = None
    public_ip_id: str = ""
    public_ip_address: str = ""
    enable_ssl: bool | None = None
    old_cache_mode: str = ""
    new_cache_mode: str = ""
    old_resource_spec_code: str = ""
    new_resource_spec_code: str = ""
    old_replica_num: int | None = None
    new_replica_num: int | None = None
    old_cache_type: str = ""
    new_cache_type: str = ""
    replica_ip: str = ""
    replica_az: str = ""
    group_name: str = ""
    old_port: int | None = None
    new_port: int | None = None
    is_only_adjust_charging: bool | None = None
    account_name: str = ""
    source_ip: str = ""
    target_ip: str = ""
    node_name: str = ""
    rename_commands: tuple[str, ...] = ()
    updated_config_length: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the details that are set, without the personal ones."""
        return {
            item.name: value
            for item in fields(self)
            if item.name not in PERSONAL_DETAILS
            and (value := getattr(self, item.name)) != item.default
        }

    def summary(self, *, failed: bool = False, personal: bool = False) -> str:
        """Return the change in a few words, or what a failed task tried, or the empty text.

        With `personal`, account names and addresses are included.
        """
        words = [tried if failed else done for done, tried in self._words()]
        if failed and words:
            words = [f"tried to {' and '.join(filter(None, [', '.join(words[:-1]), words[-1]]))}"]
        return ", ".join([*words, *(self._personal() if personal else ())])[:MAX_SUMMARY_LENGTH]

    def _words(self) -> Iterator[tuple[str, str]]:
        """Yield each change, as a change and as an attempt."""
        grows = (self.old_capacity or 0.0) < (self.new_capacity or 0.0)
        resize, replicas = "extend" if grows else "shrink", "change the number of replicas"
        for subject, verb, old, new, unit in (
            ("capacity", resize, self.old_capacity, self.new_capacity, " GB"),
            ("spec", "", self.old_resource_spec_code, self.new_resource_spec_code, ""),
            ("mode", "", self.old_cache_mode, self.new_cache_mode, ""),
            ("type", "", self.old_cache_type, self.new_cache_type, ""),
            ("replicas", replicas, self.old_replica_num, self.new_replica_num, ""),
            ("port", "", self.old_port, self.new_port, ""),
        ):
            if old not in (None, "") and new not in (None, "") and old != new:
                before, after = _plain(old), f"{_plain(new)}{unit}"
                tried = f"{verb or f'change the {subject}'} from {before}{unit} to {after}"
                yield f"{subject} {before} -> {after}", tried
        for subject, on in (("public access", self.enable_public_ip), ("SSL", self.enable_ssl)):
            if on is not None:
                switch = f"{subject} {'on' if on else 'off'}"
                yield switch, f"switch {switch}"
        if self.is_only_adjust_charging:
            yield "charging mode only", "change the charging mode only"
        if self.rename_commands:
            commands = ", ".join(self.rename_commands)
            yield f"commands renamed: {commands}", f"rename the commands {commands}"
        if self.updated_config_length:
            settings = f"{self.updated_config_length} settings"
            yield settings, f"change {settings}"

    def _personal(self) -> Iterator[str]:
        """Yield the people and addresses that the task names."""
        if self.account_name:
            yield f"account {self.account_name}"
        if self.public_ip_address:
            yield f"public address {self.public_ip_address}"
        if self.replica_ip:
            yield f"replica {self.replica_ip}"
        if self.source_ip and self.target_ip and self.source_ip != self.target_ip:
            yield f"address {self.source_ip} -> {self.target_ip}"


def _plain(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
