"""Which records a replay reads: partitions with their offsets."""

from __future__ import annotations

from dataclasses import dataclass

from akasha_stream.errors import UsageError
from akasha_stream.operations.tail import Start
from akasha_stream.partitioner import partition_of_key
from akasha_stream.topics.reader import TopicReader


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets [start, end) of one partition."""

    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Selection:
    """`partitions`: none: all; `system`: the one that its events are in, by the publisher's partitioner."""

    start: Start
    until: Start
    partitions: tuple[int, ...] = ()
    system: str | None = None

    async def ranges(self, reader: TopicReader) -> list[Range]:
        """By partition. Raises UsageError where a partition is missing, or the end is before the start; BrokerError."""
        if missing := sorted(set(self.partitions) - set(reader.partitions)):
            raise UsageError(f"{reader.topic} has no partition {missing[0]}, it has {len(reader.partitions)}")
        starts, ends = await self.start.offsets(reader), await self.until.offsets(reader)
        wanted = set(self.partitions or reader.partitions) & starts.keys() & ends.keys()
        if self.system is not None:
            wanted &= {partition_of_key(self.system.encode(), len(reader.partitions))}
        if turned := [p for p in sorted(wanted) if ends[p] < starts[p]]:
            raise UsageError(f"partition {turned[0]}: the end, offset {ends[turned[0]]}, is before {starts[turned[0]]}")
        return [Range(partition, starts[partition], ends[partition]) for partition in sorted(wanted)]
