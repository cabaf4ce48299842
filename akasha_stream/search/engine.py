"""The search engine: requests in, responses out, over the shards that this process owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, Protocol

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from akasha_stream.errors import EmbedderFailed, EmbedderMissing, EventNotFound, LookupUnavailable, UsageError
from akasha_stream.partitioner import partition_of
from akasha_stream.search.candidates import Candidates, Query, Segment
from akasha_stream.search.embedders import Embedder
from akasha_stream.search.filters import compile_filters
from akasha_stream.search.freshness import await_tokens, parse_tokens
from akasha_stream.search.merge import Ranked, best
from akasha_stream.search.planner import Costs, Size, plan
from akasha_stream.search.query import (
    DEFAULT_FIELDS,
    EventRef,
    FieldName,
    Hit,
    Incomplete,
    Index,
    Position,
    SearchRequest,
    SearchResponse,
    SegmentPlan,
    StoredEvent,
)
from akasha_stream.search.segment import HotStore, SegmentView, StoredRow
from akasha_stream.search.snapshot import snapshot
from akasha_stream.settings import Settings

log = structlog.get_logger(__name__)

# The codes' recall falls with k: at 60 candidates a hit it stays above .99.
_CANDIDATES_PER_K = 60
_WIDER = 8


class Lookups(Protocol):
    """The Redis tables, as far as a search needs them."""

    async def position(self, source_system: str, event_id: str) -> tuple[int, int] | None:
        """(partition, position) of an identity; raises LookupUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Stats:
    """What this process can search."""

    rows: int
    live_rows: int
    segments: int
    sealed_segments: int
    indexed_segments: int
    partitions_owned: list[int]
    partitions: int


@dataclass(frozen=True, slots=True)
class _Answer:
    ranked: list[Ranked]
    segments: list[Segment]
    plan: list[SegmentPlan]


class SearchEngine:
    """Searches run in threads of their own; numpy and simsimd release the GIL while they scan."""

    def __init__(
        self,
        store: HotStore,
        settings: Settings,
        embedder: Embedder | None = None,
        *,
        lookups: Lookups | None = None,
    ) -> None:
        self.store = store
        self.lookups = lookups
        self.costs = Costs()
        self._settings = settings.search
        self._dimensions = settings.limits.dimensions
        self._embedder = embedder
        self._threads = ThreadPoolExecutor(settings.search.threads, thread_name_prefix="search")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Raises UsageError, EmbedderMissing, EmbedderFailed, EventNotFound ("like")."""
        started = perf_counter()
        if request.k > self._settings.max_k:
            raise UsageError(f"k: {request.k} is more than search.max_k, which is {self._settings.max_k}")
        partitions = self.store.partitions()
        incomplete: list[Incomplete] = []
        if request.after is not None:
            timeout_s = self._settings.after_timeout_s if request.after_timeout_s is None else request.after_timeout_s
            incomplete = await await_tokens(self.store, parse_tokens(request.after, partitions), timeout_s)
        vector = await self._vector(request)
        # A partition counts as searched only when it was owned before and after.
        owned = set(self.store.owned())
        answer = await self._in_thread(lambda: self._run(request, Query.of(vector)))
        owned &= set(self.store.owned())
        named = {i.partition for i in incomplete}
        # A filter on systems does not spare a partition: the topic may have had fewer partitions when
        # the events came, or their producer another partitioner.
        incomplete += [
            Incomplete(
                reason="partition_not_owned",
                partition=p,
                detail=f"partition {p} belongs to another worker or to none; its events were not searched",
            )
            for p in range(partitions)
            if p not in owned and p not in named
        ]
        fields = request.fields if request.fields is not None else DEFAULT_FIELDS
        return SearchResponse.model_construct(
            hits=[_hit(ranked, answer.segments, fields) for ranked in answer.ranked],
            complete=not incomplete,
            incomplete=incomplete,
            plan=answer.plan,
            took_ms=round((perf_counter() - started) * 1e3, 3),
        )

    async def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        """One event by identity. Raises EventNotFound."""
        place: tuple[SegmentView, int] | None = None
        source: Literal["lookups", "shard"] = "shard"
        if self.lookups is not None:
            try:
                position = await self.lookups.position(source_system, event_id)
            except LookupUnavailable as error:
                log.warning("lookups_unavailable", detail=str(error))
                position = None
            if position is not None:
                place = self.store.at(*position)
                source = "lookups"
        if place is not None:
            row = (await self._in_thread(lambda: place[0].texts([place[1]])))[0]
            # A table that lags behind could name a place that holds another event by now.
            if (row.source_system, row.event_id) == (source_system, event_id):
                return _event(row, place, embedding, source)
        return await self._in_thread(lambda: self._from_shard(source_system, event_id, embedding))

    def stats(self) -> Stats:
        views = self.store.views()
        return Stats(
            rows=sum(v.rows for v in views),
            live_rows=sum(int(np.count_nonzero(v.live)) for v in views),
            segments=len(views),
            sealed_segments=sum(v.sealed for v in views),
            indexed_segments=sum(v.index is not None for v in views),
            partitions_owned=sorted(self.store.owned()),
            partitions=self.store.partitions(),
        )

    async def _in_thread[T](self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _vector(self, request: SearchRequest) -> NDArray[np.float32]:
        """(dimensions,) the query's vector, finite and not zero."""
        if request.vector is not None:
            return self._checked(np.array(request.vector, np.float64))
        if request.like is not None:
            like = request.like
            return await self._in_thread(lambda: self._stored_vector(like))
        assert request.text is not None
        if self._embedder is None:
            raise EmbedderMissing(
                "a text query needs an embedder, and none is configured: install the local one "
                "(pip install 'akasha-stream[onnx]'), or set embedder.kind to openai or python; "
                "vector and like queries need none"
            )
        vector: NDArray[np.float32] = (await self._embedder.embed([request.text]))[0]
        if vector.shape != (self._dimensions,):
            raise EmbedderFailed(
                f"the embedder {self._embedder.model} gave {vector.shape[-1]} dimensions, "
                f"and this store's vectors have {self._dimensions} (limits.dimensions)"
            )
        return vector

    def _checked(self, vector: NDArray[np.float64]) -> NDArray[np.float32]:
        if len(vector) != self._dimensions:
            raise UsageError(f"vector: has {len(vector)} values, and this store's vectors have {self._dimensions}")
        narrow: NDArray[np.float32] = vector.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise UsageError("vector: holds a value that is not a finite 32-bit number")
        if not narrow.any():
            raise UsageError("vector: is all zeros, which has no direction")
        return narrow

    def _stored_vector(self, ref: EventRef) -> NDArray[np.float32]:
        view, row = self._find(ref.source_system, ref.event_id)
        vector: NDArray[np.float32] = view.vectors(np.array([row], np.int64))[0]
        return vector

    def _find(self, source_system: str, event_id: str) -> tuple[SegmentView, int]:
        place = self.store.find(source_system, event_id)
        if place is not None:
            return place
        partition = partition_of(source_system, self.store.partitions())
        where = "" if partition in self.store.owned() else f"; its partition {partition} is not owned by this worker"
        raise EventNotFound(f"no event {event_id!r} of source system {source_system!r} is stored here{where}")

    def _from_shard(self, source_system: str, event_id: str, embedding: bool) -> StoredEvent:
        place = self._find(source_system, event_id)
        return _event(place[0].texts([place[1]])[0], place, embedding, "shard")

    def _run(self, request: SearchRequest, query: Query) -> _Answer:
        """In a search thread: the answer as of the moment it starts."""
        row_filter = compile_filters(request.filters, self.store.codes)
        segments = [Segment.of(view, live, row_filter) for view, live in snapshot(self.store)]
        # "like" drops one row of its own.
        k = request.k + (request.like is not None)
        wanted, nearest = max(self._settings.candidates, _CANDIDATES_PER_K * k), 2 * k
        like = None if request.like is None else (request.like.source_system, request.like.event_id)
        confirm = row_filter.metadata.holds if row_filter.metadata else None

        def hits() -> list[Ranked]:
            return best(
                segments,
                candidates.considered,
                request.k,
                threshold=request.threshold,
                exclude=like,
                confirm=confirm,
            )

        candidates = self._gather(segments, query, k, forced=request.index, wanted=wanted, nearest=nearest)
        ranked = hits()
        if len(ranked) < request.k and not candidates.exhausted and confirm is not None:
            # A condition that one row in fifty meets is answered by now. A rarer one is worth
            # looking through all metadata for, so that only rows that may match are ranked.
            segments = [s.narrowed(row_filter) for s in segments]
            candidates = self._gather(
                segments, query, k, forced=request.index, wanted=_WIDER * wanted, nearest=_WIDER * nearest
            )
            ranked = hits()
        if len(ranked) < request.k and not candidates.exhausted:
            # k may exist, and only looking at every matching row tells. A threshold that few rows
            # reach ends here: no bound on the cosine follows from the codes.
            candidates.everything()
            ranked = hits()
        segment_plans = [
            SegmentPlan.model_construct(
                segment=s.view.name,
                partition=s.view.partition,
                index=c.kind,
                rows=s.view.rows,
                matching=s.matching,
                considered=len(c.rows),
                note=c.note,
            )
            for s, c in zip(segments, candidates.considered, strict=True)
        ]
        return _Answer(ranked, segments, segment_plans)

    def _gather(
        self, segments: Sequence[Segment], query: Query, k: int, *, forced: Index | None, wanted: int, nearest: int
    ) -> Candidates:
        choices = plan(
            [Size(s.view.rows, s.matching, s.view.index is not None) for s in segments],
            k=k,
            index=forced or self._settings.index,
            exact_rows=self._settings.exact_rows,
            hnsw_ef=self._settings.hnsw_ef,
            costs=self.costs,
        )
        candidates = Candidates(segments, choices, query, ef=self._settings.hnsw_ef, costs=self.costs)
        candidates.gather(wanted, nearest)
        return candidates


def _hit(ranked: Ranked, segments: Sequence[Segment], fields: Sequence[FieldName]) -> Hit:
    row = ranked.stored
    values: dict[str, object] = {
        "source_system": row.source_system,
        "event_id": row.event_id,
        "similarity": ranked.similarity,
    }
    for field in fields:
        match field:
            case "metadata":
                values["metadata"] = orjson.loads(row.metadata)
            case "position":
                values["position"] = _position(row)
            case "embedding":
                values["embedding"] = _embedding(segments[ranked.segment].view, ranked.row)
            case _:
                values[field] = getattr(row, field)
    # Built from our own rows: validating them again would take longer than finding them.
    return Hit.model_construct(**values)  # type: ignore[arg-type]


def _event(
    row: StoredRow, place: tuple[SegmentView, int], embedding: bool, source: Literal["lookups", "shard"]
) -> StoredEvent:
    return StoredEvent(
        source_system=row.source_system,
        event_id=row.event_id,
        content=row.content,
        metadata=orjson.loads(row.metadata),
        model=row.model,
        created_at=row.created_at,
        position=_position(row),
        embedding=_embedding(*place) if embedding else None,
        answered_from=source,
    )


def _position(row: StoredRow) -> Position:
    return Position(partition=row.partition, offset=row.offset, index=row.index)


def _embedding(view: SegmentView, row: int) -> list[float]:
    values: list[float] = view.vectors(np.array([row], np.int64))[0].tolist()
    return values
