"""The exposition of many instances, of which few have changed since the last one.

The library writes every line. What it wrote of an instance is kept, cut into one block for each
family, as long as what it shows is the same object; a scrape joins blocks. What was compressed of
a group of instances is kept too. At 100,000 series of which 1 % changed that takes about a
twelfth of the time (docs/performance.md).
"""

from __future__ import annotations

import io
import itertools
import operator
import re
import threading
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from dcs_task_exporter.metrics.collector import TaskCollector, one_each
from dcs_task_exporter.metrics.exposition import Encoder
from dcs_task_exporter.metrics.gzip_parts import Part, parts_of
from dcs_task_exporter.tasks.models import Instance
from dcs_task_exporter.tasks.snapshots import Snapshot

END: Final = b"# EOF\n"
"""How OpenMetrics ends; each thing that the library writes has it."""

MAX_FORMATS: Final = 2
"""Formats whose blocks are kept: a Prometheus of today, and one of another age."""

IDENTITY: Final = re.compile(
    rb'\{dcs_instance_id="(?:[^"\\]|\\.)*",dcs_instance_name="(?:[^"\\]|\\.)*"'
    rb'(?:,project="(?:[^"\\]|\\.)*")?'
)
"""The labels that nearly every line of an instance begins with: the library sorts them by name,
and only of an info some come before `project`. No label value holds a bare quote."""

MARK: Final = b"\xff"
"""What stands for them in what is kept: a byte that no UTF-8 has."""

Blocks = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class _Registry:
    """What an encoder needs of a registry."""

    metrics: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        return iter(self.metrics)


@dataclass(frozen=True, slots=True)
class _Packed:
    """The blocks of one instance, without the labels that every line repeats: half of the text."""

    text: bytes
    identity: bytes
    ends: array[int]

    @classmethod
    def of(cls, blocks: Blocks) -> _Packed:
        """Pack blocks."""
        found = next(filter(None, map(IDENTITY.search, blocks)), None)
        identity = found[0] if found else MARK
        packed = [block.replace(identity, MARK) for block in blocks]
        ends = array("I", (0, *itertools.accumulate(map(len, packed))))
        return cls(b"".join(packed), identity, ends)

    def block(self, at: int) -> bytes:
        """Return one of them as it was."""
        return self._packed(at).replace(MARK, self.identity)

    def differs(self, other: _Packed, at: int) -> bool:
        """Whether a block is not that of another instance, or of another time."""
        return self.identity != other.identity or self._packed(at) != other._packed(at)

    def _packed(self, at: int) -> bytes:
        return self.text[self.ends[at] : self.ends[at + 1]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was written of one instance, and of what: the blocks are in the order of families.

    Of what was shown only the tokens are held, not what they stand for.
    """

    instance: Instance
    metrics: object
    steady: _Packed
    snapshot: object
    passing: Blocks


@dataclass(frozen=True, slots=True)
class _Group:
    """What was compressed of some instances, a part for each family."""

    members: Sequence[_Packed]
    parts: Sequence[Part]


@dataclass(slots=True)
class _Format:
    """The headers of all families in one format, and what is kept of the instances."""

    steady: Blocks
    passing: Blocks
    kept: dict[str, _Kept] = field(default_factory=dict)
    groups: list[_Group] = field(default_factory=list)


class InstanceBlocks:
    """Renders snapshots, each instance anew only where it changed; safe to use from threads.

    `group` is how many instances are compressed together.
    """

    def __init__(self, collector: TaskCollector, group: int = 64) -> None:
        self._collector = collector
        self._group_size = group
        self._lock = threading.Lock()
        self._formats: dict[str, _Format] = {}

    def render(self, snapshots: Sequence[Snapshot], encoder: Encoder, content_type: str) -> bytes:
        """Return the exposition of `snapshots`, without the mark that ends OpenMetrics."""
        form = self._format(encoder, content_type)
        kept = self._of(form, one_each(snapshots), encoder)
        body = io.BytesIO()  # written family by family: the text is large, and there only once
        for at, header in enumerate(form.steady):
            body.write(header)
            body.writelines(one.steady.block(at) for one in kept)
        body.write(_joined(form.passing, [one.passing for one in kept]))
        return body.getvalue()

    def render_gzip(
        self, snapshots: Sequence[Snapshot], encoder: Encoder, content_type: str
    ) -> tuple[Sequence[Part], bytes]:
        """Return the same in two parts: what no refresh changed, compressed, and the rest."""
        form = self._format(encoder, content_type)
        shown = one_each(snapshots)
        # Taken whole: a scrape at the same time compresses anew, and never mixes groups up.
        form.groups, before = [], form.groups[::-1]
        passing: list[Blocks] = []
        groups: list[_Group] = []
        for start in range(0, max(1, len(shown)), self._group_size):
            some = shown[start : start + self._group_size]
            kept = self._of(form, some, encoder)
            passing += [one.passing for one in kept]
            headers = form.steady if start == 0 else [b""] * len(form.steady)
            known = before.pop() if before else None
            groups.append(_group([one.steady for one in kept], headers, known))
        form.groups = groups
        parts = [group.parts[at] for at in range(len(form.steady)) for group in groups]
        return parts, _joined(form.passing, passing)

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

    def _of(
        self, form: _Format, snapshots: Sequence[Snapshot], encoder: Encoder
    ) -> Sequence[_Kept]:
        """Return the blocks of each instance, written anew where they show something else."""
        kept: dict[str, _Kept] = {}
        stale: list[Snapshot] = []
        for snapshot in snapshots:
            known = form.kept.get(snapshot.instance.id)
            if known is not None and known.snapshot is snapshot.token:
                kept[snapshot.instance.id] = known
            else:
                stale.append(snapshot)
        if stale:
            families = self._collector.passing(stale)
            passing = _by_instance(families, _blocks(families, form.passing, encoder), stale)
            for snapshot, own in zip(stale, passing, strict=True):
                written = self._written(form, snapshot, own, encoder)
                kept[snapshot.instance.id] = form.kept[snapshot.instance.id] = written
        return [kept[snapshot.instance.id] for snapshot in snapshots]

    def _written(
        self, form: _Format, snapshot: Snapshot, passing: Blocks, encoder: Encoder
    ) -> _Kept:
        """Return the blocks of an instance that was refreshed, of which most may be right still."""
        instance = snapshot.instance
        metrics = snapshot.metrics and snapshot.metrics.token
        kept = form.kept.get(instance.id)
        if kept is not None and kept.metrics is metrics and kept.instance is instance:
            steady = kept.steady
        else:
            families = self._collector.steady((snapshot,))
            steady = _Packed.of(_blocks(families, form.steady, encoder))
        return _Kept(instance, metrics, steady, snapshot.token, passing)


def _group(members: Sequence[_Packed], headers: Blocks, known: _Group | None) -> _Group:
    """Compress what is not known of a group; a header comes before its family."""
    if known is not None and _are_same(known.members, members):
        return known
    stale: Sequence[int] = range(len(headers))
    if known is not None and len(known.members) == len(members):
        pairs = list(zip(known.members, members, strict=True))
        stale = [at for at in stale if any(new.differs(old, at) for old, new in pairs)]
    fresh = parts_of(b"".join((headers[at], *(one.block(at) for one in members))) for at in stale)
    parts = list(known.parts) if known is not None else [*fresh]
    for at, part in zip(stale, fresh, strict=True):
        parts[at] = part
    return _Group(members, parts)


def _joined(headers: Blocks, blocks: Sequence[Blocks]) -> bytes:
    """Return each header, and after it the blocks of its family."""
    return b"".join(
        part for at, header in enumerate(headers) for part in (header, *(one[at] for one in blocks))
    )


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


def _by_instance(
    families: Sequence[Metric], blocks: Blocks, snapshots: Sequence[Snapshot]
) -> Sequence[Blocks]:
    """Cut blocks of families whose every sample is one line of one instance."""
    lines: list[Mapping[str, bytes]] = []
    for family, block in zip(families, blocks, strict=True):
        ids = [sample.labels["dcs_instance_id"] for sample in family.samples]
        # Not by splitlines(), which also cuts where label values may hold a line separator.
        lines.append(dict(zip(ids, block.split(b"\n")[:-1], strict=True)))
    ids = [snapshot.instance.id for snapshot in snapshots]
    return [tuple(b"%b\n" % own[key] if key in own else b"" for own in lines) for key in ids]


def _written(families: Sequence[Metric], encoder: Encoder) -> bytes:
    return encoder(cast("CollectorRegistry", _Registry(families))).removesuffix(END)
