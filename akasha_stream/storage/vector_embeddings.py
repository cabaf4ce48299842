"""The guide's VectorEmbeddingStorage, on the stream's storage engine.

What it stores is an event like any other, with the identity (source_system, embedding_id): the stream's searches find
it, and it finds what the stream has stored. docs/guide-differences.md says where it differs from the guide's.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import date as Date  # noqa: N812 - the guide has an argument of that name
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from akasha_stream.client import build_request
from akasha_stream.errors import EventNotFound, UsageError, ValidationError
from akasha_stream.events.model import Event
from akasha_stream.local.access import Access, open_access
from akasha_stream.publish.checks import checked_size
from akasha_stream.settings import Settings
from akasha_stream.storage.embeddings_file import embeddings_file
from akasha_stream.storage.settings import StorageSettings
from akasha_stream.storage.tiers import StorageTiers
from akasha_stream.tiers.keys import escape

if TYPE_CHECKING:
    from oneiric.core.resolution import Resolver

log = structlog.get_logger(__name__)

_KEYS = {"id", "content", "embedding", "metadata", "created_at"}


class VectorEmbeddingStorage:
    """Stores and searches embeddings in the data directory of the settings (`hot.data_dir`).

    Where a worker runs on that directory, writes go to its Kafka and searches to its HTTP API. Where none does, the
    directory is opened, and belongs to this process until close(): what is written meanwhile is handed over to Kafka
    by the next worker that starts there.

    One instance belongs to one event loop; any number of its tasks may use it at once.
    """

    def __init__(
        self,
        resolver: Resolver | None = None,
        *,
        settings: Settings | None = None,
        storage_settings: StorageSettings | None = None,
    ) -> None:
        """`resolver`: Oneiric's, for the warm tier; may have the adapters registered already. `settings`,
        `storage_settings`: else settings/akasha-stream.yml and settings/akasha-storage.yml are read.

        Raises SettingsError.
        """
        self.resolver = resolver
        self.settings = settings or Settings.load()
        self.embedding_dim = self.settings.limits.dimensions
        self._tiers = StorageTiers(storage_settings or StorageSettings.load(), resolver)
        self._opening = asyncio.Lock()
        self._access: Access | None = None

    async def initialize(self) -> None:
        """Find the worker, or open the directory; the other methods do it by themselves.

        Raises ShardLocked where another process has the directory and is no worker that answers; BrokerError.
        """
        await self._opened()

    async def store_embedding(
        self,
        embedding_id: str,
        content: str,
        embedding: list[float],
        source_system: str,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Store one embedding, or replace the one of this identity; durable and searchable on return.

        `embedding`: `embedding_dim` numbers. Returns `embedding_id`.

        Raises:
            ValidationError: a limit is broken; nothing is stored.
            ShardWriteError, PublishError: not stored, see `retriable`.
            NotSearchableYet, ServiceUnreachable: Kafka has it, the worker did not say so in time.
        """
        event = Event(
            event_id=embedding_id,
            source_system=source_system,
            content=content,
            embedding=embedding,  # type: ignore[arg-type]  # Event makes a vector of it
            metadata=metadata or {},
        )
        await (await self._opened()).write([event])
        return embedding_id

    async def store_embeddings_batch(self, embeddings: list[dict[str, Any]], source_system: str, date: str) -> str:
        """Store a batch as store_embedding does, and put it into the warm tier as one Parquet file.

        `embeddings`: with the keys id, content, embedding, and optional metadata, created_at (a datetime with a
        zone; else now). `date`: YYYY-MM-DD. Returns the path of the file in the warm tier's bucket.

        Raises:
            UsageError: a key is missing or unknown, or `date` is no date; nothing is stored.
            ValidationError: an embedding breaks a limit; nothing is stored.
            StorageError: all are stored and searchable, the file is not.
            And as store_embedding.
        """
        path = _path(source_system, date)
        events = [_event(number, record, source_system) for number, record in enumerate(embeddings)]
        if not events:
            raise UsageError("a batch holds at least one embedding")
        for event in events:
            checked_size(event, self.settings.limits)
        await (await self._opened()).write(events)
        place = self._tiers.settings.tier("warm")
        data = await asyncio.to_thread(embeddings_file, events)
        await (await self._tiers.open("warm")).upload(place.bucket, place.prefix + path, data)
        log.info("embeddings stored", count=len(events), path=path, bytes=len(data))
        return place.prefix + path

    async def search_similar(
        self,
        query_embedding: list[float],
        source_systems: list[str] | None = None,
        limit: int = 100,
        threshold: float = 0.7,
    ) -> list[dict[str, Any]]:
        """The embeddings most similar to one, best first: id, content, metadata, source_system, created_at (UTC),
        similarity (cosine).

        `limit`: up to search.max_k. `threshold`: least similarity, -1 to 1. Raises UsageError, ServiceUnreachable.
        """
        request = build_request(
            vector=query_embedding,
            k=limit,
            threshold=threshold,
            filters={"systems": source_systems} if source_systems else None,
        )
        answer = await (await self._opened()).search(request)
        return [
            {
                "id": hit.event_id,
                "content": hit.content,
                "metadata": hit.metadata,
                "source_system": hit.source_system,
                "created_at": hit.created_at,
                "similarity": hit.similarity,
            }
            for hit in answer.hits
        ]

    async def get_embedding(self, embedding_id: str, source_system: str) -> dict[str, Any] | None:
        """One embedding as search_similar gives it, with its vector (`embedding`) in place of the similarity.

        None where it is not stored. Raises ServiceUnreachable.
        """
        try:
            found = await (await self._opened()).get(source_system, embedding_id, embedding=True)
        except EventNotFound:
            return None
        return {
            "id": found.event_id,
            "content": found.content,
            "embedding": found.embedding,
            "metadata": found.metadata,
            "source_system": found.source_system,
            "created_at": found.created_at,
        }

    async def delete_embedding(self, embedding_id: str, source_system: str) -> None:
        """Remove one, whoever stored it; no error where there is none. Raises as store_embedding."""
        await (await self._opened()).write([Event.delete(source_system, embedding_id)])

    async def close(self) -> None:
        """Let go of the directory, or of the worker, and of the warm tier. May be called twice; a call after it opens
        anew."""
        async with self._opening:
            access, self._access = self._access, None
            if access is not None:
                await access.close()
        await self._tiers.close()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _opened(self) -> Access:
        async with self._opening:
            if self._access is None:
                self._access = await open_access(self.settings, self._tiers)
            return self._access


def _event(number: int, record: Mapping[str, Any], source_system: str) -> Event:
    wrong = sorted(record.keys() - _KEYS) or sorted({"id", "content", "embedding"} - record.keys())
    if wrong:
        kind = "has an unknown key" if record.keys() - _KEYS else "lacks"
        raise UsageError(f"embeddings[{number}] {kind}: {', '.join(wrong)}; known are {', '.join(sorted(_KEYS))}")
    created_at = {"created_at": record["created_at"]} if record.get("created_at") is not None else {}
    try:
        return Event(
            event_id=record["id"],
            source_system=source_system,
            content=record["content"],
            embedding=record["embedding"],
            metadata=record.get("metadata") or {},
            **created_at,
        )
    except ValidationError as error:
        raise ValidationError(error.reason, f"embeddings[{number}]: {error}") from None


def _path(source_system: str, date: str) -> str:
    try:
        day = Date.fromisoformat(date)
    except ValueError:
        raise UsageError(f"date: found {date!r}; allowed: a date as 2025-01-25") from None
    return f"embeddings/{escape(source_system)}/{day.isoformat()}/batch_{uuid.uuid4()}.parquet"
