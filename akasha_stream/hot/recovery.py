"""Opening a shard's folder, whatever instant the last process died at.

What may lie there, and what becomes of it:

    *.tmp                         half-written: removed
    .growing, nothing in it       killed while the next segment was created: removed, the one before grows on
    .growing, the youngest        read back; windows and counters folded anew over its log
    .growing, older               closed, not rewritten: goes to the sealer again
    .growing and .sealed          killed before the clean-up: .growing removed
    .sealed without .arrow        the memory-mapped form is made again
    .arrow without the others     left by hand: removed, it is derived
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from akasha_stream.errors import SegmentCorrupt
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hnsw import IndexReader
from akasha_stream.hot.position import unpack
from akasha_stream.hot.schema import SegmentName
from akasha_stream.hot.sealed import (
    SealedSegment,
    row_vectors,
    with_search_columns,
    write_arrow,
)
from akasha_stream.hot.segment import find_position
from akasha_stream.hot.segment_file import Incarnation, Progress, SegmentFile
from akasha_stream.hot.shard import ClosedSegment, Shard, new_growing
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
    file, name = _youngest(folder, kinds, dimensions)
    segments: list[GrowingSegment | SealedSegment] = []
    tombstones: list[tuple[int, int]] = []
    closed: list[tuple[SealedSegment, SegmentFile]] = []
    end = 0
    for older in sorted(kinds):
        if older == name:
            continue
        segment, masks, left = _finished(folder, older, kinds[older], partition, dimensions, codes, reader)
        segments.append(segment)
        tombstones += masks
        end = segment.end
        if left is not None:
            closed.append((segment, left))
    if file is None or name is None:
        name = SegmentName(segments[-1].name.epoch if segments else 0, end)
        file = _first(folder, name, topic, partition, dimensions, incarnation)
    progress = file.progress()
    state = ShardState.restore(file.snapshot(), settings.windows, dimensions, partition)
    growing = new_growing(name, partition, settings, codes)
    _read_back(file, growing, state, progress, dimensions)
    segments.append(growing)
    _mask(segments, [*tombstones, *file.tombstones()])
    file.read_back_done()
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
        incarnation=file.incarnation(),
    )
    for segment, left in closed:
        on_closed(ClosedSegment(shard, segment, left, segment.end))
    return shard


def _scan(folder: Path) -> dict[SegmentName, set[str]]:
    kinds: dict[SegmentName, set[str]] = {}
    for path in sorted(folder.iterdir()):
        if ".tmp" in path.suffixes:
            _remove(path)
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
    """The file that is written to, if the youngest segment has one."""
    while kinds:
        name = max(kinds)
        if "growing.duckdb" not in kinds[name]:
            return None, None
        file = SegmentFile.open(name.growing(folder), dimensions=dimensions)
        if file is not None:
            return file, name
        log.info("half-created segment removed", segment=str(name), folder=str(folder))
        remove_growing(folder, name)
        del kinds[name]
    return None, None


def _first(
    folder: Path, name: SegmentName, topic: str, partition: int, dimensions: int, incarnation: Incarnation
) -> SegmentFile:
    return SegmentFile.create(
        folder,
        name,
        topic=topic,
        partition=partition,
        dimensions=dimensions,
        incarnation=incarnation,
        progress=Progress(next_offset=name.start),
        snapshot=[],
    )


def _finished(
    folder: Path,
    name: SegmentName,
    kinds: set[str],
    partition: int,
    dimensions: int,
    codes: SystemCodes,
    reader: IndexReader,
) -> tuple[SealedSegment, list[tuple[int, int]], SegmentFile | None]:
    """A finished segment, its tombstones, and its growing file where it is still to be rewritten."""
    arrow = name.arrow(folder)
    if "sealed.duckdb" in kinds:
        index = reader.attach(name.sealed(folder))
        if "arrow" not in kinds:
            cursor = reader.cursor(128)
            bounds = cursor.execute(f"SELECT max(next_offset) FROM {index.alias}.commits").fetchone()  # noqa: S608
            rows = cursor.execute(f"SELECT * FROM {index.alias}.rows ORDER BY position").to_arrow_table()  # noqa: S608
            table = _arrow_of_sealed(rows, dimensions)
            write_arrow(arrow, table, dimensions=dimensions, end=int(bounds[0]) if bounds else name.start)
        segment = SealedSegment(name, partition, arrow, dimensions, codes)
        segment.index = index
        return segment, index.tombstones(), None
    file = SegmentFile.open(name.growing(folder), dimensions=dimensions)
    if file is None:
        raise SegmentCorrupt(f"{name.growing(folder)}: empty, though a later segment exists")
    if "arrow" not in kinds:
        table = with_search_columns(file.rows(dimensions), dimensions)
        write_arrow(arrow, table, dimensions=dimensions, end=file.progress().next_offset)
    return SealedSegment(name, partition, arrow, dimensions, codes), file.tombstones(), file


def _arrow_of_sealed(table: pa.Table, dimensions: int) -> pa.Table:
    """A sealed file's rows, FLOAT[d], in the form of the Arrow file: d * 4 bytes."""
    table = table.combine_chunks()
    lists = table["embedding"].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0)
    vectors: NDArray[np.float32] = np.ascontiguousarray(lists.flatten().to_numpy(zero_copy_only=False), np.float32)
    binary = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * dimensions), len(lists), [None, pa.py_buffer(vectors)])
    rows = table.drop_columns(["row", "embedding"]).append_column("embedding", binary)
    return with_search_columns(rows, dimensions)


def _read_back(
    file: SegmentFile, growing: GrowingSegment, state: ShardState, progress: Progress, dimensions: int
) -> None:
    """Fill the growing segment from its file and fold windows and counters over its log."""
    rows, dropped = file.rows(dimensions), file.dropped()
    vectors = row_vectors(rows, dimensions)
    growing.append(rows, vectors)
    for systems, created, outcome, batch, offset in _history(rows, vectors, dropped):
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
    systems = rows["source_system"].to_pylist() + dropped["source_system"].to_pylist()
    order = np.argsort(positions, kind="stable")
    n = rows.num_rows
    for start in range(0, len(order), FOLD_ROWS):
        part = order[start : start + FOLD_ROWS]
        batch = np.zeros((len(part), vectors.shape[1]), np.float32)
        has_vector = part < n
        batch[has_vector] = vectors[part[has_vector]]
        offsets = np.array([unpack(int(position)).offset for position in positions[part]], np.int64)
        yield [systems[i] for i in part.tolist()], created[part], outcome[part], batch, offsets


def _mask(segments: list[GrowingSegment | SealedSegment], tombstones: list[tuple[int, int]]) -> None:
    """Apply tombstones; those of rows that compaction dropped find nothing."""
    for position, _ in tombstones:
        for segment in reversed(segments):
            row = find_position(segment.positions[: segment.rows], position)
            if row is not None:
                segment.live[row] = False
                break


def remove_growing(folder: Path, name: SegmentName) -> None:
    path = name.growing(folder)
    # The WAL goes last: a file without its WAL would look whole and lack rows, a WAL alone is ignored.
    _remove(path)
    _remove(path.with_name(f"{path.name}.wal"))
    spilled = path.with_name(f"{path.name}.tmp")
    if spilled.exists():
        _remove(spilled)


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


__all__ = ["open_shard", "remove_growing"]
