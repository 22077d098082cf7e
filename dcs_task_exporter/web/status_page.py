"""The status page: views of the snapshots, and the template that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

from dcs_task_exporter import __version__
from dcs_task_exporter.state.file import StateStatus
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.tasks.statuses import Outcome, StatusTable
from dcs_task_exporter.text.display import shown
from dcs_task_exporter.text.times import time_text
from dcs_task_exporter.web.paths import HEALTHY_PATH, READY_PATH

FEW_INSTANCES: Final = 6
"""Up to this many instances, the page shows each of them unfolded."""


@dataclass(frozen=True, slots=True)
class ExporterStatus:
    """The exporter as a whole, at the Unix time `now`.

    `problems` are sentences for people about anything but a single instance; `state` is None when
    counts are meant to live in memory.
    """

    now: float
    ready: bool = True
    problems: Sequence[str] = ()
    state: StateStatus | None = None


class StatusPage:
    """Renders the page from memory."""

    def __init__(self, telemetry_path: str) -> None:
        self._telemetry_path = telemetry_path

    def render(
        self,
        snapshots: Iterable[Snapshot],
        status: ExporterStatus,
        statuses: StatusTable,
        nonce: str,
    ) -> str:
        """Return the page; `nonce` allows its one style sheet."""
        views = [InstanceView.of(snapshot, statuses) for snapshot in snapshots]
        kinds = Counter(view.kind for view in views)
        page: str = _template().render(
            nonce=nonce,
            now=status.now,
            state=status.state,
            problems=status.problems,
            kinds=kinds,
            headline=_headline(kinds, len(status.problems)),
            instances=sorted(views, key=lambda view: view.order),
            known=[view for view in views if view.snapshot.metrics is not None],
            unfolded=len(views) <= FEW_INSTANCES,
            statuses=statuses,
            telemetry_path=self._telemetry_path,
        )
        return page


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance as the status page shows it; `failed` and `active` are None when unknown."""

    snapshot: Snapshot
    kind: str
    failed: int | None
    active: int | None

    @classmethod
    def of(cls, snapshot: Snapshot, statuses: StatusTable) -> InstanceView:
        """Derive the view of a snapshot."""
        metrics = snapshot.metrics
        tried = snapshot.failure is not None or snapshot.attempted_at
        kind = "up" if snapshot.up else "failing" if tried else "waiting"
        if metrics is None:
            return cls(snapshot, kind, None, None)
        failed = sum(
            number
            for (_name, status), number in metrics.recent.items()
            if statuses.outcome(status) is Outcome.FAILURE
        )
        return cls(snapshot, kind, failed, sum(metrics.active.values()))

    @property
    def order(self) -> tuple[bool, bool, bool, str]:
        """The sort key: instances that need attention come first."""
        name = self.snapshot.instance.name or self.snapshot.instance.id
        return self.kind != "failing", self.kind != "waiting", not self.failed, name


def _headline(kinds: Counter[str], problems: int) -> str:
    """Say how many instances are read; `problems` are those of no single instance."""
    total = kinds.total()
    if not total:
        return "No instance is watched"
    parts = [f"{kinds['up']} of {_plural(total, 'instance')} read"]
    if kinds["up"] == total > 1:
        parts = [f"All {total} instances read"]
    parts += [f"{kinds['failing']} failing"] if kinds["failing"] else []
    parts += [f"{kinds['waiting']} not read yet"] if kinds["waiting"] else []
    parts += [_plural(problems, "problem")] if problems else []
    return ", ".join(parts)


@cache
def _template() -> Any:  # noqa: ANN401 - a Template
    """Return the template; only a page that is opened needs Jinja, which takes 2 MB and 60 ms."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - see above

    environment = Environment(
        loader=PackageLoader("dcs_task_exporter", "web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    utc = partial(time_text, form="%Y-%m-%d %H:%M:%S UTC")
    environment.filters.update(utc=utc, span=_span, age=_age, plural=_plural)
    environment.globals.update(
        counted=_counted, healthy_path=HEALTHY_PATH, ready_path=READY_PATH, version=__version__
    )
    return environment.get_template("status.html")


def _finalized(value: object) -> object:
    """Return the safe form of a text in the template; markup is the template's own."""
    return shown(value) if type(value) is str else value


def _counted(
    finished: Mapping[tuple[str, str], int], recent: Mapping[tuple[str, str], int]
) -> list[tuple[str, str, int, int]]:
    """Return the name, status and both counts of each series that is not all zero."""
    rows = ((*key, finished.get(key, 0), recent.get(key, 0)) for key in {**finished, **recent})
    return sorted(row for row in rows if row[2] or row[3])


def _span(seconds: float | None) -> str:
    """Write a length of time in its two largest units."""
    if seconds is None:
        return "unknown"
    if seconds < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, large, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {large} {whole % size // part} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004


def _age(moment: float | None, now: float) -> str:
    """Say how long ago a moment was."""
    if moment is None:
        return "at an unknown time"
    if abs(now - moment) < 1:
        return "just now"
    ago = f"{_span(abs(now - moment))}".replace(".0 s", " s")
    return f"{ago} ago" if moment < now else f"{ago} ahead of this clock"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
