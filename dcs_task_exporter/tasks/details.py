"""The details of a background task, and the few words in which they are shown.

Source: the API page *Querying Background Tasks*, table 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        kept = {
            item.name: value
            for item in fields(self)
            if item.name not in PERSONAL_DETAILS
            and (value := getattr(self, item.name)) != item.default
        }
        return {name: list(it) if isinstance(it, tuple) else it for name, it in kept.items()}

    def summary(self, *, personal: bool = False) -> str:
        """Return the change in a few words, or the empty text.

        With `personal`, account names and addresses are included.
        """
        parts = [
            f"{subject} {_plain(old)} -> {_plain(new)}{unit}"
            for subject, old, new, unit in self._changes()
        ]
        parts += [
            _switch("public access", on=self.enable_public_ip),
            _switch("SSL", on=self.enable_ssl),
            "charging mode only" if self.is_only_adjust_charging else "",
            f"commands renamed: {', '.join(self.rename_commands)}" if self.rename_commands else "",
            f"{self.updated_config_length} settings" if self.updated_config_length else "",
        ]
        return self._joined(parts, personal=personal)

    def attempt(self, *, personal: bool = False) -> str:
        """Return the change that a failed task attempted in a few words, or the empty text."""
        actions = [
            f"{_action(subject, old, new)} from {_plain(old)}{unit} to {_plain(new)}{unit}"
            for subject, old, new, unit in self._changes()
        ]
        actions += [
            f"switch {switch}"
            for switch in (
                _switch("public access", on=self.enable_public_ip),
                _switch("SSL", on=self.enable_ssl),
            )
            if switch
        ]
        if self.is_only_adjust_charging:
            actions.append("change the charging mode only")
        if self.rename_commands:
            actions.append(f"rename the commands {', '.join(self.rename_commands)}")
        if self.updated_config_length:
            actions.append(f"change {self.updated_config_length} settings")
        tried = f"tried to {_enumerated(actions)}" if actions else ""
        return self._joined([tried], personal=personal)

    def _joined(self, parts: Sequence[str], *, personal: bool) -> str:
        people = self._personal() if personal else ()
        return ", ".join(filter(None, [*parts, *people]))[:MAX_SUMMARY_LENGTH]

    def _changes(self) -> Iterator[tuple[str, float | str, float | str, str]]:
        """Yield what changes: its name, the old value, the new value, and their unit."""
        for subject, old, new, unit in (
            ("capacity", self.old_capacity, self.new_capacity, " GB"),
            ("spec", self.old_resource_spec_code, self.new_resource_spec_code, ""),
            ("mode", self.old_cache_mode, self.new_cache_mode, ""),
            ("type", self.old_cache_type, self.new_cache_type, ""),
            ("replicas", self.old_replica_num, self.new_replica_num, ""),
            ("port", self.old_port, self.new_port, ""),
        ):
            if old not in (None, "") and new not in (None, "") and old != new:
                yield subject, old, new, unit

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

    @property
    def old_capacity_bytes(self) -> float | None:
        """The capacity before, in bytes."""
        return None if self.old_capacity is None else self.old_capacity * GIBIBYTE

    @property
    def new_capacity_bytes(self) -> float | None:
        """The capacity after, in bytes."""
        return None if self.new_capacity is None else self.new_capacity * GIBIBYTE


def _action(subject: str, old: float | str, new: float | str) -> str:
    """Return the verb of a change, and its object."""
    if subject == "capacity":
        grows = isinstance(old, float) and isinstance(new, float) and old < new
        return "extend" if grows else "shrink"
    return f"change the {'number of ' if subject == 'replicas' else ''}{subject}"


def _enumerated(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _plain(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _switch(subject: str, *, on: bool | None) -> str:
    return "" if on is None else f"{subject} {'on' if on else 'off'}"
