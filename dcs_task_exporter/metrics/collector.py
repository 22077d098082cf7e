"""Snapshots as metric families: the metrics of the instances.

Nothing here counts, waits or asks the network. An instance without metrics has no task series: an
outage must never read as zero failed tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from dcs_task_exporter.metrics.families import (
    AS_OF,
    INSTANCE_LABELS,
    REFRESH_GAUGES,
    TASK_FAMILIES,
    TASK_GAUGES,
    identity,
)
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.tasks.statuses import StatusTable

LATEST_LABELS: Final = ("task_name", "task_id", "status", "error_code", "summary")
FAILED_LABELS: Final = ("task_name", "task_id", "error_code", "reason", "summary")


@dataclass(frozen=True, eq=False)
class TaskCollector(Collector):
    """The metrics of all instances, or of the one whose id `snapshots` is given.

    `personal` adds the names of users, `tags` are those of instances that become labels.
    """

    snapshots: Callable[[str | None], Sequence[Snapshot]]
    personal: bool = False
    tags: Sequence[str] = ()
    statuses: StatusTable = field(default_factory=StatusTable)

    def shows_as(self, other: TaskCollector) -> bool:
        """Whether the other one shows the same snapshot in the same way."""
        own = (self.personal, tuple(self.tags), self.statuses)
        return own == (other.personal, tuple(other.tags), other.statuses)

    def describe(self) -> Iterator[Metric]:
        """Yield every family without samples."""
        return self._families(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family with its current samples."""
        return self._families(one_each(self.snapshots(None)))

    def _families(self, snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
        yield from self.task_families(snapshots)
        yield from (gauge.family(snapshots) for gauge in REFRESH_GAUGES)

    def task_families(self, snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
        """Yield the families that change only with the instance or its `TaskMetrics`."""
        yield from (family.family(snapshots) for family in TASK_FAMILIES)
        yield self._latest(snapshots)
        yield self._failed(snapshots)
        yield from (gauge.family(snapshots) for gauge in TASK_GAUGES)
        yield self._info(snapshots)

    def _latest(self, snapshots: Iterable[Snapshot]) -> Metric:
        family = InfoMetricFamily(
            "dcs_task_last",
            f"The latest task of each name in the look-back window, {AS_OF}; summary says what "
            "it changed or, where it failed, what it tried.",
            labels=(*INSTANCE_LABELS, *LATEST_LABELS, *(("user_name",) if self.personal else ())),
        )
        for snapshot in snapshots:
            latest = snapshot.metrics.latest if snapshot.metrics else {}
            for name, task in latest.items():
                outcome = self.statuses.outcome(task.status)
                summary = task.summary(outcome, personal=self.personal)
                own = (name, task.id, task.status, task.error_code, summary)
                personal = (task.user_name,) if self.personal else ()
                family.add_metric((*identity(snapshot.instance), *own, *personal), {})
        return family

    def _failed(self, snapshots: Iterable[Snapshot]) -> Metric:
        family = InfoMetricFamily(
            "dcs_task_last_failure",
            f"The latest failed task of each name, also where it is not listed any more, {AS_OF}; "
            "summary says what it tried.",
            labels=(*INSTANCE_LABELS, *FAILED_LABELS),
        )
        for snapshot in snapshots:
            failed = snapshot.metrics.failed if snapshot.metrics else {}
            for name, task in failed.items():
                # No listing tells why a task failed: the reason is empty.
                tried = task.details.summary(failed=True, personal=self.personal)
                own = (name, task.id, task.error_code, "", tried)
                family.add_metric((*identity(snapshot.instance), *own), {})
        return family

    def _info(self, snapshots: Iterable[Snapshot]) -> Metric:
        tag_labels = tuple(f"tag_{label_name(tag)}" for tag in self.tags)
        family = InfoMetricFamily(
            "dcs_instance",
            "What is known of a DCS instance; join it by dcs_instance_id.",
            labels=(*INSTANCE_LABELS, *facts(Instance("", "", "")), *tag_labels),
        )
        for instance in (snapshot.instance for snapshot in snapshots):
            tags = (instance.tags.get(tag, "") for tag in self.tags)
            family.add_metric((*identity(instance), *facts(instance).values(), *tags), {})
        return family


def facts(instance: Instance) -> dict[str, str]:
    """Return the facts about an instance that every instance has, by label."""
    return {
        "project_id": instance.project_id,
        "region": instance.region,
        "engine": instance.engine,
        "engine_version": instance.engine_version,
        "spec_code": instance.spec_code,
        "instance_status": instance.status,
    }


def one_each(snapshots: Iterable[Snapshot]) -> Sequence[Snapshot]:
    """Return the first snapshot of each instance: two would make the exposition invalid."""
    seen: dict[str, Snapshot] = {}
    for snapshot in snapshots:
        seen.setdefault(snapshot.instance.id, snapshot)
    return tuple(seen.values())


def label_name(text: str) -> str:
    """Return a text as (part of) the name of a label."""
    return re.sub("[^a-zA-Z0-9_]", "_", text)
