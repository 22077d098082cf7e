"""The exposition of many instances, of which few have changed since the last one.

The library writes every line. What it wrote of an instance is kept, cut into one block for each
family, as long as what it shows is the same object; a scrape joins blocks. At 100,000 series of
which 1 % changed that takes about a twentieth of the time (docs/performance.md).
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from dcs_task_exporter.collector import TaskCollector, one_each
from dcs_task_exporter.models import Instance
from dcs_task_exporter.snapshots import Snapshot, TaskFigures
from dcs_task_exporter.web.exposition import Encoder, GzipBeginning

END: Final = b"# EOF\n"
"""How OpenMetrics ends; each thing that the library writes has it."""

MAX_FORMATS: Final = 2
"""Formats whose blocks are kept: a Prometheus of today, and one of another age."""


@dataclass(frozen=True, slots=True)
class _Registry:
    """What an encoder needs of a registry."""

    metrics: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        return iter(self.metrics)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was written of one instance, and of what: the blocks are in the order of families."""

    instance: Instance
    figures: TaskFigures | None
    steady: Sequence[bytes]
    snapshot: Snapshot
    passing: Sequence[bytes]


@dataclass(slots=True)
class _Format:
    """The headers of all families in one format, and the blocks of each instance.

    `compressed` is what was last made of the steady ones, and of which.
    """

    steady: Sequence[bytes]
    passing: Sequence[bytes]
    kept: dict[str, _Kept] = field(default_factory=dict)
    compressed: tuple[Sequence[Sequence[bytes]], GzipBeginning] | None = None


class InstanceBlocks:
    """Renders snapshots, each instance anew only where it changed; safe to use from threads."""

    def __init__(self, collector: TaskCollector) -> None:
        self._collector = collector
        self._lock = threading.Lock()
        self._formats: dict[str, _Format] = {}

    def render(self, snapshots: Sequence[Snapshot], encoder: Encoder, content_type: str) -> bytes:
        """Return the exposition of `snapshots`, without the mark that ends OpenMetrics."""
        form = self._format(encoder, content_type)
        kept = [self._of(form, snapshot, encoder) for snapshot in one_each(snapshots)]
        steady, passing = [one.steady for one in kept], [one.passing for one in kept]
        return b"".join((*_parts(form.steady, steady), *_parts(form.passing, passing)))

    def render_gzip(
        self, snapshots: Sequence[Snapshot], encoder: Encoder, content_type: str
    ) -> tuple[GzipBeginning, bytes]:
        """Return the same in two parts: what no refresh changed, compressed, and the rest."""
        form = self._format(encoder, content_type)
        kept = [self._of(form, snapshot, encoder) for snapshot in one_each(snapshots)]
        steady = [one.steady for one in kept]
        known = form.compressed
        if known is None or not _are_same(known[0], steady):
            # Part by part: the whole of it as text would be the most memory ever held.
            size = sum(len(block) for one in steady for block in one)
            known = steady, GzipBeginning.of(_parts(form.steady, steady), size)
            form.compressed = known
        passing = [one.passing for one in kept]
        return known[1], b"".join(_parts(form.passing, passing))

    def forget_all_but(self, instance_ids: Collection[str]) -> None:
        """Keep nothing of what was written of other instances."""
        with self._lock:
            for form in self._formats.values():
                for key in form.kept.keys() - set(instance_ids):
                    del form.kept[key]

    def _format(self, encoder: Encoder, content_type: str) -> _Format:
        with self._lock:
            form = self._formats.pop(content_type, None)
            if form is None:
                form = _Format(
                    _headers(self._collector.steady(()), encoder),
                    _headers(self._collector.passing(()), encoder),
                )
            self._formats[content_type] = form  # the latest used is the last to go
            for old in list(self._formats)[:-MAX_FORMATS]:
                del self._formats[old]
            return form

    def _of(self, form: _Format, snapshot: Snapshot, encoder: Encoder) -> _Kept:
        """Return the blocks of one instance, written anew where they show something else."""
        instance, figures = snapshot.instance, snapshot.figures
        kept = form.kept.get(instance.id)
        if kept is not None and kept.snapshot is snapshot:
            return kept
        steady: Sequence[bytes]
        if kept is None or kept.figures is not figures or kept.instance is not instance:
            steady = _blocks(self._collector.steady((snapshot,)), form.steady, encoder)
        else:
            steady = kept.steady
        passing = _blocks(self._collector.passing((snapshot,)), form.passing, encoder)
        form.kept[instance.id] = kept = _Kept(instance, figures, steady, snapshot, passing)
        return kept


def _parts(headers: Sequence[bytes], blocks: Sequence[Sequence[bytes]]) -> Iterator[bytes]:
    """Yield each header, and after it the blocks of its family."""
    for at, header in enumerate(headers):
        yield header
        yield from (one[at] for one in blocks)


def _are_same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _headers(families: Sequence[Metric], encoder: Encoder) -> tuple[bytes, ...]:
    """Return what the library writes above the samples of each family."""
    return tuple(_written([family], encoder) for family in families)


def _blocks(
    families: Sequence[Metric], headers: Sequence[bytes], encoder: Encoder
) -> tuple[bytes, ...]:
    """Return the samples of each family, as the library writes them.

    No sample holds a header: what separates its lines is escaped in label values.
    """
    rest = _written(families, encoder)
    blocks: list[bytes] = []
    for header in reversed(headers):
        rest, _, block = rest.rpartition(header)
        blocks.append(block)
    blocks.reverse()
    return tuple(blocks)


def _written(families: Sequence[Metric], encoder: Encoder) -> bytes:
    return encoder(cast("CollectorRegistry", _Registry(families))).removesuffix(END)
