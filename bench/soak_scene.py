"""The two clouds of a soak, the keys that they accept, and the configuration that names them.

The `strict` cloud draws its faults from all of `FAULTS`: a refused key holds a project back for
five minutes. The `mild` one leaves those out that do that, so that its project is read at every
scrape. One is read with a token and a list of instances, the other with a key and by discovery.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from dcs_task_exporter.simulator.cloud import SimulatedCloud
from dcs_task_exporter.simulator.faults import FAULTS

FAULT_SHARE: Final = 0.1
"""The share of the answers that are faults."""

INSTANCES: Final = 5
"""Instances of each cloud that stay; one more comes and goes."""

PROJECTS: Final = {
    "strict": "a4d31cb63d724fdc8ec96e3a41e47f71",
    "mild": "b5e42dc74e835aed9fd07f4b52f58a82",
}
_HOLDING: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
_MILD: Final = tuple(
    name
    for name, reply in FAULTS.items()
    if reply.status not in _HOLDING or "Retry-After" in reply.headers
)


def switch_on_faults(cloud: SimulatedCloud, names: Sequence[str]) -> None:
    """Let a share of the answers be these faults, each as often; end the silences until now."""
    cloud.faults.clear()
    each = 1 - (1 - FAULT_SHARE) ** (1 / len(names))
    for name in names:
        cloud.faults.add(name, probability=each)


@dataclass(slots=True)
class Settings:
    """The part of the configuration that changes from one reload to the next."""

    listed: list[str]
    names: dict[str, str] = field(default_factory=dict)
    collector: dict[str, object] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    tail: str = ""


class Scene:
    """The clouds, the files that the exporter reads, and how they change; used by one thread.

    `secrets` are all keys and tokens that were ever valid; `urls` the addresses of the clouds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float], seed: int) -> None:
        self._folder = folder
        self.config, self.state = folder / "config.yml", folder / "state.db"
        self.urls: dict[str, str] = {}
        self.random = random.Random(seed)  # noqa: S311 - a fixed seed is wanted
        self.clouds = {
            name: SimulatedCloud(clock, seed=seed + at) for at, name in enumerate(PROJECTS)
        }
        self.spares = {name: f"{name}-spare" for name in PROJECTS}
        self.secrets: list[str] = []
        self.rotations = 0
        self.settings = Settings([])
        for name, cloud in self.clouds.items():
            cloud.add_project(PROJECTS[name], "cn-north-4")
            for number in range(INSTANCES):
                self.arrive(name, f"{name}-{number}")
        self._token = ""
        self._key = ("", "")
        self._create_all(self._new_token(), self._new_key())

    @property
    def watched(self) -> set[str]:
        """The ids of the instances that the exporter should show."""
        return {*self.settings.listed, *self.instances("mild")}

    def instances(self, project: str) -> set[str]:
        """Return the ids of the instances of a cloud."""
        return {str(row["instance_id"]) for row in self.clouds[project].instances()}

    def arrive(self, project: str, instance: str) -> None:
        """Create an instance in a cloud, unless it is there, and list it where that is needed."""
        if instance not in self.instances(project):
            cloud = self.clouds[project]
            cloud.add_instance(PROJECTS[project], instance, f"cache-{instance}")
        if project == "strict" and instance not in self.settings.listed:
            self.settings.listed.append(instance)

    def leave(self, project: str, instance: str) -> None:
        """Take an instance out of the list, or delete it where there is none."""
        if project == "strict":
            self.settings.listed.remove(instance)
        else:
            self.clouds[project].remove_instance(instance)

    def switch_on_faults(self) -> None:
        """Let a tenth of all answers be faults."""
        switch_on_faults(self.clouds["strict"], tuple(FAULTS))
        switch_on_faults(self.clouds["mild"], _MILD)

    def switch_off_faults(self) -> None:
        """Let all answers be good."""
        for cloud in self.clouds.values():
            cloud.faults.clear()

    def rotation(self) -> Iterator[None]:
        """Change the keys of both clouds in steps, a second or so apart.

        Each second time, the clouds refuse the old ones before the files hold the new ones.
        """
        self.rotations += 1
        yield from self._rotate_token(overlap=bool(self.rotations % 2))
        yield from self._rotate_key(overlap=bool(self.rotations % 2))

    def _rotate_token(self, *, overlap: bool) -> Iterator[None]:
        old, access = self._token, self.clouds["strict"].access
        steps = self._new_token()
        next(steps)
        if not overlap:
            access.revoke(old)
            yield
        next(steps, None)
        yield
        access.revoke(old)

    def _rotate_key(self, *, overlap: bool) -> Iterator[None]:
        old, access = self._key[0], self.clouds["mild"].access
        steps = self._new_key()
        next(steps)
        if not overlap:
            access.revoke(old)
            yield
        yield from steps
        yield
        access.revoke(old)

    def _new_token(self) -> Iterator[None]:
        """Create a token, then write it."""
        self._token = f"soak-token-{self.random.getrandbits(128):032x}"
        self.secrets.append(self._token)
        self.clouds["strict"].access.add_token(self._token)
        yield
        self._write("token", self._token)

    def _new_key(self) -> Iterator[None]:
        """Create a key, then write its halves one after the other: between them they mismatch."""
        number = self.random.getrandbits(64)
        self._key = f"SOAKAK{number:016X}", f"soak-sk-{self.random.getrandbits(128):032x}"
        self.secrets += self._key
        self.clouds["mild"].access.add_key(*self._key)
        yield
        self._write("access-key", self._key[0])
        yield
        self._write("secret-key", self._key[1])

    @staticmethod
    def _create_all(*keys: Iterator[None]) -> None:
        for steps in keys:
            for _ in steps:
                pass

    def _write(self, name: str, text: str) -> None:
        new = self._folder / f"{name}.new"
        new.write_text(f"{text}\n")
        new.rename(self._folder / name)

    def write_config(self) -> None:
        """Write the configuration file in one piece."""
        self._write(self.config.name, self._text())

    def _text(self) -> str:
        now = self.settings
        rows = ", ".join(f"{{id: {key}, name: {now.names.get(key, key)}}}" for key in now.listed)
        key = {name: self._folder / name for name in ("token", "access-key", "secret-key")}
        collector = {
            "lookback": "5m",
            "min_refresh_interval": "1s",
            "timeout": "1s",
            "retries": 1,
            "concurrency": 4,
            "requests_per_second": 50,
            "first_value_hold": "5s",
            **now.collector,
        }
        return f"""
projects:
  - name: strict
    project_id: {PROJECTS["strict"]}
    endpoint: {self.urls["strict"]}
    credentials: {{type: token, token_file: {key["token"]}}}
    instances: [{rows}]
  - name: mild
    project_id: {PROJECTS["mild"]}
    endpoint: {self.urls["mild"]}
    credentials: {{type: access_key, access_key_file: {key["access-key"]},
                   secret_key_file: {key["secret-key"]}}}
    discovery: {{enabled: true, refresh_interval: 5s}}
collector: {{{", ".join(f"{name}: {value}" for name, value in collector.items())}}}
status_words: {{ended: [{", ".join(now.words)}]}}
state: {{path: {self.state}}}
{now.tail}
"""
