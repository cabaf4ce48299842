"""How a program reaches a data directory: through the worker that has it, or by opening it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from akasha_stream.client import AkashaClient
from akasha_stream.errors import NotSearchableYet, SegmentCorrupt, ShardLocked, StorageError
from akasha_stream.events.model import Event
from akasha_stream.local import notice
from akasha_stream.local.notice import WorkerNotice
from akasha_stream.local.store import LocalStore
from akasha_stream.publish import EventPublisher, merge_tokens
from akasha_stream.search.embedders import Embedder
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import SearchRequest, SearchResponse, StoredEvent
from akasha_stream.settings import Settings

if TYPE_CHECKING:
    from akasha_stream.storage.tiers import StorageTiers
    from akasha_stream.tiers.tiering import Tiering

log = structlog.get_logger(__name__)

STARTING_S = 10.0
"""How long a worker that has taken the lock may need until it answers."""
ASK_S = 0.2
SEARCHABLE_S = 30.0


class Access(Protocol):
    async def write(self, events: Sequence[Event]) -> None:
        """Returns when the events are durable and a search finds them."""
        ...

    async def search(self, request: SearchRequest) -> SearchResponse: ...

    async def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        """Raises EventNotFound."""
        ...

    async def close(self) -> None: ...


async def open_access(
    settings: Settings, stores: StorageTiers | None = None, *, starting_s: float = STARTING_S
) -> Access:
    """Through the worker on `hot.data_dir` if one runs, else through the directory, which this process then has.

    `stores`: where segments that were left to the object store are read from.

    Raises:
        ShardLocked: another process has the directory, and is no worker that answers within `starting_s`.
        BrokerError: the worker's broker can't be reached.
    """
    deadline = asyncio.get_running_loop().time() + starting_s
    while True:
        try:
            return await ThroughDirectory.open(settings, stores)
        except ShardLocked as error:
            found = notice.read(settings.hot.data_dir / settings.topics.embeddings)
            if found is not None and await _answers(found, settings):
                return await ThroughWorker.open(settings, found)
            if asyncio.get_running_loop().time() > deadline:
                where = "" if found is None else f" (a worker, process {found.pid}, should answer at {found.url})"
                raise ShardLocked(f"{error}{where}") from None
        await asyncio.sleep(ASK_S)


async def _answers(found: WorkerNotice, settings: Settings) -> bool:
    async with AkashaClient(found.url, timeout_s=2.0, ca=settings.http.tls_ca) as client:
        return await client.ready()


class ThroughDirectory:
    """The directory's files, opened by this process."""

    def __init__(
        self, store: LocalStore, settings: Settings, tiering: Tiering | None, embedder: Embedder | None = None
    ) -> None:
        self._store = store
        self._tiering = tiering
        self._engine = SearchEngine(store, settings, embedder)

    @classmethod
    async def open(
        cls, settings: Settings, stores: StorageTiers | None = None, *, embedder: Embedder | None = None
    ) -> ThroughDirectory:
        """`embedder`: for text queries. Raises ShardLocked, SegmentCorrupt; UsageError where `stores` are needed."""
        tiering = None if stores is None else _tiering(settings, stores)
        opening = asyncio.ensure_future(asyncio.to_thread(LocalStore, settings, tiering))
        try:
            store = await asyncio.shield(opening)
        except BaseException:
            # The thread goes on after a cancellation, and would keep the directory for as long as the process lives.
            opening.add_done_callback(lambda done: None if done.exception() else done.result().close())
            if tiering is not None:
                await tiering.close()
            raise
        if tiering is not None:
            try:
                await tiering.follow()
            except (StorageError, SegmentCorrupt) as error:
                log.warning("what is in the object store only is not found", error=str(error))
        return cls(store, settings, tiering, embedder)

    async def write(self, events: Sequence[Event]) -> None:
        """Raises ValidationError, ShardWriteError."""
        await asyncio.to_thread(self._store.write, events)

    async def search(self, request: SearchRequest) -> SearchResponse:
        return _told(await self._engine.search(request))

    async def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        return await self._engine.get(source_system, event_id, embedding=embedding)

    async def close(self) -> None:
        self._engine.close()
        if self._tiering is not None:
            await self._tiering.close()
        await asyncio.to_thread(self._store.close)


def _told(answer: SearchResponse) -> SearchResponse:
    """The guide's methods return hits alone: what they lack is in the log."""
    if not answer.complete:
        log.warning("search_incomplete", reasons=[each.detail for each in answer.incomplete])
    return answer


def _tiering(settings: Settings, stores: StorageTiers) -> Tiering | None:
    """For the segments that are in the object store only, where there are such."""
    if not any((settings.hot.data_dir / settings.topics.embeddings).glob("*/*.stub")):
        return None
    from akasha_stream.tiers.tiering import Tiering  # most directories need none of it

    return Tiering(settings, stores)


class ThroughWorker:
    """Its HTTP API to read; its broker to write."""

    def __init__(self, client: AkashaClient, publisher: EventPublisher, settings: Settings) -> None:
        self._client = client
        self._publisher = publisher
        self._any_vector = [1.0] * settings.limits.dimensions

    @classmethod
    async def open(cls, settings: Settings, found: WorkerNotice) -> ThroughWorker:
        """Raises BrokerError."""
        broker = settings.broker.model_copy(update={"bootstrap_servers": found.bootstrap_servers})
        publisher = EventPublisher(settings.model_copy(update={"broker": broker}))
        await publisher.start()
        client = AkashaClient(found.url, key=settings.auth.key, ca=settings.http.tls_ca)
        return cls(client, publisher, settings)

    async def write(self, events: Sequence[Event]) -> None:
        """Raises ValidationError, PublishError; NotSearchableYet, ServiceUnreachable once Kafka has the events."""
        token = merge_tokens(await self._publisher.publish_many(list(events)))
        if not token:
            return
        answer = await self._client.search(
            vector=self._any_vector, k=1, fields=[], after=token, after_timeout_s=SEARCHABLE_S
        )
        # A partition that another worker owns is that worker's to take in; this one can't tell when.
        late = [each.detail for each in answer.incomplete if each.reason == "freshness_timeout"]
        if late:
            raise NotSearchableYet(f"Kafka has the events, and the worker has not taken them in yet: {late[0]}")

    async def search(self, request: SearchRequest) -> SearchResponse:
        return _told(await self._client.search(request))

    async def get(self, source_system: str, event_id: str, *, embedding: bool = False) -> StoredEvent:
        return await self._client.get(source_system, event_id, embedding=embedding)

    async def close(self) -> None:
        await self._client.close()
        await self._publisher.close()
