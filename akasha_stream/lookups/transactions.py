"""The commands of one transaction, for writes and repairs alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from akasha_stream.lookups.tables import ADVANCE, Keys
from akasha_stream.lookups.updates import Located

if TYPE_CHECKING:
    from redis.asyncio import Redis

type Command = tuple[str | bytes | int, ...]


def upserts(keys: Keys, partition: int, located: Mapping[str, Located]) -> Iterable[Command]:
    for system, (event_ids, positions) in located.items():
        if event_ids:
            fields: list[str | int] = [""] * (2 * len(event_ids))
            fields[0::2] = event_ids
            fields[1::2] = positions
            yield ("HSET", keys.ids(partition, system), *fields)


def deletes(keys: Keys, partition: int, deleted: Mapping[str, Sequence[str]]) -> Iterable[Command]:
    for system, event_ids in deleted.items():
        if event_ids:
            yield ("HDEL", keys.ids(partition, system), *event_ids)


def counters(keys: Keys, partition: int, values: Mapping[str, Mapping[str, int]]) -> Iterable[Command]:
    for system, by_name in values.items():
        fields = [part for item in by_name.items() for part in item]
        if fields:
            yield ("HSET", keys.counters(partition, system), *fields)


def forget(keys: Keys, partition: int, system: str) -> Iterable[Command]:
    """Remove all that is there of a source system."""
    yield ("UNLINK", keys.ids(partition, system), keys.counters(partition, system))
    yield ("SREM", keys.systems(partition), system)


def advance(keys: Keys, partition: int, left: str, watermark: str) -> Command:
    """Last command of a batch: its result is 1 where `upto` was what the writer left there."""
    return ("EVAL", ADVANCE, 1, keys.upto(partition), left, watermark)


async def transact(client: Redis, commands: Iterable[Command]) -> list[object]:
    """Run all in one MULTI. Raises redis' errors; a ResponseError may leave the other commands applied."""
    async with client.pipeline(transaction=True) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        results: list[object] = await pipeline.execute()
    return results
