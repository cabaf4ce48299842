"""What a shard tells the tables, and what the tables may ask of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from akasha_stream.lookups.tables import Watermark


class Located(NamedTuple):
    """Identities of one source system, as columns of the same length."""

    event_ids: Sequence[str]
    positions: Sequence[int]
    """Python integers (`array.tolist()`), not numpy's."""


@dataclass(frozen=True, slots=True)
class LookupUpdate:
    """The net effect of one committed batch. An identity stands in `upserts` or in `deletes`, never in both.

    `forgotten`: source systems of which nothing stays; what the batch stored of them after that is in the rest.
    """

    partition: int
    previous: Watermark
    """The shard's watermark before the batch."""
    watermark: Watermark
    """After it."""
    upserts: Mapping[str, Located] = field(default_factory=dict)
    """By source system."""
    deletes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Event ids by source system."""
    counters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Absolute values after the batch, by source system that the batch touched."""
    forgotten: Sequence[str] = ()

    @property
    def events(self) -> int:
        return sum(len(located.event_ids) for located in self.upserts.values()) + sum(map(len, self.deletes.values()))


class RepairSource(Protocol):
    """The shards, as a repair reads them.

    The iterators are advanced in a thread of their own, one step at a time, while ingest goes on. They may see
    what was committed after they were made (its update follows anyway), and must see all that was before.
    """

    def identities_since(self, partition: int, position: int) -> Iterator[list[tuple[str, str, int]]]:
        """Batches (some thousand each) of (system, event_id, position) of live rows at or after the position."""
        ...

    def deleted_since(self, partition: int, position: int) -> Iterator[list[tuple[str, str]]] | None:
        """Batches of (system, event_id) deleted at or after the position; those that live again may be among them.

        None where the shard no longer knows: the table is then built anew.
        """
        ...

    def counters(self, partition: int) -> Mapping[str, Mapping[str, int]]:
        """All counters of the shard, absolute, by source system. Called in the event loop; must be quick."""
        ...


@dataclass(frozen=True, slots=True)
class LookupHealth:
    enabled: bool
    available: bool
    """Redis answered last time."""
    error: str | None
    """Why not."""
    queued_events: int
    repairing: list[int]
    """Partitions whose table is not complete."""
    repairs: int
    """Tables repaired or rebuilt since the start, those that turned out to need nothing left out."""
    dropped_updates: int
    """Batches that did not wait in the queue because it was full or Redis gone; a repair makes up for them."""


class LookupSink(Protocol):
    """Where a worker hands its commits; called from the event loop, returns at once."""

    def attach(self, partition: int, watermark: Watermark) -> None:
        """This worker owns the shard now, and this is how far it goes. The table is compared and repaired."""
        ...

    def detach(self, partition: int) -> None:
        """It no longer does: nothing more is written for it."""
        ...

    def offer(self, update: LookupUpdate) -> None: ...

    def health(self) -> LookupHealth: ...


class NoLookups:
    """`redis.enabled: false`."""

    def attach(self, partition: int, watermark: Watermark) -> None:
        pass

    def detach(self, partition: int) -> None:
        pass

    def offer(self, update: LookupUpdate) -> None:
        pass

    def health(self) -> LookupHealth:
        return LookupHealth(False, False, None, 0, [], 0, 0)

    async def run(self) -> None:
        pass
