"""The name that the series of an instance carry, and what scrapers saw under its other names; pure.

Prometheus goes on with the series of a name that returns: what they grew by meanwhile, under
another name, would be an increase for the second time. So the series of each name go on from where
they ended, and each increase is seen under one name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dcs_task_exporter.tasks.models import Instance

Series = tuple[str, str]
"""The (task_name, status) of a series of one instance."""

MAX_FORMER_NAMES: Final = 8
"""Most former names of an instance whose series may still go on."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A name, and the part of the counts that is no part of its series.

    `elsewhere` has the counts that scrapers saw under other names since this one was left the last
    time; `former` has the last values of the series of the other names.
    """

    name: str = ""
    elsewhere: Mapping[Series, int] = field(default_factory=dict)
    former: Mapping[str, Mapping[Series, int]] = field(default_factory=dict)

    def exposed(self, shown: Mapping[Series, int]) -> Mapping[Series, int]:
        """Return the values of the series when the counts in `shown` may be seen."""
        if not self.elsewhere:
            return shown
        return {key: value - self.elsewhere.get(key, 0) for key, value in shown.items()}

    def counts(self, exposed: Mapping[Series, int]) -> Mapping[Series, int]:
        """Return the counts that these values of the series stand for."""
        if not self.elsewhere:
            return exposed
        return {key: value + self.elsewhere.get(key, 0) for key, value in exposed.items()}

    def renamed(self, name: str, shown: Mapping[Series, int]) -> Naming:
        """Return the naming under another name; the series of this one end with `shown`."""
        if name == self.name:
            return self
        others = {key: it for key, it in self.former.items() if key not in (name, self.name)}
        if self.name:
            others[self.name] = self.exposed(shown)
        going_on = self.former.get(name, {})
        grown = {key: shown.get(key, 0) - value for key, value in going_on.items()}
        return Naming(
            name,
            {key: number for key, number in grown.items() if number > 0},
            dict(list(others.items())[-MAX_FORMER_NAMES:]),
        )

    def seen_late(self, name: str, exposed: Mapping[Series, int]) -> Naming:
        """Return the naming after an answer that was on its way when `name` was left.

        What it shows more than was known is no part of the series of the present name.
        """
        before = self.former.get(name)
        if before is None:
            return self
        more = {key: value - before.get(key, 0) for key, value in exposed.items()}
        more = {key: number for key, number in more.items() if number > 0}
        if not more:
            return self
        return replace(
            self,
            elsewhere={**self.elsewhere, **_sum(self.elsewhere, more)},
            former={**self.former, name: {**before, **_sum(before, more)}},
        )


def name_of(instance: Instance) -> str:
    """Return the name under which the series of an instance are remembered."""
    return f"{instance.project}\n{instance.name}"


def _sum(one: Mapping[Series, int], more: Mapping[Series, int]) -> Mapping[Series, int]:
    return {key: one.get(key, 0) + number for key, number in more.items()}
