"""What a worker answers from its own partitions alone, to itself and to other workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from akasha_stream.auth.systems import Systems
from akasha_stream.cluster.merge import Part
from akasha_stream.cluster.messages import (
    PeerAnswer,
    PeerEvent,
    PeerGet,
    PeerPage,
    PeerRecent,
    PeerSearch,
    PeerWrites,
    PeerWritten,
)
from akasha_stream.errors import EventNotFound
from akasha_stream.partitioner import partition_of
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.freshness import await_tokens
from akasha_stream.search.query import EventRef, SearchRequest, SearchResponse


class Here:
    """`holds`: whether the group still counts a partition as this worker's.

    What has partitions that are not certain says so (`lapsed`): they count only where nobody else owns them.
    """

    def __init__(self, engine: SearchEngine, holds: Callable[[int], bool]) -> None:
        self.engine = engine
        self._holds = holds

    def owned(self) -> list[int]:
        """Partitions that are certainly this worker's."""
        return [partition for partition in self.engine.store.owned() if self._holds(partition)]

    async def part(
        self,
        request: SearchRequest,
        vector: NDArray[np.float32],
        like: EventRef | None,
        tokens: Mapping[int, int],
        *,
        within: Systems,
        partitions: Collection[int] | None = None,
    ) -> Part:
        """Its best hits. What is certain counts only where it was before and after."""
        before = self.owned()
        found = await self.engine.answer(
            request, vector, like=like, tokens=tokens, partitions=partitions, within=within
        )
        owned = found.searched.intersection(before).intersection(self.owned())
        return Part(found.hits, found.appended_at, found.plan, found.incomplete, owned, found.searched - owned)

    async def search(self, asked: PeerSearch, within: Systems) -> PeerAnswer:
        """Raises as SearchEngine.search does."""
        started = perf_counter()
        request = asked.request
        tokens = self.engine.parsed_tokens(request.after)
        vector = await self.engine.vector(request, within)
        part = await self.part(request, vector, asked.like, tokens, within=within, partitions=asked.partitions)
        response = SearchResponse.model_construct(
            hits=list(part.hits),
            complete=not part.incomplete,
            incomplete=list(part.incomplete),
            plan=list(part.plan),
            took_ms=round((perf_counter() - started) * 1e3, 3),
        )
        return PeerAnswer.model_construct(
            response=response,
            appended_at=list(part.appended_at),
            owned=sorted(part.owned),
            lapsed=sorted(part.lapsed),
        )

    async def event(self, asked: PeerGet, within: Systems) -> PeerEvent:
        """An event of a system that may not be seen is answered as one that is not there: in all that is said of it.

        Raises StorageError, SegmentCorrupt, UsageError.
        """
        ref, store = asked.event, self.engine.store
        await await_tokens(store, self.engine.parsed_tokens(asked.after), asked.after_timeout_s)
        before = set(self.owned())
        home = partition_of(ref.source_system, store.partitions())
        # Before it is looked for: what is caught up with meanwhile may be missing.
        behind = self.engine.catching_up(home)
        event, appended_at = None, 0
        seen = ref.source_system in within
        if seen:
            with suppress(EventNotFound):
                event, appended_at = await self.engine.event(ref.source_system, ref.event_id, embedding=asked.embedding)
        gone_at = None
        if seen and (event is None or event.position.partition != home):
            gone_at = store.written_at(home, ref.source_system, ref.event_id)
        owned = before.intersection(self.owned())
        return PeerEvent.model_construct(
            event=event,
            appended_at=appended_at,
            gone_at=gone_at,
            incomplete=behind,
            owned=sorted(owned),
            lapsed=sorted(set(store.owned()) - owned),
        )

    async def recent(self, asked: PeerRecent, within: Systems) -> PeerPage:
        """Raises as SearchEngine.recent does."""
        before = self.owned()
        page = await self.engine.newest(asked.request, within)
        owned = page.searched.intersection(before).intersection(self.owned())
        return PeerPage.model_construct(
            events=[each.event for each in page.found],
            places=[str(each.place) for each in page.found],
            appended_at=[each.appended_at for each in page.found],
            next=None if page.following is None else str(page.following),
            incomplete=page.incomplete,
            owned=sorted(owned),
            lapsed=sorted(page.searched - owned),
        )

    def written(self, asked: PeerWrites, within: Systems) -> PeerWritten:
        store = self.engine.store
        times = [
            store.written_at(asked.partition, each.source_system, each.event_id)
            if each.source_system in within
            else None
            for each in asked.events
        ]
        owned = self.owned()
        return PeerWritten.model_construct(
            written_at=times, owned=owned, lapsed=[p for p in store.owned() if p not in owned]
        )
