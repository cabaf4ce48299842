"""The search engine: requests in, responses out, over the shards that this process owns."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic, perf_counter
from typing import Literal, Protocol

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from akasha_stream.auth.systems import EVERY, Systems
from akasha_stream.errors import (
    EmbedderFailed,
    EmbedderMissing,
    EventNotFound,
    LookupUnavailable,
    ObjectArchived,
    UsageError,
)
from akasha_stream.partitioner import partition_of
from akasha_stream.search.as_of import AsOf, as_of_masks, parse_as_of
from akasha_stream.search.candidates import Candidates, Considered, Query, Segment, narrowed
from akasha_stream.search.embedders import Embedder
from akasha_stream.search.embedding_map import EmbeddingMap, draw
from akasha_stream.search.filters import codes_of, compile_filters, of_systems
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
    RecentEvents,
    RecentRequest,
    SearchRequest,
    SearchResponse,
    SegmentPlan,
    StoredEvent,
)
from akasha_stream.search.recent import Place, newest
from akasha_stream.search.remote import MARGIN, RemoteReads
from akasha_stream.search.segment import HotStore, SegmentView, StoredRow, is_remote
from akasha_stream.search.snapshot import snapshot
from akasha_stream.settings import Settings
from akasha_stream.telemetry.tracing import span
from akasha_stream.tiers.retention import Retention
from akasha_stream.turns import Turns

log = structlog.get_logger(__name__)

# The codes' recall falls with k: at 60 candidates a hit it stays above .99.
_CANDIDATES_PER_K = 60
_WIDER = 8
MAP_S = 10.0
"""For so long a map that was drawn is given out again."""
_NEVER = np.iinfo(np.int64).min


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
class Answer:
    """What a search found in some of the partitions."""

    hits: list[Hit]
    appended_at: list[int]
    """Of each hit: when the log took it, microseconds since the epoch. The newer of two versions in two partitions is
    the one with the later time."""
    plan: list[SegmentPlan]
    incomplete: list[Incomplete]
    searched: frozenset[int]
    """Partitions that were owned before and after."""


@dataclass(frozen=True, slots=True)
class Recent:
    event: StoredEvent
    place: Place
    appended_at: int
    """When the log took it, microseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class NewestEvents:
    """A page of what some of the partitions have, the newest first."""

    found: list[Recent]
    following: Place | None
    """Where the next page begins; None: there is none."""
    incomplete: list[Incomplete]
    searched: frozenset[int]
    """Partitions that were owned before and after."""


class SearchEngine:
    """Searches run in threads of their own; numpy and simsimd release the GIL while they scan."""

    def __init__(
        self,
        store: HotStore,
        settings: Settings,
        embedder: Embedder | None = None,
        *,
        lookups: Lookups | None = None,
        turns: Turns | None = None,
        missing: Callable[[], Sequence[Incomplete]] = tuple,
    ) -> None:
        """`missing`: what the store's segments lack, for reasons that a search does not meet itself."""
        self._missing = missing
        self.store = store
        self._turns = turns or Turns()
        self.lookups = lookups
        self.costs = Costs()
        self._settings = settings.search
        self._retention = settings.retention
        self._expires = settings.retention.days is not None or bool(settings.retention.systems)
        self._dimensions = settings.limits.dimensions
        self._embedder = embedder
        self._drawing = asyncio.Lock()
        self._maps: dict[tuple[int, Systems], tuple[float, EmbeddingMap]] = {}
        self._threads = ThreadPoolExecutor(settings.search.threads, thread_name_prefix="search")
        self._index_threads = ThreadPoolExecutor(settings.search.threads, thread_name_prefix="index")

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._index_threads.shutdown(cancel_futures=True)

    async def search(self, request: SearchRequest, within: Systems = EVERY) -> SearchResponse:
        """Raises UsageError, EmbedderMissing, EmbedderFailed; EventNotFound, StorageError, SegmentCorrupt ("like")."""
        started = perf_counter()
        tokens = self.tokens(request)
        timeout_s = self.after_timeout_s(request)
        if request.like is not None:
            # The event that others shall be like may be the one that is waited for.
            await await_tokens(self.store, tokens, timeout_s)
        vector = await self.vector(request, within)
        answer = await self.answer(request, vector, like=request.like, tokens=tokens, within=within)
        incomplete = self._with_others(answer.incomplete, answer.searched)
        return SearchResponse.model_construct(
            hits=answer.hits,
            complete=not incomplete,
            incomplete=incomplete,
            plan=answer.plan,
            took_ms=round((perf_counter() - started) * 1e3, 3),
        )

    def tokens(self, request: SearchRequest) -> dict[int, int]:
        """Partition → offset that is waited for, by `after` or `as_of`.

        Raises UsageError, as for all that can't be asked of this engine.
        """
        if request.k > self._settings.max_k:
            raise UsageError(f"k: {request.k} is more than search.max_k, which is {self._settings.max_k}")
        tokens = self.parsed_tokens(request.after)
        if request.as_of is not None:  # the state after a record is known once that is stored
            for partition, offset in parse_as_of(request.as_of, self.store.partitions()).offsets.items():
                tokens[partition] = max(offset, tokens.get(partition, 0))
        return tokens

    def parsed_tokens(self, after: str | None) -> dict[int, int]:
        """Raises UsageError."""
        return {} if after is None else parse_tokens(after, self.store.partitions())

    def after_timeout_s(self, request: SearchRequest) -> float:
        """How long its tokens are waited for."""
        return self._settings.after_timeout_s if request.after_timeout_s is None else request.after_timeout_s

    async def answer(
        self,
        request: SearchRequest,
        vector: NDArray[np.float32],
        *,
        like: EventRef | None = None,
        tokens: Mapping[int, int] | None = None,
        partitions: Collection[int] | None = None,
        within: Systems = EVERY,
    ) -> Answer:
        """Search the named partitions, as far as they are owned; None: all of them.

        `vector`, (dimensions,): of the query. `like`: an event that shall not be found. `tokens`: waited for first.
        `within`: to the caller there are no other systems, neither in hits nor in any count.
        """
        as_of = None if request.as_of is None else parse_as_of(request.as_of, self.store.partitions())
        late = await await_tokens(self.store, dict(tokens), self.after_timeout_s(request)) if tokens else []
        # A filter on systems does not spare a partition: the topic may have had fewer partitions when
        # the events came, or their producer another partitioner.
        owned = [p for p in self.store.owned() if partitions is None or p in partitions]
        wanted = None if partitions is None else owned
        # Before the search: what is caught up with while it runs is not in its answer.
        missing = [each for each in self._missing() if each.partition is None or each.partition in owned]
        with self._turns.search():
            found = await self._in_thread(
                lambda: self._run(request, Query.of(vector), like, partitions=wanted, as_of=as_of, within=within)
            )
        searched = frozenset(owned).intersection(self.store.owned())
        named = {(i.tier, i.path) for i in found.incomplete if i.path is not None}
        missing = [each for each in missing if each.path is None or (each.tier, each.path) not in named]
        return replace(found, incomplete=late + found.incomplete + missing, searched=searched)

    async def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        """One event by identity. Raises EventNotFound; StorageError, SegmentCorrupt where it is in an object store."""
        return (await self.event(source_system, event_id, embedding=embedding))[0]

    async def event(self, source_system: str, event_id: str, *, embedding: bool = False) -> tuple[StoredEvent, int]:
        """The same, and when the log took it, microseconds since the epoch."""
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
                if place is not None and self._expired(*place):
                    place = None
                source = "lookups"
        if place is not None:
            event = await self._in_thread(lambda: _event(*place, embedding, source))
            # A table that lags behind could name a place that holds another event by now.
            if (event.source_system, event.event_id) == (source_system, event_id):
                return event, int(place[0].appended_at[place[1]])
        return await self._in_thread(lambda: self._from_shard(source_system, event_id, embedding))

    async def recent(self, asked: RecentRequest, within: Systems = EVERY) -> RecentEvents:
        """The newest events, of these systems alone.

        Raises UsageError (the cursor); StorageError, SegmentCorrupt where one is remote.
        """
        page = await self.newest(asked, within)
        incomplete = self._with_others(page.incomplete, page.searched)
        following = None if page.following is None else str(page.following)
        events = [each.event for each in page.found]
        return RecentEvents(events=events, next=following, complete=not incomplete, incomplete=incomplete)

    async def newest(self, asked: RecentRequest, within: Systems = EVERY) -> NewestEvents:
        """The same, of the partitions that are here, and nothing about the others."""
        before = None if asked.cursor is None else Place.parse(asked.cursor)
        owned = set(self.store.owned())
        missing = [each for each in self._missing() if each.partition is None or each.partition in owned]

        def read() -> NewestEvents:
            rows, following = newest(self.store, asked, before, self._cutoffs, within)
            found = [
                Recent(_event(view, row, False, "shard"), place, int(view.appended_at[row]))
                for place, view, row in rows
            ]
            searched = frozenset(owned.intersection(self.store.owned()))
            return NewestEvents(_newest_versions(found), following, missing, searched)

        return await self._in_thread(read)

    def _with_others(self, incomplete: list[Incomplete], searched: Collection[int]) -> list[Incomplete]:
        """And an entry for each partition that is not this worker's."""
        named = {each.partition for each in incomplete}
        others = (p for p in range(self.store.partitions()) if p not in searched and p not in named)
        return incomplete + [not_owned(partition) for partition in others]

    def catching_up(self, partition: int) -> list[Incomplete]:
        """The entry that a search over a partition has while its worker takes it over; else nothing."""
        return [each for each in self._missing() if each.reason == "catching_up" and each.partition == partition]

    async def map(self, sample: int, within: Systems = EVERY) -> EmbeddingMap:
        """The events that are here, in two dimensions; one that was drawn some seconds ago is as good."""
        async with self._drawing:
            self._maps = {key: each for key, each in self._maps.items() if monotonic() - each[0] <= MAP_S}
            drawn = self._maps.get((sample, within))
            if drawn is None:
                picture = await self._in_thread(lambda: draw(self.store, sample, self._cutoffs, within))
                drawn = self._maps[sample, within] = monotonic(), picture
            return drawn[1]

    def stats(self, within: Systems = EVERY) -> Stats:
        """Of these systems alone: their rows, and the segments that have any."""
        views = self.store.views()
        seen = codes_of(within, self.store.codes)
        if seen is not None:
            views = [view for view in views if _rows_of(view, seen)]
        return Stats(
            rows=sum(_rows_of(v, seen) for v in views),
            live_rows=sum(_live_rows_of(v, seen) for v in views),
            segments=len(views),
            sealed_segments=sum(v.sealed for v in views),
            indexed_segments=sum(v.index is not None for v in views),
            partitions_owned=sorted(self.store.owned()),
            partitions=self.store.partitions(),
        )

    async def _in_thread[T](self, call: Callable[[], T]) -> T:
        # With the context: a span in the thread is a child of the request's.
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, call)

    async def vector(self, request: SearchRequest, within: Systems = EVERY) -> NDArray[np.float32]:
        """(dimensions,) the query's vector, finite and not zero. Raises as search() does."""
        if request.vector is not None:
            return self._checked(np.array(request.vector, np.float64))
        if request.like is not None:
            like = request.like
            if like.source_system not in within:
                raise self._missing_event(like.source_system, like.event_id)
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
        with np.errstate(over="ignore"):  # told below
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
        if place is not None and not self._expired(*place):
            return place
        raise self._missing_event(source_system, event_id)

    def _missing_event(self, source_system: str, event_id: str) -> EventNotFound:
        partition = partition_of(source_system, self.store.partitions())
        where = "" if partition in self.store.owned() else f"; its partition {partition} is not owned by this worker"
        return EventNotFound(f"no event {event_id!r} of source system {source_system!r} is stored here{where}")

    def _from_shard(self, source_system: str, event_id: str, embedding: bool) -> tuple[StoredEvent, int]:
        view, row = self._find(source_system, event_id)
        return _event(view, row, embedding, "shard"), int(view.appended_at[row])

    def _run(
        self,
        request: SearchRequest,
        query: Query,
        excluded: EventRef | None,
        *,
        partitions: Sequence[int] | None,
        as_of: AsOf | None,
        within: Systems,
    ) -> Answer:
        """In a search thread: the answer as of the moment it starts, or that is asked for."""
        incomplete: list[Incomplete] = []
        with span("search.plan"):
            spans = self.store.spans() if as_of is not None else {}
            views = snapshot(self.store, partitions)
            seen = codes_of(within, self.store.codes)
            if as_of is not None:
                asked = {p: span for p, span in spans.items() if partitions is None or p in partitions}
                local = [view for view, _ in views]
                views, incomplete = as_of_masks(local, as_of, asked, self.store.forgets(), seen)
            row_filter = compile_filters(request.filters, self.store.codes, self._cutoffs(), within)
            segments = [Segment.of(view, live, row_filter) for view, live in views]
        reads = RemoteReads()
        # "like" drops one row of its own.
        k = request.k + (excluded is not None)
        wanted, nearest = max(self._settings.candidates, _CANDIDATES_PER_K * k), 2 * k
        like = None if excluded is None else (excluded.source_system, excluded.event_id)
        confirm = row_filter.metadata.holds if row_filter.metadata else None

        def hits() -> list[Ranked]:
            with span("search.rank"):
                return best(
                    segments,
                    candidates.considered,
                    request.k,
                    reads,
                    threshold=request.threshold,
                    exclude=like,
                    confirm=confirm,
                )

        candidates = self._gather(segments, query, k, reads, forced=request.index, wanted=wanted, nearest=nearest)
        ranked = hits()
        if len(ranked) < request.k and not candidates.exhausted and confirm is not None:
            # A condition that one row in fifty meets is answered by now. A rarer one is worth
            # looking through all metadata for, so that only rows that may match are ranked.
            segments = narrowed(segments, row_filter, reads)
            candidates = self._gather(
                segments, query, k, reads, forced=request.index, wanted=_WIDER * wanted, nearest=_WIDER * nearest
            )
            ranked = hits()
        if len(ranked) < request.k and not candidates.exhausted:
            # k may exist, and only looking at every matching row tells. A threshold that few rows
            # reach ends here: no bound on the cosine follows from the codes.
            candidates.everything()
            ranked = hits()
        fields = request.fields if request.fields is not None else DEFAULT_FIELDS
        with span("search.hits"):
            found = _hits(ranked, segments, fields, reads)
        _note_uncertain(ranked, segments, candidates.considered, request, reads)
        segment_plans = [
            SegmentPlan.model_construct(
                segment=s.view.name,
                partition=s.view.partition,
                tier=s.view.tier,
                index=c.kind,
                rows=rows,
                matching=s.matching,
                considered=len(c.rows),
                bytes_read=reads.bytes_read(s.view),
                note=c.note,
            )
            for s, c in zip(segments, candidates.considered, strict=True)
            if (rows := _rows_of(s.view, seen)) or seen is None
        ]
        appended_at = [each.appended_at for each in ranked]
        return Answer(found, appended_at, segment_plans, [*incomplete, *reads.incomplete], frozenset())

    def _cutoffs(self) -> NDArray[np.int64] | None:
        """By system code; after the views were taken, so that every system that they have is among them."""
        if not self._expires:
            return None
        retention = Retention(self._retention, datetime.now(UTC))
        return np.array([retention.cutoff(name) or _NEVER for name in self.store.codes.names()], np.int64)

    def _expired(self, view: SegmentView, row: int) -> bool:
        cutoffs = self._cutoffs()
        return cutoffs is not None and bool(view.appended_at[row] < cutoffs[view.systems[row]])

    def _gather(
        self,
        segments: Sequence[Segment],
        query: Query,
        k: int,
        reads: RemoteReads,
        *,
        forced: Index | None,
        wanted: int,
        nearest: int,
    ) -> Candidates:
        choices = plan(
            [Size(s.view.rows, s.matching, s.view.index is not None, is_remote(s.view)) for s in segments],
            k=k,
            index=forced or self._settings.index,
            exact_rows=self._settings.exact_rows,
            hnsw_ef=self._settings.hnsw_ef,
            costs=self.costs,
        )
        candidates = Candidates(
            segments,
            choices,
            query,
            ef=self._settings.hnsw_ef,
            costs=self.costs,
            threads=self._index_threads,
            reads=reads,
        )
        candidates.gather(wanted, nearest)
        return candidates


def _rows_of(view: SegmentView, seen: NDArray[np.int32] | None) -> int:
    return view.rows if seen is None else int(np.count_nonzero(of_systems(view.systems[: view.rows], seen)))


def _live_rows_of(view: SegmentView, seen: NDArray[np.int32] | None) -> int:
    live = view.live if seen is None else view.live[: view.rows] & of_systems(view.systems[: view.rows], seen)
    return int(np.count_nonzero(live))


def not_owned(partition: int) -> Incomplete:
    return Incomplete(
        reason="partition_not_owned",
        partition=partition,
        detail=f"partition {partition} belongs to another worker or to none; its events were not searched",
    )


def _hits(
    ranked: Sequence[Ranked], segments: Sequence[Segment], fields: Sequence[FieldName], reads: RemoteReads
) -> list[Hit]:
    embeddings = _embeddings(ranked, segments, reads) if "embedding" in fields else {}
    return [_hit(each, fields, embeddings.get((each.segment, each.row))) for each in ranked]


def _embeddings(
    ranked: Sequence[Ranked], segments: Sequence[Segment], reads: RemoteReads
) -> dict[tuple[int, int], list[float]]:
    """(place of the segment, row) → vector, the remote ones fetched together."""
    found: dict[tuple[int, int], list[float]] = {}
    wanted, numbers = [], []
    for number in sorted({each.segment for each in ranked}):
        view = segments[number].view
        rows = np.array([each.row for each in ranked if each.segment == number], np.int64)
        if is_remote(view):
            wanted.append((view, rows))
            numbers.append(number)
        else:
            vectors = view.vectors(rows).tolist()
            found |= {(number, row): vector for row, vector in zip(rows.tolist(), vectors, strict=True)}
    for number, vectors in zip(numbers, reads.vectors(wanted), strict=True):
        found |= {(number, row): vector for row, vector in vectors.items()}
    return found


def _hit(ranked: Ranked, fields: Sequence[FieldName], embedding: list[float] | None) -> Hit:
    row = ranked.stored
    values: dict[str, object] = {
        "source_system": row.source_system,
        "event_id": row.event_id,
        "similarity": ranked.similarity,
    }
    if ranked.needs_restore:
        values["needs_restore"] = True
    for field in fields:
        match field:
            case "metadata":
                values["metadata"] = None if row.metadata is None else orjson.loads(row.metadata)
            case "position":
                values["position"] = _position(row)
            case "embedding":
                values["embedding"] = embedding
            case _:
                values[field] = getattr(row, field)
    # Built from our own rows: validating them again would take longer than finding them.
    return Hit.model_construct(**values)  # type: ignore[arg-type]


def _note_uncertain(
    ranked: Sequence[Ranked],
    segments: Sequence[Segment],
    considered: Sequence[Considered],
    request: SearchRequest,
    reads: RemoteReads,
) -> None:
    """Note in `reads` the rows with an estimated similarity that may belong among the hits and are not there."""
    least = -1.0 if request.threshold is None else request.threshold
    if len(ranked) == request.k:
        least = ranked[-1].similarity
    for number, (segment, c) in enumerate(zip(segments, considered, strict=True)):
        view = segment.view
        if c.estimated is not None and is_remote(view):
            close = int(np.count_nonzero(c.estimated & (c.similarity >= least - MARGIN)))
            close -= sum(each.segment == number and each.needs_restore for each in ranked)
            if close > 0:
                reads.uncertain(view, close)


def _event(view: SegmentView, row: int, embedding: bool, source: Literal["lookups", "shard"]) -> StoredEvent:
    """Raises StorageError, SegmentCorrupt."""
    vector: list[float] | None = None
    try:
        stored = view.texts([row])[0]
        if embedding:
            vector = view.vectors(np.array([row], np.int64))[0].tolist()
    except ObjectArchived:
        assert is_remote(view)
        stored = view.stored(row, None, None, None)
    return StoredEvent(
        source_system=stored.source_system,
        event_id=stored.event_id,
        content=stored.content,
        metadata=None if stored.metadata is None else orjson.loads(stored.metadata),
        model=stored.model,
        created_at=stored.created_at,
        position=_position(stored),
        embedding=vector,
        answered_from=source,
        **({"needs_restore": True} if stored.content is None else {}),
    )


def _newest_versions(found: Sequence[Recent]) -> list[Recent]:
    """Without those that were replaced a moment ago, and may be there in both versions (snapshot.py)."""

    def key(event: StoredEvent) -> tuple[int, str, str]:
        return event.position.partition, event.source_system, event.event_id

    def at(event: StoredEvent) -> tuple[int, int]:
        return event.position.offset, event.position.index

    newest = {key(event): at(event) for event in sorted((each.event for each in found), key=at)}
    return [each for each in found if newest[key(each.event)] == at(each.event)]


def _position(row: StoredRow) -> Position:
    return Position(partition=row.partition, offset=row.offset, index=row.index)
