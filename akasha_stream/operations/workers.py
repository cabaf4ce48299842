"""Every worker that can be found, and what each says of itself over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from pydantic import TypeAdapter, ValidationError

from akasha_stream.api.health import ComponentHealth
from akasha_stream.api.partitions import Partitions, PartitionState
from akasha_stream.client import checked, checked_url, key_header, local_url
from akasha_stream.connections.http import verify
from akasha_stream.connections.tls import untrusted
from akasha_stream.errors import AccessError, AkashaError, LookupUnavailable
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.tables import Keys
from akasha_stream.lookups.workers import Worker, WorkerRegistry
from akasha_stream.settings import Settings

TIMEOUT_S = 3.0

_HEALTH = TypeAdapter(dict[str, ComponentHealth])
_PARTITIONS = TypeAdapter(Partitions)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as it is now. `error`: why it did not answer; then `registered` is all that is known."""

    url: str
    registered: Worker | None = None
    """What it wrote into the registry; None where it was found by its URL alone."""
    ready: bool = False
    components: dict[str, ComponentHealth] = field(default_factory=dict)
    partitions: tuple[PartitionState, ...] = ()
    error: str | None = None
    refused: bool = False
    """It runs and answers, and not this caller: its API key is missing, wrong or for some systems only."""

    @property
    def name(self) -> str:
        return self.url if self.registered is None else self.registered.id

    @property
    def owned(self) -> tuple[int, ...]:
        """Its partitions: as it says now, else as it said at its last heartbeat."""
        if self.error is None:
            return tuple(each.partition for each in self.partitions)
        return () if self.registered is None else self.registered.partitions

    def heartbeat_age_s(self, now: datetime | None = None) -> float | None:
        """By its clock and ours; None where it is in no registry."""
        if self.registered is None:
            return None
        return ((now or datetime.now(UTC)) - self.registered.heartbeat_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Workers:
    """`notes`: where could not be looked, and why."""

    workers: tuple[WorkerState, ...] = ()
    notes: tuple[str, ...] = ()

    def next_offsets(self) -> dict[int, int]:
        """Partition → next offset of the worker that owns it."""
        return {each.partition: each.next_offset for worker in self.workers for each in worker.partitions}


async def find_workers(settings: Settings, urls: Sequence[str] = ()) -> Workers:
    """Workers of the registry in Redis, and those at `urls`. Without both, the one of http.host and http.port.

    Raises UsageError where one of `urls` can be none. What can't be reached is in the notes, and a worker's `error`.
    """
    registered, notes = await registered_workers(settings)
    by_url: dict[str, Worker | None] = {worker.url: worker for worker in registered}
    for url in urls:
        by_url.setdefault(checked_url(url), None)
    guessed = not by_url
    if guessed:
        by_url[local_url(settings.http)] = None
    headers, trusted = key_header(settings.auth.key), verify(by_url, settings.http.tls_ca)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, verify=trusted, headers=headers) as client:
        states = await asyncio.gather(
            *(_ask(client, url, entry, settings.topics.embeddings) for url, entry in by_url.items())
        )
    if guessed and states[0].error is not None and not states[0].refused:
        notes.append(f"no worker answers at {states[0].url}; name others with --url")
        states = []
    return Workers(tuple(states), tuple(notes))


async def registered_workers(settings: Settings) -> tuple[list[Worker], list[str]]:
    """Those in the registry in Redis; and where it could not be looked into, why."""
    if not settings.redis.enabled:
        return [], ["redis.enabled is false: there is no registry of workers, only those named by --url are asked"]
    client = connect(settings.redis)
    registry = WorkerRegistry(client, Keys(settings.redis.prefix, settings.topics.embeddings), 1.0)
    try:
        return await registry.list(), []
    except LookupUnavailable as error:
        return [], [f"the registry of workers can't be read: {error}"]
    finally:
        await client.aclose()


async def _ask(client: httpx.AsyncClient, url: str, entry: Worker | None, topic: str) -> WorkerState:
    try:
        ready, partitions = await asyncio.gather(client.get(f"{url}/health/ready"), client.get(f"{url}/v1/partitions"))
    except httpx.TimeoutException:
        return WorkerState(url, entry, error=f"did not answer within {TIMEOUT_S:g} s")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        why = f"its certificate is not trusted: {wrong} (http.tls_ca)" if (wrong := untrusted(error)) else str(error)
        return WorkerState(url, entry, error=f"can't be reached: {why}")
    try:
        checked(partitions)
    except AccessError as error:
        return WorkerState(url, entry, error=f"refuses: {error}", refused=True)
    except AkashaError:
        pass  # said below
    try:
        components = _HEALTH.validate_python(ready.json()["components"])
        owned = _PARTITIONS.validate_json(partitions.content)
    except (ValidationError, ValueError, LookupError, TypeError):
        return WorkerState(url, entry, error="answers, and not as a worker of this version does")
    if owned.topic != topic:
        return WorkerState(url, entry, error=f"works on {owned.topic}, not on {topic}")
    return WorkerState(url, entry, ready.status_code == 200, components, tuple(owned.partitions))
