"""Ask the Redis tables. The answer is a hint that can lag behind the shard: check it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.connection import unavailable_as_lookup_error
from akasha_stream.lookups.tables import Keys, Watermark
from akasha_stream.partitioner import partition_of

if TYPE_CHECKING:
    from redis.asyncio import Redis


class LookupReader(Protocol):
    """Each method raises LookupUnavailable where Redis does not answer or a table is not complete."""

    async def position(self, system: str, event_id: str) -> tuple[int, int] | None:
        """(partition, position) of an identity; None where no table has it."""
        ...

    async def counters(self, system: str) -> dict[str, int]:
        """Counters of a source system over all partitions; empty for an unknown system."""
        ...

    async def systems(self) -> list[str]:
        """All source systems, sorted."""
        ...


class Lookups:
    """`partitions`: how many the topic has, asked at each call because it is only known once the broker answered."""

    def __init__(self, client: Redis, keys: Keys, partitions: Callable[[], int]) -> None:
        self._client = client
        self._keys = keys
        self._partitions = partitions

    async def position(self, system: str, event_id: str) -> tuple[int, int] | None:
        partitions = self._partitions()
        likely = partition_of(system, partitions)
        # A foreign producer may have its own idea of partitions; only an identity not found pays for asking all.
        incomplete = []
        for asked in ([likely], [partition for partition in range(partitions) if partition != likely]):
            with unavailable_as_lookup_error():
                async with self._client.pipeline(transaction=False) as pipeline:
                    for partition in asked:
                        pipeline.hget(self._keys.ids(partition, system), event_id)
                        pipeline.get(self._keys.upto(partition))
                    answers = await pipeline.execute() if asked else []
            for partition, position, upto in zip(asked, answers[0::2], answers[1::2], strict=True):
                if position is not None:
                    return partition, int(position)
                if Watermark.parse(upto) is None:
                    incomplete.append(partition)
        if incomplete:
            raise _incomplete(incomplete)
        return None

    async def counters(self, system: str) -> dict[str, int]:
        partitions = range(self._partitions())
        with unavailable_as_lookup_error():
            async with self._client.pipeline(transaction=False) as pipeline:
                for partition in partitions:
                    pipeline.hgetall(self._keys.counters(partition, system))
                    pipeline.get(self._keys.upto(partition))
                answers = await pipeline.execute()
        self._check(answers[1::2])
        total: dict[str, int] = {}
        for values in answers[0::2]:
            for raw, value in values.items():
                name = raw.decode()
                if name in total:
                    total[name] = max(total[name], int(value)) if name.startswith("last_") else total[name] + int(value)
                else:
                    total[name] = int(value)
        return total

    async def systems(self) -> list[str]:
        partitions = range(self._partitions())
        with unavailable_as_lookup_error():
            async with self._client.pipeline(transaction=False) as pipeline:
                for partition in partitions:
                    pipeline.smembers(self._keys.systems(partition))
                    pipeline.get(self._keys.upto(partition))
                answers = await pipeline.execute()
        self._check(answers[1::2])
        return sorted({name.decode() for names in answers[0::2] for name in names})

    def _check(self, uptos: list[object]) -> None:
        if incomplete := [partition for partition, upto in enumerate(uptos) if Watermark.parse(upto) is None]:
            raise _incomplete(incomplete)


class NoLookupReader:
    """`redis.enabled: false`."""

    async def position(self, system: str, event_id: str) -> tuple[int, int] | None:
        raise _disabled()

    async def counters(self, system: str) -> dict[str, int]:
        raise _disabled()

    async def systems(self) -> list[str]:
        raise _disabled()


def _incomplete(partitions: list[int]) -> LookupUnavailable:
    named = ", ".join(map(str, partitions[:8])) + (" …" if len(partitions) > 8 else "")
    return LookupUnavailable(f"the Redis tables of partitions {named} are not complete yet")


def _disabled() -> LookupUnavailable:
    return LookupUnavailable("the Redis tables are switched off (redis.enabled: false)")
