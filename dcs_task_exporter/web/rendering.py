"""What a scrape gets to see: the instances, the exporter itself, or both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from dcs_task_exporter.collector import TaskCollector
from dcs_task_exporter.snapshots import Snapshot
from dcs_task_exporter.web.blocks import InstanceBlocks
from dcs_task_exporter.web.exposition import (
    EXPORTER,
    INSTANCES,
    Exposition,
    ScrapeRequest,
    choose_format,
    packed,
    render,
    takes_gzip,
)
from dcs_task_exporter.web.gzip_parts import Part


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
    ) -> None:
        self._snapshots = snapshots
        self._own = own
        self._in_thread = threading.local()
        self._collector = TaskCollector(self._shown, personal=personal, tags=tags)
        self._blocks = InstanceBlocks(self._collector)
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.registry.register(self._collector)
        self.registry.register(_Included(own))

    def exposition(self, request: ScrapeRequest) -> Exposition:
        """Render what a scrape asks for."""
        if request.names:
            return render(self._chosen(request), request)
        encoder, content_type = choose_format(request.accept)
        body = b""
        beginning: Sequence[Part] = ()
        if INSTANCES in request.parts:
            snapshots = self._shown(request.target)
            if request.target is None and takes_gzip(request):
                beginning, body = self._blocks.render_gzip(snapshots, encoder, content_type)
            else:
                body = self._blocks.render(snapshots, encoder, content_type)
        own = self._own if EXPORTER in request.parts else CollectorRegistry()
        return packed(body + encoder(own), content_type, request, beginning)

    def taken(self) -> Sequence[Snapshot]:
        """Return what this thread rendered last, once.

        It is not held any longer: it can be the last that knows of what was shown before.
        """
        shown: Sequence[Snapshot] = self._in_thread.shown
        self._in_thread.shown = ()
        return shown

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Keep nothing of what was written of other instances."""
        self._blocks.forget_all_but(instance_ids)

    def _shown(self, target: str | None = None) -> Sequence[Snapshot]:
        self._in_thread.shown = shown = self._snapshots(target)
        return shown

    def _chosen(self, request: ScrapeRequest) -> CollectorRegistry:
        """Return a registry of the parts that a scrape asks for."""
        if INSTANCES not in request.parts:
            return self._own
        if request.target is None and EXPORTER in request.parts:
            return self.registry
        chosen = CollectorRegistry(support_collectors_without_names=True)
        chosen.register(self._collector.over(partial(self._shown, request.target)))
        return chosen


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
