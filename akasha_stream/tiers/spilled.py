"""A segment whose bodies (vectors and texts) are in an object store, in a shard's list of segments.

Its stub answers what dedupe, masks, filters and the first step of a search ask for. Nothing here reads the object store
but a search that asks for bodies.

Content dedupe can't compare texts here: a row whose 64-bit content hash (of system and normalised text) and system are
those of the new event counts as equal. Two different texts of one system are taken for equal with a chance of
m / 2^64 for each new event, m being the system's spilled rows inside dedupe.window_s: 5e-13 at ten million.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from akasha_stream.hot.hashes import identity_key, strings
from akasha_stream.hot.schema import SegmentName
from akasha_stream.hot.segment import GONE, NEVER, end_rows, matrix, system_codes, whole
from akasha_stream.hot.sorted_hashes import SortedHashes
from akasha_stream.search.segment import Bodies, Fetched, NearestIndex, StoredRow, SystemCodes
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.forgotten import Forgotten
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import Stub


@dataclass(frozen=True, slots=True)
class Deletes:
    """The deletes of a segment, by position, with the identities that they delete."""

    positions: NDArray[np.int64]
    identity_hashes: NDArray[np.uint64]
    system_names: pa.Array[Any]
    event_ids: pa.Array[Any]


class SpilledSegment:
    """hot.segment.Segment over a stub: its rows are the upserts, by position. `live` is all True at first.

    `stored` says where the object is; whoever moves it to another tier replaces it.
    """

    def __init__(self, stub: Stub, stored: StoredSegment, codes: SystemCodes, bodies: Bodies) -> None:
        footer = stub.footer
        self.stored = stored
        self.footer = footer
        self.name = SegmentName(footer.epoch, footer.start)
        self.partition = footer.partition
        self.end = footer.end
        self.index: None = None
        self.has_forgotten = False
        """Whether rows of a forgotten system are in its object, as far as this shard knows."""
        self.bodies = bodies
        deleted = whole(stub.rows["deleted"])
        deletes = stub.rows.filter(deleted)
        self.deletes = Deletes(
            whole(deletes["position"]).to_numpy(),
            whole(deletes["identity_hash"]).to_numpy(),
            whole(deletes["source_system"]),
            whole(deletes["event_id"]),
        )
        rows = stub.rows if footer.deletes == 0 else stub.rows.filter(pc.invert(deleted))
        self._rows = rows.num_rows

        def numbers(name: str) -> NDArray[Any]:
            values: NDArray[Any] = whole(rows[name]).to_numpy()
            return values

        self.positions: NDArray[np.int64] = numbers("position")
        self.created_at: NDArray[np.int64] = numbers("created_at")
        self.appended_at: NDArray[np.int64] = numbers("appended_at")
        self.payload_hashes: NDArray[np.uint64] = numbers("payload_hash")
        self.identity_hashes: NDArray[np.uint64] = numbers("identity_hash")
        self.places: NDArray[np.int32] = numbers("place")
        """(rows,) where each row is in the object: its rows have another order"""
        self.live = np.ones(self._rows, np.bool_)
        self.ended = np.full(self._rows, NEVER, np.int64)
        self.system_names = whole(rows["source_system"])
        self.event_ids = whole(rows["event_id"])
        self._bits = matrix(rows["code"], np.dtype(np.uint8), footer.dimensions // 8)
        self.systems = system_codes(self.system_names, codes)
        self._by_identity = SortedHashes(self.identity_hashes)
        self._by_content = SortedHashes(numbers("content_hash"))
        self.first_created_at = int(self.created_at.min()) if self._rows else 0
        self.last_created_at = int(self.created_at.max()) if self._rows else -1
        self.fingerprint = xxh3_128_hexdigest(
            f"{footer.dimensions} {footer.precision} ".encode()
            + self.places.tobytes()
            + self.payload_hashes.tobytes()
            + self.identity_hashes.tobytes()
        )
        """Of what its rows hold and where: the same for the same segment in any tier or bucket."""

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def tier(self) -> TierName:
        return self.stored.tier

    def forget(self, forgotten: Forgotten) -> None:
        """Mask the rows that the ledger says are forgotten."""
        gone = forgotten.masks(self.footer.key.log, self.system_names, self.positions)
        if gone.any():
            end_rows(self, np.flatnonzero(gone), GONE)
            self.has_forgotten = True

    def has_identities(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether a row with this identity hash is here."""
        return self._by_identity.contain(hashes)

    def has_contents(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return self._by_content.contain(hashes)

    def count_contents(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) how many rows, masked ones too, have this content hash."""
        return self._by_content.count(hashes)

    def with_identity(self, key: str, identity_hash: int) -> Iterable[int]:
        for row in self._by_identity.rows(identity_hash):
            if identity_key(self.system_names[row].as_py(), self.event_ids[row].as_py()) == key:
                yield row

    def with_content(self, content_hash: int) -> Iterable[int]:
        return self._by_content.rows(content_hash)

    def content(self, row: int) -> None:
        """Not local."""

    def view(self) -> SpilledView:
        return SpilledView(self)


class SpilledView:
    """A search.segment.RemoteView. `live` is the one array that may change."""

    def __init__(self, segment: SpilledSegment) -> None:
        self.segment = segment
        self.live = segment.live
        self.ended = segment.ended
        self.sealed = True
        self.index: NearestIndex | None = None
        # A rewritten segment may begin where this one does, and its rows have other numbers.
        self.name = f"{segment.footer.epoch:02d}-{segment.footer.key.file}"
        self.partition = segment.partition
        self.rows = segment.rows
        self.codes = segment._bits
        self.systems = segment.systems
        self.created_at = segment.created_at
        self.appended_at = segment.appended_at
        self.positions = segment.positions
        self.bodies = segment.bodies

    @property
    def tier(self) -> TierName:
        return self.segment.tier

    @property
    def path(self) -> str:
        return self.segment.stored.path

    @property
    def rewritten(self) -> bool:
        return self.segment.footer.generation > 0

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.empty((len(rows), self.segment.footer.dimensions), np.float32)

        def use(_number: int, places: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
            found[places] = vectors

        _whole(self.bodies.vectors([(self, rows)], use, self._deadline()))
        return found

    def texts(self, rows: Sequence[int]) -> list[StoredRow]:
        found: dict[int, StoredRow] = {}

        def use(_number: int, places: NDArray[np.int64], texts: pa.RecordBatch) -> None:
            for place, values in zip(places.tolist(), texts.to_pylist(), strict=True):
                found[place] = self.stored(rows[place], **values)

        _whole(self.bodies.texts([(self, np.asarray(rows, np.int64))], use, self._deadline()))
        return [found[place] for place in range(len(rows))]

    def _deadline(self) -> float:
        return time.monotonic() + self.bodies.timeout_s

    def stored(self, row: int, content: str | None, model: str | None, metadata: str | None) -> StoredRow:
        return StoredRow.at(
            (self.segment.system_names[row].as_py(), self.segment.event_ids[row].as_py()),
            (content, model, metadata),
            partition=self.partition,
            position=int(self.positions[row]),
            created_at=int(self.created_at[row]),
        )

    def identities(self) -> Iterator[tuple[str, str, int]]:
        """(source system, event id, position) of every live row."""
        alive = np.flatnonzero(self.live)
        taken: Any = pa.array(alive)
        systems, ids = strings(self.segment.system_names.take(taken)), strings(self.segment.event_ids.take(taken))
        yield from zip(systems, ids, self.positions[alive].tolist(), strict=True)


def _whole(fetched: Sequence[Fetched]) -> None:
    for each in fetched:
        if each.error is not None:
            raise each.error


NONE = -1


def supersede(segments: Sequence[SpilledSegment]) -> None:
    """Set the masks of a partition's segments: of each identity the row with the greatest position lives, if no delete
    is later.

    The segments may overlap and come in any order; of equal rows in two of them one lives. 50 ms per 100,000 rows.
    """
    if not segments:
        return
    both: list[SpilledSegment | Deletes] = [*segments, *(segment.deletes for segment in segments)]
    hashes = np.concatenate([each.identity_hashes for each in both])
    positions = np.concatenate([each.positions for each in both])
    order = np.lexsort((positions, hashes))
    following = np.arange(1, len(order) + 1)
    """of each in `order`, which is the next of its identity's history; NONE after the last"""
    newest = np.ones(len(order), np.bool_)
    newest[:-1] = hashes[order[1:]] != hashes[order[:-1]]
    following[newest] = NONE
    shared = np.flatnonzero(~newest | ~np.concatenate([[True], newest[:-1]]))
    names = _texts([each.system_names for each in both], order[shared])
    ids = _texts([each.event_ids for each in both], order[shared])
    for run in _of_several_identities(hashes[order[shared]], names, ids):
        after = _next_of_each(names[run.start : run.stop], ids[run.start : run.stop])
        following[shared[run]] = np.where(after == NONE, NONE, shared[run][after])
    ended = np.empty(len(order), np.int64)
    ended[order] = np.where(following == NONE, NEVER, positions[order[following]])
    start = 0
    for segment in segments:
        segment.ended[:] = ended[start : start + segment.rows]
        segment.live[:] = segment.ended == NEVER
        start += segment.rows


def _texts(columns: Sequence[pa.Array[Any]], rows: NDArray[np.int64]) -> pa.Array[Any]:
    """Rows of columns one after another, without copying the columns."""
    ends = np.cumsum([len(column) for column in columns])
    ascending = np.sort(rows)
    cuts = [0, *np.searchsorted(ascending, ends).tolist()]
    taken = [
        column.take(_integers(ascending[cuts[i] : cuts[i + 1]] - (ends[i] - len(column))))
        for i, column in enumerate(columns)
    ]
    return pa.concat_arrays(taken).take(_integers(np.searchsorted(ascending, rows)))


def _integers(values: NDArray[np.int64]) -> pa.Int64Array:
    array: pa.Int64Array = pa.array(values, pa.int64())
    return array


def _of_several_identities(hashes: NDArray[np.uint64], names: pa.Array[Any], ids: pa.Array[Any]) -> Iterator[slice]:
    """Runs of one hash (n,) that has more than one identity: a collision."""
    if not len(hashes):
        return
    same_hash = hashes[1:] == hashes[:-1]
    equal: Any = pc.and_(pc.equal(names[1:], names[:-1]), pc.equal(ids[1:], ids[:-1]))
    differ = same_hash & ~equal.to_numpy(zero_copy_only=False)
    for value in np.unique(hashes[1:][differ]):
        yield slice(int(np.searchsorted(hashes, value, "left")), int(np.searchsorted(hashes, value, "right")))


def _next_of_each(names: pa.Array[Any], ids: pa.Array[Any]) -> NDArray[np.int64]:
    """(n,) which is the next with the same identity; NONE: no later one."""
    after = np.full(len(names), NONE, np.int64)
    last: dict[tuple[str, str], int] = {}
    for at, identity in enumerate(zip(strings(names), strings(ids), strict=True)):
        before = last.get(identity)
        if before is not None:
            after[before] = at
        last[identity] = at
    return after
