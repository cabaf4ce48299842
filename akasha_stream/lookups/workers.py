"""Which workers there are, and what they own. A worker that stops beating disappears by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.connection import UNAVAILABLE, unavailable_as_lookup_error
from akasha_stream.lookups.tables import Keys
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

MISSED_HEARTBEATS = 3
"""After this many a worker is gone."""


@dataclass(frozen=True, slots=True)
class Worker:
    id: str
    host: str
    url: str
    """Of its HTTP server, as other workers reach it."""
    pid: int
    version: str
    started_at: datetime
    """Aware, as is `heartbeat_at`; each worker's own clock."""
    heartbeat_at: datetime
    partitions: tuple[int, ...] = ()
    data_dir: str = ""
    """On its host; empty where an older version wrote this."""

    def to_fields(self) -> dict[str, str]:
        return {
            "id": self.id,
            "host": self.host,
            "url": self.url,
            "pid": str(self.pid),
            "version": self.version,
            "started_at": rfc3339(self.started_at),
            "heartbeat_at": rfc3339(self.heartbeat_at),
            "partitions": ",".join(map(str, self.partitions)),
            "data_dir": self.data_dir,
        }

    @classmethod
    def from_fields(cls, raw: dict[bytes, bytes]) -> Worker:
        """Raises KeyError or ValueError where the hash is of another version."""
        fields = {name.decode(): value.decode() for name, value in raw.items()}
        return cls(
            id=fields["id"],
            host=fields["host"],
            url=fields["url"],
            pid=int(fields["pid"]),
            version=fields["version"],
            started_at=datetime.fromisoformat(fields["started_at"]),
            heartbeat_at=datetime.fromisoformat(fields["heartbeat_at"]),
            partitions=tuple(int(partition) for partition in fields["partitions"].split(",") if partition),
            data_dir=fields.get("data_dir", ""),
        )


class WorkerRegistry:
    """`worker`: this process, or None to only list. `owned`: the partitions that it owns, asked at each heartbeat."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        heartbeat_s: float,
        worker: Worker | None = None,
        owned: Callable[[], Sequence[int]] = tuple,
    ) -> None:
        self._client = client
        self._keys = keys
        self._heartbeat_s = heartbeat_s
        self._worker = worker
        self._owned = owned
        self._available = True

    async def run(self) -> None:
        """Beat until cancelled, then sign off. Redis gone is no error here."""
        if self._worker is None:
            return
        try:
            while True:
                try:
                    await self.beat()
                except LookupUnavailable as error:
                    if self._available:
                        log.warning("worker_registry_unavailable", error=str(error))
                    self._available = False
                else:
                    self._available = True
                await asyncio.sleep(self._heartbeat_s)
        finally:
            await self._sign_off(self._worker)

    async def beat(self) -> None:
        """Write this worker once. Raises LookupUnavailable."""
        if self._worker is None:
            return
        worker = replace(self._worker, heartbeat_at=datetime.now(UTC), partitions=tuple(sorted(self._owned())))
        key = self._keys.worker(worker.id)
        with unavailable_as_lookup_error():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.hset(key, items=[part for item in worker.to_fields().items() for part in item])
                pipeline.pexpire(key, int(self._heartbeat_s * 1_000 * MISSED_HEARTBEATS))
                pipeline.sadd(self._keys.workers(), worker.id)
                await pipeline.execute()

    async def list(self) -> list[Worker]:
        """Workers whose heartbeat is not older than three, by id. Raises LookupUnavailable."""
        with unavailable_as_lookup_error():
            members = await self._client.smembers(self._keys.workers())
            ids = sorted(raw.decode() if isinstance(raw, bytes) else raw for raw in members)
            async with self._client.pipeline(transaction=False) as pipeline:
                for worker_id in ids:
                    pipeline.hgetall(self._keys.worker(worker_id))
                found = await pipeline.execute() if ids else []
            gone = [worker_id for worker_id, fields in zip(ids, found, strict=True) if not fields]
            if gone:
                # One that comes back puts itself in again with its next heartbeat.
                await self._client.srem(self._keys.workers(), *gone)
        workers = []
        for fields in found:
            try:
                if fields:
                    workers.append(Worker.from_fields(fields))
            except (KeyError, ValueError):
                log.warning("worker_entry_unreadable", fields=sorted(map(repr, fields)))
        return workers

    async def _sign_off(self, worker: Worker) -> None:
        try:
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.delete(self._keys.worker(worker.id))
                pipeline.srem(self._keys.workers(), worker.id)
                await pipeline.execute()
        except UNAVAILABLE as error:
            log.debug("worker_sign_off_failed", error=repr(error))
