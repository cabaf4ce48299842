"""Remove a source system from the Redis tables, and look whether anything of it is there.

A worker does it for its own shards when it comes to the control message (LookupUpdate.forgotten). This is for the
command, beside workers or without any: the keys of forgotten rows go now, and a worker that stores new rows of the
system afterwards makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from akasha_stream.lookups import transactions
from akasha_stream.lookups.connection import unavailable_as_lookup_error
from akasha_stream.lookups.tables import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def forget_lookups(client: Redis, keys: Keys, partitions: Iterable[int], system: str) -> int:
    """How many keys were removed. Done twice, it does no harm. Raises LookupUnavailable."""
    removed = 0
    with unavailable_as_lookup_error():
        for partition in partitions:
            results = await transactions.transact(client, transactions.forget(keys, partition, system))
            removed += sum(result for result in results if isinstance(result, int))
    return removed


async def lookups_of(client: Redis, keys: Keys, partitions: Iterable[int], system: str) -> list[str]:
    """The keys that have something of the system. Raises LookupUnavailable."""
    found = []
    with unavailable_as_lookup_error():
        for partition in partitions:
            for key in (keys.ids(partition, system), keys.counters(partition, system)):
                if await client.exists(key):
                    found.append(key)
            if await client.sismember(keys.systems(partition), system):
                found.append(keys.systems(partition))
    return found
