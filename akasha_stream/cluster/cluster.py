"""Searches over all partitions, whoever has them: one's own and those of the workers that own the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from akasha_stream.auth.systems import Systems
from akasha_stream.cluster.ask import Answered, Asked, ask_owners
from akasha_stream.cluster.events import Events, lapsed
from akasha_stream.cluster.here import Here
from akasha_stream.cluster.merge import Merged, Part, Version, merge
from akasha_stream.cluster.messages import PeerAnswer, PeerPage, PeerRecent, PeerSearch
from akasha_stream.cluster.newest import joined
from akasha_stream.cluster.owners import Owners
from akasha_stream.cluster.peers import HttpPeers, Peers
from akasha_stream.cluster.stats import ClusterStats
from akasha_stream.cluster.superseded import strays, superseded
from akasha_stream.errors import ObjectArchived, OwnerUnavailable
from akasha_stream.search.engine import SearchEngine, Stats
from akasha_stream.search.query import (
    DEFAULT_FIELDS,
    EventRef,
    Hit,
    Incomplete,
    RecentEvents,
    RecentRequest,
    SearchRequest,
    SearchResponse,
    StoredEvent,
)
from akasha_stream.settings import Settings

MOST_K = 10_000
"""As many as a request may ask for."""


class Cluster:
    """Any worker answers for all. What another worker asks, `here` answers from this one's partitions alone.

    A partition that this worker has, and that the group may have given to another one meanwhile, is searched all the
    same, and named (`ownership_lapsed`) where no other worker says that it owns it now.
    """

    def __init__(
        self,
        engine: SearchEngine,
        settings: Settings,
        *,
        owners: Owners | None = None,
        peers: Peers | None = None,
        holds: Callable[[int], bool] = lambda _partition: True,
    ) -> None:
        """`holds`: whether the group still counts a partition as this worker's."""
        self.engine = engine
        self.here = Here(engine, holds)
        self._owners = owners or Owners()
        self._peers = peers or HttpPeers()
        self._peer_timeout_s = settings.search.peer_timeout_s
        # What another worker may need for its own reads from the object store comes on top.
        self._timeout_s = self._peer_timeout_s + (settings.tiers.timeout_s if settings.tiers.enabled else 0.0)
        self._events = Events(self.here, self._owners, self._peers, self._timeout_s)

    async def search(self, request: SearchRequest, within: Systems) -> SearchResponse:
        """`within`: to the caller there are no other systems, at whichever worker they are.

        Raises as SearchEngine.search does; OwnerUnavailable where the event of a "like" could not be asked for.
        """
        started = perf_counter()
        tokens = self.engine.tokens(request)
        vector = await self._vector(request, within, tokens)
        merged, others = await self._newest(_by_vector(request, vector), vector, request.like, within, tokens)
        incomplete = merged.incomplete + self._missing(merged, others.failures)
        wanted = DEFAULT_FIELDS if request.fields is None else request.fields
        return SearchResponse.model_construct(
            hits=merged.hits if "position" in wanted else [_without_position(hit) for hit in merged.hits],
            complete=not incomplete,
            incomplete=incomplete,
            plan=merged.plan,
            took_ms=round((perf_counter() - started) * 1e3, 3),
        )

    async def get(self, source_system: str, event_id: str, within: Systems, *, embedding: bool = False) -> StoredEvent:
        """One event by identity, wherever it is; of a system outside `within` there is none.

        Raises EventNotFound; OwnerUnavailable where the partition that should have it could not be asked; StorageError,
        SegmentCorrupt where it is in an object store.
        """
        return await self._events.find(EventRef(source_system=source_system, event_id=event_id), embedding, within)

    async def recent(self, asked: RecentRequest, within: Systems) -> RecentEvents:
        """A page of the newest events, whoever has them. Raises as SearchEngine.recent does."""
        question = PeerRecent(request=asked)
        mine = set(self.here.owned())

        async def ask(url: str, _: list[int], timeout_s: float) -> PeerPage:
            return await self._peers.recent(url, question, within, timeout_s)

        here, others = await asyncio.gather(
            self.here.recent(question, within),
            ask_owners(self._owners, set(range(self.engine.store.partitions())) - mine, ask, self._timeout_s),
        )
        page = joined([here, *others.answers], asked.limit)
        found = strays(page.versions(), self.engine.store.partitions())
        old = await superseded(found, self.here, self._owners, self._peers, self._timeout_s, within=within)
        incomplete = page.incomplete + self._missing(page, others.failures)
        return RecentEvents(events=page.without(old), next=page.next, complete=not incomplete, incomplete=incomplete)

    def stats(self, within: Systems) -> Stats:
        """Of this worker."""
        return self.engine.stats(within)

    async def cluster_stats(self, within: Systems) -> ClusterStats:
        """Of all workers that are known."""
        urls = await self._owners.others()

        async def ask(url: str) -> Stats | OwnerUnavailable:
            try:
                return await self._peers.stats(url, within, self._peer_timeout_s)
            except OwnerUnavailable as error:
                return error

        answers = await asyncio.gather(*map(ask, urls))
        return ClusterStats.of({self._owners.me(): self.engine.stats(within), **dict(zip(urls, answers, strict=True))})

    # ── searching ────────────────────────────────────────────────────────────────────────────────────────

    async def _vector(self, request: SearchRequest, within: Systems, tokens: Mapping[int, int]) -> NDArray[np.float32]:
        """A text is embedded here, once, whoever is asked then."""
        if request.like is None:
            return await self.engine.vector(request)
        event = await self._events.find(request.like, True, within, tokens, self.engine.after_timeout_s(request))
        if event.embedding is None:
            raise ObjectArchived(
                f"the object of event {event.event_id!r} of {event.source_system!r} is archived: restore it first"
            )
        return np.array(event.embedding, np.float32)

    async def _newest(
        self,
        request: SearchRequest,
        vector: NDArray[np.float32],
        like: EventRef | None,
        within: Systems,
        tokens: Mapping[int, int],
    ) -> tuple[Merged, Asked[PeerAnswer]]:
        """The best k, without versions that are superseded in another partition: as many more are asked for."""
        k = ask_for = request.k
        old: set[Version] = set()
        checked: set[Version] = set()
        while True:
            asked = request if ask_for == k else _changed(request, k=ask_for)
            part, others = await self._everywhere(asked, vector, like, within, tokens)
            parts = [part, *map(_part, others.answers)]
            while True:
                merged = merge(parts, k, ask_for, old)
                # As of an earlier moment, what is newer now says nothing.
                found = strays(merged.versions(), self.engine.store.partitions()) if request.as_of is None else {}
                new = {version: at for version, at in found.items() if version not in checked}
                if not new:
                    break
                old |= await superseded(new, self.here, self._owners, self._peers, self._timeout_s, within=within)
                checked |= new.keys()
            if not merged.short or ask_for >= MOST_K:
                return merged, others
            ask_for = min(MOST_K, 2 * ask_for)

    async def _everywhere(
        self,
        request: SearchRequest,
        vector: NDArray[np.float32],
        like: EventRef | None,
        within: Systems,
        tokens: Mapping[int, int],
    ) -> tuple[Part, Asked[PeerAnswer]]:
        mine = set(self.here.owned())
        others = [p for p in range(self.engine.store.partitions()) if p not in mine]
        my_tokens = {p: offset for p, offset in tokens.items() if p in mine}
        if not others:
            return await self.here.part(request, vector, like, my_tokens, within=within), Asked()
        after_s = self.engine.after_timeout_s(request)
        waits_s = after_s if len(my_tokens) < len(tokens) else 0.0

        async def ask(url: str, partitions: list[int], timeout_s: float) -> PeerAnswer:
            theirs = ",".join(f"{p}:{offset}" for p, offset in tokens.items() if p in partitions) or None
            # The time-out is this worker's setting, not the other one's.
            theirs_s = None if theirs is None else after_s
            by_vector = _changed(request, after=theirs, after_timeout_s=theirs_s)
            question = PeerSearch(request=by_vector, partitions=partitions, **({} if like is None else {"like": like}))
            return await self._peers.search(url, question, within, timeout_s)

        return await asyncio.gather(
            self.here.part(request, vector, like, my_tokens, within=within),
            ask_owners(self._owners, others, ask, self._timeout_s + waits_s),
        )

    def _missing(self, answered: Answered, failures: Mapping[int, OwnerUnavailable]) -> list[Incomplete]:
        """An entry for each partition whose owner has not answered."""
        result = []
        for partition in range(self.engine.store.partitions()):
            if partition in answered.owned:
                continue
            if partition in answered.lapsed:
                result.append(lapsed(partition))
                continue
            why = failures.get(partition) or OwnerUnavailable("it moved to another worker meanwhile")
            detail = f"the events of partition {partition} were not searched: {why}"
            result.append(Incomplete(reason=why.reason, partition=partition, detail=detail))
        return result


def _by_vector(request: SearchRequest, vector: NDArray[np.float32]) -> SearchRequest:
    """The same search by its vector, with the positions of the hits: merging needs them."""
    fields = list(DEFAULT_FIELDS if request.fields is None else request.fields)
    if "position" not in fields:
        fields.append("position")
    return _changed(request, vector=vector.tolist(), text=None, like=None, after=None, fields=fields)


def _changed(request: SearchRequest, **changes: object) -> SearchRequest:
    """Without validation, which it has passed. What is None counts as not given."""
    values = {name: getattr(request, name) for name in request.model_fields_set} | changes
    return SearchRequest.model_construct(**{name: value for name, value in values.items() if value is not None})


def _part(answer: PeerAnswer) -> Part:
    response = answer.response
    return Part(
        response.hits,
        answer.appended_at,
        response.plan,
        response.incomplete,
        frozenset(answer.owned),
        frozenset(answer.lapsed),
    )


def _without_position(hit: Hit) -> Hit:
    values = {name: getattr(hit, name) for name in hit.model_fields_set if name != "position"}
    return Hit.model_construct(**values)
