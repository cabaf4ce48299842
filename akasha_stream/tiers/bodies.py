"""Vectors and texts of spilled segments, for searches: row groups out of the local cache, else out of the store.

A miss fetches content, embedding, model and metadata of a row group in one request (they lie side by side), and keeps
them as two batches, so that metadata can be looked through without the vectors:

    vectors     vector (binary of 2 or 4 bytes a dimension)
    texts       content, model, metadata

Vectors are kept as float16, which has the bits of the precisions compact and float16. What differs is numbers below
2^-14, by 2^-25 at most: less than 6e-7 of a vector of 384 dimensions and length 1, and 5e-8 of real ones. Others
(precision float32, short or very long vectors) are kept as float32.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from numpy.typing import NDArray

from akasha_stream.errors import AkashaError, ObjectArchived, ObjectNotFound, SegmentCorrupt, StorageUnavailable
from akasha_stream.hot.segment import whole
from akasha_stream.search.segment import Fetched, RemoteView, UseTexts, UseVectors
from akasha_stream.tiers.body_cache import BodyCache
from akasha_stream.tiers.changelog import embedding_matrix
from akasha_stream.tiers.footer import SegmentFooter
from akasha_stream.tiers.keys import SegmentKey
from akasha_stream.tiers.parquet_segment import ROW_GROUP
from akasha_stream.tiers.ranges import coalesced
from akasha_stream.tiers.segment_reader import OpenSegment
from akasha_stream.tiers.spilled import SpilledSegment, SpilledView
from akasha_stream.tiers.stored_segment import StoredSegment

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

log = structlog.get_logger(__name__)

type Part = Literal["vectors", "texts"]

TEXTS = ("content", "model", "metadata")
_COLUMNS: dict[Part, tuple[str, ...]] = {"vectors": ("embedding",), "texts": TEXTS}
_LEAST_NORM = 0.5
_GREATEST_NORM = 65_504.0
_OPENED = 256
"""Footers in memory, some 100 KB each."""
_TO_KEEP_BYTES = 256 << 20
"""Of row groups that are decoded and not in the cache yet."""
_RELOAD_S = 5.0
"""The catalog is not made anew more often than that for objects that are gone."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of one row group that are wanted of a segment."""

    number: int
    """Which of `wanted`."""
    segment: SpilledSegment
    group: int
    places: NDArray[np.int64]
    """In the wanted rows."""
    inside: NDArray[np.int64]
    """Of the same rows, in the row group."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    batch: pa.RecordBatch
    bytes_read: int


@dataclass(slots=True)
class CacheReads:
    """Row groups that searches wanted, since the start of the process."""

    hits: int = 0
    misses: int = 0


type _Futures = dict[Part, Future[_Loaded]]


class SegmentBodies:
    """search.segment.Bodies over a SegmentStore, which belongs to the event loop that this is made in."""

    def __init__(
        self,
        store: SegmentStore,
        cache: BodyCache | None,
        *,
        timeout_s: float = 5.0,
        requests: int = 16,
        threads: int = 2,
        find: Callable[[StoredSegment], Awaitable[StoredSegment | None]] | None = None,
        on_answered: Callable[[Iterable[SegmentKey]], None] | None = None,
    ) -> None:
        """`requests`: row groups fetched at once. `threads`: in which they are decoded.

        `find`: asked where a segment is now whose object is gone; by default the catalog is made anew for it.
        `on_answered`: told of the segments that a search took texts of, cached or not: they had hits, or nearly.
        """
        self._on_answered = on_answered
        self.timeout_s = timeout_s
        self._store = store
        self._cache = cache
        self._find = find or self._in_catalog
        self._loop = asyncio.get_running_loop()
        self._requests = requests
        self._slots = asyncio.Semaphore(requests)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="bodies")
        self._lock = Lock()
        self._loading: dict[tuple[str, int, Part], Future[_Loaded]] = {}
        """By fingerprint of the segment and row group; several searches may wait for one."""
        self._fetching = 0
        """Requests whose answers are not decoded yet."""
        self._to_keep: deque[tuple[SpilledSegment, int, Part, pa.RecordBatch]] = deque()
        self._to_keep_bytes = 0
        self._opened: OrderedDict[tuple[str, str], asyncio.Task[OpenSegment]] = OrderedDict()
        self._finding = asyncio.Lock()
        self._reloaded_at = float("-inf")
        self._running: set[asyncio.Task[Any]] = set()
        self.reads = CacheReads()

    @property
    def cache(self) -> BodyCache | None:
        return self._cache

    async def close(self) -> None:
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._threads.shutdown(cancel_futures=True)
        if self._cache is not None:
            self._cache.close()

    # ── search.segment.Bodies ────────────────────────────────────────────────────────────────────────────

    def vectors(
        self, wanted: Sequence[tuple[RemoteView, NDArray[np.int64]]], use: UseVectors, deadline: float
    ) -> list[Fetched]:
        def on(piece: _Piece, batch: pa.RecordBatch) -> None:
            use(piece.number, piece.places, _vectors(batch, piece.segment.footer.dimensions, piece.inside))

        return self._read("vectors", wanted, on, deadline)

    def texts(
        self, wanted: Sequence[tuple[RemoteView, NDArray[np.int64]]], use: UseTexts, deadline: float
    ) -> list[Fetched]:
        def on(piece: _Piece, batch: pa.RecordBatch) -> None:
            inside: Any = pa.array(piece.inside)
            use(piece.number, piece.places, batch.take(inside))

        if self._on_answered is not None:
            self._on_answered({view.segment.footer.key for view, _ in wanted if isinstance(view, SpilledView)})
        return self._read("texts", wanted, on, deadline)

    def seed(self, segment: SpilledSegment, changelog: pa.Table) -> None:
        """Fill the cache with a segment whose rows are at hand still.

        `changelog`: what tiers.parquet_segment wrote, in its order. In any thread.
        """
        if self._cache is None:
            return
        for group in range(-(-changelog.num_rows // ROW_GROUP)):
            table = changelog.slice(group * ROW_GROUP, ROW_GROUP)
            self._cache.put(_key(segment, group, "vectors"), vectors_batch(table, segment.footer))
            self._cache.put(_key(segment, group, "texts"), texts_batch(table))

    # ── in the threads of searches ───────────────────────────────────────────────────────────────────────

    def _read(
        self,
        part: Part,
        wanted: Sequence[tuple[RemoteView, NDArray[np.int64]]],
        use: Callable[[_Piece, pa.RecordBatch], None],
        deadline: float,
    ) -> list[Fetched]:
        if asyncio._get_running_loop() is not None:
            raise AssertionError("the event loop would wait for itself")
        results = [Fetched(np.empty(0, np.int64), None, 0) for _ in wanted]
        here: list[tuple[_Piece, pa.RecordBatch]] = []
        missing: list[_Piece] = []
        for piece in _pieces(wanted):
            batch = None if self._cache is None else self._cache.get(_key(piece.segment, piece.group, part))
            if batch is None:
                missing.append(piece)
            else:
                here.append((piece, batch))
        counted = CacheReads(len(here), len(missing))
        missing.reverse()
        waiting: dict[Future[_Loaded], list[_Piece]] = {}
        failed: dict[str, AkashaError] = {}

        def start() -> None:
            # No more at once, so that what was fetched and not used yet has its limit.
            while missing and len(waiting) < 2 * self._requests:
                piece = missing.pop()
                if (error := failed.get(piece.segment.fingerprint)) is not None:
                    _unread(results[piece.number], piece, error)
                    continue
                future, mine = self._load(piece.segment, piece.group, part)
                waiting.setdefault(future, []).append(piece)
                if mine:
                    first.add(future)

        first: set[Future[_Loaded]] = set()
        """those that this call has started"""
        start()
        with self._lock:  # not before: what is loading now may be in the cache, and off the list, a moment later
            self.reads.hits += counted.hits
            self.reads.misses += counted.misses
        for piece, batch in here:
            use(piece, batch)
        del here
        while waiting:
            done, _ = wait(waiting, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
            if not done:
                break
            for future in done:
                pieces = waiting.pop(future)
                try:
                    loaded = future.result()
                except AkashaError as error:
                    failed[pieces[0].segment.fingerprint] = error
                    for piece in pieces:
                        _unread(results[piece.number], piece, error)
                    continue
                if future in first:
                    results[pieces[0].number].bytes_read += loaded.bytes_read
                for piece in pieces:
                    use(piece, loaded.batch)
            start()
        late = StorageUnavailable(f"no answer within {self.timeout_s:g} s (tiers.timeout_s)")
        for piece in (*(piece for pieces in waiting.values() for piece in pieces), *missing):
            _unread(results[piece.number], piece, late)
        return results

    def _load(self, segment: SpilledSegment, group: int, part: Part) -> tuple[Future[_Loaded], bool]:
        """What is on its way already, or is from now on (True)."""
        with self._lock:
            if (loading := self._loading.get((segment.fingerprint, group, part))) is not None:
                return loading, False
            if self._cache is not None and (batch := self._cache.get(_key(segment, group, part))) is not None:
                # It landed since this search looked for it.
                landed: Future[_Loaded] = Future()
                landed.set_result(_Loaded(batch, 0))
                return landed, False
            parts: list[Part] = [part]
            if part == "vectors" and (self._cache is None or self._cache.get(_key(segment, group, "texts")) is None):
                # They lie beside the vectors, and the best of the rows will be asked for.
                parts.append("texts")
            mine: _Futures = {}
            for each in parts:
                key = segment.fingerprint, group, each
                if key not in self._loading:
                    mine[each] = self._loading[key] = Future()
            self._fetching += 1
        try:
            self._loop.call_soon_threadsafe(self._spawn, segment, group, mine)
        except RuntimeError as error:  # the loop is closed
            self._fail(segment, group, mine, StorageUnavailable(f"nothing can be fetched any more: {error}"))
        return mine[part], True

    def _fail(self, segment: SpilledSegment, group: int, futures: _Futures, error: BaseException) -> None:
        self._landed(segment, group, futures)
        for future in futures.values():
            with contextlib.suppress(InvalidStateError):  # the one before was decoded
                future.set_exception(error)
        with self._lock:
            self._fetching -= 1
        with contextlib.suppress(RuntimeError):  # it was closed
            self._threads.submit(self._keep)

    def _landed(self, segment: SpilledSegment, group: int, parts: Iterable[Part]) -> None:
        with self._lock:
            for part in parts:
                self._loading.pop((segment.fingerprint, group, part), None)

    # ── on the event loop ────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, segment: SpilledSegment, group: int, futures: _Futures) -> None:
        self._track(self._loop.create_task(self._fetch(segment, group, futures)))

    def _track(self, task: asyncio.Task[Any]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _fetch(self, segment: SpilledSegment, group: int, futures: _Futures) -> None:
        columns = [name for part in futures for name in _COLUMNS[part]]
        try:
            async with self._slots:
                table, size = await self._read_group(segment, group, columns)
            await self._loop.run_in_executor(self._threads, self._take_in, segment, group, table, size, futures)
        except asyncio.CancelledError:
            self._fail(segment, group, futures, StorageUnavailable("its reading was stopped"))
            raise
        except Exception as error:
            self._fail(segment, group, futures, error)

    def _take_in(self, segment: SpilledSegment, group: int, table: pa.Table, size: int, futures: _Futures) -> None:
        for part, future in futures.items():
            batch = _vectors_of(table, segment.footer) if part == "vectors" else texts_batch(table)
            with contextlib.suppress(InvalidStateError):  # it was closed meanwhile
                future.set_result(_Loaded(batch, size))
            size = 0
            with self._lock:
                self._to_keep.append((segment, group, part, batch))
                self._to_keep_bytes += batch.nbytes
        with self._lock:
            self._fetching -= 1
        self._keep()

    def _keep(self) -> None:
        """Put into the cache what was fetched, when nothing else is to be decoded: a search waits for that."""
        while True:
            with self._lock:
                if not self._to_keep or (self._fetching and self._to_keep_bytes < _TO_KEEP_BYTES):
                    return
                segment, group, part, batch = self._to_keep.popleft()
                self._to_keep_bytes -= batch.nbytes
            if self._cache is not None:
                self._cache.put(
                    _key(segment, group, part), _narrowed(batch, segment.footer) if part == "vectors" else batch
                )
            self._landed(segment, group, [part])

    async def _read_group(self, segment: SpilledSegment, group: int, columns: Sequence[str]) -> tuple[pa.Table, int]:
        """(columns of a row group, bytes fetched)"""
        stored = segment.stored
        try:
            return await self._read_from(stored, segment, group, columns)
        except ObjectNotFound:
            now = await self._moved(segment, stored)
            if now is None:
                raise
            return await self._read_from(now, segment, group, columns)

    async def _read_from(
        self, stored: StoredSegment, segment: SpilledSegment, group: int, columns: Sequence[str]
    ) -> tuple[pa.Table, int]:
        opened = await self._open(stored, segment)
        try:
            table = await self._store.read(stored, columns, [group], opened=opened)
        except (ObjectArchived, ObjectNotFound, SegmentCorrupt):
            self._opened.pop(stored.place, None)  # the next one that reads asks for the footer, and no more
            raise
        spans = [(c.start, c.length) for c in opened.chunks if c.group == group and c.column in columns]
        return table, sum(length for _, length in coalesced(spans))

    async def _open(self, stored: StoredSegment, segment: SpilledSegment) -> OpenSegment:
        task = self._opened.get(stored.place)
        if task is None:
            task = self._opened[stored.place] = self._loop.create_task(self._checked(stored, segment))
            self._track(task)
            while len(self._opened) > _OPENED:
                self._opened.popitem(last=False)
        self._opened.move_to_end(stored.place)
        try:
            return await asyncio.shield(task)
        except AkashaError:
            if self._opened.get(stored.place) is task:
                del self._opened[stored.place]
            raise

    async def _checked(self, stored: StoredSegment, segment: SpilledSegment) -> OpenSegment:
        opened = await self._store.open(stored)
        if opened.footer != segment.footer:
            raise SegmentCorrupt(f"{stored.path}: is another segment than its stub is of")
        if (opened.group_rows[:-1] != ROW_GROUP).any():
            raise SegmentCorrupt(f"{stored.path}: its row groups have not {ROW_GROUP} rows")
        return opened

    async def _moved(self, segment: SpilledSegment, gone: StoredSegment) -> StoredSegment | None:
        """Where the segment is now that its object was not found at `gone`; None: nobody knows."""
        async with self._finding:
            if segment.stored is gone:
                found = await self._find(gone)
                if found is None or found.place == gone.place:
                    return None
                segment.stored = found
            return segment.stored

    async def _in_catalog(self, gone: StoredSegment) -> StoredSegment | None:
        if time.monotonic() - self._reloaded_at > _RELOAD_S:
            await self._store.load(gone.key.log.topic)
            self._reloaded_at = time.monotonic()
        return next((s for s in self._store.catalog.current(gone.key.log) if s.key == gone.key), None)


def vectors_batch(changelog: pa.Table, footer: SegmentFooter) -> pa.RecordBatch:
    """A row group's vectors as they are cached; a delete has zeros."""
    return _narrowed(_vectors_of(changelog, footer), footer)


def _vectors_of(changelog: pa.Table, footer: SegmentFooter) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_binary(_matrix(changelog, footer.dimensions))], names=["vector"])


def _narrowed(batch: pa.RecordBatch, footer: SegmentFooter) -> pa.RecordBatch:
    """As float16 where that will do."""
    if footer.precision == "float32":
        return batch
    vectors = _values(batch, footer.dimensions)
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    found = lengths[lengths > 0]
    if len(found) and (found.min() < _LEAST_NORM**2 or found.max() > _GREATEST_NORM**2):
        return batch
    return pa.RecordBatch.from_arrays([_binary(vectors.astype(np.float16))], names=["vector"])


def _matrix(changelog: pa.Table, dimensions: int) -> NDArray[np.float32]:
    """(rows, dimensions); without a copy where there is no delete."""
    column = whole(changelog["embedding"])
    if column.null_count:
        return embedding_matrix(changelog, dimensions)
    flat: NDArray[np.float32] = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return flat.reshape(-1, dimensions)


def texts_batch(changelog: pa.Table) -> pa.RecordBatch:
    """A row group's texts as they are cached; null where a row is a delete."""
    columns: Any = [whole(changelog[name]) for name in TEXTS]
    return pa.RecordBatch.from_arrays(columns, names=list(TEXTS))


def _binary(values: NDArray[Any]) -> pa.Array[Any]:
    width = values.shape[1] * values.itemsize
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])


def _vectors(batch: pa.RecordBatch, dimensions: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, dimensions) of some rows of a row group."""
    return _values(batch, dimensions)[rows].astype(np.float32, copy=False)


def _values(batch: pa.RecordBatch, dimensions: int) -> NDArray[Any]:
    """(rows, dimensions) float16 or float32, without a copy."""
    column: Any = batch.column(0)
    width = column.type.byte_width // dimensions
    flat: NDArray[Any] = np.frombuffer(column.buffers()[1], np.float16 if width == 2 else np.float32)
    return flat.reshape(-1, dimensions)


def _pieces(wanted: Sequence[tuple[RemoteView, NDArray[np.int64]]]) -> Iterator[_Piece]:
    for number, (view, rows) in enumerate(wanted):
        assert isinstance(view, SpilledView)
        group, inside = np.divmod(view.segment.places[rows].astype(np.int64), ROW_GROUP)
        order = np.argsort(group, kind="stable")
        ordered = group[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=False):
            places = order[start:end]
            yield _Piece(number, view.segment, int(ordered[start]), places, inside[places])


def _unread(fetched: Fetched, piece: _Piece, error: AkashaError) -> None:
    fetched.unread = np.concatenate([fetched.unread, piece.places])
    fetched.error = fetched.error or error


def _key(segment: SpilledSegment, group: int, part: Part) -> str:
    return f"{segment.fingerprint}-{group:05d}-{part}"
