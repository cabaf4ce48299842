"""Opening a shard's folder, whatever instant the last process died at.

What may lie there, and what becomes of it:

    *.tmp                         half-written: removed
    .growing, nothing in it       killed while the next segment was created: removed, the one before grows on
    .growing, the youngest        read back; windows and counters folded anew over its log
    .growing, older               closed, not rewritten: goes to the sealer again
    .growing and .sealed          killed before the clean-up: .growing removed
    .sealed without .arrow        the memory-mapped form is made again
    .arrow without the others     left by hand, or killed while it was left to the object store: removed, it is derived
    .stub alone                   in the object store only
    .stub and others              in the object store too
    .state alone                  its segment is gone: removed
    no .growing at all            a new one after the last segment; windows and counters from its tables, or its .state
    .wal without its file         killed while a .growing was removed: removed
    adopting                      killed while it was taken from the object store: refused until a worker has gone on
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt, UsageError
from akasha_stream.hot.durable import remove
from akasha_stream.hot.end_state import EndState, beginning, unpack_state
from akasha_stream.hot.forgotten_rows import forgets_after
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hashes import strings
from akasha_stream.hot.hnsw import IndexReader, SegmentIndex
from akasha_stream.hot.position import MAX_OFFSET
from akasha_stream.hot.schema import ADOPTING, SegmentName, remove_growing, row_schema
from akasha_stream.hot.sealed import (
    SealedSegment,
    row_vectors,
    with_search_columns,
    write_arrow,
)
from akasha_stream.hot.segment import end_rows
from akasha_stream.hot.segment_file import SegmentFile
from akasha_stream.hot.segment_tables import Forgets, Masked, Progress, SegmentTables
from akasha_stream.hot.shard import TABLE_ID, AnySegment, ClosedSegment, Shard, mask_forgotten, new_growing
from akasha_stream.hot.state import ShardState
from akasha_stream.incarnation import Incarnation
from akasha_stream.search.segment import Bodies, SystemCodes
from akasha_stream.settings import Settings
from akasha_stream.stream.windows import Outcome
from akasha_stream.tiers.forgotten import Forgotten
from akasha_stream.tiers.spilled import SpilledSegment, supersede
from akasha_stream.tiers.stored_segment import unlocated
from akasha_stream.tiers.stub import open_stub

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
    beginning: int = 0,
    bodies: Bodies | None = None,
    forgotten: Forgotten | None = None,
) -> Shard:
    """Open, repair or create the shard of a partition.

    `incarnation`, `beginning`: of the log as it is now and its first offset, for a shard that has none yet. `bodies`:
    reads what is in the object store only; without it such a segment is an error. `forgotten`: the ledger, for those.

    Raises ShardLocked, SegmentCorrupt, UsageError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / ADOPTING).exists():
        raise SegmentCorrupt(
            f"{folder}: a worker died while it took this shard from the object store; start one, which goes on with it"
        )
    kinds = _scan(folder)
    dimensions = settings.limits.dimensions
    with contextlib.ExitStack() as undo:  # of what was opened, where something can't be
        file, name = _youngest(folder, kinds, dimensions)
        if file is not None:
            undo.callback(file.close)
        spilled = [_spilled(folder, each, codes, bodies) for each in sorted(kinds) if kinds[each] == {"stub"}]
        supersede(spilled)
        for each_spilled in spilled if forgotten else ():
            assert forgotten is not None
            each_spilled.forget(forgotten)
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
            if each != name and kinds[each] != {"stub"}
        ]
        if file is None or name is None:
            remove(folder / TABLE_ID)
            name, file = _next(
                folder,
                spilled,
                older,
                topic=topic,
                partition=partition,
                settings=settings,
                incarnation=incarnation,
                first=beginning,
            )
            undo.callback(file.close)
        tables = file.tables()
        progress = tables.progress()
        state = ShardState.restore(tables.snapshot(), settings.windows, dimensions, partition)
        growing = new_growing(name, partition, settings, codes, least=progress.events)
        _fold(state, _appended(growing, tables.pieces(dimensions), dimensions), tables.dropped(), dimensions)
        _forget(state, tables.forgets(), progress)
        segments: list[AnySegment] = [*spilled, *(each.segment for each in older), growing]
        _mask(segments, [*(each.masked for each in older), tables.masked()])
        last = tables.forgets()
        forgets = [*(message for each in older for message in each.tables.forgets()), *last]
        for message in forgets:
            mask_forgotten(segments, message, codes)
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
        shard.reopened(forgets, ends_here=bool(last))
        undo.pop_all()
    for each in older:
        to_rewrite = not settings.tiers.enabled and forgets_after(each.segment.name, shard.forgets)
        if each.file is not None or to_rewrite:
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
        if not {"growing.duckdb", "sealed.duckdb"} & found and "arrow" in found:
            name.arrow(folder).unlink()
            found.discard("arrow")
        if not found - {"state"}:
            remove(name.state(folder))
            del kinds[name]
        else:
            found.discard("state")  # beside its segment, whatever that is
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
    masked: Masked
    file: SegmentFile | None
    """The growing file, where it is still to be rewritten."""


def _spilled(folder: Path, name: SegmentName, codes: SystemCodes, bodies: Bodies | None) -> SpilledSegment:
    if bodies is None:
        raise UsageError(
            f"{name.stub(folder)}: its rows are in the object store: set tiers.enabled, or search it there"
        )
    stub = open_stub(name.stub(folder))
    return SpilledSegment(stub, unlocated(stub.footer), codes, bodies)


def _next(
    folder: Path,
    spilled: Sequence[SpilledSegment],
    older: Sequence[_Finished],
    *,
    topic: str,
    partition: int,
    settings: Settings,
    incarnation: Incarnation,
    first: int,
) -> tuple[SegmentName, SegmentFile]:
    """A growing segment where there is none: the shard's first, from offset `first`, or one after the last there is."""
    progress, snapshot = Progress(next_offset=first), []
    name, incarnation = SegmentName(0, first), incarnation.named()
    if spilled and not older:
        last_spilled = spilled[-1]
        found = _end_state(folder, last_spilled)
        progress, snapshot, incarnation = found.progress, found.snapshot, last_spilled.footer.key.log.incarnation
        name = SegmentName(last_spilled.name.epoch, last_spilled.end)
    if older:
        last = older[-1]
        dimensions = settings.limits.dimensions
        before, pieces = last.tables.progress(), last.tables.pieces(dimensions)
        state = ShardState.restore(last.tables.snapshot(), settings.windows, dimensions, partition)
        _fold(state, pieces, last.tables.dropped(), dimensions)
        _forget(state, last.tables.forgets(), before)
        progress = beginning(before)
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


def _end_state(folder: Path, last: SpilledSegment) -> EndState:
    """What a shard knows as of the end of a segment that is in the object store only."""
    path = last.name.state(folder)
    try:
        state = unpack_state(path.read_bytes(), str(path))
    except FileNotFoundError:
        log.warning("windows and counters begin anew: nothing is known of them as of this offset", offset=last.end)
        return EndState(Progress(next_offset=last.end), [])
    if state.progress.next_offset != last.end:
        raise SegmentCorrupt(f"{path}: is of offset {state.progress.next_offset}, not {last.end}")
    return state


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
    segment = SealedSegment(
        name, partition, arrow, dimensions, codes, deletes=tables.deletes(), incarnation=tables.incarnation()
    )
    segment.index = index
    segment.spilled = "stub" in kinds
    return _Finished(segment, tables, tables.masked(), file)


def _appended(growing: GrowingSegment, pieces: Iterable[pa.Table], dimensions: int) -> Iterator[pa.Table]:
    """The pieces, each once it is appended."""
    for rows in pieces:
        growing.append(rows, row_vectors(rows, dimensions))
        yield rows


def _fold(state: ShardState, pieces: Iterable[pa.Table], dropped: pa.Table, dimensions: int) -> None:
    """Fold windows and counters over a segment's log, from what it began with."""
    for systems, created, outcome, batch, offset in _history(pieces, dropped, dimensions):
        state.take(systems, created, outcome, batch, offset)
        state.fold()


def _forget(state: ShardState, forgets: Sequence[Forgets], progress: Progress) -> None:
    """What the last record of a segment says to forget, between the digests acknowledged before it and after it."""
    acked = 0
    for each in forgets:
        state.acknowledged(each.digests_acked - acked)
        acked = each.digests_acked
        state.forget(each.system_sha256)
    state.acknowledged(progress.digests_acked - acked)


def _history(
    pieces: Iterable[pa.Table], dropped: pa.Table, dimensions: int
) -> Iterator[tuple[list[str], NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]:
    """All events of a segment in log order, some thousands at a time, as ShardState.take takes them.

    `pieces`: its rows by position; `dropped`: by position too.
    """
    places, start = dropped["position"].to_numpy(), 0
    none = row_schema(dimensions).empty_table()
    for rows in chain(pieces, [none]):
        end = int(np.searchsorted(places, rows["position"][-1].as_py())) if rows.num_rows else len(places)
        yield from _merged(rows, row_vectors(rows, dimensions), dropped[start:end])
        start = end


def _merged(
    rows: pa.Table, vectors: NDArray[np.float32], dropped: pa.Table
) -> Iterator[tuple[list[str], NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]:
    stored = np.where(rows["updated"].to_numpy(), np.uint8(Outcome.UPDATED), np.uint8(Outcome.STORED)).astype(np.uint8)
    positions = np.concatenate([rows["position"].to_numpy(), dropped["position"].to_numpy()])
    created = np.concatenate([rows["created_at"].to_numpy(), dropped["created_at"].to_numpy()])
    outcome = np.concatenate([stored, dropped["outcome"].to_numpy().astype(np.uint8)])
    systems = strings(rows["source_system"]) + strings(dropped["source_system"])
    if not dropped.num_rows:
        if rows.num_rows:
            yield systems, created, outcome, vectors, positions >> 16 & MAX_OFFSET
        return
    order = np.argsort(positions, kind="stable")
    n = rows.num_rows
    for start in range(0, len(order), FOLD_ROWS):
        part = order[start : start + FOLD_ROWS]
        batch = np.zeros((len(part), vectors.shape[1]), np.float32)
        has_vector = part < n
        batch[has_vector] = vectors[part[has_vector]]
        offsets = positions[part] >> 16 & MAX_OFFSET
        yield [systems[i] for i in part.tolist()], created[part], outcome[part], batch, offsets


def _mask(segments: Sequence[AnySegment], tombstones: Sequence[Masked]) -> None:
    """Mask the rows at these positions; those that compaction dropped are in no segment."""
    masked = np.concatenate([each.positions for each in tombstones])
    by = np.concatenate([each.by for each in tombstones])
    for segment in segments:
        positions = segment.positions[: segment.rows]
        if len(positions):
            rows = np.minimum(np.searchsorted(positions, masked), len(positions) - 1)
            here = positions[rows] == masked
            end_rows(segment, rows[here], by[here])
