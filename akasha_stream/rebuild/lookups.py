"""The Redis tables made again from the shards, each by whoever has the shard.

A worker writes its partitions' tables itself: marked as incomplete, it notices (lookups/writer.py) and builds them
anew from its shards. A partition that no worker has is written here, from the data directory.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from akasha_stream.errors import LookupUnavailable, ServiceUnreachable, UsageError
from akasha_stream.hot.store import ShardStore, stored_partitions
from akasha_stream.incarnation import Incarnation
from akasha_stream.lookups.connection import connect, unavailable_as_lookup_error
from akasha_stream.lookups.from_shards import ShardSource, watermark
from akasha_stream.lookups.repair import Repair
from akasha_stream.lookups.tables import REBUILDING, Keys, Watermark
from akasha_stream.operations.workers import find_workers
from akasha_stream.rebuild.directory import data_directory
from akasha_stream.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis


POLL_S = 0.1

type Report = Callable[[int, int], None]
"""(tables that are whole, of how many)"""


@dataclass(frozen=True, slots=True)
class Table:
    """One partition's table, after it was made again. `by`: who did it."""

    partition: int
    by: Literal["worker", "data directory"]
    systems: int
    identities: int


async def rebuild_lookups(
    settings: Settings,
    partitions: Collection[int] = (),
    urls: Sequence[str] = (),
    *,
    timeout_s: float,
    report: Report = lambda _done, _of: None,
) -> list[Table]:
    """`partitions`: none: all that workers or the data directory have. `urls`: workers besides the registry's.

    Raises:
        UsageError: there are no tables.
        ServiceUnreachable: nobody has a partition, or a worker that has it does not answer.
        LookupUnavailable: Redis does not answer, or a worker did not write its table in time.
        ShardLocked, SegmentCorrupt, StorageUnavailable: the data directory is needed and can't be opened.
    """
    if not settings.redis.enabled:
        raise UsageError("redis.enabled is false: there are no tables; lookups ask the shards")
    topic = settings.topics.embeddings
    found = await find_workers(settings, urls)
    silent = {p: each.url for each in found.workers if each.error is not None for p in each.owned}
    owned = {p for each in found.workers if each.error is None for p in each.owned}
    here = _stored(settings) - owned
    wanted = sorted(set(partitions) or owned | here)
    if not wanted:
        raise ServiceUnreachable(
            f"no worker answers, and {settings.hot.data_dir / topic} has no shards; start a worker"
        )
    for partition in wanted:
        if partition in silent and partition not in owned:
            raise ServiceUnreachable(f"partition {partition}: its worker at {silent[partition]} does not answer")
        if partition not in owned | here:
            raise ServiceUnreachable(f"partition {partition}: no worker has it; see: akasha-stream status")
    client, keys = connect(settings.redis), Keys(settings.redis.prefix, topic)
    done = 0
    async with AsyncExitStack() as open_:
        open_.push_async_callback(client.aclose)
        directory = None
        if set(wanted) - owned:
            directory = await open_.enter_async_context(data_directory(settings))
        with unavailable_as_lookup_error():
            for partition in owned.intersection(wanted):
                await client.set(keys.upto(partition), REBUILDING + secrets.token_hex(8))
            for partition in sorted(set(wanted) - owned):
                assert directory is not None
                await _write(client, keys, directory.store, partition)
                report(done := done + 1, len(wanted))
            left = owned.intersection(wanted)
            clock = asyncio.get_running_loop().time
            deadline = clock() + timeout_s
            while left:
                whole = {each for each in left if Watermark.parse(await client.get(keys.upto(each))) is not None}
                left -= whole
                report(done := done + len(whole), len(wanted))
                if left and clock() > deadline:
                    raise LookupUnavailable(
                        f"partition {min(left)}: its worker has not written its table within {timeout_s:g} s; it goes "
                        "on; see: akasha-stream status"
                    )
                await asyncio.sleep(POLL_S if left else 0)
            return [await _table(client, keys, each, by_worker=each in owned) for each in wanted]


def _stored(settings: Settings) -> set[int]:
    """Partitions that have a shard in the data directory."""
    folder = settings.hot.data_dir / settings.topics.embeddings
    if not folder.is_dir():
        return set()
    return set(stored_partitions(folder))


async def _write(client: Redis, keys: Keys, store: ShardStore, partition: int) -> None:
    shard = await asyncio.to_thread(store.open, partition, Incarnation())
    repair = Repair(client, keys, ShardSource(store), partition, watermark(shard), rebuild=True)
    while not await repair.step():
        pass


async def _table(client: Redis, keys: Keys, partition: int, *, by_worker: bool) -> Table:
    systems = [_text(each) for each in await client.smembers(keys.systems(partition))]
    identities = sum([await client.hlen(keys.ids(partition, system)) for system in systems])
    return Table(partition, "worker" if by_worker else "data directory", len(systems), identities)


def _text(answer: bytes | str) -> str:
    return answer if isinstance(answer, str) else answer.decode()
