"""What a scrape gets to see: the instances, the exporter itself, or both."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from dcs_task_exporter.metrics.blocks import InstanceBlocks
from dcs_task_exporter.metrics.collector import TaskCollector
from dcs_task_exporter.metrics.exposition import (
    EXPORTER,
    INSTANCES,
    Exposition,
    ScrapeRequest,
    Shown,
    choose_format,
    packed,
    render,
    takes_gzip,
)
from dcs_task_exporter.metrics.gzip_parts import Part
from dcs_task_exporter.tasks.snapshots import Snapshot
from dcs_task_exporter.tasks.statuses import StatusTable


class Rendering:
    """Renders what scrapes ask for; safe to use from threads.

    `snapshots` returns what is known of every instance, or of the one whose id it is given; `own`
    holds what is said of the exporter itself. `registry` has everything.
    """

    def __init__(
        self,
        snapshots: Callable[[str | None], Sequence[Snapshot]],
        own: CollectorRegistry,
        *,
        personal: bool,
        tags: Sequence[str],
        statuses: StatusTable | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._own = own
        self._numbers = itertools.count()
        self._collector = TaskCollector(
            partial(snapshots, None), personal=personal, tags=tags, statuses=statuses
        )
        self._blocks = InstanceBlocks(self._collector)
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.registry.register(self._collector)
        self.registry.register(_Included(own))

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render what a scrape asks for."""
        number = next(self._numbers)
        wanted = INSTANCES in request.parts
        snapshots = self._snapshots(request.target) if wanted else ()
        render_it = self._named if request.names else self._whole
        made = render_it(request, snapshots)
        return replace(made, shown=Shown(snapshots, number)) if request.counts else made

    def _whole(self, request: ScrapeRequest, snapshots: Sequence[Snapshot]) -> Exposition:
        encoder, content_type = choose_format(request.accept)
        body = b""
        beginning: Sequence[Part] = ()
        if INSTANCES in request.parts:
            if request.target is None and takes_gzip(request):
                beginning, body = self._blocks.render_gzip(snapshots, encoder, content_type)
            else:
                body = self._blocks.render(snapshots, encoder, content_type)
        own = self._own if EXPORTER in request.parts else CollectorRegistry()
        return packed(body + encoder(own), content_type, request, beginning)

    def _named(self, request: ScrapeRequest, snapshots: Sequence[Snapshot]) -> Exposition:
        chosen = CollectorRegistry(support_collectors_without_names=True)
        if INSTANCES in request.parts:
            chosen.register(self._collector.over(lambda: snapshots))
        if EXPORTER in request.parts:
            chosen.register(_Included(self._own))
        return render(chosen, request)

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Keep nothing of what was written of other instances."""
        self._blocks.forget_all_but(instance_ids)


class _Included(Collector):
    """All of a registry, as a part of another one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def describe(self) -> Iterator[Metric]:
        """Yield every family."""
        return iter(self._registry.collect())

    def collect(self) -> Iterator[Metric]:
        """Yield the families with their values."""
        return iter(self._registry.collect())
