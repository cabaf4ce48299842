"""Opening a shard's folder, whatever instant the last process died at.

What may lie there, and what becomes of it:

    *.tmp                         half-written: removed
    .growing, nothing in it       killed while the next segment was created: removed, the one before grows on
    .growing, the youngest        read back; windows and counters folded anew over its log
    .growing, older               closed, not rewritten: goes to the sealer again
    .growing and .sealed          killed before the clean-up: .growing removed
    .sealed without .arrow        the memory-mapped form is made again
    .arrow without the others     left by hand: removed, it is derived
    no .growing at all            a new one after the last .sealed, whose tables give windows and counters
    .wal without its file         killed while a .growing was removed: removed
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.durable import remove
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hashes import strings
from akasha_stream.hot.hnsw import IndexReader, SegmentIndex
from akasha_stream.hot.position import MAX_OFFSET
from akasha_stream.hot.schema import SegmentName, remove_growing
from akasha_stream.hot.sealed import (
    SealedSegment,
    row_vectors,
    with_search_columns,
    write_arrow,
)
from akasha_stream.hot.segment import find_position
from akasha_stream.hot.segment_file import SegmentFile
from akasha_stream.hot.segment_tables import Incarnation, Progress, SegmentTables
from akasha_stream.hot.shard import TABLE_ID, ClosedSegment, Shard, new_growing
from akasha_stream.hot.state import ShardState
from akasha_stream.search.segment import SystemCodes
from akasha_stream.settings import Settings
from akasha_stream.stream.windows import Outcome

log = structlog.get_logger(__name__)

FOLD_ROWS = 8_192
"""Events a step when windows are folded anew: bounds the copy of their vectors to 12 MB."""


def open_shard(
    folder: Path,
    *,
    topic: str,
    partition: int,
    settings: Settings,
    codes: SystemCodes,
    reader: IndexReader,
    on_closed: Callable[[ClosedSegment], None],
    incarnation: Incarnation,
) -> Shard:
    """Open, repair or create the shard of a partition.

    `incarnation`: of the log as it is now, for a shard that has none yet. Raises ShardLocked, SegmentCorrupt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = _scan(folder)
    dimensions = settings.limits.dimensions
    with contextlib.ExitStack() as undo:  # of what was opened, where something can't be
        file, name = _youngest(folder, kinds, dimensions)
        if file is not None:
            undo.callback(file.close)
        older = [
            _finished(
                folder,
                each,
                kinds[each],
                partition=partition,
                dimensions=dimensions,
                codes=codes,
                reader=reader,
                undo=undo,
            )
            for each in sorted(kinds)
            if each != name
        ]
        if file is None or name is None:
            remove(folder / TABLE_ID)
            name, file = _next(
                folder, older, topic=topic, partition=partition, settings=settings, incarnation=incarnation
            )
            undo.callback(file.close)
        tables = file.tables()
        progress = tables.progress()
        state = ShardState.restore(tables.snapshot(), settings.windows, dimensions, partition)
        growing = new_growing(name, partition, settings, codes, least=progress.events)
        rows, dropped = tables.rows(dimensions), tables.dropped()
        growing.append(rows, row_vectors(rows, dimensions))
        _fold(state, rows, dropped, progress, dimensions)
        segments: list[GrowingSegment | SealedSegment] = [*(each.segment for each in older), growing]
        _mask(segments, [*(mask for each in older for mask in each.tombstones), *tables.tombstones()])
        file.limit_memory()
        shard = Shard(
            folder,
            topic=topic,
            partition=partition,
            settings=settings,
            codes=codes,
            on_closed=on_closed,
            segments=segments,
            file=file,
            state=state,
            progress=progress,
            incarnation=tables.incarnation(),
        )
        undo.pop_all()
    for each in older:
        if each.file is not None:
            on_closed(ClosedSegment(shard, each.segment, each.file, each.segment.end))
    return shard


def _scan(folder: Path) -> dict[SegmentName, set[str]]:
    kinds: dict[SegmentName, set[str]] = {}
    for path in sorted(folder.iterdir()):
        if ".tmp" in path.suffixes or (path.suffix == ".wal" and not path.with_suffix("").exists()):
            remove(path)
            continue
        parsed = SegmentName.parse(path.name)
        if parsed is not None:
            kinds.setdefault(parsed[0], set()).add(parsed[1])
    for name, found in list(kinds.items()):
        if {"growing.duckdb", "sealed.duckdb"} <= found:
            remove_growing(folder, name)
            found.discard("growing.duckdb")
        if found == {"arrow"}:
            name.arrow(folder).unlink()
            del kinds[name]
    return kinds


def _youngest(
    folder: Path, kinds: dict[SegmentName, set[str]], dimensions: int
) -> tuple[SegmentFile | None, SegmentName | None]:
    """The file that is written to, if the youngest segment has one.

    Where rows were taken back by the loss of a file, this copy's name goes too: the lookups that were written
    under it point to rows that are no more.
    """
    while kinds:
        name = max(kinds)
        if "growing.duckdb" not in kinds[name]:
            return None, None
        file = SegmentFile.open(name.growing(folder), dimensions=dimensions)
        if file is not None:
            # One that was finished, and lost its successor, grows on: its Arrow file would lack the rest.
            if name.arrow(folder).exists():
                remove(name.arrow(folder))
                remove(folder / TABLE_ID)
            return file, name
        log.info("half-created segment removed", segment=str(name), folder=str(folder))
        remove_growing(folder, name)
        del kinds[name]
    return None, None


@dataclass(frozen=True, slots=True)
class _Finished:
    segment: SealedSegment
    tables: SegmentTables
    tombstones: list[tuple[int, int]]
    file: SegmentFile | None
    """The growing file, where it is still to be rewritten."""


def _next(
    folder: Path,
    older: Sequence[_Finished],
    *,
    topic: str,
    partition: int,
    settings: Settings,
    incarnation: Incarnation,
) -> tuple[SegmentName, SegmentFile]:
    """A growing segment where there is none: the shard's first, or after one that lost its successor."""
    progress, snapshot = Progress(next_offset=0), []
    name = SegmentName(0, 0)
    if older:
        last = older[-1]
        dimensions = settings.limits.dimensions
        before, rows = last.tables.progress(), last.tables.rows(dimensions)
        state = ShardState.restore(last.tables.snapshot(), settings.windows, dimensions, partition)
        _fold(state, rows, last.tables.dropped(), before, dimensions)
        progress = replace(before, first_timestamp_ms=None, events=0, digests_acked=0)
        snapshot, incarnation = state.snapshot(), last.tables.incarnation()
        name = SegmentName(last.segment.name.epoch, before.next_offset)
        log.warning(
            "the youngest segment is gone, reading goes on after the one before",
            topic=topic,
            partition=partition,
            offset=before.next_offset,
        )
    file = SegmentFile.create(
        folder,
        name,
        topic=topic,
        partition=partition,
        dimensions=settings.limits.dimensions,
        incarnation=incarnation,
        progress=progress,
        snapshot=snapshot,
    )
    return name, file


def _finished(
    folder: Path,
    name: SegmentName,
    kinds: set[str],
    *,
    partition: int,
    dimensions: int,
    codes: SystemCodes,
    reader: IndexReader,
    undo: contextlib.ExitStack,
) -> _Finished:
    """A finished segment; whatever it opens is closed again by `undo`."""
    file: SegmentFile | None = None
    index: SegmentIndex | None = None
    if "sealed.duckdb" in kinds:
        index = reader.attach(name.sealed(folder))
        undo.callback(index.close)
        tables = index.tables()
    else:
        file = SegmentFile.open(name.growing(folder), dimensions=dimensions)
        if file is None:
            raise SegmentCorrupt(f"{name.growing(folder)}: empty, though a later segment exists")
        undo.callback(file.close)
        tables = file.tables()
    tables.check(dimensions)
    arrow = name.arrow(folder)
    if "arrow" not in kinds:
        table = with_search_columns(tables.rows(dimensions), dimensions)
        write_arrow(arrow, table, dimensions=dimensions, end=tables.progress().next_offset)
    segment = SealedSegment(name, partition, arrow, dimensions, codes)
    segment.index = index
    return _Finished(segment, tables, tables.tombstones(), file)


def _fold(state: ShardState, rows: pa.Table, dropped: pa.Table, progress: Progress, dimensions: int) -> None:
    """Fold windows and counters over a segment's log, from what it began with."""
    for systems, created, outcome, batch, offset in _history(rows, row_vectors(rows, dimensions), dropped):
        state.commit(state.prepare(systems, created, outcome, batch, offset), systems, outcome)
    state.acknowledged(progress.digests_acked)


def _history(
    rows: pa.Table, vectors: NDArray[np.float32], dropped: pa.Table
) -> Iterator[tuple[list[str], NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]:
    """All events of a segment in log order, some thousands at a time, as ShardState.prepare takes them."""
    stored = np.where(rows["updated"].to_numpy(), np.uint8(Outcome.UPDATED), np.uint8(Outcome.STORED)).astype(np.uint8)
    positions = np.concatenate([rows["position"].to_numpy(), dropped["position"].to_numpy()])
    created = np.concatenate([rows["created_at"].to_numpy(), dropped["created_at"].to_numpy()])
    outcome = np.concatenate([stored, dropped["outcome"].to_numpy().astype(np.uint8)])
    systems = strings(rows["source_system"]) + strings(dropped["source_system"])
    order = np.argsort(positions, kind="stable")
    n = rows.num_rows
    for start in range(0, len(order), FOLD_ROWS):
        part = order[start : start + FOLD_ROWS]
        batch = np.zeros((len(part), vectors.shape[1]), np.float32)
        has_vector = part < n
        batch[has_vector] = vectors[part[has_vector]]
        offsets = positions[part] >> 16 & MAX_OFFSET
        yield [systems[i] for i in part.tolist()], created[part], outcome[part], batch, offsets


def _mask(segments: Sequence[GrowingSegment | SealedSegment], tombstones: list[tuple[int, int]]) -> None:
    """Apply tombstones; those of rows that compaction dropped find nothing."""
    for position, _ in tombstones:
        for segment in reversed(segments):
            row = find_position(segment.positions[: segment.rows], position)
            if row is not None:
                segment.live[row] = False
                break
